//! Tracking sessions. A session is one more view of its order: it has nothing of its own but where the rider said they
//! were going.

mod find;
mod start;
mod stats;
mod update;

use chrono::TimeDelta;

use crate::base::config::Limits;
use crate::model::tracking::Lifetimes;

pub use find::{end, find, of_rider};
pub use start::{NewSession, start};
pub use stats::{Recency, Stats, stats};
pub use update::update;

/// How long sessions last, by these settings.
#[must_use]
pub fn lifetimes(limits: &Limits) -> Lifetimes {
    Lifetimes {
        from_start: TimeDelta::milliseconds(i64::from(limits.tracking_ttl_ms)),
        from_delivery: TimeDelta::milliseconds(i64::from(limits.tracking_delivered_ttl_ms)),
    }
}
