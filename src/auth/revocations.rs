//! Users whose older tokens are refused. The list is in the database, and every process reads changes within a second.

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

/// Rows read at a time.
const PAGE: u64 = 1_000;
/// Maximum assumed difference between the clocks of two processes.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);

/// For each user whose tokens were ever revoked: the time of the last revocation.
#[derive(Default)]
pub struct Revocations(RwLock<RevocationTimes>);

#[derive(Default)]
struct RevocationTimes {
    by_user: HashMap<UserId, Time>,
    /// The newest revocation that was read from the database.
    newest: Time,
}

impl Revocations {
    /// Revokes all tokens of a user that were issued before `now`.
    ///
    /// # Errors
    /// Those of the database. Nothing has changed then.
    pub async fn revoke(&self, db: &Db, user: &UserId, now: Time) -> Result<(), Refusal> {
        let row = revocation::ActiveModel { user_id: Set(user.to_string()), revoked_at: Set(now) };
        let replace = OnConflict::column(Column::UserId).update_column(Column::RevokedAt).to_owned();
        revocation::Entity::insert(row).on_conflict(replace).exec_without_returning(db.writer()).await?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).by_user.insert(user.clone(), now);
        Ok(())
    }

    /// Reads new revocations of any process. Returns the users whose revocation this process did not know yet.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn poll(&self, db: &Db) -> Result<Vec<UserId>, Refusal> {
        let mut users = Vec::new();
        let mut rows_read = 0;
        // Reads a little further back, because the clock of another process may be behind.
        let since = self.0.read().unwrap_or_else(PoisonError::into_inner).newest - CLOCK_SKEW;
        loop {
            let rows = revocation::Entity::find()
                .filter(Column::RevokedAt.gte(since))
                .order_by_asc(Column::RevokedAt)
                .order_by_asc(Column::UserId)
                .offset(rows_read)
                .limit(PAGE)
                .all(db.reader())
                .await?;
            let is_full_page = rows.len() as u64 == PAGE;
            rows_read += rows.len() as u64;
            let mut times = self.0.write().unwrap_or_else(PoisonError::into_inner);
            for row in rows {
                times.newest = times.newest.max(row.revoked_at);
                let user = UserId::stored(&row.user_id);
                if times.by_user.insert(user.clone(), row.revoked_at) != Some(row.revoked_at) {
                    users.push(user);
                }
            }
            if !is_full_page {
                return Ok(users);
            }
        }
    }

    /// Whether a token is revoked. `iat` has a resolution of one second, so a token from the second of the revocation
    /// is revoked as well. A token without `iat` counts as the oldest possible.
    #[must_use]
    pub fn covers(&self, who: &Principal) -> bool {
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let revoked_at = times.by_user.get(&who.id);
        revoked_at.is_some_and(|revoked_at| who.issued_at.is_none_or(|issued_at| issued_at <= *revoked_at))
    }
}
