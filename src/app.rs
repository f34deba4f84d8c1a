//! What the use cases need. No socket and no hub in it: a use case cannot write to a client.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::auth::Auth;
use crate::base::clock::Clock;
use crate::base::config::Serve;
use crate::base::db::Db;
use crate::base::metrics::Metrics;
use crate::driver::live::Live;
use crate::driver::trail::Trail;
use crate::event::bus::Bus;
use crate::event::relay::Relay;
use crate::order::snapshot::Snapshots;
use crate::order::writer::Writer;

/// Shared by every use case; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    pub config: Serve,
    pub db: Db,
    pub auth: Arc<Auth>,
    pub writer: Writer,
    pub relay: Relay,
    pub live: Live,
    pub snapshots: Snapshots,
    pub bus: Bus,
    pub trail: Trail,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Wakes who tells the order service of deliveries.
    pub calls: tokio::sync::Notify,
    /// Whether the database answered when it was last asked.
    pub database_answers: AtomicBool,
    /// Whether the server is on its way out.
    pub draining: AtomicBool,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Takes note of whether the database answers.
    pub fn healthy(&self, answers: bool) {
        self.database_answers.store(answers, Ordering::Relaxed);
    }

    /// Whether new work can be taken: the database answers, tokens can be verified, and we are not leaving.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.database_answers.load(Ordering::Relaxed)
            && self.auth.is_ready()
            && !self.draining.load(Ordering::Relaxed)
    }
}
