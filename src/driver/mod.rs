//! Drivers: where they are, what they carry, when they arrive.

pub mod live;
mod override_eta;
mod read;
pub mod report;
pub mod trail;

use std::sync::Arc;

use chrono::TimeDelta;

use self::live::{Driver, Live};
use self::trail::Trail;
use crate::base::clock::Clock;
use crate::base::config::Limits;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::event::bus::Bus;
use crate::model::{Eta, Forecast, Order, OrderEvent, UserId};
use crate::order::Orders;

/// The use cases of drivers. Cheap to clone.
#[derive(Clone)]
pub struct Drivers {
    db: Db,
    clock: Clock,
    live: Arc<Live>,
    trail: Trail,
    bus: Bus,
    orders: Orders,
    pace: Pace,
}

/// What a driver may report.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Reports per second, sustained; 0 is no limit.
    rate: f64,
    /// Reports at once.
    burst: u32,
    /// How far ahead of our clock a fix may be.
    skew: TimeDelta,
}

impl Drivers {
    #[must_use]
    pub fn new(db: Db, clock: Clock, trail: Trail, bus: Bus, orders: Orders, limits: &Limits) -> Self {
        let pace = Pace {
            rate: limits.location_rate_per_second,
            burst: limits.location_burst,
            skew: TimeDelta::seconds(i64::from(limits.clock_skew_seconds)),
        };
        let live = Arc::new(Live::new(clock.clone(), limits.location_burst));
        Self { db, clock, live, trail, bus, orders, pace }
    }

    /// Builds the live state from the database.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load(&self) -> Result<(), Refusal> {
        self.live.load(&self.db).await
    }

    /// The live state of a driver, known or new.
    #[must_use]
    pub fn driver(&self, id: &UserId) -> Arc<Driver> {
        self.live.driver(id)
    }

    /// When an order arrives, as well as can be told now.
    #[must_use]
    pub fn eta(&self, order: &Order) -> Option<Eta> {
        self.live.eta(order, self.clock.now())
    }

    /// What is known of an order beside the order itself.
    #[must_use]
    pub fn forecast(&self, order: &Order) -> Forecast {
        self.live.forecast(order, self.clock.now())
    }

    /// Takes note of a durable event, and has it told with what is known of its order then: see [`Live::apply`].
    pub async fn apply(&self, event: OrderEvent, tell: impl FnOnce(OrderEvent, Forecast)) {
        if let Err(error) = self.live.recall(&self.db, &event).await {
            // The driver's next fix tells.
            tracing::debug!(%error, "the last position of a driver cannot be read");
        }
        self.live.apply(event, tell);
    }

    /// Forgets drivers who neither carry an order nor have a session.
    pub fn sweep(&self) {
        self.live.sweep();
    }

    /// How many drivers are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// How many fixes wait to be written to the trail.
    #[must_use]
    pub fn trail_depth(&self) -> usize {
        self.trail.depth()
    }
}
