//! How things are said: one file per kind of client, pure parse and render, no I/O.

pub mod canonical;
pub mod realtime;

use smallvec::SmallVec;

use self::canonical::Telling;
use crate::driver::eta::Eta;
use crate::event::{LiveEvent, OrderEvent};
use crate::fanout::{Frame, Outgoing, OutgoingLive};
use crate::order::access::Party;

/// The kinds of client. Adding one makes the compiler list every place to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Socket.IO, namespace `/realtime`.
    Realtime,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 1] = [Self::Realtime];

    /// A durable event in this dialect, with the order's ETA if there is one.
    #[must_use]
    pub fn render(self, event: &OrderEvent, eta: Option<Eta>, telling: Telling) -> SmallVec<[Outgoing; 3]> {
        match self {
            Self::Realtime => realtime::render(event, eta, telling),
        }
    }

    /// A status update told to one session as it catches up with an order.
    #[must_use]
    pub fn catch_up(self, event: &OrderEvent, eta: Option<Eta>, party: Party, telling: Telling) -> Frame {
        match self {
            Self::Realtime => realtime::catch_up(event, eta, party, telling),
        }
    }

    /// A live event in this dialect; `None` if it is never said.
    #[must_use]
    pub fn render_live(self, event: &LiveEvent) -> Option<OutgoingLive> {
        match self {
            Self::Realtime => realtime::render_live(event),
        }
    }
}
