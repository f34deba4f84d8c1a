//! Who has received and seen what of an order. Sockets say so; what they say is written behind, told to chef and staff, and holds back
//! pushes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use entity::{delivery, receipt as row};
use indexmap::IndexMap;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait};
use serde::Serialize;
use tokio::sync::Notify as Wake;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::Notifications;
use crate::base::clock::{Time, rfc3339};
use crate::base::db::{padded, pieces};
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::cluster::control::Notice;
use crate::dialect::words::RoleWord;
use crate::model::told::{Told, What};
use crate::model::{Audience, LiveEvent, OrderId, Principal, Role, UserId};
use crate::order::read;

/// Receipts that wait to be written. Further ones are dropped and counted.
const WAITING: usize = 65_536;
/// How long the first one waits for more: an order that changes several times in a moment has one receipt.
const LINGER: Duration = Duration::from_millis(200);
/// The pause after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// Receipts in one transaction.
const BATCH: usize = 256;
/// Receipts that cost as much as one message that is sent.
const RECEIPTS: usize = 2;

/// What somebody has of an order.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    role: Option<Role>,
    received: i64,
    seen: i64,
}

/// What somebody has of which order.
type Of = ((UserId, OrderId), News);

/// What waits to be written.
pub struct Receipts {
    /// The oldest first.
    waiting: Mutex<IndexMap<(UserId, OrderId), News>>,
    /// Users whom nobody looks after any more.
    gone: Mutex<Vec<UserId>>,
    wake: Wake,
    metrics: Metrics,
}

/// What a user has of an order, for chef and staff.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub order_id: String,
    pub user_id: String,
    #[schema(value_type = RoleWord)]
    pub role: String,
    /// The last event that is proved to have come
    pub received_seq: i64,
    /// The last event that was seen
    pub seen_seq: i64,
    #[schema(format = DateTime)]
    pub at: String,
}

impl Receipts {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { waiting: Mutex::default(), gone: Mutex::default(), wake: Wake::new(), metrics }
    }

    /// A socket that somebody looks at has proved that it received an event of an order.
    pub fn received(&self, user: &UserId, role: Role, order: &OrderId, seq: i64) {
        self.put(user, role, order, |news| news.received = Ord::max(news.received, seq));
    }

    /// Somebody has seen an event of an order.
    pub fn seen(&self, user: &UserId, role: Role, order: &OrderId, seq: i64) {
        self.put(user, role, order, |news| {
            (news.received, news.seen) = (Ord::max(news.received, seq), Ord::max(news.seen, seq));
        });
    }

    /// Nobody looks at a socket of this user any more: what is held back for them goes out.
    pub fn gone(&self, user: &UserId) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        // Without room it goes out a little later, by itself.
        if gone.len() < WAITING {
            gone.push(user.clone());
            self.wake.notify_one();
        }
    }

    fn put(&self, user: &UserId, role: Role, order: &OrderId, change: impl FnOnce(&mut News)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (user.clone(), order.clone());
        if waiting.len() >= WAITING && !waiting.contains_key(&key) {
            self.metrics.receipts_dropped.inc();
            return;
        }
        let news = waiting.entry(key).or_default();
        news.role = Some(role);
        change(news);
        self.wake.notify_one();
    }

    /// What could not be written waits again.
    fn again(&self, user: &UserId, order: &OrderId, old: News) {
        let Some(role) = old.role else { return };
        self.put(user, role, order, |news| {
            news.received = Ord::max(news.received, old.received);
            news.seen = Ord::max(news.seen, old.seen);
        });
    }

    /// Those that have waited longest.
    fn take(&self) -> Vec<Of> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }

    fn take_gone(&self) -> Vec<UserId> {
        std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Notifications {
    /// Writes receipts until `stop`.
    pub async fn write_receipts(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.receipts.wake.notified() => {}
                () = stop.cancelled() => break,
            }
            tokio::time::sleep(LINGER).await;
            self.flush_receipts(&stop).await;
        }
        while self.write_some().await {}
        self.release_gone().await;
    }

    /// Writes all that wait. They take turns while the server is full.
    async fn flush_receipts(&self, stop: &CancellationToken) {
        let fullness = self.events.fullness();
        loop {
            tokio::select! {
                () = fullness.turn() => {}
                () = stop.cancelled() => return,
            }
            if !self.write_some().await {
                break;
            }
            fullness.spent(BATCH / RECEIPTS);
        }
        self.release_gone().await;
    }

    /// Called when receipts are written: who has received something has said so before they went.
    async fn release_gone(&self) {
        for users in self.receipts.take_gone().chunks(BATCH) {
            if let Err(error) = self.release(users).await {
                tracing::debug!(%error, "what is held back could not be let go; it goes when its time comes");
            }
        }
    }

    /// Returns whether more may wait, and can be written.
    async fn write_some(&self) -> bool {
        let batch = self.receipts.take();
        if batch.is_empty() {
            return false;
        }
        match self.write_batch(&batch).await {
            Ok(written) => {
                for (receipt, chef) in written {
                    self.tell_receipt(&receipt, chef).await;
                }
                batch.len() == BATCH
            }
            // Somebody else had the rows, or the database is away for a moment.
            Err(Refusal::Unavailable | Refusal::Conflict(_)) => {
                for ((user, order), news) in &batch {
                    self.receipts.again(user, order, *news);
                }
                tokio::time::sleep(RETRY).await;
                false
            }
            Err(error) => {
                self.metrics.receipts_dropped.inc_by(batch.len() as u64);
                tracing::warn!(%error, receipts = batch.len(), "receipts could not be written");
                true
            }
        }
    }

    /// Returns those that are new, each with the chef of its order.
    async fn write_batch(&self, batch: &[Of]) -> Result<Vec<(Receipt, UserId)>, Refusal> {
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        let ids: Vec<OrderId> = batch.iter().map(|((_, order), _)| order.clone()).collect();
        let chefs = read::chefs(&tx, &ids).await?;
        let known = row::Entity::find()
            .filter(row::Column::OrderId.is_in(padded(ids.iter().map(OrderId::as_str).collect())))
            .all(&tx)
            .await?;
        let known: HashMap<(String, String), row::Model> =
            known.into_iter().map(|row| ((row.order_id.clone(), row.user_id.clone()), row)).collect();
        let (mut models, mut written) = (Vec::new(), Vec::new());
        for ((user, order), news) in batch {
            let (Some(role), Some(chef)) = (news.role, chefs.get(order.as_str())) else { continue };
            let before = known.get(&(order.to_string(), user.to_string()));
            let (received, seen) = before.map_or((0, 0), |before| (before.received_seq, before.seen_seq));
            if news.received <= received && news.seen <= seen {
                continue;
            }
            let at = |is_new: bool, old: Option<Time>| if is_new { Some(now) } else { old };
            let receipt = Receipt {
                order_id: order.to_string(),
                user_id: user.to_string(),
                role: role.as_str().to_owned(),
                received_seq: Ord::max(news.received, received),
                seen_seq: Ord::max(news.seen, seen),
                at: rfc3339(now),
            };
            models.push(row::ActiveModel {
                order_id: Set(receipt.order_id.clone()),
                user_id: Set(receipt.user_id.clone()),
                role: Set(receipt.role.clone()),
                received_seq: Set(receipt.received_seq),
                received_at: Set(at(news.received > received, before.and_then(|row| row.received_at))),
                seen_seq: Set(receipt.seen_seq),
                seen_at: Set(at(news.seen > seen, before.and_then(|row| row.seen_at))),
            });
            self.metrics.receipts.inc();
            written.push((receipt, UserId::stored(chef)));
        }
        for piece in pieces(models) {
            row::Entity::insert_many(piece).on_conflict(newest()).exec_without_returning(&tx).await?;
        }
        let users: Vec<&str> = written.iter().map(|(receipt, _)| receipt.user_id.as_str()).collect();
        if !users.is_empty() {
            let of_them = delivery::Column::Recipient.is_in(padded(users));
            let held = suppress_received(&tx, of_them, now).await?;
            for _ in 0..held {
                self.metrics.notification("any", "suppressed");
            }
        }
        tx.commit().await?;
        Ok(written)
    }

    /// What is held back for these users goes out now.
    async fn release(&self, users: &[UserId]) -> Result<(), Refusal> {
        use delivery::Column;
        let now = self.clock.now();
        let released = delivery::Entity::update_many()
            .col_expr(Column::State, Expr::value("due"))
            .col_expr(Column::DueAt, Expr::value(now))
            .filter(Column::Recipient.is_in(users.iter().map(UserId::as_str)))
            .filter(Column::State.eq("held"))
            .filter(Column::Channel.ne("sms"))
            .exec(self.db.writer())
            .await?;
        if released.rows_affected > 0 {
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn tell_receipt(&self, receipt: &Receipt, chef: UserId) {
        let Ok(data) = serde_json::value::to_raw_value(receipt) else { return };
        let mut to = vec![Audience::Role(Role::Admin), Audience::Role(Role::Service)];
        if chef.as_str() != receipt.user_id {
            to.push(Audience::Party(Role::Chef, chef));
        }
        let order = Some(OrderId::stored(&receipt.order_id));
        let told = Told { what: What::Receipt, order, in_room: false, to, data };
        if !self.bus.has_others() {
            self.bus.tell(&LiveEvent::Told(told));
        } else if let Err(error) = self.control.tell(Notice::Told(told)).await {
            tracing::debug!(%error, "a receipt could not be told");
        }
    }

    /// What users have received and seen of an order.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for others than its parties, [`Refusal::Forbidden`] for others than its chef and staff; those of the
    /// database.
    pub async fn receipts_of(&self, order: &OrderId, who: &Principal) -> Result<Vec<Receipt>, Refusal> {
        let db = self.db.reader();
        let (found, _) = read::order(db, order, who).await?;
        if !(who.role.is_staff() || (who.role == Role::Chef && found.chef.id == who.id)) {
            return Err(Refusal::Forbidden("only the chef of the order and staff may do this".to_owned()));
        }
        let rows = row::Entity::find().filter(row::Column::OrderId.eq(order.as_str())).all(db).await?;
        let receipt = |row: row::Model| Receipt {
            at: rfc3339(Ord::max(row.received_at, row.seen_at).unwrap_or_default()),
            order_id: row.order_id,
            user_id: row.user_id,
            role: row.role,
            received_seq: row.received_seq,
            seen_seq: row.seen_seq,
        };
        Ok(rows.into_iter().map(receipt).collect())
    }
}

/// Another node may have written a newer one meanwhile.
fn newest() -> OnConflict {
    use row::Column;
    let mut conflict = OnConflict::columns([Column::OrderId, Column::UserId]);
    for (seq, at) in [("received_seq", "received_at"), ("seen_seq", "seen_at")] {
        let is_newer = format!("CASE WHEN excluded.{seq} > receipt.{seq} THEN excluded.");
        let or_else = "ELSE receipt.";
        let (seq_column, at_column) = if seq == "received_seq" {
            (Column::ReceivedSeq, Column::ReceivedAt)
        } else {
            (Column::SeenSeq, Column::SeenAt)
        };
        conflict.value(seq_column, Expr::cust(format!("{is_newer}{seq} {or_else}{seq} END")));
        conflict.value(at_column, Expr::cust(format!("{is_newer}{at} {or_else}{at} END")));
    }
    conflict
}

/// What somebody has by now is not pushed any more. Returns how many deliveries that stops.
pub(super) async fn suppress_received(
    tx: &impl ConnectionTrait,
    which: Expr,
    now: Time,
) -> Result<u64, Refusal> {
    use delivery::Column;
    use row::Column as Of;
    let own = |column: Column| Expr::col((delivery::Entity, column));
    let has_it = row::Entity::find()
        .select_only()
        .column(Of::OrderId)
        .filter(Expr::col((row::Entity, Of::OrderId)).eq(own(Column::OrderId)))
        .filter(Expr::col((row::Entity, Of::UserId)).eq(own(Column::Recipient)))
        .filter(
            Expr::col((row::Entity, Of::ReceivedSeq)).gte(own(Column::Seq)).or(Expr::col((
                row::Entity,
                Of::SeenSeq,
            ))
            .gte(own(Column::Seq))),
        )
        .into_query();
    let stopped = delivery::Entity::update_many()
        .col_expr(Column::State, Expr::value("suppressed"))
        .col_expr(Column::Reason, Expr::value("watching"))
        .col_expr(Column::DoneAt, Expr::value(now))
        .filter(which)
        .filter(Column::State.is_in(["held", "due"]))
        .filter(Expr::exists(has_it))
        .exec(tx)
        .await?;
    Ok(stopped.rows_affected)
}
