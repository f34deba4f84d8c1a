//! Deliveries of a time, each with all the ETAs that were shown.

use std::collections::HashMap;

use entity::{eta_outcome, eta_shown, order_risk};
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::log::Shown;
use crate::base::clock::Time;
use crate::base::error::Refusal;

/// Orders that are read at a time.
const PAGE: u64 = 200;

/// An order that was delivered.
pub struct Delivered {
    pub arrived_at: Time,
    /// Whether the driver was seen at the door; else only the status says when it was.
    pub is_seen: bool,
    /// In their order.
    pub shown: Vec<Shown>,
    /// The latest time that was promised.
    pub promised_to: Option<Time>,
}

/// Calls `look` with each order that was delivered after `from`, up to `to`, in that order.
///
/// # Errors
/// Those of the database.
pub async fn each(
    db: &impl ConnectionTrait,
    from: Time,
    to: Time,
    mut look: impl FnMut(Delivered),
) -> Result<(), Refusal> {
    use eta_outcome::Column;
    let mut after = (from, String::new());
    loop {
        let later = Column::DeliveredAt.gt(after.0);
        let same = Column::DeliveredAt.eq(after.0).and(Column::OrderId.gt(after.1.as_str()));
        let page = eta_outcome::Entity::find()
            .filter(later.or(same))
            .filter(Column::DeliveredAt.lte(to))
            .order_by_asc(Column::DeliveredAt)
            .order_by_asc(Column::OrderId)
            .limit(PAGE)
            .all(db)
            .await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = (last.delivered_at, last.order_id.clone());
        let ids: Vec<&str> = page.iter().map(|outcome| outcome.order_id.as_str()).collect();
        let rows = eta_shown::Entity::find()
            .filter(eta_shown::Column::OrderId.is_in(ids.iter().copied()))
            .order_by_asc(eta_shown::Column::Id)
            .all(db)
            .await?;
        let promised: HashMap<String, Time> = order_risk::Entity::find()
            .filter(order_risk::Column::OrderId.is_in(ids))
            .all(db)
            .await?
            .into_iter()
            .filter_map(|row| Some((row.order_id, row.promised_to?)))
            .collect();
        let mut of_order: HashMap<String, Vec<Shown>> = HashMap::new();
        for row in rows {
            of_order.entry(row.order_id.clone()).or_default().push(row.into());
        }
        for outcome in page {
            look(Delivered {
                arrived_at: outcome.arrived_at,
                is_seen: outcome.evidence == "milestone",
                shown: of_order.remove(&outcome.order_id).unwrap_or_default(),
                promised_to: promised.get(&outcome.order_id).copied(),
            });
        }
    }
}
