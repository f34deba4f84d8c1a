//! Announcements that wait for a user who is not there.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;
use entity::notification::{self as row, Column};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Notifications;
use super::rules::Kind;
use crate::base::clock::Clock;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::spawn::uninterrupted;
use crate::cluster::control::Notice;
use crate::model::UserId;

/// Announcements that wait for one user.
const MOST: u64 = 100;
/// Users that are remembered.
const USERS: u64 = 100_000;
/// Those that are read at a time.
const PAGE: u64 = 100;

/// An announcement that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queued {
    pub event: String,
    pub data: Box<RawValue>,
}

/// One to be told.
pub struct Waiting {
    pub number: i64,
    pub id: String,
    pub queued: Queued,
}

/// Users for whom something may wait. It spares everybody else a look into the database when they connect.
pub(super) struct Queues(Mutex<Option<HashSet<UserId>>>);

impl Queues {
    /// Reads who has something that waits.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn open(db: &Db, clock: &Clock) -> Result<Self, Refusal> {
        let users: Vec<String> = row::Entity::find()
            .select_only()
            .column(Column::Recipient)
            .distinct()
            .filter(Column::Kind.eq(Kind::Announcement.as_str()))
            .filter(Column::DeliveredAt.is_null())
            .filter(Column::ExpiresAt.gt(clock.now()))
            .limit(USERS)
            .into_tuple()
            .all(db.reader())
            .await?;
        let are_all = (users.len() as u64) < USERS;
        let users = users.iter().map(|user| UserId::stored(user)).collect();
        Ok(Self(Mutex::new(Some(users).filter(|_| are_all))))
    }

    fn change(&self, change: impl FnOnce(&mut Option<HashSet<UserId>>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Notifications {
    /// Whether something may wait for a user.
    #[must_use]
    pub fn may_wait(&self, user: &UserId) -> bool {
        let users = self.queues.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.as_ref().is_none_or(|users| users.contains(user))
    }

    /// Something waits for a user.
    pub fn waits(&self, user: &UserId) {
        self.queues.change(|users| {
            // With too many of them it is looked up for everybody.
            if users.as_ref().is_some_and(|users| users.len() as u64 >= USERS) {
                *users = None;
            }
            if let Some(users) = users {
                users.insert(user.clone());
            }
        });
    }

    /// Nobody told this node of some of them.
    pub fn missed_queues(&self) {
        self.queues.change(|users| *users = None);
    }

    /// Keeps an announcement until the user acknowledges it. Returns its id.
    ///
    /// # Errors
    /// [`Refusal::QueueFull`] if too many wait already; those of the database.
    pub async fn queue(
        &self,
        user: &UserId,
        event: String,
        data: Box<RawValue>,
        ttl: TimeDelta,
    ) -> Result<String, Refusal> {
        let now = self.clock.now();
        let key = self.clock.uuid().to_string();
        let model = row::ActiveModel {
            id: NotSet,
            key: Set(key.clone()),
            source: Set(format!("q:{key}")),
            recipient: Set(user.to_string()),
            kind: Set(Kind::Announcement.as_str().to_owned()),
            order_id: Set(None),
            seq: Set(None),
            args: Set(serde_json::to_string(&Queued { event, data })?),
            at: Set(now),
            expires_at: Set(now + ttl),
            reason: Set(None),
            delivered_at: Set(None),
            opened_at: Set(None),
        };
        let (notify, user) = (self.clone(), user.clone());
        uninterrupted(async move {
            let tx = notify.db.begin().await?;
            let waiting = waiting(&user, 0, now).count(&tx).await?;
            if waiting >= MOST {
                tx.rollback().await?;
                return Err(Refusal::QueueFull);
            }
            row::Entity::insert(model).exec_without_returning(&tx).await?;
            notify.control.append(&tx, &[Notice::Queue { user: user.clone() }]).await?;
            tx.commit().await?;
            notify.waits(&user);
            notify.control.appended();
            Ok(key)
        })
        .await
    }

    /// What waits for a user, after a number, in order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn waiting(&self, user: &UserId, after: i64) -> Result<Vec<Waiting>, Refusal> {
        let rows = waiting(user, after, self.clock.now())
            .order_by_asc(Column::Id)
            .limit(PAGE)
            .all(self.db.reader())
            .await?;
        let one = |row: row::Model| {
            Some(Waiting { number: row.id, id: row.key, queued: serde_json::from_str(&row.args).ok()? })
        };
        Ok(rows.into_iter().filter_map(one).collect())
    }
}

fn waiting(user: &UserId, after: i64, now: crate::base::clock::Time) -> sea_orm::Select<row::Entity> {
    row::Entity::find()
        .filter(Column::Recipient.eq(user.as_str()))
        .filter(Column::Kind.eq(Kind::Announcement.as_str()))
        .filter(Column::DeliveredAt.is_null())
        .filter(Column::ExpiresAt.gt(now))
        .filter(Column::Id.gt(after))
}
