//! Reads of stored sessions for clients that come back. Concurrent requests share one read.

use std::collections::HashMap;

use entity::{server_node, session_floor, session_order, socket_session};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio::sync::{mpsc, oneshot};

use super::store::{BATCH, Recovery, ReplayRequest, Stored};
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::dialect::place::Place;
use crate::event::forgetting;
use crate::model::{OrderId, UserId};

/// A request for the stored state of one session.
pub(super) struct Question {
    pub pid: String,
    pub user: UserId,
    pub reply: oneshot::Sender<Result<Stored, Refusal>>,
}

/// Answers requests until all senders are gone.
pub(super) async fn answer(recovery: &Recovery, mut questions: mpsc::Receiver<Question>) {
    let mut batch: Vec<Question> = Vec::with_capacity(BATCH);
    while questions.recv_many(&mut batch, BATCH).await > 0 {
        let found = look_up(recovery, &batch).await;
        if let Err(refusal) = &found {
            tracing::warn!(%refusal, "sessions cannot be read");
        }
        for Question { pid, reply, .. } in batch.drain(..) {
            let _ = reply.send(match &found {
                Ok((found, floor)) => {
                    Ok(Stored { floor: *floor, ..found.get(&pid).cloned().unwrap_or_default() })
                }
                Err(_) => Err(Refusal::Unavailable),
            });
        }
    }
}

/// The sessions by their ids, and up to where events may be gone from the log.
async fn look_up(recovery: &Recovery, asked: &[Question]) -> Result<(HashMap<String, Stored>, i64), Refusal> {
    let db = recovery.db().reader();
    let floor = forgetting::floor(db).await?;
    let pids = || asked.iter().map(|question| question.pid.as_str());
    let sessions =
        socket_session::Entity::find().filter(socket_session::Column::Id.is_in(pids())).all(db).await?;
    let orders =
        session_order::Entity::find().filter(session_order::Column::Session.is_in(pids())).all(db).await?;
    let died = sessions.iter().any(|row| row.ended_at.is_none() && row.node != recovery.node());
    let nodes: HashMap<String, Time> = if died {
        let nodes = server_node::Entity::find().all(db).await?;
        nodes.into_iter().map(|node| (node.id, node.seen_at)).collect()
    } else {
        HashMap::new()
    };
    let mut found: HashMap<String, Stored> = HashMap::new();
    for row in sessions {
        let left_at = row.ended_at.or_else(|| {
            // No departure is recorded: the session is on this node, or its process died.
            if row.node == recovery.node() { Some(recovery.now()) } else { nodes.get(&row.node).copied() }
        });
        found.insert(row.id, Stored { left_at, held_at: row.held_at, ..Stored::default() });
    }
    for row in orders {
        let stored = found.entry(row.session).or_default();
        match row.lost_at {
            None => {
                let place = row.place.as_deref().and_then(Place::parse);
                let asked = row.since.zip(place).zip(row.number);
                let asked = asked.map(|((since, place), number)| ReplayRequest { since, place, number });
                stored.orders.push((OrderId::stored(&row.order_id), asked));
            }
            Some(position) => stored.lost_at = Ord::max(stored.lost_at, Some(position)),
        }
    }
    // Unknown sessions: either never recorded, or deleted because their user had too many.
    let unknown: Vec<&Question> =
        asked.iter().filter(|question| !found.contains_key(&question.pid)).collect();
    if !unknown.is_empty() {
        let users = unknown.iter().map(|question| question.user.as_str());
        let thrown =
            session_floor::Entity::find().filter(session_floor::Column::UserId.is_in(users)).all(db).await?;
        for question in unknown {
            let floor = thrown.iter().find(|floor| floor.user_id == question.user.as_str());
            let made_after = floor.map(|floor| floor.thrown_away);
            found.insert(question.pid.clone(), Stored { made_after, ..Stored::default() });
        }
    }
    Ok((found, floor))
}
