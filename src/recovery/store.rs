//! Sessions in the database: when they left and what they follow. Many changes share one transaction, so that a thousand
//! clients that come at once cost a few commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use entity::{server_key, server_node, session_floor, session_order, socket_session};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Stored;
use super::pid::Signer;
use crate::app::App;
use crate::auth::Principal;
use crate::clock::Time;
use crate::dialect::Dialect;
use crate::error::Refusal;
use crate::fanout::Place;
use crate::id::{OrderId, UserId};

/// Changes and questions that may wait for the database; those who ask for more wait themselves.
const QUEUE: usize = 8_192;
/// How many share one transaction.
const BATCH: usize = 500;
/// How often a process says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long we wait after the database failed.
const RETRY: Duration = Duration::from_millis(200);
/// A session that follows nothing and lasted less than this part of the time it may be away needs no row: when it was
/// made, which its id says, is near enough to when it left.
const SHORT: i32 = 100;

/// The sessions of one database.
#[derive(Clone)]
pub struct Recovery(Arc<Parts>);

struct Parts {
    signer: Signer,
    node: String,
    changes: mpsc::Sender<Change>,
    questions: mpsc::Sender<Question>,
}

/// The ends that [`Work::run`] takes from.
pub struct Work {
    changes: mpsc::Receiver<Change>,
    questions: mpsc::Receiver<Question>,
}

enum Change {
    Began {
        holder: Holder,
        user: UserId,
        at: Time,
    },
    Ended {
        holder: Holder,
        at: Time,
    },
    Order {
        holder: Holder,
        order: OrderId,
        follow: Follow,
        done: Option<oneshot::Sender<Result<(), Refusal>>>,
    },
}

/// A connection that has a session. When the client comes back on another one, what the former one still had under way
/// must not undo what the client asks for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: Arc<str>,
    pub socket: Arc<str>,
}

/// What a session has to do with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It follows it, and asked for this to be replayed.
    Yes(Option<Asked>),
    /// It does not.
    No,
    /// It did, until the event at this position took it from its user.
    Lost(i64),
}

/// A replay that a session has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of the order's events after this seq,
    pub since: i64,
    /// up to this place in the log.
    pub place: Place,
    /// Which of the session's replays it is.
    pub number: i32,
}

impl Recovery {
    /// Reads the database's signing key, or makes it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(app: &App) -> Result<(Self, Work), Refusal> {
        let ours = server_key::ActiveModel {
            name: Set("session".to_owned()),
            value: Set(hex::encode(rand::random::<[u8; 32]>())),
        };
        // Whoever comes first makes it; all read the same.
        server_key::Entity::insert(ours)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(app.db.writer())
            .await?;
        let key = server_key::Entity::find_by_id("session").one(app.db.writer()).await?;
        let key = key.and_then(|key| hex::decode(key.value).ok());
        let key = key.ok_or_else(|| Refusal::Internal("the session key cannot be read".into()))?;
        let (changes, changes_out) = mpsc::channel(QUEUE);
        let (questions, questions_out) = mpsc::channel(QUEUE);
        let node = app.clock.uuid().to_string();
        let parts = Parts { signer: Signer::new(&key), node, changes, questions };
        Ok((Self(Arc::new(parts)), Work { changes: changes_out, questions: questions_out }))
    }

    pub(super) fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// What is known of a session. Those who ask at once share a read.
    pub(super) async fn find(&self, pid: &str, user: &UserId) -> Result<Stored, Refusal> {
        let (reply, answer) = oneshot::channel();
        let question = Question { pid: pid.to_owned(), user: user.clone(), reply };
        self.0.questions.send(question).await.map_err(|_| Refusal::Unavailable)?;
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// A connection has a session now. Written down behind its back: its id proves itself until it is.
    pub fn began(&self, holder: Option<&Holder>, who: &Principal, dialect: Dialect) {
        let made =
            holder.and_then(|holder| Some((holder.clone(), self.signer().read(who, dialect, &holder.pid)?)));
        let Some((holder, made)) = made else { return };
        // However often it comes back, it began when its id was made.
        let began = Change::Began { holder, user: who.id.clone(), at: made.made_at };
        if let Err(mpsc::error::TrySendError::Full(began)) = self.0.changes.try_send(began) {
            // Nothing is written down for a connection that did not begin.
            let changes = self.0.changes.clone();
            tokio::spawn(async move { drop(changes.send(began).await) });
        }
    }

    /// A connection is gone, and its session may come back.
    pub fn ended(&self, holder: Option<&Holder>, at: Time) {
        if let Some(holder) = holder {
            let _ = self.0.changes.try_send(Change::Ended { holder: holder.clone(), at });
        }
    }

    /// Writes down what a session has to do with an order. After it returns, that is on disk.
    ///
    /// # Errors
    /// Those of the database; [`Refusal::Unavailable`] also when the session is with another connection by now.
    pub async fn set(&self, holder: Option<&Holder>, order: &OrderId, follow: Follow) -> Result<(), Refusal> {
        let Some(holder) = holder else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        let change = Change::Order { holder: holder.clone(), order: order.clone(), follow, done: Some(done) };
        self.0.changes.send(change).await.map_err(|_| Refusal::Unavailable)?;
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// The same, and nobody waits for it: whether an order may be seen is asked again on return.
    pub fn note(&self, holder: Option<&Holder>, order: &OrderId, follow: Follow) {
        if let Some(holder) = holder {
            let change = Change::Order { holder: holder.clone(), order: order.clone(), follow, done: None };
            let _ = self.0.changes.try_send(change);
        }
    }
}

/// What is still to be written.
#[derive(Default)]
struct Pending {
    /// Which connection has which session, here and now.
    holders: HashMap<Arc<str>, Arc<str>>,
    began: HashMap<String, socket_session::Model>,
    ended: HashMap<String, Time>,
    /// And whether somebody waits for it.
    orders: HashMap<(String, String), (Follow, bool)>,
    waiting: Vec<oneshot::Sender<Result<(), Refusal>>>,
}

impl Work {
    /// Writes and answers until told to stop; then writes what is left.
    pub async fn run(self, app: App, recovery: Recovery, stop: CancellationToken) {
        let Self { changes, questions } = self;
        tokio::select! {
            () = write(&app, &recovery, changes, stop) => {}
            () = answer(&app, &recovery, questions) => {}
        }
    }
}

async fn write(app: &App, recovery: &Recovery, mut changes: mpsc::Receiver<Change>, stop: CancellationToken) {
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
            pending.note(change, &recovery.0.node);
        }
        let written = pending.write(app, &recovery.0.node, beat).await;
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
            Change::Began { holder: Holder { pid, socket }, user, at } => {
                let row = socket_session::Model {
                    id: pid.to_string(),
                    user_id: user.to_string(),
                    socket: socket.to_string(),
                    node: node.to_owned(),
                    began_at: at,
                    ended_at: None,
                };
                self.began.insert(row.id.clone(), row);
                self.holders.insert(pid, socket);
            }
            Change::Ended { holder: Holder { pid, socket }, at } => {
                if self.holders.get(&pid) == Some(&socket) {
                    self.holders.remove(&pid);
                }
                self.ended.insert(socket.to_string(), at);
            }
            Change::Order { holder: Holder { pid, socket }, order, follow, done } => {
                if self.holders.get(&pid) != Some(&socket) {
                    if let Some(done) = done {
                        let _ = done.send(Err(Refusal::Unavailable));
                    }
                    return;
                }
                self.orders.insert((pid.to_string(), order.to_string()), (follow, done.is_some()));
                self.waiting.extend(done);
            }
        }
    }

    async fn write(&mut self, app: &App, node: &str, beat: bool) -> Result<(), Refusal> {
        let tx = app.db.begin().await?;
        let rows: Vec<_> = self.began.values().cloned().map(socket_session::ActiveModel::from).collect();
        for rows in rows.chunks(BATCH) {
            use socket_session::Column;
            let again = OnConflict::column(Column::Id)
                .update_columns([Column::Socket, Column::Node, Column::EndedAt])
                .to_owned();
            let rows = rows.iter().cloned().map(sea_orm::IntoActiveModel::into_active_model);
            socket_session::Entity::insert_many(rows).on_conflict(again).exec_without_returning(&tx).await?;
        }
        let mut rows = Vec::new();
        for ((session, order), (follow, _)) in &self.orders {
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
        self.end(app, &tx).await?;
        if beat {
            let seen = server_node::ActiveModel { id: Set(node.to_owned()), seen_at: Set(app.clock.now()) };
            let again = OnConflict::column(server_node::Column::Id)
                .update_column(server_node::Column::SeenAt)
                .to_owned();
            server_node::Entity::insert(seen).on_conflict(again).exec_without_returning(&tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// All that ended in one batch did so at the same time, as far as the day that they may stay away is concerned.
    async fn end(&self, app: &App, tx: &impl ConnectionTrait) -> Result<(), Refusal> {
        use socket_session::Column;
        let sockets: Vec<&String> = self.ended.keys().collect();
        let now = app.clock.now();
        let short = TimeDelta::milliseconds(app.config.limits.recovery_window_ms) / SHORT;
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

    /// Tells those who wait, and forgets what is done. What could not be written stays, within reason.
    fn tell(&mut self, written: &Result<(), Refusal>) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(if written.is_ok() { Ok(()) } else { Err(Refusal::Unavailable) });
        }
        // Those who waited know that it failed.
        self.orders.retain(|_, (_, waited)| written.is_err() && !*waited);
        if written.is_ok() || self.began.len() + self.ended.len() + self.orders.len() > QUEUE {
            self.began.clear();
            self.ended.clear();
            self.orders.clear();
        }
    }
}

struct Question {
    pid: String,
    user: UserId,
    reply: oneshot::Sender<Result<Stored, Refusal>>,
}

async fn answer(app: &App, recovery: &Recovery, mut questions: mpsc::Receiver<Question>) {
    let mut batch: Vec<Question> = Vec::with_capacity(BATCH);
    while questions.recv_many(&mut batch, BATCH).await > 0 {
        let found = look_up(app, recovery, &batch).await;
        if let Err(refusal) = &found {
            tracing::warn!(%refusal, "sessions cannot be read");
        }
        for Question { pid, reply, .. } in batch.drain(..) {
            let _ = reply.send(match &found {
                Ok(found) => Ok(found.get(&pid).cloned().unwrap_or_default()),
                Err(_) => Err(Refusal::Unavailable),
            });
        }
    }
}

async fn look_up(
    app: &App,
    recovery: &Recovery,
    asked: &[Question],
) -> Result<HashMap<String, Stored>, Refusal> {
    let db = app.db.reader();
    let pids = || asked.iter().map(|question| question.pid.as_str());
    let sessions =
        socket_session::Entity::find().filter(socket_session::Column::Id.is_in(pids())).all(db).await?;
    let orders =
        session_order::Entity::find().filter(session_order::Column::Session.is_in(pids())).all(db).await?;
    let died = sessions.iter().any(|row| row.ended_at.is_none() && row.node != recovery.0.node);
    let nodes: HashMap<String, Time> = if died {
        let nodes = server_node::Entity::find().all(db).await?;
        nodes.into_iter().map(|node| (node.id, node.seen_at)).collect()
    } else {
        HashMap::new()
    };
    let mut found: HashMap<String, Stored> = HashMap::new();
    for row in sessions {
        let left_at = row.ended_at.or_else(|| {
            // Not written down that it left: it is here, or its process died.
            if row.node == recovery.0.node { Some(app.clock.now()) } else { nodes.get(&row.node).copied() }
        });
        found.insert(row.id, Stored { left_at, ..Stored::default() });
    }
    for row in orders {
        let stored = found.entry(row.session).or_default();
        match row.lost_at {
            None => {
                let place = row.place.as_deref().and_then(Place::parse);
                let asked = row.since.zip(place).zip(row.number);
                let asked = asked.map(|((since, place), number)| Asked { since, place, number });
                stored.orders.push((OrderId::stored(&row.order_id), asked));
            }
            Some(position) => stored.lost_at = Ord::max(stored.lost_at, Some(position)),
        }
    }
    // Of whom nothing is known: was it never written down, or thrown away because there was too much of it?
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
    Ok(found)
}
