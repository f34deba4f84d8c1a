//! What waits for one client: the newest live event of each kind, and messages for this client only. Durable events
//! do not wait here. They are in the log, and the session remembers its place in it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::json_text::Json;
use indexmap::IndexMap;
use prometheus_client::metrics::gauge::Gauge;

use super::wire::AckNumber;
use crate::dialect::Dialect;
use crate::dialect::message::{LiveKey, LiveKind, Message};
use crate::dialect::place::Offset;
use crate::model::{OrderId, Party};

/// Orders with live events that may wait for one client. A client may follow far fewer.
const LIVE_LIMIT: usize = 4_096;

/// The newest live event of each key, in the order in which the keys began to wait.
pub struct Latest {
    events: IndexMap<LiveKey, (Arc<Message>, u32)>,
    /// A gauge of the live events that wait for all clients.
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

    /// Takes events off the gauge.
    fn count(&self, gone: usize) {
        self.depth.dec_by(i64::try_from(gone).unwrap_or(i64::MAX));
    }

    /// Puts an event in the place of its key. Returns whether it replaced an older one; `None` when there is no room.
    pub fn put(&mut self, key: &LiveKey, message: &Arc<Message>) -> Option<bool> {
        if let Some((waiting, skipped)) = self.events.get_mut(key) {
            *waiting = Arc::clone(message);
            *skipped += 1;
            return Some(true);
        }
        if self.events.len() >= LIVE_LIMIT {
            return None;
        }
        self.events.insert(key.clone(), (Arc::clone(message), 0));
        self.depth.inc();
        Some(false)
    }

    /// Hands events over until `hand` refuses one.
    pub fn drain(&mut self, dialect: Dialect, mut hand: impl FnMut(&Message) -> bool) {
        let taken = self
            .events
            .values()
            .take_while(|(message, skipped)| match skipped {
                0 => hand(message),
                _ => hand(&dialect.conflate(message, *skipped)),
            })
            .count();
        self.events.drain(..taken);
        self.count(taken);
    }

    /// Drops the waiting live events that describe an order as it was before one of its durable events.
    pub fn overtaken(&mut self, order: &OrderId, seq: i64) {
        let before = self.events.len();
        self.events
            .retain(|key, (message, _)| key.order != *order || message.seq.is_none_or(|says| says >= seq));
        self.count(before - self.events.len());
    }

    /// Drops what waits of a delivery that is played again.
    pub fn forget_replayed(&mut self) {
        let before = self.events.len();
        self.events.retain(|key, _| !matches!(key.kind, LiveKind::Replayed(_)));
        self.count(before - self.events.len());
    }

    /// Drops the driver's waiting position of an order.
    pub fn forget_driver(&mut self, order: &OrderId) {
        let before = self.events.len();
        self.events.retain(|key, _| key.order != *order || key.kind != LiveKind::Location);
        self.count(before - self.events.len());
    }

    /// Drops the waiting live events of an order.
    pub fn forget(&mut self, order: &OrderId) {
        let before = self.events.len();
        self.events.retain(|key, _| key.order != *order || matches!(key.kind, LiveKind::Replayed(_)));
        self.count(before - self.events.len());
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// A message for this client only. It is told before the session goes on in the log.
pub enum Aside {
    Event(Message, Offset),
    /// The answer to the request with this number.
    Ack(AckNumber, Json),
}

impl Aside {
    /// A durable message with the offset that the client has after it.
    #[must_use]
    pub fn event(message: Message, offset: Offset) -> Self {
        Self::Event(message.at(offset), offset)
    }
}

/// The rest of a replay: the events of an order after a seq, up to the client's place in the log. Events after that
/// place are told from the log.
#[derive(Clone, Debug)]
pub struct Replay {
    pub order: OrderId,
    pub party: Party,
    /// The newest seq that the client has.
    pub after: i64,
    /// Which of the session's replays this is.
    pub number: i32,
}

/// What a client is told outside the log.
#[derive(Default)]
pub struct Asides {
    pub waiting: VecDeque<Aside>,
    pub replays: VecDeque<Replay>,
}
