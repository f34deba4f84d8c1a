//! The way of live events from their source to every node's sessions.

use std::sync::{Arc, OnceLock};

use crate::model::LiveEvent;

type Subscriber = Box<dyn Fn(&LiveEvent) + Send + Sync>;

/// The transport between nodes. The set is closed: there are few, and each needs different things.
#[derive(Clone)]
pub enum Bus {
    /// One node: an event goes straight to this node's sessions, on the task that published it.
    Local(Arc<OnceLock<Subscriber>>),
}

impl Bus {
    /// A bus for one node.
    #[must_use]
    pub fn local() -> Self {
        Self::Local(Arc::default())
    }

    /// Sets the one subscriber, which gets every live event on this node: the sessions.
    pub fn subscribe(&self, subscriber: impl Fn(&LiveEvent) + Send + Sync + 'static) {
        match self {
            Self::Local(slot) => {
                let taken = slot.set(Box::new(subscriber)).is_err();
                debug_assert!(!taken, "a node has one fan-out");
            }
        }
    }

    /// Sends an event to every node, this one included, at most once. A lost event is replaced by the next one.
    pub fn publish(&self, event: &LiveEvent) {
        match self {
            Self::Local(slot) => {
                if let Some(subscriber) = slot.get() {
                    subscriber(event);
                }
            }
        }
    }
}
