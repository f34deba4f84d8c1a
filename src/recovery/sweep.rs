//! Deletes sessions that cannot come back any more.

use chrono::TimeDelta;
use entity::{server_node, session_floor, socket_session};
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

use super::bound;
use super::store::{BATCH, Recovery};
use crate::base::error::Refusal;

/// Deletes all sessions that cannot come back any more, in batches.
///
/// # Errors
/// Those of the database.
pub async fn sweep(recovery: &Recovery) -> Result<(), Refusal> {
    use socket_session::Column;
    let before = recovery.now() - TimeDelta::milliseconds(recovery.limits().recovery_window_ms);
    let dead = server_node::Entity::find()
        .select_only()
        .column(server_node::Column::Id)
        .filter(server_node::Column::SeenAt.lt(before))
        .into_tuple::<String>()
        .all(recovery.db().reader())
        .await?;
    let old = Condition::any()
        .add(Column::EndedAt.lt(before))
        .add(Column::EndedAt.is_null().and(Column::Node.is_in(dead.iter().map(String::as_str))));
    loop {
        let gone = socket_session::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(old.clone())
            .limit(BATCH as u64)
            .into_tuple::<String>()
            .all(recovery.db().reader())
            .await?;
        let is_last = gone.len() < BATCH;
        let tx = recovery.db().begin().await?;
        bound::delete(&tx, gone).await?;
        tx.commit().await?;
        if is_last {
            break;
        }
    }
    // A session from before the window is refused anyway.
    session_floor::Entity::delete_many()
        .filter(session_floor::Column::ThrownAway.lt(before))
        .exec(recovery.db().writer())
        .await?;
    if !dead.is_empty() {
        server_node::Entity::delete_many()
            .filter(server_node::Column::SeenAt.lt(before - TimeDelta::days(1)))
            .exec(recovery.db().writer())
            .await?;
    }
    Ok(())
}
