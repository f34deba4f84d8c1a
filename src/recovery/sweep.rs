//! Deletes sessions that cannot come back any more, and the oldest of users who have too many.

use chrono::TimeDelta;
use entity::{server_node, session_floor, session_order, socket_session};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::store::Recovery;
use crate::base::error::Refusal;

/// The most rows of one statement.
const BATCH: usize = 500;

/// Deletes sessions that cannot come back any more, and all but the newest of each user.
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
    let gone = socket_session::Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(old)
        .limit(BATCH as u64)
        .into_tuple::<String>()
        .all(recovery.db().reader())
        .await?;
    delete(recovery, &gone).await?;
    throw_away(recovery).await?;
    if !dead.is_empty() {
        server_node::Entity::delete_many()
            .filter(server_node::Column::SeenAt.lt(before - TimeDelta::days(1)))
            .exec(recovery.db().writer())
            .await?;
    }
    Ok(())
}

async fn delete(recovery: &Recovery, sessions: &[String]) -> Result<(), Refusal> {
    for sessions in sessions.chunks(BATCH) {
        let these = || sessions.iter().map(String::as_str);
        let tx = recovery.db().begin().await?;
        session_order::Entity::delete_many()
            .filter(session_order::Column::Session.is_in(these()))
            .exec(&tx)
            .await?;
        socket_session::Entity::delete_many()
            .filter(socket_session::Column::Id.is_in(these()))
            .exec(&tx)
            .await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Deletes the oldest sessions of users who keep connecting without their id. Records that it did: a deleted session
/// must not come back as one without subscriptions.
async fn throw_away(recovery: &Recovery) -> Result<(), Refusal> {
    use socket_session::Column;
    let limit = recovery.limits().max_sessions_per_user;
    let greedy = socket_session::Entity::find()
        .select_only()
        .column(Column::UserId)
        .filter(Column::EndedAt.is_not_null())
        .group_by(Column::UserId)
        .having(Column::Id.count().gt(limit))
        .limit(BATCH as u64)
        .into_tuple::<String>()
        .all(recovery.db().reader())
        .await?;
    for user in greedy {
        let rows = socket_session::Entity::find()
            .filter(Column::UserId.eq(user.as_str()))
            .filter(Column::EndedAt.is_not_null())
            .order_by_desc(Column::EndedAt)
            .offset(limit)
            .limit(BATCH as u64)
            .all(recovery.db().reader())
            .await?;
        let Some(newest) = rows.iter().map(|row| row.began_at).max() else { continue };
        let floor = session_floor::ActiveModel { user_id: Set(user), thrown_away: Set(newest) };
        let again = OnConflict::column(session_floor::Column::UserId)
            .update_column(session_floor::Column::ThrownAway)
            .to_owned();
        session_floor::Entity::insert(floor)
            .on_conflict(again)
            .exec_without_returning(recovery.db().writer())
            .await?;
        let gone: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        delete(recovery, &gone).await?;
    }
    Ok(())
}
