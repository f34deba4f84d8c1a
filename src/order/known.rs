//! Orders that this node changed lately, so that the next change of one need not read all of it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Order;
use super::read::{Past, Version};
use super::status;
use crate::id::OrderId;

/// How many orders are kept; then all are forgotten, and read again when they are changed.
const CAPACITY: usize = 4_096;

/// An order and its history.
pub(crate) type Whole = (Order, Vec<Past>);

/// Orders as they were on disk when their transaction was over. Other nodes change them too: see [`Known::take`].
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<OrderId, Whole>>);

impl Known {
    /// Takes out the order of which this is the version on disk, locked. Whoever changes it keeps it again after the commit,
    /// and not otherwise: what was rolled back is forgotten.
    pub fn take(&self, version: &Version) -> Option<Whole> {
        let (mut order, history) = self.orders().remove(&version.id)?;
        let same = order.seq == version.seq && order.updated_at == version.updated_at;
        // What is set by hand has no seq.
        order.estimated_delivery_time = version.estimated_delivery_time;
        same.then_some((order, history))
    }

    /// Keeps orders as they are on disk. A finished one will not be changed again.
    pub fn keep(&self, orders: impl IntoIterator<Item = Whole>) {
        let mut known = self.orders();
        for (order, history) in orders.into_iter().filter(|(order, _)| !status::is_final(order.status)) {
            if known.len() >= CAPACITY {
                known.clear();
            }
            known.insert(order.id.clone(), (order, history));
        }
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<OrderId, Whole>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
