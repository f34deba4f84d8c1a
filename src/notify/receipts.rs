//! Who has received and seen what of an order. Sockets say so; what they say is written behind, told to chef and staff, and holds back
//! pushes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use entity::{delivery, receipt as row};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde::Serialize;
use tokio::sync::Notify as Wake;
use tokio_util::sync::CancellationToken;

use super::Notifications;
use crate::base::clock::{Time, rfc3339};
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::cluster::control::Notice;
use crate::model::told::{Told, What};
use crate::model::{Audience, LiveEvent, OrderId, Principal, Role, UserId};
use crate::order::read;

/// Receipts that wait to be written. Further ones are dropped and counted.
const WAITING: usize = 16_384;
/// How long the first one waits for more.
const LINGER: Duration = Duration::from_millis(20);
/// The pause after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// Receipts in one transaction.
const BATCH: usize = 256;

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
    waiting: Mutex<HashMap<(UserId, OrderId), News>>,
    /// Users whom nobody looks after any more.
    gone: Mutex<Vec<UserId>>,
    wake: Wake,
    metrics: Metrics,
}

/// What a user has of an order, for chef and staff.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub order_id: String,
    pub user_id: String,
    pub role: String,
    pub received_seq: i64,
    pub seen_seq: i64,
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

    fn take(&self) -> (Vec<Of>, Vec<UserId>) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let gone = std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner));
        (waiting.into_iter().collect(), gone)
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
            self.flush_receipts().await;
        }
        self.flush_receipts().await;
    }

    async fn flush_receipts(&self) {
        let (waiting, gone) = self.receipts.take();
        for batch in waiting.chunks(BATCH) {
            match self.write_batch(batch).await {
                Ok(written) => {
                    for (receipt, chef) in written {
                        self.tell_receipt(&receipt, chef).await;
                    }
                }
                // Somebody else had the rows, or the database is away for a moment.
                Err(Refusal::Unavailable | Refusal::Conflict(_)) => {
                    for ((user, order), news) in batch {
                        self.receipts.again(user, order, *news);
                    }
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    self.metrics.receipts_dropped.inc_by(batch.len() as u64);
                    tracing::warn!(%error, receipts = batch.len(), "receipts could not be written");
                }
            }
        }
        for users in gone.chunks(BATCH) {
            if let Err(error) = self.release(users).await {
                tracing::debug!(%error, "what is held back could not be let go; it goes when its time comes");
            }
        }
    }

    /// Returns those that are new, each with the chef of its order.
    async fn write_batch(&self, batch: &[Of]) -> Result<Vec<(Receipt, UserId)>, Refusal> {
        use row::Column;
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        let ids: Vec<OrderId> = batch.iter().map(|((_, order), _)| order.clone()).collect();
        let chefs = read::chefs(&tx, &ids).await?;
        let mut written = Vec::new();
        for ((user, order), news) in batch {
            let (Some(role), Some(chef)) = (news.role, chefs.get(order.as_str())) else { continue };
            let key = (order.to_string(), user.to_string());
            let before = row::Entity::find_by_id(key).one(&tx).await?;
            let (received, seen) =
                before.as_ref().map_or((0, 0), |before| (before.received_seq, before.seen_seq));
            if news.received <= received && news.seen <= seen {
                continue;
            }
            let at = |is_new: bool, old: Option<Time>| if is_new { Some(now) } else { old };
            let model = row::ActiveModel {
                order_id: Set(order.to_string()),
                user_id: Set(user.to_string()),
                role: Set(role.as_str().to_owned()),
                received_seq: Set(Ord::max(news.received, received)),
                received_at: Set(at(
                    news.received > received,
                    before.as_ref().and_then(|row| row.received_at),
                )),
                seen_seq: Set(Ord::max(news.seen, seen)),
                seen_at: Set(at(news.seen > seen, before.as_ref().and_then(|row| row.seen_at))),
            };
            let columns =
                [Column::ReceivedSeq, Column::ReceivedAt, Column::SeenSeq, Column::SeenAt, Column::Role];
            let conflict =
                OnConflict::columns([Column::OrderId, Column::UserId]).update_columns(columns).to_owned();
            row::Entity::insert(model).on_conflict(conflict).exec_without_returning(&tx).await?;
            let reason = if news.seen > seen { "seen" } else { "watching" };
            self.hold_back(&tx, user, order, Ord::max(news.received, news.seen), reason, now).await?;
            self.metrics.receipts.inc();
            let receipt = Receipt {
                order_id: order.to_string(),
                user_id: user.to_string(),
                role: role.as_str().to_owned(),
                received_seq: Ord::max(news.received, received),
                seen_seq: Ord::max(news.seen, seen),
                at: rfc3339(now),
            };
            written.push((receipt, UserId::stored(chef)));
        }
        tx.commit().await?;
        Ok(written)
    }

    /// What somebody has by now is not pushed any more.
    async fn hold_back(
        &self,
        tx: &DatabaseTransaction,
        user: &UserId,
        order: &OrderId,
        seq: i64,
        reason: &'static str,
        now: Time,
    ) -> Result<(), Refusal> {
        use delivery::Column;
        let held = delivery::Entity::update_many()
            .col_expr(Column::State, Expr::value("suppressed"))
            .col_expr(Column::Reason, Expr::value(reason))
            .col_expr(Column::DoneAt, Expr::value(now))
            .filter(Column::Recipient.eq(user.as_str()))
            .filter(Column::OrderId.eq(order.as_str()))
            .filter(Column::Seq.lte(seq))
            .filter(Column::State.is_in(["held", "due"]))
            .exec(tx)
            .await?;
        for _ in 0..held.rows_affected {
            self.metrics.notification("any", "suppressed");
        }
        Ok(())
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
