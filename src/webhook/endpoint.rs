//! Endpoints: made, changed, read, replayed, and what they were told.

use chrono::TimeDelta;
use entity::{webhook as row, webhook_delivery as delivery};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::Webhooks;
use super::types::is_pattern;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::event::log;
use crate::model::access::only_staff;
use crate::model::{Principal, UserId};
use crate::outbox::cursor::Cursor;

/// Endpoints of one server.
const MOST: usize = 100;
/// How long the secret before the present one signs, too.
const BOTH: TimeDelta = TimeDelta::hours(24);
/// The longest address.
const URL: usize = 2_000;

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub id: String,
    pub url: String,
    pub events: Vec<String>,
    pub chef: Option<UserId>,
    pub generation: i32,
    /// Until when the secret before signs, too.
    pub previous_until: Option<Time>,
    pub created_at: Time,
    pub failing_since: Option<Time>,
    pub disabled_at: Option<Time>,
    pub reason: Option<String>,
    pub(super) version: i32,
    /// Events that are told again: after the first position, up to the second one.
    pub(super) replay: Option<(i64, i64)>,
}

/// New values. What is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub url: Option<String>,
    pub events: Option<Vec<String>>,
    pub chef: Option<Option<UserId>>,
    pub enabled: Option<bool>,
}

/// What an endpoint's messages are verified with.
pub struct Keys {
    pub secret: String,
    pub public_key: String,
}

impl Endpoint {
    pub(super) fn of(row: row::Model) -> Self {
        Self {
            events: serde_json::from_str(&row.events).unwrap_or_default(),
            chef: row.chef_id.as_deref().map(UserId::stored),
            generation: row.generation,
            previous_until: row.rotated_at.map(|at| at + BOTH),
            created_at: row.created_at,
            failing_since: row.failing_since,
            disabled_at: row.disabled_at,
            reason: row.reason,
            version: row.version,
            replay: row.replay_after.zip(row.replay_until),
            id: row.id,
            url: row.url,
        }
    }

    /// Its name among those who read the log.
    pub(super) fn consumer(id: &str) -> String {
        format!("webhook:{id}")
    }
}

impl Webhooks {
    /// Makes an endpoint, which is told of what happens from now on.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::Invalid`], [`Refusal::TooMany`]; those of the database.
    pub async fn make(
        &self,
        who: &Principal,
        url: &str,
        events: Vec<String>,
        chef: Option<UserId>,
    ) -> Result<(Endpoint, Keys), Refusal> {
        only_staff(who)?;
        self.check_url(url).await?;
        check_events(&events)?;
        if row::Entity::find().count(self.db.reader()).await? >= MOST as u64 {
            return Err(Refusal::TooMany { what: "webhooks", limit: MOST });
        }
        let new = row::Model {
            id: self.clock.uuid().to_string(),
            url: url.to_owned(),
            events: serde_json::to_string(&events)?,
            chef_id: chef.map(|chef| chef.to_string()),
            generation: 1,
            rotated_at: None,
            replay_after: None,
            replay_until: None,
            created_by: who.id.to_string(),
            created_at: self.clock.now(),
            failing_since: None,
            disabled_at: None,
            reason: None,
            version: 1,
        };
        // Before anything can happen that it is to be told.
        Cursor::open(self.db.clone(), self.clock.clone(), &Endpoint::consumer(&new.id)).await?;
        row::Entity::insert(row::ActiveModel::from(new.clone()).reset_all())
            .exec_without_returning(self.db.writer())
            .await?;
        self.wake.notify_one();
        let endpoint = Endpoint::of(new);
        let keys = self.keys(&endpoint).await?;
        Ok((endpoint, keys))
    }

    /// What an endpoint's messages are verified with now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn keys(&self, endpoint: &Endpoint) -> Result<Keys, Refusal> {
        let secrets = self.signer().await?.secrets(&endpoint.id, endpoint.generation)?;
        Ok(Keys { secret: secrets.secret(), public_key: secrets.public_key() })
    }

    /// Endpoints, after one of them.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`]; those of the database.
    pub async fn list(
        &self,
        who: &Principal,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Endpoint>, Refusal> {
        only_staff(who)?;
        let rows = row::Entity::find()
            .filter(Condition::all().add_option(after.map(|after| row::Column::Id.gt(after))))
            .order_by_asc(row::Column::Id)
            .limit(limit)
            .all(self.db.reader())
            .await?;
        Ok(rows.into_iter().map(Endpoint::of).collect())
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; those of the database.
    pub async fn get(&self, who: &Principal, id: &str) -> Result<Endpoint, Refusal> {
        only_staff(who)?;
        let row = row::Entity::find_by_id(id).one(self.db.writer()).await?;
        row.map(Endpoint::of).ok_or(Refusal::NotFound("webhook"))
    }

    /// Changes an endpoint. One that is enabled again begins with what happens from then on.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], [`Refusal::Invalid`]; those of the database.
    pub async fn change(&self, who: &Principal, id: &str, change: Change) -> Result<Endpoint, Refusal> {
        let present = self.get(who, id).await?;
        let mut new = row::ActiveModel { version: Set(present.version + 1), ..Default::default() };
        if let Some(url) = change.url {
            self.check_url(&url).await?;
            new.url = Set(url);
        }
        if let Some(events) = change.events {
            check_events(&events)?;
            new.events = Set(serde_json::to_string(&events)?);
        }
        if let Some(chef) = change.chef {
            new.chef_id = Set(chef.map(|chef| chef.to_string()));
        }
        match change.enabled {
            Some(true) if present.disabled_at.is_some() => {
                (new.disabled_at, new.reason, new.failing_since) = (Set(None), Set(None), Set(None));
                Cursor::open(self.db.clone(), self.clock.clone(), &Endpoint::consumer(id)).await?;
            }
            Some(false) if present.disabled_at.is_none() => {
                new.disabled_at = Set(Some(self.clock.now()));
                new.reason = Set(Some("by_hand".to_owned()));
                Cursor::forget(self.db.writer(), &Endpoint::consumer(id)).await?;
            }
            _ => {}
        }
        row::Entity::update_many().set(new).filter(row::Column::Id.eq(id)).exec(self.db.writer()).await?;
        self.wake.notify_one();
        self.get(who, id).await
    }

    /// Removes an endpoint and what it was told.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; those of the database.
    pub async fn remove(&self, who: &Principal, id: &str) -> Result<(), Refusal> {
        self.get(who, id).await?;
        let tx = self.db.begin().await?;
        row::Entity::delete_by_id(id).exec(&tx).await?;
        delivery::Entity::delete_many().filter(delivery::Column::WebhookId.eq(id)).exec(&tx).await?;
        Cursor::forget(&tx, &Endpoint::consumer(id)).await?;
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Gives an endpoint a new secret. The one before signs, too, for a day.
    ///
    /// # Errors
    /// As [`Webhooks::get`].
    pub async fn rotate(&self, who: &Principal, id: &str) -> Result<(Endpoint, Keys), Refusal> {
        self.get(who, id).await?;
        row::Entity::update_many()
            .col_expr(row::Column::Generation, Expr::col(row::Column::Generation).add(1))
            .col_expr(row::Column::Version, Expr::col(row::Column::Version).add(1))
            .col_expr(row::Column::RotatedAt, Expr::value(self.clock.now()))
            .filter(row::Column::Id.eq(id))
            .exec(self.db.writer())
            .await?;
        self.wake.notify_one();
        let endpoint = self.get(who, id).await?;
        let keys = self.keys(&endpoint).await?;
        Ok((endpoint, keys))
    }

    /// Tells an endpoint again what has happened in a time, as far as the log is kept. Returns the positions: after the first, up to
    /// the second one.
    ///
    /// # Errors
    /// [`Refusal::Taken`] while it is told something again; as [`Webhooks::get`].
    pub async fn replay(
        &self,
        who: &Principal,
        id: &str,
        (since, until): (Time, Option<Time>),
    ) -> Result<(i64, i64), Refusal> {
        let endpoint = self.get(who, id).await?;
        if endpoint.replay.is_some() {
            return Err(Refusal::Taken("a replay of this webhook"));
        }
        let db = self.db.reader();
        let after = log::last_before(db, since).await?;
        let until = match until {
            Some(until) => log::last_before(db, until + TimeDelta::milliseconds(1)).await?,
            None => log::head(db).await?,
        };
        if until > after {
            let new = row::ActiveModel {
                replay_after: Set(Some(after)),
                replay_until: Set(Some(until)),
                ..Default::default()
            };
            row::Entity::update_many().set(new).filter(row::Column::Id.eq(id)).exec(self.db.writer()).await?;
            self.wake.notify_one();
        }
        Ok((after, Ord::max(until, after)))
    }

    /// What an endpoint is told and was told lately, the newest first, before a number.
    ///
    /// # Errors
    /// As [`Webhooks::get`].
    pub async fn deliveries(
        &self,
        who: &Principal,
        id: &str,
        state: Option<&str>,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<delivery::Model>, Refusal> {
        use delivery::Column;
        self.get(who, id).await?;
        let filter = Condition::all()
            .add(Column::WebhookId.eq(id))
            .add_option(state.map(|state| Column::State.eq(state)))
            .add_option(before.map(|before| Column::Id.lt(before)));
        let found = delivery::Entity::find().filter(filter).order_by_desc(Column::Id).limit(limit);
        Ok(found.all(self.db.reader()).await?)
    }

    async fn check_url(&self, url: &str) -> Result<(), Refusal> {
        let invalid = |reason: &str| Refusal::invalid("url", reason);
        if url.len() > URL {
            return Err(invalid("must have at most 2000 characters"));
        }
        let parsed = self.guard.check(url).map_err(invalid)?;
        if self.guard.is_private(&parsed).await {
            return Err(invalid("must not be a private address"));
        }
        Ok(())
    }
}

fn check_events(events: &[String]) -> Result<(), Refusal> {
    if events.is_empty() || events.len() > 32 {
        return Err(Refusal::invalid("events", "must have 1 to 32 types"));
    }
    match events.iter().position(|pattern| !is_pattern(pattern)) {
        None => Ok(()),
        Some(index) => {
            let types = super::types::TYPES.join(", ");
            let reason = format!("must be *, a group such as order.*, or one of {types}");
            Err(Refusal::invalid(format!("events[{index}]"), reason))
        }
    }
}
