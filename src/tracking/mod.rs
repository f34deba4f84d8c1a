//! Tracking sessions: a rider's way with one order, for those who know its id. A session is one more view of its order: it
//! has nothing of its own but where the rider said they were going.

mod find;
mod start;
mod stats;
mod update;

pub use start::NewSession;
pub use stats::{Recency, Stats};

use chrono::TimeDelta;

use crate::base::clock::Clock;
use crate::base::config::Limits;
use crate::base::db::Db;
use crate::driver::Drivers;
use crate::model::tracking::Lifetimes;
use crate::order::Orders;

/// The use cases of tracking sessions. Cheap to clone.
#[derive(Clone)]
pub struct Tracking {
    db: Db,
    clock: Clock,
    orders: Orders,
    drivers: Drivers,
    lifetimes: Lifetimes,
}

impl Tracking {
    #[must_use]
    pub fn new(db: Db, clock: Clock, orders: Orders, drivers: Drivers, limits: &Limits) -> Self {
        let lifetimes = Lifetimes {
            from_start: TimeDelta::milliseconds(i64::from(limits.tracking_ttl_ms)),
            from_delivery: TimeDelta::milliseconds(i64::from(limits.tracking_delivered_ttl_ms)),
        };
        Self { db, clock, orders, drivers, lifetimes }
    }

    /// How long sessions last.
    #[must_use]
    pub const fn lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }
}
