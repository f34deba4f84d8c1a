//! Deletes finished orders that were kept long enough, with everything about them. It works in small transactions of its
//! own and pauses between them, so that changes of orders do not wait for it.

use entity::{
    delivery, driver_assignment, eta_outcome, eta_shown, notification, order, order_event, order_item,
    order_milestone, order_pin, order_proof, order_risk, order_service_call, outbox_cursor, rating, receipt,
    share_link, status_history, tracking_session, webhook_delivery,
};
use sea_orm::sea_query::{LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::Keeping;
use super::turn::Turn;
use crate::base::clock::{Time, instant};
use crate::base::db::{AdvisoryLock, Db};
use crate::base::error::Refusal;
use crate::event::forgetting;
use crate::model::{OrderStatus, status};

/// Orders in one transaction.
const BATCH: u64 = 50;
impl Keeping {
    /// Deletes finished orders that were kept long enough, until none is left. Returns how many. Does nothing while another
    /// process does it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn remove_finished(&self) -> Result<u64, Refusal> {
        let Some(before) = self.kept_since() else { return Ok(0) };
        let Some(turn) = Turn::take(&self.0.db, AdvisoryLock::Retention).await? else { return Ok(0) };
        let removed = self.remove_all(before).await;
        turn.end().await;
        removed
    }

    async fn remove_all(&self, before: Time) -> Result<u64, Refusal> {
        let mut removed = 0;
        for status in OrderStatus::ALL.into_iter().filter(|status| status::is_final(*status)) {
            loop {
                let started = instant();
                let count = remove_batch(&self.0.db, status, before).await?;
                if count == 0 {
                    break;
                }
                removed += count;
                self.0.metrics.orders_removed.inc_by(count);
                // Others get the database for as long as this had it.
                tokio::time::sleep(started.elapsed()).await;
            }
        }
        if removed > 0 {
            tracing::info!(orders = removed, "finished orders were kept long enough and are gone");
        }
        Ok(removed)
    }
}

/// Deletes some orders of a status. Returns how many; 0 when there are no more.
async fn remove_batch(db: &Db, status: OrderStatus, before: Time) -> Result<u64, Refusal> {
    use order::Column;
    let tx = db.begin().await?;
    let mut ids: Vec<String> = order::Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::Status.eq(status))
        // The index has the creation, which is not after the last change.
        .filter(Column::CreatedAt.lt(before))
        .filter(Column::UpdatedAt.lt(before))
        .order_by_asc(Column::CreatedAt)
        .limit(BATCH)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .all(&tx)
        .await?;
    retain_told(&tx, &mut ids, before).await?;
    if !ids.is_empty() {
        delete(&tx, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    tx.commit().await?;
    Ok(ids.len() as u64)
}

/// Leaves out orders with events that a consumer of the log has not read yet. A consumer that was not there for as long as
/// orders are kept does not count.
async fn retain_told(tx: &DatabaseTransaction, ids: &mut Vec<String>, before: Time) -> Result<(), Refusal> {
    use order_event::Column;
    let read: Vec<i64> = outbox_cursor::Entity::find()
        .select_only()
        .column(outbox_cursor::Column::Position)
        .filter(outbox_cursor::Column::LeaseUntil.gte(before))
        .into_tuple()
        .all(tx)
        .await?;
    let Some(read) = read.into_iter().min() else { return Ok(()) };
    let unread: Vec<String> = order_event::Entity::find()
        .select_only()
        .column(Column::OrderId)
        .filter(Column::OrderId.is_in(ids.iter().map(String::as_str)))
        .filter(Column::Position.gt(read))
        .into_tuple()
        .all(tx)
        .await?;
    ids.retain(|id| !unread.contains(id));
    Ok(())
}

async fn delete(tx: &DatabaseTransaction, ids: &[&str]) -> Result<(), Refusal> {
    macro_rules! delete_from {
        ($($table:ident.$column:ident),+) => {$(
            $table::Entity::delete_many()
                .filter(Condition::all().add($table::Column::$column.is_in(ids.iter().copied())))
                .exec(tx)
                .await?;
        )+};
    }
    forgetting::forget(tx, ids).await?;
    delete_from!(
        order_item.OrderId,
        status_history.OrderId,
        driver_assignment.OrderId,
        tracking_session.OrderId,
        order_service_call.OrderId,
        order_milestone.OrderId,
        eta_shown.OrderId,
        eta_outcome.OrderId,
        order_risk.OrderId,
        receipt.OrderId,
        delivery.OrderId,
        notification.OrderId,
        order_proof.OrderId,
        order_pin.OrderId,
        rating.OrderId,
        share_link.OrderId,
        webhook_delivery.OrderId,
        order.Id
    );
    Ok(())
}
