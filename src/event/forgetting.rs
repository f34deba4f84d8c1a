//! What of the log is forgotten: the events of orders that are not kept any longer are deleted, and what they say of a person
//! is removed. Positions, seqs and the order of events stay as they are.

use entity::{event_audience, log_floor, order_event};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::log::STRETCH;
use crate::base::db::{Sql, rows};
use crate::base::error::Refusal;

/// Positions in one statement.
const DELETED: usize = 500;
/// Events of one order that are rewritten at a time: their bodies are in memory meanwhile.
const REWRITTEN: u64 = 100;

/// The newest position whose event was deleted; 0 if none was. Who has everything up to it misses nothing in the log.
///
/// # Errors
/// Those of the database.
pub async fn floor(db: &impl ConnectionTrait) -> Result<i64, Refusal> {
    let row = log_floor::Entity::find_by_id(1).one(db).await?;
    Ok(row.map_or(0, |floor| floor.position))
}

/// Deletes all events of these orders. Call it before the orders are deleted, in the same transaction.
///
/// # Errors
/// Those of the database.
pub async fn forget(tx: &DatabaseTransaction, orders: &[&str]) -> Result<(), Refusal> {
    let positions: Vec<i64> = order_event::Entity::find()
        .select_only()
        .column(order_event::Column::Position)
        .filter(order_event::Column::OrderId.is_in(orders.iter().copied()))
        .order_by_asc(order_event::Column::Position)
        .into_tuple()
        .all(tx)
        .await?;
    let Some(newest) = positions.last() else { return Ok(()) };
    for positions in positions.chunks(DELETED) {
        let mut stretches: Vec<i64> = positions.iter().map(|position| position / STRETCH).collect();
        stretches.dedup();
        event_audience::Entity::delete_many()
            .filter(event_audience::Column::Stretch.is_in(stretches))
            .filter(event_audience::Column::Position.is_in(positions.iter().copied()))
            .exec(tx)
            .await?;
    }
    order_event::Entity::delete_many()
        .filter(order_event::Column::OrderId.is_in(orders.iter().copied()))
        .exec(tx)
        .await?;
    raise_floor(tx, *newest).await
}

/// Whoever has not everything up to this position misses something in the log.
///
/// # Errors
/// Those of the database.
pub async fn raise_floor(tx: &DatabaseTransaction, position: i64) -> Result<(), Refusal> {
    let floor = log_floor::ActiveModel { id: Set(1), position: Set(position) };
    let higher = OnConflict::column(log_floor::Column::Id)
        .update_column(log_floor::Column::Position)
        .action_and_where(
            Expr::col((log_floor::Entity, log_floor::Column::Position))
                .lt(Expr::col(("excluded", "position"))),
        )
        .to_owned();
    log_floor::Entity::insert(floor).on_conflict(higher).exec_without_returning(tx).await?;
    Ok(())
}

/// Replaces the bodies of events.
const REWRITE: Sql = Sql {
    sqlite: "UPDATE order_event SET body = t.value->>1 FROM json_each($1) AS t WHERE position = t.value->>0",
    postgres: "UPDATE order_event SET body = value->>1
        FROM unnest(ARRAY (SELECT json_array_elements(CAST($1 AS json)))) AS t (value)
        WHERE position = CAST(value->>0 AS bigint)",
};

/// Changes the stored events of an order, as JSON, so that events of newer versions keep what is not known here. `edit`
/// returns whether it changed anything.
///
/// # Errors
/// Those of the database.
pub async fn rewrite(
    tx: &DatabaseTransaction,
    order: &str,
    edit: impl Fn(&mut serde_json::Value) -> bool,
) -> Result<(), Refusal> {
    let mut after = 0;
    loop {
        let page = order_event::Entity::find()
            .filter(order_event::Column::OrderId.eq(order))
            .filter(order_event::Column::Seq.gt(after))
            .order_by_asc(order_event::Column::Seq)
            .limit(REWRITTEN)
            .all(tx)
            .await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        let mut changed = Vec::new();
        for row in &page {
            let mut body: serde_json::Value = serde_json::from_str(&row.body)?;
            if edit(&mut body) {
                changed.push((row.position, body.to_string()));
            }
        }
        if !changed.is_empty() {
            tx.execute_raw(REWRITE.with(tx, [rows(&changed)?])).await?;
        }
    }
}
