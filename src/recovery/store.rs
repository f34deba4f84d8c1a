//! Sessions in the database: when they left and what they follow. What is to be written and read there goes through two
//! queues.

use std::sync::Arc;

use entity::server_key;
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;
use sea_orm::sea_query::OnConflict;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::look_up::{self, Question};
use super::pid::Signer;
use super::record;
use crate::base::clock::{Clock, Time};
use crate::base::config::Limits;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::place::Place;
use crate::model::{OrderId, Principal, UserId};

/// Changes and questions that may wait for the database; those who ask for more wait themselves.
pub(super) const QUEUE: usize = 8_192;
/// How many share one transaction.
pub(super) const BATCH: usize = 500;

/// The sessions of one database.
#[derive(Clone)]
pub struct Recovery(Arc<Parts>);

struct Parts {
    db: Db,
    clock: Clock,
    limits: Limits,
    signer: Signer,
    node: String,
    changes: mpsc::Sender<Change>,
    questions: mpsc::Sender<Question>,
}

/// The ends that [`Work::run`] takes from.
pub struct Work {
    recovery: Recovery,
    changes: mpsc::Receiver<Change>,
    questions: mpsc::Receiver<Question>,
}

pub(super) enum Change {
    Began {
        holder: SessionOwner,
        user: UserId,
        at: Time,
    },
    Ended {
        holder: SessionOwner,
        at: Time,
    },
    Order {
        holder: SessionOwner,
        order: OrderId,
        follow: Follow,
        done: Option<oneshot::Sender<Result<(), Refusal>>>,
    },
}

/// A connection that has a session. When the client comes back on another one, what the former one still had under way
/// must not undo what the client asks for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOwner {
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
    pub async fn open(db: Db, clock: Clock, limits: Limits) -> Result<(Self, Work), Refusal> {
        let ours = server_key::ActiveModel {
            name: Set("session".to_owned()),
            value: Set(hex::encode(clock.random::<32>())),
        };
        // Whoever comes first makes it; all read the same.
        server_key::Entity::insert(ours)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(db.writer())
            .await?;
        let key = server_key::Entity::find_by_id("session").one(db.writer()).await?;
        let key = key.and_then(|key| hex::decode(key.value).ok());
        let key = key.ok_or_else(|| Refusal::internal("the session key cannot be read"))?;
        let (changes, changes_out) = mpsc::channel(QUEUE);
        let (questions, questions_out) = mpsc::channel(QUEUE);
        let node = clock.uuid().to_string();
        let signer = Signer::new(&key);
        let recovery = Self(Arc::new(Parts { db, clock, limits, signer, node, changes, questions }));
        let work = Work { recovery: recovery.clone(), changes: changes_out, questions: questions_out };
        Ok((recovery, work))
    }

    pub(super) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(super) fn now(&self) -> Time {
        self.0.clock.now()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// This process, as the database knows it.
    pub(super) fn node(&self) -> &str {
        &self.0.node
    }

    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// The stored state of a session. Concurrent callers share one read.
    ///
    /// # Errors
    /// Those of the database, and [`Refusal::Unavailable`] while the server shuts down.
    pub async fn find(&self, pid: &str, user: &UserId) -> Result<Stored, Refusal> {
        let (reply, answer) = oneshot::channel();
        let question = Question { pid: pid.to_owned(), user: user.clone(), reply };
        self.0.questions.send(question).await.map_err(|_| Refusal::Unavailable)?;
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// A connection has a session now. Written down behind its back: its id proves itself until it is.
    pub fn began(&self, holder: Option<&SessionOwner>, who: &Principal, dialect: Dialect) {
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
    pub fn ended(&self, holder: Option<&SessionOwner>, at: Time) {
        if let Some(holder) = holder {
            let _ = self.0.changes.try_send(Change::Ended { holder: holder.clone(), at });
        }
    }

    /// Writes down what a session has to do with an order. After it returns, that is on disk.
    ///
    /// # Errors
    /// Those of the database; [`Refusal::Unavailable`] also when the session is with another connection by now.
    pub async fn set(
        &self,
        holder: Option<&SessionOwner>,
        order: &OrderId,
        follow: Follow,
    ) -> Result<(), Refusal> {
        let Some(holder) = holder else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        let change = Change::Order { holder: holder.clone(), order: order.clone(), follow, done: Some(done) };
        self.0.changes.send(change).await.map_err(|_| Refusal::Unavailable)?;
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// The same, and nobody waits for it: whether an order may be seen is asked again on return.
    pub fn note(&self, holder: Option<&SessionOwner>, order: &OrderId, follow: Follow) {
        if let Some(holder) = holder {
            let change = Change::Order { holder: holder.clone(), order: order.clone(), follow, done: None };
            let _ = self.0.changes.try_send(change);
        }
    }
}

impl Work {
    /// Writes and answers until told to stop; then writes what is left.
    pub async fn run(self, stop: CancellationToken) {
        let Self { recovery, changes, questions } = self;
        tokio::select! {
            () = record::write(&recovery, changes, stop) => {}
            () = look_up::answer(&recovery, questions) => {}
        }
    }
}

/// What the database knows of a session.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// When it left, or was last known to be there; `None` if that was never written down.
    pub left_at: Option<Time>,
    /// What it follows, and the replay that it asked for as it began to.
    pub orders: Vec<(OrderId, Option<Asked>)>,
    /// Position of the last event that took an order from its user while it followed that.
    pub lost_at: Option<i64>,
    /// Nothing is known of it, and what was made up to then may have been thrown away.
    pub made_after: Option<Time>,
}
