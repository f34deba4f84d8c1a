//! The sum of the use cases. There is no socket and no session in it: a use case cannot write to a client.

use std::ops::Deref;
use std::sync::Arc;

use crate::auth::Auth;
use crate::base::clock::Clock;
use crate::base::config::Serve;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::health::Health;
use crate::base::metrics::Metrics;
use crate::driver::Drivers;
use crate::driver::trail::Trail;
use crate::event::bus::Bus;
use crate::event::relay::Relay;
use crate::model::UserId;
use crate::order::Orders;
use crate::recovery::Recovery;
use crate::tracking::Tracking;

/// Shared by sessions and transports; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What use cases have in common.
pub struct Shared {
    pub config: Serve,
    pub health: Arc<Health>,
    pub auth: Arc<Auth>,
    pub events: Relay,
    pub bus: Bus,
    pub clock: Clock,
    pub metrics: Metrics,
    pub db: Db,
}

/// The parts of an [`App`].
pub struct Parts {
    pub config: Serve,
    pub health: Arc<Health>,
    pub auth: Arc<Auth>,
    /// The log of durable events.
    pub events: Relay,
    /// The way of live events.
    pub bus: Bus,
    pub orders: Orders,
    pub drivers: Drivers,
    pub tracking: Tracking,
    pub recovery: Recovery,
    pub clock: Clock,
    pub metrics: Metrics,
    /// For what belongs to no use case: revoked tokens.
    db: Db,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Puts the use cases together on one database.
    #[must_use]
    pub fn new(shared: Shared, orders: Orders, trail: Trail, recovery: Recovery) -> Self {
        let Shared { config, health, auth, events, bus, clock, metrics, db } = shared;
        let limits = &config.limits;
        let drivers = Drivers::new(db.clone(), clock.clone(), trail, bus.clone(), orders.clone(), limits);
        let tracking = Tracking::new(db.clone(), clock.clone(), orders.clone(), drivers.clone(), limits);
        Self(Arc::new(Parts {
            config,
            health,
            auth,
            events,
            bus,
            orders,
            drivers,
            tracking,
            recovery,
            clock,
            metrics,
            db,
        }))
    }

    /// Whether new work can be taken: the database answers, tokens can be verified, and the server is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.health.is_good() && self.auth.is_ready()
    }

    /// Refuses the tokens of a user that were made before now.
    ///
    /// # Errors
    /// Those of the database; then nothing has changed.
    pub async fn revoke_tokens(&self, user: &UserId) -> Result<(), Refusal> {
        self.auth.revocations().revoke(&self.db, user, self.clock.now()).await
    }

    /// Reads which users' tokens were revoked lately, here or by another process.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn poll_revocations(&self) -> Result<Vec<UserId>, Refusal> {
        self.auth.revocations().poll(&self.db).await
    }

    /// Closes the database, after everything else.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
