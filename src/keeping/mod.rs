//! Keeping and forgetting: finished orders go after some time, and what is known of a person goes when that is asked for.

mod erasure;
mod retention;
mod turn;

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::sync::Notify;

use crate::base::clock::{Clock, Time};
use crate::base::config::Limits;
use crate::base::db::Db;
use crate::base::metrics::Metrics;
use crate::cluster::control::Control;

pub use entity::erasure::Model as Erasure;

/// The use cases of forgetting. Cheap to clone.
#[derive(Clone)]
pub struct Keeping(Arc<Parts>);

struct Parts {
    db: Db,
    clock: Clock,
    control: Control,
    metrics: Metrics,
    /// How long finished orders are kept; `None` for ever.
    retention: Option<TimeDelta>,
    /// Notified when an erasure was asked for.
    asked: Notify,
}

impl Keeping {
    #[must_use]
    pub fn new(db: Db, clock: Clock, control: Control, limits: &Limits, metrics: Metrics) -> Self {
        let days = i64::from(limits.order_retention_days);
        let retention = (days > 0).then(|| TimeDelta::days(days));
        Self(Arc::new(Parts { db, clock, control, metrics, retention, asked: Notify::new() }))
    }

    /// Finished orders that changed last before this time are not kept; `None` if all are.
    #[must_use]
    pub fn kept_since(&self) -> Option<Time> {
        self.0.clock.now().checked_sub_signed(self.0.retention?)
    }

    /// Waits until an erasure was asked for in this process.
    pub async fn asked(&self) {
        self.0.asked.notified().await;
    }
}
