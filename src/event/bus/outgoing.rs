//! What this node has to say to the others: the newest of each kind for each order. Nobody waits for it to be sent.

use std::sync::{Mutex, PoisonError};

use ahash::AHashMap;
use tokio::sync::Notify;

use super::frame::{Body, Remote};
use crate::base::metrics::Metrics;
use crate::model::OrderId;

/// Frames that wait at a time, in either direction. Further ones are dropped: the next ones replace them.
pub(super) const MOST: usize = 65_536;

/// What a frame is the newest of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Moved(OrderId),
    Expected(OrderId),
    Log,
    Control,
    Heads,
    Ask(u64),
    Answer { to: u16, id: u64 },
}

impl Slot {
    pub fn of(event: &Remote) -> Self {
        match event {
            Remote::Moved(moved) => Self::Moved(moved.order.clone()),
            Remote::Expected(expected) => Self::Expected(expected.order.clone()),
        }
    }
}

/// The frames that wait to be sent to one shard of Redis.
pub(super) struct Outgoing {
    waiting: Mutex<AHashMap<Slot, Body>>,
    /// Notified when the first one waits.
    pub ready: Notify,
    metrics: Metrics,
}

impl Outgoing {
    pub fn new(metrics: Metrics) -> Self {
        Self { waiting: Mutex::default(), ready: Notify::new(), metrics }
    }

    pub fn put(&self, slot: Slot, body: Body) {
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= MOST && !waiting.contains_key(&slot) {
                self.metrics.bus_dropped.inc();
                return;
            }
            if waiting.insert(slot, body).is_some() {
                self.metrics.bus_conflated.inc();
            }
            waiting.len() == 1
        };
        if is_first {
            self.ready.notify_one();
        }
    }

    pub fn take(&self) -> AHashMap<Slot, Body> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
