//! Users whose older tokens are refused. The list is in the database, and every process reads changes within a second.
//!
//! A token is older if this server had seen it before the revocation, whatever its `iat` says. Of a token that was not seen
//! before, only its `iat` is known, and the clock of its issuer may be wrong by a minute. So it counts as newer if it was issued
//! up to a minute before the revocation: a login made just afterwards has such an `iat` if its issuer is slow, and apps
//! use a token as soon as they have it. The last seconds before the revocation are the exception: a token from there may
//! have been on its way to this server.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::TimeDelta;
use entity::revocation::{self, Column};
use entity::{revoked_token, server_node};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::seen::{SeenToken, SeenTokens};
use crate::base::clock::Time;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::cluster::control::{Control, Notice};
use crate::model::{Principal, TokenId, UserId};

/// Maximum assumed difference between our clock and an issuer's, or between the clocks of two processes.
pub(super) const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(1);
/// How long a token is on its way from its issuer to this server, at most. `iat` has a resolution of one second.
const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(3);
/// How far ahead of our clock the `iat` of a token may be until its issuer's clock counts as ahead.
const AHEAD: TimeDelta = TimeDelta::seconds(2);
/// Rows read at a time.
const PAGE: u64 = 1_000;

/// For each user whose tokens were ever revoked: the last revocation.
#[derive(Default)]
pub struct Revocations {
    list: RwLock<List>,
    seen: SeenTokens,
}

#[derive(Default)]
struct List {
    by_user: HashMap<UserId, Revocation>,
    /// The newest revocation that was read from the database.
    newest: Time,
}

struct Revocation {
    at: Time,
    /// Unseen tokens that were issued later than this count as newer.
    unseen_from: Time,
    /// Tokens that were seen before, apart from those that are too old anyway.
    seen: HashSet<TokenId>,
}

impl Revocation {
    fn covers(&self, who: &Principal) -> bool {
        // A token without `iat` counts as the oldest possible.
        let Some(issued_at) = who.issued_at else { return true };
        let may_have_been_on_its_way = issued_at > self.at - ON_ITS_WAY && issued_at <= self.at;
        issued_at <= self.unseen_from || may_have_been_on_its_way || self.seen.contains(&who.token)
    }
}

impl Revocations {
    /// Remembers a token that was verified just now. In the minute after a revocation, one whose `iat` is ahead of our clock
    /// is revoked too: its issuer's clock is ahead, so it may be older than the revocation.
    pub(super) fn seen(&self, who: &Principal, now: Time) {
        self.seen.note(who, now);
        if who.issued_at.is_some_and(|issued_at| issued_at > now + AHEAD)
            && let Some(revocation) = self.write().by_user.get_mut(&who.id)
            && now < revocation.at + CLOCK_TOLERANCE
        {
            revocation.seen.insert(who.token);
        }
    }

    /// Reads the revocations at the start of a process, which has this id.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load(&self, db: &Db, own: &str, now: Time) -> Result<(), Refusal> {
        // What another process has seen is known here only if it is in the database.
        let lately = server_node::Column::SeenAt.gt(now - CLOCK_TOLERANCE * 2);
        if server_node::Entity::find()
            .filter(lately)
            .filter(server_node::Column::Id.ne(own))
            .count(db.reader())
            .await?
            > 0
        {
            self.seen.missed(now);
        }
        self.poll(db).await.map(drop)
    }

    /// Revokes all tokens of a user that were issued before `now`.
    ///
    /// # Errors
    /// Those of the database. Nothing has changed then.
    pub async fn revoke(&self, db: &Db, control: &Control, user: &UserId, now: Time) -> Result<(), Refusal> {
        let unseen_from = (now - CLOCK_TOLERANCE).max(self.seen.incomplete_before().min(now));
        let tx = db.begin().await?;
        let row = revocation::ActiveModel {
            user_id: Set(user.to_string()),
            revoked_at: Set(now),
            unseen_from: Set(Some(unseen_from)),
        };
        let replace = OnConflict::column(Column::UserId)
            .update_columns([Column::RevokedAt, Column::UnseenFrom])
            .to_owned();
        revocation::Entity::insert(row).on_conflict(replace).exec_without_returning(&tx).await?;
        record(&tx, user, &self.seen.of(user, now)).await?;
        control.append(&tx, &[Notice::Revocation { user: user.clone() }]).await?;
        tx.commit().await?;
        let mut list = self.write();
        let earlier = list.take_seen(user, now);
        // Includes those that were verified while the revocation was written.
        let seen = self.seen.of(user, Time::MAX_UTC).iter().map(|seen| seen.id).chain(earlier).collect();
        list.by_user.insert(user.clone(), Revocation { at: now, unseen_from, seen });
        drop(list);
        control.appended();
        Ok(())
    }

    /// Reads new revocations of any process, and tells the others which tokens of those users were seen here. Returns the
    /// users whose revocation this process did not know yet.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn poll(&self, db: &Db) -> Result<Vec<UserId>, Refusal> {
        let mut users = Vec::new();
        let mut rows_read = 0;
        // Reads a little further back, because the clock of another process may be behind.
        let since = self.read().newest - CLOCK_TOLERANCE;
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
            let mut tokens = seen_elsewhere(db, &rows).await?;
            for row in rows {
                let user = UserId::stored(&row.user_id);
                let mut seen = tokens.remove(&user).unwrap_or_default();
                if self.read().by_user.get(&user).is_none_or(|known| known.at != row.revoked_at) {
                    let seen_here = self.seen.of(&user, row.revoked_at);
                    record(db.writer(), &user, &seen_here).await?;
                    seen.extend(seen_here.iter().map(|seen| seen.id));
                    users.push(user.clone());
                }
                self.write().learn(user, &row, seen);
            }
            if !is_full_page {
                return Ok(users);
            }
        }
    }

    /// Deletes tokens that have ended by themselves.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep(&self, db: &Db, now: Time) -> Result<(), Refusal> {
        let ended = revoked_token::Column::ExpiresAt.lt(now);
        revoked_token::Entity::delete_many().filter(ended).exec(db.writer()).await?;
        Ok(())
    }

    /// Whether a token is revoked.
    #[must_use]
    pub fn covers(&self, who: &Principal) -> bool {
        self.read().by_user.get(&who.id).is_some_and(|revocation| revocation.covers(who))
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    /// Removes the last revocation of a user. Returns the tokens that were seen before it, if the new one at `now` needs them:
    /// of an earlier time, the time of the new one decides.
    fn take_seen(&mut self, user: &UserId, now: Time) -> HashSet<TokenId> {
        let earlier = self.by_user.remove(user).filter(|earlier| earlier.at > now - CLOCK_TOLERANCE * 2);
        earlier.map(|earlier| earlier.seen).unwrap_or_default()
    }

    fn learn(&mut self, user: UserId, row: &revocation::Model, mut seen: HashSet<TokenId>) {
        self.newest = self.newest.max(row.revoked_at);
        // A revocation of this process may be newer than the row that was read.
        if self.by_user.get(&user).is_some_and(|known| known.at > row.revoked_at) {
            return;
        }
        seen.extend(self.take_seen(&user, row.revoked_at));
        let unseen_from = row.unseen_from.unwrap_or(row.revoked_at);
        self.by_user.insert(user, Revocation { at: row.revoked_at, unseen_from, seen });
    }
}

/// Writes down tokens that are revoked although their `iat` may not say so.
async fn record(db: &impl ConnectionTrait, user: &UserId, seen: &[SeenToken]) -> Result<(), Refusal> {
    if seen.is_empty() {
        return Ok(());
    }
    let rows = seen.iter().map(|seen| revoked_token::ActiveModel {
        user_id: Set(user.to_string()),
        token: Set(format!("{:032x}", u128::from_be_bytes(seen.id.0))),
        expires_at: Set(seen.expires_at),
    });
    let once = OnConflict::columns([revoked_token::Column::UserId, revoked_token::Column::Token])
        .do_nothing()
        .to_owned();
    revoked_token::Entity::insert_many(rows).on_conflict(once).exec_without_returning(db).await?;
    Ok(())
}

/// The tokens that are written down for these revocations.
async fn seen_elsewhere(
    db: &Db,
    revocations: &[revocation::Model],
) -> Result<HashMap<UserId, HashSet<TokenId>>, Refusal> {
    let users = revocations.iter().map(|row| row.user_id.as_str());
    let rows = revoked_token::Entity::find()
        .filter(revoked_token::Column::UserId.is_in(users))
        .all(db.reader())
        .await?;
    let mut tokens = HashMap::<_, HashSet<_>>::new();
    for row in rows {
        if let Ok(token) = u128::from_str_radix(&row.token, 16) {
            tokens.entry(UserId::stored(&row.user_id)).or_default().insert(TokenId(token.to_be_bytes()));
        }
    }
    Ok(tokens)
}
