//! Users whose older tokens are refused. Kept in the database, known to every process within a second.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use chrono::TimeDelta;
use entity::revocation::{self, Column};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::base::clock::Time;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::model::{Principal, UserId};

/// How many are read at once.
const PAGE: u64 = 1_000;
/// How far the clocks of two processes may be apart.
const SKEW: TimeDelta = TimeDelta::minutes(1);

/// Since when whose tokens are refused. One entry for each user to whom that ever happened.
#[derive(Default)]
pub struct Revocations(RwLock<Known>);

#[derive(Default)]
struct Known {
    since: HashMap<UserId, Time>,
    /// The newest that was read from the database.
    newest: Time,
}

impl Revocations {
    /// From `now` on, the user's tokens that were made before are refused.
    ///
    /// # Errors
    /// Those of the database; then nothing has changed.
    pub async fn revoke(&self, db: &Db, user: &UserId, now: Time) -> Result<(), Refusal> {
        let row = revocation::ActiveModel { user_id: Set(user.to_string()), revoked_at: Set(now) };
        let again = OnConflict::column(Column::UserId).update_column(Column::RevokedAt).to_owned();
        revocation::Entity::insert(row).on_conflict(again).exec_without_returning(db.writer()).await?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).since.insert(user.clone(), now);
        Ok(())
    }

    /// Reads what is new, from this process or another. Returns whom it is about.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn poll(&self, db: &Db) -> Result<Vec<UserId>, Refusal> {
        let mut new = Vec::new();
        let mut read = 0;
        // Again what is a little older: another process's clock may be behind.
        let since = self.0.read().unwrap_or_else(PoisonError::into_inner).newest - SKEW;
        loop {
            let rows = revocation::Entity::find()
                .filter(Column::RevokedAt.gte(since))
                .order_by_asc(Column::RevokedAt)
                .order_by_asc(Column::UserId)
                .offset(read)
                .limit(PAGE)
                .all(db.reader())
                .await?;
            let full = rows.len() as u64 == PAGE;
            read += rows.len() as u64;
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            for row in rows {
                known.newest = known.newest.max(row.revoked_at);
                let user = UserId::stored(&row.user_id);
                if known.since.insert(user.clone(), row.revoked_at) != Some(row.revoked_at) {
                    new.push(user);
                }
            }
            if !full {
                return Ok(new);
            }
        }
    }

    /// Whether a token is one of those. Tokens say the second they were made in: one from the same second is refused
    /// as well, and one that does not say is as old as can be.
    #[must_use]
    pub fn covers(&self, who: &Principal) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.since.get(&who.id).is_some_and(|since| who.issued_at.is_none_or(|made| made <= *since))
    }
}
