//! From events to messages. An event's message and the endpoint's place behind it are committed together, so nothing is skipped and
//! nothing is told twice with two ids.

use std::sync::Arc;

use entity::{webhook as row, webhook_delivery as delivery};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Webhooks;
use super::endpoint::Endpoint;
use super::types::{body, body_of, type_of, wants};
use crate::base::clock::{Time, rfc3339};
use crate::base::db::pieces;
use crate::base::error::Refusal;
use crate::model::{OrderEvent, OrderId, UserId};
use crate::outbox::cursor::Cursor;

/// While so many messages wait for an endpoint, it reads on no further.
pub(super) const WAITING: u64 = 256;

/// Something that has no place in the log.
pub struct News<'a> {
    pub r#type: &'static str,
    /// Names it among all others, so that it is told once.
    pub source: String,
    pub order: Option<&'a OrderId>,
    /// Endpoints of other chefs are not told.
    pub chef: Option<&'a UserId>,
    pub at: Time,
    pub data: Value,
}

/// The id of a message, the same for every attempt and every replay.
fn key(webhook: &str, source: &str) -> String {
    let digest = Sha256::digest(format!("{webhook}:{source}"));
    format!("msg_{}", &hex::encode(digest)[..32])
}

fn message(
    (webhook, source): (&str, &str),
    r#type: &str,
    body: String,
    (order, position): (Option<&OrderId>, Option<i64>),
    now: Time,
) -> delivery::ActiveModel {
    delivery::ActiveModel {
        id: NotSet,
        webhook_id: Set(webhook.to_owned()),
        key: Set(key(webhook, source)),
        r#type: Set(r#type.to_owned()),
        order_id: Set(order.map(ToString::to_string)),
        position: Set(position),
        body: Set(body),
        state: Set("due".to_owned()),
        due_at: Set(now),
        tries: Set(0),
        status: Set(None),
        error: Set(None),
        at: Set(now),
        done_at: Set(None),
    }
}

impl Webhooks {
    /// Writes down what has no place in the log, for every endpoint that wants it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add(&self, tx: &DatabaseTransaction, news: &News<'_>) -> Result<(), Refusal> {
        let endpoints = row::Entity::find().filter(row::Column::DisabledAt.is_null()).all(tx).await?;
        let now = self.clock.now();
        let wanted = endpoints.into_iter().map(Endpoint::of).filter(|endpoint| {
            wants(&endpoint.events, news.r#type)
                && endpoint.chef.as_ref().is_none_or(|chef| news.chef == Some(chef))
        });
        let text = body(news.r#type, &rfc3339(news.at), news.data.clone());
        let rows: Vec<_> = wanted
            .map(|endpoint| {
                let of = (news.order, None);
                message((&endpoint.id, &news.source), news.r#type, text.clone(), of, now)
            })
            .collect();
        insert(tx, rows).await?;
        // They are looked for every second anyway: this one is not committed yet.
        self.wake.notify_one();
        Ok(())
    }

    /// Reads on for an endpoint whose place in the log this process holds. Returns the new place, and how many messages
    /// were written.
    ///
    /// # Errors
    /// Those of the database. [`Refusal::Unavailable`] also if another process has taken the place.
    pub(super) async fn plan(
        &self,
        endpoint: &Endpoint,
        cursor: &Cursor,
        position: i64,
    ) -> Result<(i64, usize), Refusal> {
        let waiting = delivery::Entity::find()
            .filter(delivery::Column::WebhookId.eq(&*endpoint.id))
            .filter(delivery::Column::State.eq("due"))
            .count(self.db.reader())
            .await?;
        if waiting >= WAITING {
            return Ok((position, 0));
        }
        self.plan_replay(endpoint).await?;
        let read = self.tail.after(&self.events, position).await?;
        let Some((last, _)) = read.last() else { return Ok((position, 0)) };
        let rows = self.messages(endpoint, read.iter().filter_map(|(_, event)| event.as_ref()));
        let (tx, count) = (self.db.begin().await?, rows.len());
        insert(&tx, rows).await?;
        if !cursor.advance(&tx, position, *last).await? {
            tx.rollback().await?;
            return Err(Refusal::Unavailable);
        }
        tx.commit().await?;
        Ok((*last, count))
    }

    fn messages<'a>(
        &self,
        endpoint: &Endpoint,
        events: impl Iterator<Item = &'a Arc<OrderEvent>>,
    ) -> Vec<delivery::ActiveModel> {
        let now = self.clock.now();
        let theirs =
            events.filter(|event| endpoint.chef.as_ref().is_none_or(|chef| *chef == event.order.chef.id));
        theirs
            .filter_map(|event| {
                let r#type = type_of(event, &endpoint.events)?;
                let of = (Some(&event.order.id), Some(event.position));
                let source = format!("e:{}", event.position);
                Some(message((&endpoint.id, &source), r#type, body_of(event, r#type), of, now))
            })
            .collect()
    }

    /// The next step of what is told again.
    async fn plan_replay(&self, endpoint: &Endpoint) -> Result<(), Refusal> {
        let Some((after, until)) = endpoint.replay else { return Ok(()) };
        let read = self.tail.after(&self.events, after).await?;
        let read: Vec<_> = read.into_iter().filter(|(position, _)| *position <= until).collect();
        let next = read.last().map(|(position, _)| *position).filter(|last| *last < until);
        let rows = self.messages(endpoint, read.iter().filter_map(|(_, event)| event.as_ref()));
        let tx = self.db.begin().await?;
        let again = OnConflict::column(delivery::Column::Key)
            .value(delivery::Column::State, Expr::value("due"))
            .value(delivery::Column::DueAt, Expr::value(self.clock.now()))
            .value(delivery::Column::Tries, Expr::value(0))
            .value(delivery::Column::DoneAt, Expr::value(Option::<Time>::None))
            .to_owned();
        for piece in pieces(rows) {
            let insert = delivery::Entity::insert_many(piece).on_conflict(again.clone());
            insert.exec_without_returning(&tx).await?;
        }
        let place = row::ActiveModel {
            replay_after: Set(next),
            replay_until: Set(next.map(|_| until)),
            ..Default::default()
        };
        row::Entity::update_many().set(place).filter(row::Column::Id.eq(&*endpoint.id)).exec(&tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Messages that are there already are not written again.
async fn insert(db: &impl ConnectionTrait, rows: Vec<delivery::ActiveModel>) -> Result<(), Refusal> {
    let nothing = OnConflict::column(delivery::Column::Key).do_nothing().to_owned();
    for piece in pieces(rows) {
        let insert = delivery::Entity::insert_many(piece).on_conflict(nothing.clone());
        insert.exec_without_returning(db).await?;
    }
    Ok(())
}
