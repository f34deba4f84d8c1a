//! Stored sessions: when they left, and their subscriptions. Writes and reads go through two queues.

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
use crate::cluster::control::Control;
use crate::dialect::Dialect;
use crate::dialect::place::Place;
use crate::model::{OrderId, Principal, UserId};

/// The most changes and reads that wait. Further callers wait to get into the queue.
pub(super) const QUEUE: usize = 8_192;
/// The most changes in one transaction.
pub(super) const BATCH: usize = 500;

/// The sessions of one database.
#[derive(Clone)]
pub struct Recovery(Arc<Parts>);

struct Parts {
    db: Db,
    clock: Clock,
    limits: Limits,
    signer: Signer,
    control: Control,
    changes: mpsc::Sender<Change>,
    questions: mpsc::Sender<Question>,
}

/// The receiving ends of the queues, for [`RecoveryWorker::run`].
pub struct RecoveryWorker {
    recovery: Recovery,
    changes: mpsc::Receiver<Change>,
    questions: mpsc::Receiver<Question>,
}

pub(super) enum Change {
    Began {
        holder: SessionOwner,
        user: UserId,
        /// When the session began.
        at: Time,
        /// Whether another node may have had it before.
        is_resumed: bool,
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

/// A connection that has a session. When the client is back on another connection, pending changes of the old one
/// must not undo the client's new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOwner {
    pub pid: Arc<str>,
    pub socket: Arc<str>,
    /// When it got the session. Of two connections, the later one has it.
    pub held_at: Time,
}

/// A session's relation to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is subscribed. It may have asked for a replay.
    Yes(Option<ReplayRequest>),
    /// It is not subscribed.
    No,
    /// It was subscribed until the event at this position took the order from its user.
    Lost(i64),
}

/// A replay that a session asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayRequest {
    /// The replay has the order's events after this seq,
    pub since: i64,
    /// up to this place in the log.
    pub place: Place,
    /// The number of the replay within the session.
    pub number: i32,
}

impl Recovery {
    /// Reads the database's signing key, or creates it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(
        db: Db,
        clock: Clock,
        limits: Limits,
        control: Control,
    ) -> Result<(Self, RecoveryWorker), Refusal> {
        let ours = server_key::ActiveModel {
            name: Set("session".to_owned()),
            value: Set(hex::encode(clock.random::<32>())),
        };
        // The first process creates it. All read the same key.
        server_key::Entity::insert(ours)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(db.writer())
            .await?;
        let key = server_key::Entity::find_by_id("session").one(db.writer()).await?;
        let key = key.and_then(|key| hex::decode(key.value).ok());
        let key = key.ok_or_else(|| Refusal::internal("the session key cannot be read"))?;
        let (changes, changes_out) = mpsc::channel(QUEUE);
        let (questions, questions_out) = mpsc::channel(QUEUE);
        let signer = Signer::new(&key);
        let recovery = Self(Arc::new(Parts { db, clock, limits, signer, control, changes, questions }));
        let work =
            RecoveryWorker { recovery: recovery.clone(), changes: changes_out, questions: questions_out };
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

    /// The id of this process in the database.
    pub(super) fn node(&self) -> &str {
        self.0.control.node()
    }

    pub(super) fn control(&self) -> &Control {
        &self.0.control
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

    /// A connection got a session: a new one, or one that another connection had before. It is recorded later: until then the
    /// signed id is enough.
    pub fn began(&self, holder: Option<&SessionOwner>, who: &Principal, dialect: Dialect, is_resumed: bool) {
        let made =
            holder.and_then(|holder| Some((holder.clone(), self.signer().read(who, dialect, &holder.pid)?)));
        let Some((holder, made)) = made else { return };
        // The start of a session is the time in its id, also after it came back.
        let began = Change::Began { holder, user: who.id.clone(), at: made.made_at, is_resumed };
        self.must_send(began);
    }

    /// Queues a change that must not be lost: without a start the session has no record, and without an end its record would
    /// stay as long as this process.
    fn must_send(&self, change: Change) {
        if let Err(mpsc::error::TrySendError::Full(change)) = self.0.changes.try_send(change) {
            let changes = self.0.changes.clone();
            tokio::spawn(async move { drop(changes.send(change).await) });
        }
    }

    /// A connection ended. Its session may come back.
    pub fn ended(&self, holder: Option<&SessionOwner>, at: Time) {
        if let Some(holder) = holder {
            self.must_send(Change::Ended { holder: holder.clone(), at });
        }
    }

    /// Records a session's relation to an order. When this returns, it is on disk.
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

    /// The same without waiting. A lost record is harmless, because access is checked again when the session comes
    /// back.
    pub fn note(&self, holder: Option<&SessionOwner>, order: &OrderId, follow: Follow) {
        if let Some(holder) = holder {
            let change = Change::Order { holder: holder.clone(), order: order.clone(), follow, done: None };
            let _ = self.0.changes.try_send(change);
        }
    }
}

impl RecoveryWorker {
    /// Writes and answers until `stop`, then writes the rest.
    pub async fn run(self, stop: CancellationToken) {
        let Self { recovery, changes, questions } = self;
        tokio::select! {
            () = record::write(&recovery, changes, stop) => {}
            () = look_up::answer(&recovery, questions) => {}
        }
    }
}

/// The stored state of a session.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// When it left, or when its process was last alive; `None` if no record has it.
    pub left_at: Option<Time>,
    /// When its last connection got it.
    pub held_at: Option<Time>,
    /// Its subscriptions, and the replays that it asked for with them.
    pub orders: Vec<(OrderId, Option<ReplayRequest>)>,
    /// Position of the last event that took a subscribed order from its user.
    pub lost_at: Option<i64>,
    /// Events up to this position may be gone from the log.
    pub floor: i64,
    /// Set if there is no record: sessions made up to this time may have been deleted.
    pub made_after: Option<Time>,
}
