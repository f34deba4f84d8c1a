//! The log of durable events: the truth that everything else is told from.

use entity::{event_audience, log_head, order_event};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Order, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use smallvec::SmallVec;

use super::{Audience, OrderEvent};
use crate::db::pieces;
use crate::error::Refusal;
use crate::id::OrderId;

/// How many events one read of the log brings.
pub const PAGE: u64 = 500;

/// Appends events to the log, in the transaction of the change they record; there is no other way to log
/// one. To be called last: the head row's lock, held until the commit, is what makes positions dense and in
/// commit order.
///
/// # Errors
/// Those of the database.
pub async fn append(tx: &DatabaseTransaction, events: &mut [OrderEvent]) -> Result<(), Refusal> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let take = Query::update()
        .table(log_head::Entity)
        .value(log_head::Column::Position, Expr::col(log_head::Column::Position).add(count))
        .returning_col(log_head::Column::Position)
        .to_owned();
    let taken = tx.query_one(&take).await?.ok_or_else(no_head)?;
    let mut position = taken.try_get::<i64>("", "position")? - count;
    let mut rows = Vec::with_capacity(events.len());
    let mut audiences = Vec::with_capacity(events.len() * 3);
    for event in events {
        position += 1;
        event.position = position;
        for audience in event.audience().iter().map(Audience::stored) {
            audiences.push(event_audience::ActiveModel { audience: Set(audience), position: Set(position) });
        }
        rows.push(order_event::ActiveModel {
            position: Set(position),
            order_id: Set(event.order.id.to_string()),
            seq: Set(event.order.seq),
            body: Set(serde_json::to_string(event)?),
        });
    }
    for rows in pieces(rows) {
        order_event::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    // Somebody may be two parties of one order.
    let once = OnConflict::new().do_nothing().to_owned();
    for audiences in pieces(audiences) {
        let rows = event_audience::Entity::insert_many(audiences).on_conflict(once.clone());
        rows.exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The position of the newest event.
///
/// # Errors
/// Those of the database.
pub async fn head(db: &impl ConnectionTrait) -> Result<i64, Refusal> {
    let row = log_head::Entity::find_by_id(1).one(db).await?;
    row.map(|head| head.position).ok_or_else(no_head)
}

fn no_head() -> Refusal {
    Refusal::Internal("the log has no head row".into())
}

/// Up to [`PAGE`] events after a position, in order.
///
/// # Errors
/// Those of the database.
pub async fn after(db: &impl ConnectionTrait, position: i64) -> Result<Vec<OrderEvent>, Refusal> {
    let rows = order_event::Entity::find()
        .filter(order_event::Column::Position.gt(position))
        .order_by_asc(order_event::Column::Position)
        .limit(PAGE)
        .all(db)
        .await?;
    rows.iter().map(parse).collect()
}

/// Up to `limit` events of one order after a seq, in order.
///
/// # Errors
/// Those of the database.
pub async fn of_order(
    db: &impl ConnectionTrait,
    order: &OrderId,
    after_seq: i64,
    limit: u64,
) -> Result<Vec<OrderEvent>, Refusal> {
    let rows = order_event::Entity::find()
        .filter(order_event::Column::OrderId.eq(order.as_str()))
        .filter(order_event::Column::Seq.gt(after_seq))
        .order_by_asc(order_event::Column::Seq)
        .limit(limit)
        .all(db)
        .await?;
    rows.iter().map(parse).collect()
}

/// The events of a stretch of the log, both ends excluded, in order.
///
/// # Errors
/// Those of the database.
pub async fn between(db: &impl ConnectionTrait, after: i64, before: i64) -> Result<Vec<OrderEvent>, Refusal> {
    let rows = order_event::Entity::find()
        .filter(order_event::Column::Position.gt(after))
        .filter(order_event::Column::Position.lt(before))
        .order_by_asc(order_event::Column::Position)
        .all(db)
        .await?;
    rows.iter().map(parse).collect()
}

/// One client's share of the log.
#[derive(Clone, Debug)]
pub enum Share {
    /// Every event.
    All,
    /// What is for any of these.
    Audiences(SmallVec<[Audience; 2]>),
    /// The events of these orders.
    Orders(Vec<OrderId>),
}

impl Share {
    fn condition(&self, after: i64, limit: u64) -> Condition {
        let newer = Condition::all().add(order_event::Column::Position.gt(after));
        match self {
            Self::All => newer,
            Self::Audiences(audiences) => {
                let mine = Query::select()
                    .column(event_audience::Column::Position)
                    .from(event_audience::Entity)
                    .and_where(event_audience::Column::Audience.is_in(audiences.iter().map(Audience::stored)))
                    .and_where(event_audience::Column::Position.gt(after))
                    .order_by(event_audience::Column::Position, Order::Asc)
                    // The same event may be there once for each audience.
                    .limit(limit.saturating_mul(audiences.len() as u64))
                    .to_owned();
                newer.add(order_event::Column::Position.in_subquery(mine))
            }
            Self::Orders(orders) => {
                newer.add(order_event::Column::OrderId.is_in(orders.iter().map(OrderId::as_str)))
            }
        }
    }
}

/// Up to [`PAGE`] events of a share after a position, in order.
///
/// # Errors
/// Those of the database.
pub async fn of_share(
    db: &impl ConnectionTrait,
    share: &Share,
    after: i64,
) -> Result<Vec<OrderEvent>, Refusal> {
    let rows = order_event::Entity::find()
        .filter(share.condition(after, PAGE))
        .order_by_asc(order_event::Column::Position)
        .limit(PAGE)
        .all(db)
        .await?;
    rows.iter().map(parse).collect()
}

/// How many events of a share there are after a position; counting ends beyond `limit`.
///
/// # Errors
/// Those of the database.
pub async fn count_share(
    db: &impl ConnectionTrait,
    share: &Share,
    after: i64,
    limit: u64,
) -> Result<u64, Refusal> {
    let positions = order_event::Entity::find()
        .select_only()
        .column(order_event::Column::Position)
        .filter(share.condition(after, limit + 1))
        .limit(limit + 1)
        .into_tuple::<i64>()
        .all(db)
        .await?;
    Ok(positions.len() as u64)
}

fn parse(row: &order_event::Model) -> Result<OrderEvent, Refusal> {
    let mut event: OrderEvent = serde_json::from_str(&row.body)?;
    event.position = row.position;
    Ok(event)
}
