//! What waits for one client: live events, the newest of each kind, and messages that only this client gets. Durable
//! events do not wait here: they are in the log, and the client's place in it is remembered instead.

use std::collections::VecDeque;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::{Frame, Offset};
use crate::id::OrderId;
use crate::order::access::Party;

/// Orders with live events that may wait for one client; far more than it may follow.
const LIVE_LIMIT: usize = 4_096;

/// What a live event is the newest of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LiveKey {
    pub order: OrderId,
    pub kind: LiveKind,
}

/// The kinds of live event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiveKind {
    Location,
    Eta,
}

/// The newest live event of each key, in the order in which the keys began to wait.
#[derive(Default)]
pub struct Latest(IndexMap<LiveKey, (Arc<Frame>, u32)>);

impl Latest {
    /// Puts an event in its key's place. Says whether an older one was skipped for it, or `None` when there is no room.
    pub fn put(&mut self, key: &LiveKey, frame: &Arc<Frame>) -> Option<bool> {
        if let Some((waiting, skipped)) = self.0.get_mut(key) {
            *waiting = Arc::clone(frame);
            *skipped += 1;
            return Some(true);
        }
        if self.0.len() >= LIVE_LIMIT {
            return None;
        }
        self.0.insert(key.clone(), (Arc::clone(frame), 0));
        Some(false)
    }

    /// Hands over what waits for as long as `hand` takes it.
    pub fn drain(&mut self, mut hand: impl FnMut(&Frame) -> bool) {
        let taken = self
            .0
            .values()
            .take_while(|(frame, skipped)| match skipped {
                0 => hand(frame),
                _ => hand(&frame.conflated(*skipped)),
            })
            .count();
        self.0.drain(..taken);
    }

    /// Forgets what waits of an order.
    pub fn forget(&mut self, order: &OrderId) {
        self.0.retain(|key, _| key.order != *order);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Something that only this client is told, before it goes on in the log.
pub enum Aside {
    Event(Frame, Offset),
    /// The answer to the request of this number.
    Ack(i64, Box<RawValue>),
}

impl Aside {
    /// A durable message after which the client is at this offset.
    #[must_use]
    pub fn event(frame: Frame, offset: Offset) -> Self {
        Self::Event(frame.at(offset), offset)
    }
}

/// What is still to be replayed of an order: its events after a seq, up to the client's place in the log. What comes after
/// that place it is told in its turn.
#[derive(Clone, Debug)]
pub struct Replay {
    pub order: OrderId,
    pub party: Party,
    /// The newest seq that it has.
    pub after: i64,
    /// Which of the session's replays.
    pub number: i32,
}

/// What a client is told beside the log.
#[derive(Default)]
pub struct Asides {
    pub waiting: VecDeque<Aside>,
    pub replays: VecDeque<Replay>,
}
