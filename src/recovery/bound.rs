//! Bounds the stored sessions of each user, when a session is added.

use entity::{session_floor, session_order, socket_session};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Order};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::store::BATCH;
use crate::base::clock::Time;
use crate::base::error::Refusal;

/// Deletes the oldest sessions of those of the users who have more than `limit`: first those that ended, then those that
/// are connected, which then cannot be recovered.
///
/// # Errors
/// Those of the database.
pub(super) async fn enforce<'a>(
    tx: &DatabaseTransaction,
    users: impl IntoIterator<Item = &'a str>,
    limit: u64,
) -> Result<(), Refusal> {
    use socket_session::Column;
    let users: Vec<&str> = users.into_iter().collect();
    for users in users.chunks(BATCH) {
        let greedy = socket_session::Entity::find()
            .select_only()
            .column(Column::UserId)
            .column_as(Column::Id.count(), "sessions")
            .filter(Column::UserId.is_in(users.iter().copied()))
            .group_by(Column::UserId)
            .having(Column::Id.count().gt(limit))
            .into_tuple::<(String, i64)>()
            .all(tx)
            .await?;
        for (user, sessions) in greedy {
            let excess = u64::try_from(sessions).unwrap_or(0).saturating_sub(limit);
            let oldest = socket_session::Entity::find()
                .select_only()
                .columns([Column::Id, Column::BeganAt])
                .filter(Column::UserId.eq(user.as_str()))
                .order_by(Expr::col(Column::EndedAt).is_null(), Order::Asc)
                .order_by_asc(Column::EndedAt)
                .order_by_asc(Column::BeganAt)
                .limit(excess)
                .into_tuple::<(String, Time)>()
                .all(tx)
                .await?;
            let Some(newest) = oldest.iter().map(|(_, began_at)| *began_at).max() else { continue };
            raise_floor(tx, user, newest).await?;
            delete(tx, oldest.into_iter().map(|(id, _)| id).collect()).await?;
        }
    }
    Ok(())
}

/// Records that sessions up to a time were deleted: such a session must not come back as one without subscriptions.
async fn raise_floor(tx: &DatabaseTransaction, user: String, newest: Time) -> Result<(), Refusal> {
    use session_floor::{ActiveModel, Column, Entity};
    let floor = ActiveModel { user_id: Set(user), thrown_away: Set(newest) };
    let higher = OnConflict::column(Column::UserId)
        .update_column(Column::ThrownAway)
        .action_and_where(Expr::col((Entity, Column::ThrownAway)).lt(Expr::col(("excluded", "thrown_away"))))
        .to_owned();
    Entity::insert(floor).on_conflict(higher).exec_without_returning(tx).await?;
    Ok(())
}

/// Deletes sessions with their subscriptions. The sessions go first: a transaction that adds a subscription holds the
/// row of its session.
///
/// # Errors
/// Those of the database.
pub(super) async fn delete(tx: &DatabaseTransaction, sessions: Vec<String>) -> Result<(), Refusal> {
    for sessions in sessions.chunks(BATCH) {
        let these = || sessions.iter().map(String::as_str);
        socket_session::Entity::delete_many()
            .filter(socket_session::Column::Id.is_in(these()))
            .exec(tx)
            .await?;
        session_order::Entity::delete_many()
            .filter(session_order::Column::Session.is_in(these()))
            .exec(tx)
            .await?;
    }
    Ok(())
}
