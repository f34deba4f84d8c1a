//! Webhooks: other systems are told of orders, by Standard Webhooks 1.0.
//!
//! The log is the queue. Each endpoint has a place in it, and reads on only while few messages wait for it. So one that hangs costs
//! nobody else anything, and no table grows.
//!
//! - `types`: what is told, and to whom. Pure.
//! - `sign`: secrets and signatures. Pure.
//! - `endpoint`: endpoints are made, changed and read.
//! - `tail`: the newest events of the log, read once for all endpoints.
//! - `plan`: from the log, and from what has no place in it, to messages.
//! - `send`: messages are sent in the order of each order, and sent again.
//! - `run`: a task for each endpoint.

pub mod endpoint;
mod plan;
mod run;
mod send;
mod sign;
mod tail;
pub mod types;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{Notify as Wake, OnceCell};

use self::sign::Signer;
use self::tail::Tail;
use crate::base::clock::Clock;
use crate::base::db::{Db, shared};
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::base::outbound::Guarded;
use crate::event::relay::Relay;

pub use plan::News;

/// The use cases around webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<Parts>);

/// What they work with.
pub struct Parts {
    db: Db,
    clock: Clock,
    events: Relay,
    guard: Guarded,
    signer: OnceCell<Signer>,
    tail: Tail,
    /// Endpoints that are served here.
    serving: AtomicUsize,
    /// Notified when endpoints or messages may have changed.
    wake: Wake,
    metrics: Metrics,
}

impl std::ops::Deref for Webhooks {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Webhooks {
    #[must_use]
    pub fn new(db: Db, clock: Clock, events: Relay, guard: Guarded, metrics: Metrics) -> Self {
        let (signer, tail) = (OnceCell::new(), Tail::default());
        Self(Arc::new(Parts {
            db,
            clock,
            events,
            guard,
            signer,
            tail,
            serving: AtomicUsize::new(0),
            wake: Wake::new(),
            metrics,
        }))
    }

    async fn signer(&self) -> Result<&Signer, Refusal> {
        self.signer
            .get_or_try_init(|| async {
                let secret = hex::encode(self.clock.random::<32>());
                Ok(Signer::new(&shared(&self.db, "webhooks", secret).await?))
            })
            .await
    }
}
