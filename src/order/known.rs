//! A cache of the orders that changed last, on any node, so that the next change need not read the whole order.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};

use crate::base::clock::Time;
use crate::base::db::{Sql, rows};
use crate::base::error::Refusal;
use crate::model::{Order, OrderEvent, OrderId, PastStatus, status};

/// The most orders in the cache. A further one removes another, which is read again when it is changed.
const CAPACITY: usize = 4_096;
/// Larger orders are not cached, in bytes: a few of them could use as much memory as hundreds of others. All together take
/// 32 MiB at the most.
const LARGE: usize = 8 * 1024;

/// An order and its history.
pub(crate) type OrderWithHistory = (Order, Vec<PastStatus>);

/// Identifies the version of an order on disk.
pub(super) struct Version {
    pub id: OrderId,
    pub seq: i64,
    pub updated_at: Time,
    pub estimated_delivery_time: Option<Time>,
    pub kitchen_ready_at: Option<Time>,
}

/// Locks orders as [`load_locked`](super::read::load_locked) does, but reads only their versions.
const LOCK: Sql = Sql {
    sqlite: "SELECT id, seq, updated_at, estimated_delivery_time, kitchen_ready_at FROM orders
        WHERE id IN (SELECT value FROM json_each($1))",
    postgres: "SELECT id, seq, updated_at, estimated_delivery_time, kitchen_ready_at FROM orders
        WHERE id = ANY (ARRAY (SELECT json_array_elements_text(CAST($1 AS json)))) ORDER BY id FOR UPDATE",
};

/// Locks orders, in the order of their ids. Returns the versions of those that exist.
pub(super) async fn lock(
    tx: &DatabaseTransaction,
    ids: &BTreeSet<&OrderId>,
) -> Result<Vec<Version>, Refusal> {
    let locked = tx.query_all_raw(LOCK.with(tx, [rows(ids)?])).await?;
    let version = |row: &QueryResult| {
        Ok(Version {
            id: OrderId::stored(&row.try_get_by_index::<String>(0)?),
            seq: row.try_get_by_index(1)?,
            updated_at: row.try_get_by_index(2)?,
            estimated_delivery_time: row.try_get_by_index(3)?,
            kitchen_ready_at: row.try_get_by_index(4)?,
        })
    };
    locked.iter().map(version).collect()
}

/// Orders as their last transaction left them. Other nodes change orders too: see [`Known::take`].
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<OrderId, OrderWithHistory>>);

impl Known {
    /// Removes and returns the order if it has this version, which is the one on disk and locked. The caller puts it
    /// back only after its commit, so a rolled-back change is never cached.
    pub fn take(&self, version: &Version) -> Option<OrderWithHistory> {
        let (mut order, history) = self.orders().remove(&version.id)?;
        let same = order.seq == version.seq && order.updated_at == version.updated_at;
        // What is set by hand has no seq.
        order.estimated_delivery_time = version.estimated_delivery_time;
        order.kitchen_ready_at = version.kitchen_ready_at;
        same.then_some((order, history))
    }

    /// Adds orders as they are on disk, without finished ones, which do not change again.
    pub fn keep(&self, orders: impl IntoIterator<Item = OrderWithHistory>) {
        let mut known = self.orders();
        for (order, history) in orders.into_iter().filter(|(order, _)| is_worth_it(order)) {
            add(&mut known, order, history);
        }
    }

    /// Adds an order as it was right after an event of any node, unless a newer state is here. Events of older versions have
    /// no history.
    pub fn learn(&self, event: &OrderEvent) {
        let order = &event.order;
        if event.history.is_empty() || !is_worth_it(order) {
            return;
        }
        let mut known = self.orders();
        if known.get(&order.id).is_none_or(|(known, _)| known.seq < order.seq) {
            add(&mut known, order.clone(), event.history.clone());
        }
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<OrderId, OrderWithHistory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it may change again, and is small.
fn is_worth_it(order: &Order) -> bool {
    !status::is_final(order.status) && order.bytes() <= LARGE
}

fn add(known: &mut HashMap<OrderId, OrderWithHistory>, order: Order, history: Vec<PastStatus>) {
    if known.len() >= CAPACITY
        && let Some(any) = known.keys().next().cloned()
    {
        known.remove(&any);
    }
    known.insert(order.id.clone(), (order, history));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: i64, status: &str) -> OrderEvent {
        let at = "2026-11-21T12:00:00.000Z";
        let event = json!({
            "kind": "status", "previousStatus": "pending", "at": at,
            "history": [{"seq": 1, "status": "pending", "at": at}],
            "order": {
                "id": "o", "orderNumber": "1", "customer": {"id": "c", "name": "Clara"}, "chef": {"id": "d", "name": "Chiara"},
                "delivery": {"address": "Linden Lane 12", "latitude": 47.15, "longitude": 9.53}, "items": [],
                "status": status, "paymentStatus": "pending", "seq": seq, "createdAt": at, "updatedAt": at,
            },
        });
        serde_json::from_value(event).expect("an event")
    }

    #[test]
    fn events_of_other_nodes_are_learned_unless_a_newer_state_is_known() {
        let known = Known::default();
        let has = |seq, event: &OrderEvent| {
            let order = &event.order;
            let version = Version {
                id: order.id.clone(),
                seq,
                updated_at: order.updated_at,
                estimated_delivery_time: None,
                kitchen_ready_at: None,
            };
            known.take(&version).is_some()
        };
        let (second, third) = (event(2, "accepted"), event(3, "preparing"));
        known.learn(&third);
        known.learn(&second);
        assert!(has(3, &third), "the older one did not take its place");
        known.learn(&second);
        assert!(!has(3, &third), "the disk has a newer one");
        known.learn(&OrderEvent { history: Vec::new(), ..second.clone() });
        known.learn(&event(4, "delivered"));
        assert!(!has(2, &second) && !has(4, &third));
    }
}
