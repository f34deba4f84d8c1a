//! What was sent and what not, and why: for staff.

use std::collections::HashMap;

use entity::{delivery, delivery_attempt, notification};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Notifications;
use super::rules::Kind;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::access::only_staff;
use crate::model::{OrderId, Principal};
use crate::order::read;

/// One way of a notification, or a notification that goes no way.
pub struct Line {
    /// The delivery; `None` if there is none.
    pub delivery: Option<i64>,
    pub id: String,
    pub kind: String,
    pub recipient: String,
    pub order: Option<String>,
    pub channel: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub at: Time,
    pub due_at: Option<Time>,
    pub sent_at: Option<Time>,
    pub tries: i32,
    pub segments: Option<i32>,
}

/// One try to hand a delivery to its provider.
pub struct Tried {
    pub n: i32,
    pub at: Time,
    pub millis: i32,
    /// HTTP status of the answer; `None` if there was none.
    pub status: Option<i32>,
    /// How the answer began.
    pub excerpt: Option<String>,
}

/// Attempts that are shown of one delivery: the newest.
const SHOWN: u64 = 50;

/// Which deliveries.
#[derive(Default)]
pub struct Wanted {
    pub state: Option<String>,
    pub channel: Option<String>,
    pub order: Option<OrderId>,
    /// Those before this number: the newest come first.
    pub before: Option<i64>,
}

/// States in which nothing more happens by itself.
const OVER: [&str; 7] = ["dead", "failed", "expired", "unknown", "capped", "superseded", "suppressed"];

impl Notifications {
    /// What was sent of an order after a notification's number, what not, and why. With the number of the last notification.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; those of the database.
    pub async fn of_order(
        &self,
        order: &OrderId,
        who: &Principal,
        after: i64,
        limit: u64,
    ) -> Result<(Vec<Line>, Option<i64>), Refusal> {
        only_staff(who)?;
        let db = self.db.reader();
        read::order(db, order, who).await?;
        let rows = notification::Entity::find()
            .filter(notification::Column::OrderId.eq(order.as_str()))
            .filter(notification::Column::Id.gt(after))
            .order_by_asc(notification::Column::Id)
            .limit(limit)
            .all(db)
            .await?;
        let mut ways: HashMap<i64, Vec<delivery::Model>> = HashMap::new();
        let found = delivery::Entity::find()
            .filter(delivery::Column::NotificationId.is_in(rows.iter().map(|row| row.id)))
            .order_by_asc(delivery::Column::Id)
            .all(db)
            .await?;
        for way in found {
            ways.entry(way.notification_id).or_default().push(way);
        }
        let last = rows.last().map(|row| row.id).filter(|_| rows.len() as u64 >= limit);
        let mut lines = Vec::new();
        for row in rows {
            match ways.remove(&row.id) {
                Some(ways) => lines.extend(ways.into_iter().map(|way| line(&row, Some(way)))),
                None => lines.push(line(&row, None)),
            }
        }
        Ok((lines, last))
    }

    /// Deliveries, the newest first.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`]; those of the database.
    pub async fn deliveries(
        &self,
        who: &Principal,
        wanted: Wanted,
        limit: u64,
    ) -> Result<Vec<Line>, Refusal> {
        use delivery::Column;
        only_staff(who)?;
        let Wanted { state, channel, order, before } = wanted;
        let filter = Condition::all()
            .add_option(state.map(|state| Column::State.eq(state)))
            .add_option(channel.map(|channel| Column::Channel.eq(channel)))
            .add_option(order.map(|order| Column::OrderId.eq(order.as_str())))
            .add_option(before.map(|before| Column::Id.lt(before)));
        let db = self.db.reader();
        let ways =
            delivery::Entity::find().filter(filter).order_by_desc(Column::Id).limit(limit).all(db).await?;
        let about: HashMap<i64, notification::Model> = notification::Entity::find()
            .filter(notification::Column::Id.is_in(ways.iter().map(|way| way.notification_id)))
            .all(db)
            .await?
            .into_iter()
            .map(|row| (row.id, row))
            .collect();
        Ok(ways
            .into_iter()
            .filter_map(|way| about.get(&way.notification_id).map(|row| line(row, Some(way))))
            .collect())
    }

    /// One delivery, and its attempts: the oldest first.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; those of the database.
    pub async fn delivery(&self, who: &Principal, id: i64) -> Result<(Line, Vec<Tried>), Refusal> {
        use delivery_attempt::Column;
        only_staff(who)?;
        let (db, missing) = (self.db.reader(), || Refusal::NotFound("delivery"));
        let way = delivery::Entity::find_by_id(id).one(db).await?.ok_or_else(missing)?;
        let about = notification::Entity::find_by_id(way.notification_id).one(db).await?;
        let tried = delivery_attempt::Entity::find().filter(Column::DeliveryId.eq(id));
        let mut tried = tried.order_by_desc(Column::Id).limit(SHOWN).all(db).await?;
        tried.reverse();
        let tried = tried.into_iter().map(|row| {
            let delivery_attempt::Model { n, at, millis, status, excerpt, .. } = row;
            Tried { n, at, millis, status, excerpt }
        });
        Ok((line(&about.ok_or_else(missing)?, Some(way)), tried.collect()))
    }

    /// Sends a delivery again that is over, for as long as its kind is worth telling from now on.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; [`Refusal::Taken`] for one that is still on its way or has arrived; those of the
    /// database.
    pub async fn retry(&self, who: &Principal, id: i64) -> Result<(), Refusal> {
        only_staff(who)?;
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        let Some(way) = delivery::Entity::find_by_id(id).one(&tx).await? else {
            return Err(Refusal::NotFound("delivery"));
        };
        let about = notification::Entity::find_by_id(way.notification_id).one(&tx).await?;
        let lives = about.and_then(|about| Kind::parse(&about.kind)).map(Kind::lives).unwrap_or_default();
        let new = delivery::ActiveModel {
            state: Set("due".to_owned()),
            reason: Set(None),
            due_at: Set(now),
            tries: Set(0),
            seq: Set(None),
            done_at: Set(None),
            ..Default::default()
        };
        let moved = delivery::Entity::update_many()
            .set(new)
            .filter(delivery::Column::Id.eq(id))
            .filter(delivery::Column::State.is_in(OVER))
            .exec(&tx)
            .await?;
        if moved.rows_affected == 0 {
            tx.rollback().await?;
            return Err(Refusal::Taken("this delivery"));
        }
        notification::Entity::update_many()
            .set(notification::ActiveModel { expires_at: Set(now + lives), ..Default::default() })
            .filter(notification::Column::Id.eq(way.notification_id))
            .filter(notification::Column::ExpiresAt.lt(now + lives))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Gives a delivery up.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; [`Refusal::Taken`] for one that is being sent or has arrived; those of the
    /// database.
    pub async fn discard(&self, who: &Principal, id: i64) -> Result<(), Refusal> {
        only_staff(who)?;
        let db = self.db.writer();
        if delivery::Entity::find_by_id(id).one(db).await?.is_none() {
            return Err(Refusal::NotFound("delivery"));
        }
        let new = delivery::ActiveModel {
            state: Set("suppressed".to_owned()),
            reason: Set(Some("discarded".to_owned())),
            done_at: Set(Some(self.clock.now())),
            ..Default::default()
        };
        let open = ["held", "due"].into_iter().chain(OVER);
        let moved = delivery::Entity::update_many()
            .set(new)
            .filter(delivery::Column::Id.eq(id))
            .filter(delivery::Column::State.is_in(open))
            .exec(db)
            .await?;
        if moved.rows_affected == 0 { Err(Refusal::Taken("this delivery")) } else { Ok(()) }
    }
}

fn line(about: &notification::Model, way: Option<delivery::Model>) -> Line {
    let state = if about.reason.as_deref() == Some("capped") { "capped" } else { "suppressed" };
    let base = Line {
        delivery: None,
        id: about.key.clone(),
        kind: about.kind.clone(),
        // A phone is nobody's name, and its hash nobody's business.
        recipient: about
            .recipient
            .chars()
            .take(if about.recipient.starts_with("phone:") { 14 } else { 200 })
            .collect(),
        order: about.order_id.clone(),
        channel: None,
        state: state.to_owned(),
        reason: about.reason.clone(),
        at: about.at,
        due_at: None,
        sent_at: None,
        tries: 0,
        segments: None,
    };
    match way {
        None => base,
        Some(way) => Line {
            delivery: Some(way.id),
            channel: Some(way.channel),
            state: way.state,
            reason: way.reason,
            due_at: Some(way.due_at),
            sent_at: way.sent_at,
            tries: way.tries,
            segments: way.segments,
            ..base
        },
    }
}
