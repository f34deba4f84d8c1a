//! How live events get from where they happen to every node's sessions.

use std::sync::{Arc, OnceLock};

use crate::model::LiveEvent;

type Subscriber = Box<dyn Fn(&LiveEvent) + Send + Sync>;

/// The way between nodes. A closed set: each way has its own needs, and there are few.
#[derive(Clone)]
pub enum Bus {
    /// One node: events go straight to its own fan-out, on the task that published them.
    Local(Arc<OnceLock<Subscriber>>),
}

impl Bus {
    /// A bus for one node.
    #[must_use]
    pub fn local() -> Self {
        Self::Local(Arc::default())
    }

    /// Who gets this node's copy of every live event: the fan-out, once.
    pub fn subscribe(&self, subscriber: impl Fn(&LiveEvent) + Send + Sync + 'static) {
        match self {
            Self::Local(slot) => {
                let taken = slot.set(Box::new(subscriber)).is_err();
                debug_assert!(!taken, "a node has one fan-out");
            }
        }
    }

    /// Sends an event to every node, this one included. At most once: live events are superseded, not kept.
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
