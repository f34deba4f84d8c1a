//! Two connections of one session, on two nodes: the one that got it later has it, and the other node is told.

use std::collections::{BTreeSet, HashMap};

use entity::socket_session::{self, Column, Model};
use sea_orm::sea_query::{Expr, ExprTrait, LockType};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::store::BATCH;
use crate::base::clock::Time;
use crate::base::config::is_disabled;
use crate::base::error::Refusal;
use crate::cluster::control::{Notice, Takeover};
use crate::model::UserId;

/// Whether the connection that is about to be written got the session after the one in its row.
pub(super) fn is_later() -> Expr {
    if is_disabled("fence") {
        return Expr::val(true);
    }
    let (held, socket) = ((socket_session::Entity, Column::HeldAt), (socket_session::Entity, Column::Socket));
    let (new, new_socket) = (("excluded", "held_at"), ("excluded", "socket"));
    let at_once = Expr::col(held).equals(new).and(Expr::col(socket).lte(Expr::col(new_socket)));
    Expr::col(held).is_null().or(Expr::col(held).lt(Expr::col(new))).or(at_once)
}

/// The rows of these sessions by id. They stay as they are until the end of the transaction, apart from its own changes, which take
/// an exclusive lock.
pub(super) async fn holders(
    tx: &DatabaseTransaction,
    sessions: impl IntoIterator<Item = &str>,
    lock: LockType,
) -> Result<HashMap<String, Model>, Refusal> {
    let sessions: Vec<_> = sessions.into_iter().collect();
    let mut found = HashMap::with_capacity(sessions.len());
    for sessions in sessions.chunks(BATCH) {
        let rows = socket_session::Entity::find()
            .filter(Column::Id.is_in(sessions.iter().copied()))
            .order_by_asc(Column::Id)
            .lock(lock)
            .all(tx)
            .await?;
        found.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
    }
    Ok(found)
}

/// What other nodes have to know of the sessions that were resumed here, given the rows from before that was written.
pub(super) async fn notices(
    tx: &DatabaseTransaction,
    node: &str,
    began: &HashMap<String, Model>,
    resumed: &BTreeSet<String>,
    before: &HashMap<String, Model>,
) -> Result<Vec<Notice>, Refusal> {
    if resumed.is_empty() || is_disabled("fence") {
        return Ok(Vec::new());
    }
    let now = holders(tx, resumed.iter().map(String::as_str), LockType::Update).await?;
    let told = now.into_values().filter_map(|row| {
        let ours = began.get(&row.id)?;
        let lost = row.socket != ours.socket;
        // Without a row another node may have the session all the same, and not have written it yet.
        let elsewhere = before.get(&row.id).is_none_or(|row| row.node != node && row.ended_at.is_none());
        let held_at: Time = row.held_at?;
        (lost || elsewhere).then(|| {
            let user = UserId::stored(&row.user_id);
            Notice::Takeover(Takeover { user, pid: row.id, socket: row.socket, held_at })
        })
    });
    Ok(told.collect())
}
