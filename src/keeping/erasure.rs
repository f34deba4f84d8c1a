//! Erases what is known of a person: names, phone numbers, addresses, notes and places, in all tables and in the log. Ids,
//! statuses and times stay.
//!
//! An erasure is a row, so it is carried out also if the process dies. It may be carried out more than once. Changing an
//! order moves its `updated_at` by a millisecond: no process then goes on from what it has of the order in memory.

use chrono::TimeDelta;
use entity::{
    delivery, device, driver_assignment, driver_plan, driver_position, erasure, idempotency_key,
    notification, notification_preference, order, order_proof, position_trail, rating, receipt, share_link,
    status_history, tracking_session, webhook_delivery,
};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::turn::Turn;
use super::{Erasure, Keeping};
use crate::base::clock::Time;
use crate::base::db::{AdvisoryLock, Db, padded};
use crate::base::error::Refusal;
use crate::cluster::control::Notice;
use crate::event::forgetting;
use crate::model::UserId;
use crate::model::erase::{ERASED, erase};

/// Orders that are looked up at a time.
const PAGE: u64 = 1_000;
/// Orders in one transaction.
const BATCH: usize = 20;
/// Rows of the trail that one statement looks through.
const TRAIL_STEP: usize = 20_000;
/// Fixes that were received before an erasure are on disk after this time, in all processes.
const SETTLED: TimeDelta = TimeDelta::seconds(15);
/// The sockets of the person end within this time. What they sent until then is erased as well.
const SOCKETS_END: TimeDelta = TimeDelta::seconds(2);
/// How long an erasure stays on record after it was carried out.
const RECORDED: TimeDelta = TimeDelta::days(1);

impl Keeping {
    /// Asks for a person's data to be erased. When this returns, that is on disk.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ask_to_erase(&self, user: &UserId) -> Result<(), Refusal> {
        use erasure::Column;
        let asked = erasure::ActiveModel {
            user_id: Set(user.to_string()),
            requested_at: Set(self.0.clock.now()),
            redacted_at: Set(None),
            is_done: Set(false),
        };
        let again = OnConflict::column(Column::UserId)
            .update_columns([Column::RequestedAt, Column::RedactedAt, Column::IsDone])
            .to_owned();
        let tx = self.0.db.begin().await?;
        erasure::Entity::insert(asked).on_conflict(again).exec_without_returning(&tx).await?;
        self.tell(tx, user).await?;
        self.0.asked.notify_one();
        Ok(())
    }

    /// Erasures that were asked for or carried out since a time, by any process.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn erasures_since(&self, time: Time) -> Result<Vec<Erasure>, Refusal> {
        use erasure::Column;
        let news = Condition::any().add(Column::RequestedAt.gte(time)).add(Column::RedactedAt.gte(time));
        Ok(erasure::Entity::find().filter(news).all(self.0.db.reader()).await?)
    }

    /// Carries out what was asked for. Does nothing while another process does it.
    ///
    /// # Errors
    /// Those of the database. What was not carried out then is tried again by the next call.
    pub async fn erase_pending(&self) -> Result<(), Refusal> {
        use erasure::Column;
        let db = &self.0.db;
        let now = self.0.clock.now();
        let pending = Condition::any()
            .add(Column::RedactedAt.is_null())
            .add(Column::IsDone.eq(false).and(Column::RequestedAt.lt(now - SETTLED)));
        let pending = erasure::Entity::find().filter(pending).order_by_asc(Column::RequestedAt);
        if pending.clone().one(db.reader()).await?.is_none() {
            return Ok(());
        }
        let Some(turn) = Turn::take(db, AdvisoryLock::Erasure).await? else { return Ok(()) };
        let outcome = self.carry_out_all(pending.all(db.reader()).await?).await;
        turn.end().await;
        let old = erasure::Entity::delete_many().filter(Column::IsDone.eq(true));
        old.filter(Column::RequestedAt.lt(now - RECORDED)).exec(db.writer()).await?;
        outcome
    }

    async fn carry_out_all(&self, erasures: Vec<Erasure>) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        for erasure in erasures {
            // One that fails does not hold up the others.
            if let Err(refusal) = self.carry_out(&erasure).await {
                outcome = Err(refusal);
            }
        }
        outcome
    }

    async fn carry_out(&self, erasure: &Erasure) -> Result<(), Refusal> {
        use erasure::Column;
        let (db, user) = (&self.0.db, UserId::stored(&erasure.user_id));
        forget_positions(db, &user, erasure.requested_at + SOCKETS_END).await?;
        driver_plan::Entity::delete_by_id(user.as_str()).exec(db.writer()).await?;
        forget_notifications(db, &user).await?;
        let done = if erasure.redacted_at.is_none() {
            redact_orders(db, &user).await?;
            idempotency_key::Entity::delete_many()
                .filter(idempotency_key::Column::UserId.eq(user.as_str()))
                .exec(db.writer())
                .await?;
            self.0.metrics.persons_erased.inc();
            erasure::ActiveModel { redacted_at: Set(Some(self.0.clock.now())), ..Default::default() }
        } else {
            erasure::ActiveModel { is_done: Set(true), ..Default::default() }
        };
        let tx = db.begin().await?;
        // Unless it was asked for again meanwhile.
        erasure::Entity::update_many()
            .set(done)
            .filter(Column::UserId.eq(user.as_str()))
            .filter(Column::RequestedAt.eq(erasure.requested_at))
            .exec(&tx)
            .await?;
        self.tell(tx, &user).await
    }

    /// Commits a change of an erasure, and tells every node of it.
    async fn tell(&self, tx: DatabaseTransaction, user: &UserId) -> Result<(), Refusal> {
        self.0.control.append(&tx, &[Notice::Erasure { user: user.clone() }]).await?;
        tx.commit().await?;
        self.0.control.appended();
        Ok(())
    }
}

/// Erases the person from all orders that they are or were party to.
async fn redact_orders(db: &Db, user: &UserId) -> Result<(), Refusal> {
    for party in [order::Column::CustomerId, order::Column::ChefId, order::Column::DriverId] {
        let mut after: Option<(Time, String)> = None;
        loop {
            let older = after.take().map(|(at, id)| {
                let same = order::Column::CreatedAt.eq(at).and(order::Column::Id.gt(id));
                order::Column::CreatedAt.gt(at).or(same)
            });
            let page: Vec<(Time, String)> = order::Entity::find()
                .select_only()
                .columns([order::Column::CreatedAt, order::Column::Id])
                .filter(party.eq(user.as_str()))
                .filter(Condition::all().add_option(older))
                .order_by_asc(order::Column::CreatedAt)
                .order_by_asc(order::Column::Id)
                .limit(PAGE)
                .into_tuple()
                .all(db.reader())
                .await?;
            let Some(last) = page.last().cloned() else { break };
            redact(db, user, page.into_iter().map(|(_, id)| id).collect()).await?;
            after = Some(last);
        }
    }
    // Orders that were taken from a driver.
    let mut after = String::new();
    loop {
        use driver_assignment::Column;
        let page: Vec<String> = driver_assignment::Entity::find()
            .select_only()
            .column(Column::OrderId)
            .filter(Column::DriverId.eq(user.as_str()))
            .filter(Column::OrderId.gt(after.as_str()))
            .order_by_asc(Column::OrderId)
            .limit(PAGE)
            .into_tuple()
            .all(db.reader())
            .await?;
        let Some(last) = page.last().cloned() else { return Ok(()) };
        redact(db, user, page).await?;
        after = last;
    }
}

async fn redact(db: &Db, user: &UserId, mut orders: Vec<String>) -> Result<(), Refusal> {
    orders.sort_unstable();
    orders.dedup();
    for ids in orders.chunks(BATCH) {
        let tx = db.begin().await?;
        let rows = order::Entity::find()
            .filter(order::Column::Id.is_in(padded(ids.iter().map(String::as_str).collect())))
            .order_by_asc(order::Column::Id)
            .lock_exclusive()
            .all(&tx)
            .await?;
        for row in rows {
            forgetting::rewrite(&tx, &row.id, |event| erase(event, user)).await?;
            redact_tables(&tx, user, &row.id, row.customer_id == user.as_str()).await?;
            order::Entity::update_many()
                .set(redacted(&row, user))
                .filter(order::Column::Id.eq(row.id.as_str()))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// The columns of an order without the person. What is removed here and in [`erase`] has to be the same.
fn redacted(row: &order::Model, user: &UserId) -> order::ActiveModel {
    let mut order = order::ActiveModel {
        updated_at: Set(row.updated_at + TimeDelta::milliseconds(1)),
        ..Default::default()
    };
    if row.customer_id == user.as_str() {
        order.customer_name = Set(ERASED.to_owned());
        order.customer_phone = Set(None);
        order.delivery_address = Set(ERASED.to_owned());
        order.delivery_latitude = Set(0.0);
        order.delivery_longitude = Set(0.0);
        order.notes = Set(None);
        order.payment_reference = Set(None);
    }
    if row.chef_id == user.as_str() {
        order.chef_name = Set(ERASED.to_owned());
        order.chef_business_name = Set(None);
        order.chef_address = Set(None);
        order.chef_latitude = Set(None);
        order.chef_longitude = Set(None);
    }
    if row.driver_id.as_deref() == Some(user.as_str()) {
        order.driver_name = Set(Some(ERASED.to_owned()));
        order.driver_phone = Set(None);
    }
    order
}

/// What was told to a person, and where.
async fn forget_notifications(db: &Db, user: &UserId) -> Result<(), Refusal> {
    let (db, user) = (db.writer(), user.as_str());
    device::Entity::delete_many().filter(device::Column::UserId.eq(user)).exec(db).await?;
    notification_preference::Entity::delete_by_id(user).exec(db).await?;
    delivery::Entity::delete_many().filter(delivery::Column::Recipient.eq(user)).exec(db).await?;
    notification::Entity::delete_many().filter(notification::Column::Recipient.eq(user)).exec(db).await?;
    receipt::Entity::delete_many().filter(receipt::Column::UserId.eq(user)).exec(db).await?;
    Ok(())
}

/// The tables beside an order: notes, drivers, and where its tracking sessions go.
async fn redact_tables(
    tx: &DatabaseTransaction,
    user: &UserId,
    id: &str,
    is_customer: bool,
) -> Result<(), Refusal> {
    let wrote = status_history::Column::ChangedBy.eq(user.as_str());
    status_history::Entity::update_many()
        .col_expr(status_history::Column::Note, Expr::value(Option::<String>::None))
        .filter(status_history::Column::OrderId.eq(id))
        .filter(Condition::all().add_option((!is_customer).then_some(wrote)))
        .exec(tx)
        .await?;
    // What other systems were not told yet of the order goes with it.
    webhook_delivery::Entity::delete_many().filter(webhook_delivery::Column::OrderId.eq(id)).exec(tx).await?;
    driver_assignment::Entity::update_many()
        .col_expr(driver_assignment::Column::DriverName, Expr::value(ERASED))
        .col_expr(driver_assignment::Column::DriverPhone, Expr::value(Option::<String>::None))
        .filter(driver_assignment::Column::OrderId.eq(id))
        .filter(driver_assignment::Column::DriverId.eq(user.as_str()))
        .exec(tx)
        .await?;
    if is_customer {
        // What was written, photographed and shared at the door.
        rating::Entity::update_many()
            .col_expr(rating::Column::Comment, Expr::value(Option::<String>::None))
            .filter(rating::Column::OrderId.eq(id))
            .exec(tx)
            .await?;
        let nothing = order_proof::ActiveModel {
            reference: Set(None),
            sha256: Set(None),
            latitude: Set(None),
            longitude: Set(None),
            ..Default::default()
        };
        order_proof::Entity::update_many()
            .set(nothing)
            .filter(order_proof::Column::OrderId.eq(id))
            .exec(tx)
            .await?;
        share_link::Entity::delete_many().filter(share_link::Column::OrderId.eq(id)).exec(tx).await?;
        // Phones that texts go to.
        delivery::Entity::update_many()
            .col_expr(delivery::Column::Address, Expr::value(Option::<String>::None))
            .filter(delivery::Column::OrderId.eq(id))
            .exec(tx)
            .await?;
        tracking_session::Entity::update_many()
            .col_expr(tracking_session::Column::DropoffLatitude, Expr::value(0.0))
            .col_expr(tracking_session::Column::DropoffLongitude, Expr::value(0.0))
            .filter(tracking_session::Column::OrderId.eq(id))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Deletes the positions of a driver that were received up to a time. The trail has no index by driver, because it is
/// written far more often than read, so it is looked through in steps.
async fn forget_positions(db: &Db, driver: &UserId, until: Time) -> Result<(), Refusal> {
    use position_trail::Column;
    driver_position::Entity::delete_many()
        .filter(driver_position::Column::DriverId.eq(driver.as_str()))
        .filter(driver_position::Column::ReceivedAt.lte(until))
        .exec(db.writer())
        .await?;
    let end = |order| {
        let end = position_trail::Entity::find().select_only().column(Column::Id).order_by(Column::Id, order);
        end.limit(1).into_tuple::<i64>().one(db.reader())
    };
    let first = end(sea_orm::Order::Asc).await?;
    let last = end(sea_orm::Order::Desc).await?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    for from in (first..=last).step_by(TRAIL_STEP) {
        let to = from.saturating_add(i64::try_from(TRAIL_STEP).unwrap_or(i64::MAX));
        position_trail::Entity::delete_many()
            .filter(Column::Id.gte(from))
            .filter(Column::Id.lt(to))
            .filter(Column::DriverId.eq(driver.as_str()))
            .filter(Column::ReceivedAt.lte(until))
            .exec(db.writer())
            .await?;
    }
    Ok(())
}
