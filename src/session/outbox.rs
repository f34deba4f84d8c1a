//! What waits for one client: live events, the newest of each kind, and messages that only this client gets. Durable
//! events do not wait here: they are in the log, and the client's place in it is remembered instead.

use std::collections::VecDeque;
use std::sync::Arc;

use indexmap::IndexMap;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::value::RawValue;

use crate::dialect::Dialect;
use crate::dialect::message::{LiveKey, Message};
use crate::dialect::place::Offset;
use crate::model::{OrderId, Party};

/// Orders with live events that may wait for one client; far more than it may follow.
const LIVE_LIMIT: usize = 4_096;

/// The newest live event of each key, in the order in which the keys began to wait.
pub struct Latest {
    events: IndexMap<LiveKey, (Arc<Message>, u32)>,
    /// How many wait for all clients together.
    depth: Gauge,
}

impl Drop for Latest {
    fn drop(&mut self) {
        self.count(self.events.len());
    }
}

impl Latest {
    #[must_use]
    pub fn new(depth: &Gauge) -> Self {
        Self { events: IndexMap::new(), depth: depth.clone() }
    }

    /// So many wait no more.
    fn count(&self, gone: usize) {
        self.depth.dec_by(i64::try_from(gone).unwrap_or(i64::MAX));
    }

    /// Puts an event in its key's place. Says whether an older one was skipped for it, or `None` when there is no room.
    pub fn put(&mut self, key: &LiveKey, frame: &Arc<Message>) -> Option<bool> {
        if let Some((waiting, skipped)) = self.events.get_mut(key) {
            *waiting = Arc::clone(frame);
            *skipped += 1;
            return Some(true);
        }
        if self.events.len() >= LIVE_LIMIT {
            return None;
        }
        self.events.insert(key.clone(), (Arc::clone(frame), 0));
        self.depth.inc();
        Some(false)
    }

    /// Hands over what waits for as long as `hand` takes it.
    pub fn drain(&mut self, dialect: Dialect, mut hand: impl FnMut(&Message) -> bool) {
        let taken = self
            .events
            .values()
            .take_while(|(frame, skipped)| match skipped {
                0 => hand(frame),
                _ => hand(&dialect.conflate(frame, *skipped)),
            })
            .count();
        self.events.drain(..taken);
        self.count(taken);
    }

    /// Forgets what waits of an order and says how it stood before an event of it.
    pub fn overtaken(&mut self, order: &OrderId, seq: i64) {
        let before = self.events.len();
        self.events.retain(|key, (frame, _)| key.order != *order || frame.seq.is_none_or(|says| says >= seq));
        self.count(before - self.events.len());
    }

    /// Forgets what waits of an order.
    pub fn forget(&mut self, order: &OrderId) {
        let before = self.events.len();
        self.events.retain(|key, _| key.order != *order);
        self.count(before - self.events.len());
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// Something that only this client is told, before it goes on in the log.
pub enum Aside {
    Event(Message, Offset),
    /// The answer to the request of this number.
    Ack(i64, Box<RawValue>),
}

impl Aside {
    /// A durable message after which the client is at this offset.
    #[must_use]
    pub fn event(frame: Message, offset: Offset) -> Self {
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
