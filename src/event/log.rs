//! The log of durable events: the truth that everything else is told from.

use entity::{log_head, order_event};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::OrderEvent;
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
    for event in events {
        position += 1;
        event.position = position;
        rows.push(order_event::ActiveModel {
            position: Set(position),
            order_id: Set(event.order.id.to_string()),
            seq: Set(event.order.seq),
            body: Set(serde_json::to_string(event)?),
        });
    }
    order_event::Entity::insert_many(rows).exec_without_returning(tx).await?;
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

fn parse(row: &order_event::Model) -> Result<OrderEvent, Refusal> {
    let mut event: OrderEvent = serde_json::from_str(&row.body)?;
    event.position = row.position;
    Ok(event)
}
