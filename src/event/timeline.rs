//! What becomes of the log when a `PostgreSQL` takes over that does not have all of it.
//!
//! `PostgreSQL` counts how often standbys were promoted: its timeline. The head of the log keeps the one on which it was last
//! written, and nothing is appended on another one until this is settled. First each living node says how far it had come. Then
//! one of them moves the head beyond all of that, so that no position is given to two events, and raises the floor of the log, so
//! that clients that come back start anew.

use chrono::TimeDelta;
use entity::server_node::{Column, Entity, Model};
use entity::{control_head, log_head};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QuerySelect, Statement,
};

use super::restored::JUMP;
use super::{forgetting, log};
use crate::base::clock::Time;
use crate::base::db::Db;
use crate::base::error::Refusal;

/// A node that has said nothing for so long is dead, and is not waited for.
const DEAD_AFTER: TimeDelta = TimeDelta::seconds(10);
/// One that was alive then may have come further than it could say.
const LATELY: TimeDelta = TimeDelta::seconds(60);
/// How far beyond everything that is known the head is moved, because of such nodes and of what was told at the last moment.
const MARGIN: i64 = 10_000;
/// The number of migrations that the first version knows that says how far it came.
const SINCE_SCHEMA: i32 = 14;

/// The state of the log's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The timeline now.
    pub timeline: String,
    /// The one on which the head was last written.
    pub written: Option<String>,
    /// What followed this position was lost when that began.
    pub lost_after: Option<i64>,
}

impl Head {
    /// Whether something may be appended.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.written.as_ref() == Some(&self.timeline)
    }
}

/// How far a node has come in both logs.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    pub log: i64,
    pub control: i64,
}

/// Reads the head. `None` while this is not the server that can be written.
///
/// # Errors
/// Those of the database.
pub async fn look(db: &Db) -> Result<Option<Head>, Refusal> {
    let sql = "SELECT ordercast_timeline() AS now, timeline, lost_after FROM log_head WHERE id = 1";
    let row = db.writer().query_one_raw(Statement::from_string(DatabaseBackend::Postgres, sql)).await?;
    let row = row.ok_or_else(|| Refusal::internal("the log has no head row"))?;
    let Some(timeline) = row.try_get("", "now")? else { return Ok(None) };
    Ok(Some(Head {
        timeline,
        written: row.try_get("", "timeline")?,
        lost_after: row.try_get("", "lost_after")?,
    }))
}

/// Says how far a node had come when it noticed this timeline; nothing if it knows no other.
///
/// # Errors
/// Those of the database.
pub async fn report(db: &Db, node: &str, timeline: &str, reached: Option<Reached>) -> Result<(), Refusal> {
    Entity::update_many()
        .col_expr(Column::Timeline, Expr::value(timeline))
        .col_expr(Column::Reached, Expr::value(reached.map(|reached| reached.log)))
        .col_expr(Column::ControlReached, Expr::value(reached.map(|reached| reached.control)))
        .filter(Column::Id.eq(node))
        .exec(db.writer())
        .await?;
    Ok(())
}

/// Settles the log on this timeline, unless that was done or a living node still has to say how far it came. Returns whether the
/// log is settled, and how many events are known to be lost by what was done here.
///
/// # Errors
/// Those of the database.
pub async fn settle(db: &Db, timeline: &str, now: Time) -> Result<(bool, i64), Refusal> {
    let tx = db.begin().await?;
    let head = log_head::Entity::find_by_id(1).lock_exclusive().one(&tx).await?;
    let head = head.ok_or_else(|| Refusal::internal("the log has no head row"))?;
    if head.timeline.as_deref() == Some(timeline) {
        return Ok((true, 0));
    }
    let mut update = log_head::Entity::update_many()
        .col_expr(log_head::Column::Timeline, Expr::value(timeline))
        .filter(log_head::Column::Id.eq(1));
    if head.timeline.is_none() {
        // Before its first timeline, nothing can have been lost.
        update.exec(&tx).await?;
        tx.commit().await?;
        return Ok((true, 0));
    }
    let control = control_head::Entity::find_by_id(1).lock_exclusive().one(&tx).await?;
    let control = control.map_or(0, |head| head.position);
    let nodes = Entity::find().filter(Column::SeenAt.gte(now - LATELY)).all(&tx).await?;
    let Some(found) = found(&nodes, timeline, now) else { return Ok((false, 0)) };
    let lost = (found.reached.log - head.position).max(0);
    if lost > 0 || found.reached.control > control || !found.is_all {
        let margin = if found.is_known { MARGIN } else { JUMP };
        let next = found.reached.log.max(head.position) + margin;
        update = update
            .col_expr(log_head::Column::Position, Expr::value(next))
            .col_expr(log_head::Column::LostAfter, Expr::value(head.position));
        forgetting::raise_floor(&tx, next).await?;
        tracing::error!(
            known = lost,
            after = head.position,
            next,
            "the PostgreSQL that took over does not have all events: what followed is gone"
        );
        // Nodes see that they have missed something there, and read the tables.
        control_head::Entity::update_many()
            .col_expr(
                control_head::Column::Position,
                Expr::value(found.reached.control.max(control) + MARGIN),
            )
            .filter(control_head::Column::Id.eq(1))
            .exec(&tx)
            .await?;
    } else {
        update = update.col_expr(log_head::Column::LostAfter, Expr::value(Option::<i64>::None));
    }
    update.exec(&tx).await?;
    tx.commit().await?;
    Ok((true, lost))
}

/// Whoever comes back with what has been told up to now begins anew.
///
/// # Errors
/// Those of the database.
pub async fn forget_places(db: &Db) -> Result<(), Refusal> {
    let tx = db.begin().await?;
    let head = log::head(&tx).await?;
    forgetting::raise_floor(&tx, head + 1).await?;
    Ok(tx.commit().await?)
}

/// The position up to which there is nothing after this one, where events were lost.
///
/// # Errors
/// Those of the database.
pub async fn gap_after(db: &Db, lost_after: i64) -> Result<i64, Refusal> {
    // The head first: what is written meanwhile comes after it.
    let head = log::head(db.writer()).await?;
    let first = log::after(db.writer(), lost_after).await?.entries.first().map(log::Entry::position);
    Ok(first.map_or(head, |first| first - 1))
}

struct Found {
    /// The furthest that any node came.
    reached: Reached,
    /// Whether every node that was alive lately has said so.
    is_all: bool,
    /// Whether any node knows the timeline before. None does when the database was restored to an earlier time.
    is_known: bool,
}

/// How far the nodes came. `None` if a living one has not said so yet.
fn found(nodes: &[Model], timeline: &str, now: Time) -> Option<Found> {
    let mut found = Found { reached: Reached { log: 0, control: 0 }, is_all: true, is_known: false };
    for node in nodes {
        if node.timeline.as_deref() == Some(timeline) {
            found.is_known |= node.reached.is_some();
            found.reached.log = found.reached.log.max(node.reached.unwrap_or(0));
            found.reached.control = found.reached.control.max(node.control_reached.unwrap_or(0));
        } else if node.seen_at >= now - DEAD_AFTER
            && node.number.is_some()
            && node.schema.is_some_and(|schema| schema >= SINCE_SCHEMA)
        {
            return None;
        } else {
            found.is_all = false;
        }
    }
    found.is_all &= found.is_known;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    const NOW: i64 = 1_800_000_000_000;

    fn node(seconds_ago: i64, timeline: Option<&str>, reached: i64) -> Model {
        Model {
            id: "n".into(),
            seen_at: from_millis(NOW - seconds_ago * 1_000),
            number: Some(1),
            address: None,
            version: None,
            schema: Some(SINCE_SCHEMA),
            draining: false,
            figures: None,
            timeline: timeline.map(str::to_owned),
            reached: Some(reached),
            control_reached: Some(reached / 10),
        }
    }

    fn look_at(nodes: &[Model]) -> Option<(i64, i64, bool)> {
        found(nodes, "2", from_millis(NOW))
            .map(|found| (found.reached.log, found.reached.control, found.is_all))
    }

    #[test]
    fn every_living_node_is_waited_for_and_the_furthest_counts() {
        assert_eq!(look_at(&[node(1, Some("2"), 50), node(2, Some("2"), 70)]), Some((70, 7, true)));
        assert_eq!(look_at(&[node(1, Some("2"), 50), node(2, Some("1"), 70)]), None, "it has not looked yet");
        assert_eq!(look_at(&[node(1, Some("2"), 50), node(20, None, 70)]), Some((50, 5, false)), "it died");
        let new = Model { reached: None, ..node(1, Some("2"), 0) };
        assert_eq!(look_at(std::slice::from_ref(&new)), Some((0, 0, false)), "it began on this timeline");
        assert_eq!(look_at(&[new, node(1, Some("2"), 50)]), Some((50, 5, true)), "another one knows");
        let old = Model { schema: Some(13), ..node(1, None, 0) };
        assert_eq!(look_at(&[node(1, Some("2"), 50), old]), Some((50, 5, false)), "it never says so");
    }
}
