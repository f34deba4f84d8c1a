//! Tracking sessions: a rider's trip with one order, for anybody who knows its id. A session is a view of its order.
//! The only data of its own is the destination that the rider gave.

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
use crate::notify::Notifications;
use crate::order::Orders;

/// The use cases of tracking sessions. Cheap to clone.
#[derive(Clone)]
pub struct Tracking {
    db: Db,
    clock: Clock,
    orders: Orders,
    drivers: Drivers,
    notify: Notifications,
    lifetimes: Lifetimes,
}

impl Tracking {
    #[must_use]
    pub fn new(
        db: Db,
        clock: Clock,
        orders: Orders,
        drivers: Drivers,
        notify: Notifications,
        limits: &Limits,
    ) -> Self {
        let lifetimes = Lifetimes {
            from_start: TimeDelta::milliseconds(i64::from(limits.tracking_ttl_ms)),
            from_delivery: TimeDelta::milliseconds(i64::from(limits.tracking_delivered_ttl_ms)),
        };
        Self { db, clock, orders, drivers, notify, lifetimes }
    }

    /// How long sessions last.
    #[must_use]
    pub const fn lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }
}
