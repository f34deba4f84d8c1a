//! Records sessions. Many changes share a transaction, so a thousand new clients cost a few commits.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use entity::{server_node, session_order, socket_session};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, LockType, OnConflict};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::bound;
use super::store::{BATCH, Change, Follow, QUEUE, Recovery, SessionOwner};
use super::takeover;
use crate::base::clock::Time;
use crate::base::error::Refusal;

/// How often a process records that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The pause after a database failure.
const RETRY: Duration = Duration::from_millis(200);
/// A session without subscriptions that lasted less than this part of the recovery time gets no row. Its id has the
/// time of its start, and that is close enough to the time of its end.
const SHORT: i32 = 100;

/// The changes that are not written yet.
#[derive(Default)]
struct Pending {
    /// The connection that has each session on this node, and since when.
    holders: HashMap<Arc<str>, (Time, Arc<str>)>,
    began: HashMap<String, socket_session::Model>,
    /// Those of them that another node may have had before.
    resumed: BTreeSet<String>,
    ended: HashMap<String, Time>,
    orders: HashMap<Subscription, PendingOrder>,
    waiting: Vec<(Subscription, oneshot::Sender<Result<(), Refusal>>)>,
}

/// A session and an order.
type Subscription = (String, String);
/// Subscriptions that were not written, because another connection has their session by now.
type Superseded = HashSet<Subscription>;

/// A subscription that is not written yet.
#[derive(Clone)]
struct PendingOrder {
    follow: Follow,
    /// The connection that asked for it.
    socket: Arc<str>,
    /// Whether a caller waits.
    waited: bool,
}

/// Writes changes until `stop`, then writes the rest.
pub(super) async fn write(recovery: &Recovery, mut changes: mpsc::Receiver<Change>, stop: CancellationToken) {
    let mut pending = Pending::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        let mut beat = false;
        tokio::select! {
            taken = changes.recv_many(&mut batch, BATCH) => if taken == 0 { return },
            _ = heartbeat.tick() => beat = true,
            () = stop.cancelled() => {
                while let Ok(change) = changes.try_recv() {
                    batch.push(change);
                }
                beat = true;
            }
        }
        for change in batch.drain(..) {
            pending.note(change, recovery.node());
        }
        let written = pending.write_all(recovery, beat).await;
        let failed = written.is_err();
        if let Err(refusal) = &written {
            tracing::warn!(%refusal, "sessions could not be written down; trying again");
        }
        pending.tell(&written);
        if stop.is_cancelled() {
            return;
        }
        if failed {
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Pending {
    fn note(&mut self, change: Change, node: &str) {
        match change {
            Change::Began { holder: SessionOwner { pid, socket, held_at }, user, at, is_resumed } => {
                let holder = (held_at, socket.clone());
                // Two came back at once, and the later one was told first.
                if self.holders.get(&pid).is_some_and(|later| *later > holder) {
                    return;
                }
                let row = socket_session::Model {
                    id: pid.to_string(),
                    user_id: user.to_string(),
                    socket: socket.to_string(),
                    node: node.to_owned(),
                    began_at: at,
                    held_at: Some(held_at),
                    ended_at: None,
                };
                if is_resumed {
                    self.resumed.insert(row.id.clone());
                }
                self.began.insert(row.id.clone(), row);
                self.holders.insert(pid, holder);
            }
            Change::Ended { holder: SessionOwner { pid, socket, .. }, at } => {
                if self.is_held(&pid, &socket) {
                    self.holders.remove(&pid);
                }
                self.ended.insert(socket.to_string(), at);
            }
            Change::Order { holder: SessionOwner { pid, socket, .. }, order, follow, done } => {
                if !self.is_held(&pid, &socket) {
                    if let Some(done) = done {
                        let _ = done.send(Err(Refusal::Unavailable));
                    }
                    return;
                }
                let pending = PendingOrder { follow, socket, waited: done.is_some() };
                let subscription = (pid.to_string(), order.to_string());
                self.orders.insert(subscription.clone(), pending);
                self.waiting.extend(done.map(|done| (subscription, done)));
            }
        }
    }

    /// Whether this connection has the session.
    fn is_held(&self, pid: &str, socket: &str) -> bool {
        self.holders.get(pid).is_some_and(|(_, holder)| **holder == *socket)
    }

    /// Writes everything in one transaction. If the database refuses a value of one session, that must not cost the others,
    /// so each is tried alone and the refused ones are dropped.
    async fn write_all(&mut self, recovery: &Recovery, beat: bool) -> Result<Superseded, Refusal> {
        match self.write(recovery, beat).await {
            Ok(superseded) => return Ok(superseded),
            Err(refusal @ (Refusal::Unavailable | Refusal::Conflict(_))) => return Err(refusal),
            Err(refusal) => tracing::warn!(%refusal, "sessions are written down one by one"),
        }
        let (mut refused, mut count) = (Ok(Superseded::new()), 0);
        for one in self.singles() {
            match one.write(recovery, beat).await {
                Ok(superseded) => {
                    if let Ok(all) = &mut refused {
                        all.extend(superseded);
                    }
                }
                // What is written already is written again: that changes nothing.
                Err(refusal @ (Refusal::Unavailable | Refusal::Conflict(_))) => return Err(refusal),
                Err(refusal) => {
                    refused = Err(refusal);
                    count += 1;
                }
            }
        }
        if let Err(refusal) = &refused {
            tracing::warn!(%refusal, count, "changes of sessions could not be written down");
        }
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self { holders: std::mem::take(&mut self.holders), waiting, ..Self::default() };
        // Callers that wait may be those of the refused ones. They are told to try again.
        self.tell(&refused);
        Ok(Superseded::new())
    }

    /// Each change alone, in an order in which they can be written: a subscription needs its session.
    fn singles(&self) -> impl Iterator<Item = Self> {
        let began = self.began.iter().map(|(id, row)| Self {
            began: HashMap::from([(id.clone(), row.clone())]),
            resumed: self.resumed.get(id).cloned().into_iter().collect(),
            ..Self::default()
        });
        let orders = self.orders.iter().map(|(key, pending)| Self {
            orders: HashMap::from([(key.clone(), pending.clone())]),
            ..Self::default()
        });
        let ended = self
            .ended
            .iter()
            .map(|(socket, at)| Self { ended: HashMap::from([(socket.clone(), *at)]), ..Self::default() });
        began.chain(orders).chain(ended)
    }

    async fn write(&self, recovery: &Recovery, beat: bool) -> Result<Superseded, Refusal> {
        let tx = recovery.db().begin().await?;
        let resumed = self.resumed.iter().map(String::as_str);
        let before = takeover::holders(&tx, resumed, LockType::Update).await?;
        let rows: Vec<_> = self.began.values().cloned().map(socket_session::ActiveModel::from).collect();
        for rows in rows.chunks(BATCH) {
            use socket_session::Column;
            let again = OnConflict::column(Column::Id)
                .update_columns([Column::Socket, Column::Node, Column::HeldAt, Column::EndedAt])
                // The change may have waited for the database while the client came back on another node.
                .action_and_where(takeover::is_later())
                .to_owned();
            let rows = rows.iter().cloned().map(sea_orm::IntoActiveModel::into_active_model);
            socket_session::Entity::insert_many(rows).on_conflict(again).exec_without_returning(&tx).await?;
        }
        let users: BTreeSet<&str> = self.began.values().map(|row| row.user_id.as_str()).collect();
        bound::enforce(&tx, users, recovery.limits().max_sessions_per_user).await?;
        let sessions: BTreeSet<&str> = self.orders.keys().map(|(session, _)| session.as_str()).collect();
        let held = takeover::holders(&tx, sessions, LockType::Share).await?;
        let (mut rows, mut superseded) = (Vec::new(), Superseded::new());
        for (subscription @ (session, order), PendingOrder { follow, socket, .. }) in &self.orders {
            // Without a row the session cannot be recovered, and with another connection it has other subscriptions.
            match held.get(session) {
                None => continue,
                Some(row) if *row.socket != **socket => {
                    superseded.insert(subscription.clone());
                    continue;
                }
                Some(_) => {}
            }
            let (lost_at, asked) = match follow {
                Follow::Yes(asked) => (None, asked.as_ref()),
                Follow::Lost(position) => (Some(*position), None),
                Follow::No => {
                    session_order::Entity::delete_by_id((session.clone(), order.clone())).exec(&tx).await?;
                    continue;
                }
            };
            let row = session_order::Model {
                session: session.clone(),
                order_id: order.clone(),
                lost_at,
                since: asked.map(|asked| asked.since),
                place: asked.map(|asked| asked.place.to_string()),
                number: asked.map(|asked| asked.number),
            };
            rows.push(session_order::ActiveModel::from(row));
        }
        for rows in rows.chunks(BATCH) {
            use session_order::Column;
            let again = OnConflict::columns([Column::Session, Column::OrderId])
                .update_columns([Column::LostAt, Column::Since, Column::Place, Column::Number])
                .to_owned();
            let rows = rows.iter().cloned().map(sea_orm::IntoActiveModel::into_active_model);
            session_order::Entity::insert_many(rows).on_conflict(again).exec_without_returning(&tx).await?;
        }
        self.end(recovery, &tx).await?;
        if beat {
            let seen = server_node::ActiveModel {
                id: Set(recovery.node().to_owned()),
                seen_at: Set(recovery.now()),
                ..Default::default()
            };
            let again = OnConflict::column(server_node::Column::Id)
                .update_column(server_node::Column::SeenAt)
                .to_owned();
            server_node::Entity::insert(seen).on_conflict(again).exec_without_returning(&tx).await?;
        }
        let takeovers = takeover::notices(&tx, recovery.node(), &self.began, &self.resumed, &before).await?;
        recovery.control().append(&tx, &takeovers).await?;
        tx.commit().await?;
        if !takeovers.is_empty() {
            recovery.control().appended();
        }
        Ok(superseded)
    }

    /// Sessions that ended in one batch get one time. The difference does not matter for a limit of hours.
    async fn end(&self, recovery: &Recovery, tx: &impl ConnectionTrait) -> Result<(), Refusal> {
        use socket_session::Column;
        let sockets: Vec<&String> = self.ended.keys().collect();
        let now = recovery.now();
        let short = TimeDelta::milliseconds(recovery.limits().recovery_window_ms) / SHORT;
        for sockets in sockets.chunks(BATCH) {
            let these = Column::Socket.is_in(sockets.iter().copied());
            let follows = Expr::exists(
                sea_orm::sea_query::Query::select()
                    .expr(Expr::val(1))
                    .from(session_order::Entity)
                    .and_where(
                        Expr::col((session_order::Entity, session_order::Column::Session))
                            .equals((socket_session::Entity, Column::Id)),
                    )
                    .to_owned(),
            );
            socket_session::Entity::delete_many()
                .filter(these.clone())
                .filter(Column::BeganAt.gt(now - short))
                .filter(Condition::not(Condition::all().add(follows)))
                .exec(tx)
                .await?;
            socket_session::Entity::update_many()
                .col_expr(Column::EndedAt, Expr::value(now))
                .filter(these)
                .exec(tx)
                .await?;
        }
        Ok(())
    }

    /// Answers the callers that wait, and removes what is done. Changes that failed stay, up to a limit.
    fn tell(&mut self, written: &Result<Superseded, Refusal>) {
        for (subscription, waiting) in self.waiting.drain(..) {
            let counts = written.as_ref().is_ok_and(|superseded| !superseded.contains(&subscription));
            let _ = waiting.send(if counts { Ok(()) } else { Err(Refusal::Unavailable) });
        }
        // Callers that waited know of the failure.
        self.orders.retain(|_, pending| written.is_err() && !pending.waited);
        if written.is_ok() || self.began.len() + self.ended.len() + self.orders.len() > QUEUE {
            self.began.clear();
            self.resumed.clear();
            self.ended.clear();
            self.orders.clear();
        }
    }
}
