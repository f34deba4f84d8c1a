//! The one write path of orders: lock, decide, write, log, commit.
//!
//! A commit costs a flush of the disk, so requests that arrive during one share the next (group commit): their orders are
//! locked, and their changes are decided and written, in one transaction. Each request has its own answer all the same. A
//! refused request writes nothing. Order creation runs in its own savepoint. When a statement fails, each request of the
//! group is tried alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseTransaction, TransactionTrait};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::draft::Draft;
use super::known::Known;
use crate::base::clock::{Clock, instant};
use crate::base::db::{ACQUIRE_TIMEOUT, Db};
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::event::log;
use crate::event::relay::Relay;
use crate::model::{Action, Order, OrderEvent, OrderId, Principal};

/// Requests that may wait; who comes then waits to be let in.
const QUEUE: usize = 1024;
/// Requests that share a transaction.
const GROUP: usize = 128;
/// Those who were in the last group are waited for a quarter of the time that it took, but not longer than this; as long as
/// some come, four times as long.
const PATIENCE: Duration = Duration::from_millis(2);

/// What is asked of the writer.
pub enum Work {
    /// A change of an order that is there.
    Change { who: Principal, action: Action },
    /// Something else that makes or reads the order. It may be carried out more than once, of which one stays.
    Other(Other),
}

/// Reads and writes in the transaction given, but not the log; answers with the order and what has happened.
pub type Other = Box<
    dyn for<'a> Fn(&'a DatabaseTransaction) -> BoxFuture<'a, Result<(Order, Vec<OrderEvent>), Refusal>>
        + Send
        + Sync,
>;

/// A request in the queue.
pub struct Request {
    /// The order that it reads: it is locked first.
    order: OrderId,
    work: Work,
    /// Set by who is first: the writer to carry it out, or the caller who has waited long enough.
    taken: Arc<AtomicBool>,
    answer: oneshot::Sender<Answer>,
}

/// The order as it is then, and the position of the last event that this has caused here.
type Answer = Result<(Order, Option<i64>), Refusal>;

/// The near end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
    /// Requests that share the transaction under way.
    under_way: Arc<AtomicUsize>,
    events: Relay,
}

/// The far end, for [`Commits::run`].
pub struct Commits {
    requests: mpsc::Receiver<Request>,
    under_way: Arc<AtomicUsize>,
    group: Arc<Group>,
}

/// What carrying out a group of requests needs.
struct Group {
    db: Db,
    clock: Clock,
    events: Relay,
    known: Known,
    metrics: Metrics,
}

impl Writer {
    /// Both ends of a new queue.
    #[must_use]
    pub fn new(db: Db, clock: Clock, events: Relay, metrics: Metrics) -> (Self, Commits) {
        let (queue, requests) = mpsc::channel(QUEUE);
        let under_way = Arc::new(AtomicUsize::new(0));
        let group = Group { db, clock, events: events.clone(), known: Known::default(), metrics };
        let writer = Self { queue, under_way: Arc::clone(&under_way), events };
        (writer, Commits { requests, under_way, group: Arc::new(group) })
    }

    /// How many requests wait for their turn, or for their commit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity() + self.under_way.load(Ordering::Relaxed)
    }

    /// Has something written. When this returns, it is on disk and its events have been handed to every session of this
    /// node. Whoever goes away meanwhile takes nothing back.
    ///
    /// # Errors
    /// Those of the work, or [`Refusal::Unavailable`] when its turn did not come in time: then nothing was changed.
    pub async fn write(&self, order: OrderId, work: Work) -> Result<Order, Refusal> {
        let (answer, mut answered) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let request = Request { order, work, taken: Arc::clone(&taken), answer };
        let turn = async {
            self.queue.send(request).await.map_err(|_| Refusal::Unavailable)?;
            (&mut answered).await.map_err(lost)
        };
        let answer = match tokio::time::timeout(ACQUIRE_TIMEOUT, turn).await {
            Ok(answer) => answer?,
            Err(_) if taken.swap(true, Ordering::AcqRel) => answered.await.map_err(lost)?,
            Err(_) => Err(Refusal::Unavailable),
        };
        let (order, position) = answer?;
        if let Some(position) = position {
            self.events.handed_on(position).await;
        }
        Ok(order)
    }
}

/// The writer is gone, or panicked over this request.
fn lost(error: oneshot::error::RecvError) -> Refusal {
    Refusal::internal(error)
}

/// The group before.
#[derive(Clone, Copy, Default)]
struct Last {
    size: usize,
    took: Duration,
}

impl Commits {
    /// Carries out requests, group by group, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last = Last::default();
        loop {
            let mut requests = Vec::new();
            tokio::select! {
                count = self.requests.recv_many(&mut requests, GROUP) => if count == 0 { return },
                () = stop.cancelled() => return,
            }
            gather(&mut requests, &mut self.requests, last).await;
            requests.retain(|request| !request.taken.swap(true, Ordering::AcqRel));
            self.under_way.store(requests.len(), Ordering::Relaxed);
            let (size, began) = (requests.len(), instant());
            // In a task of its own: a panic there loses the answers of this group only.
            if tokio::spawn(Arc::clone(&self.group).carry_out(requests)).await.is_err() {
                tracing::error!("a change panicked");
            }
            self.under_way.store(0, Ordering::Relaxed);
            last = Last { size, took: began.elapsed() };
        }
    }
}

/// Who has just been answered may ask for more at once: then it shall be one group, not two that take turns, each with
/// its own flush of the disk. So as many are waited for as there were last, for a short time, and who comes meanwhile comes
/// in. Timers are too coarse for that; while others have something to do, a round of the scheduler is no waste.
async fn gather(group: &mut Vec<Request>, requests: &mut mpsc::Receiver<Request>, last: Last) {
    let (since, patience) = (instant(), PATIENCE.min(last.took / 4));
    loop {
        let before = group.len();
        tokio::task::yield_now().await;
        while group.len() < GROUP
            && let Ok(request) = requests.try_recv()
        {
            group.push(request);
        }
        let limit = if group.len() > before { patience * 4 } else { patience };
        if group.len() >= GROUP.min(last.size) || since.elapsed() > limit {
            return;
        }
    }
}

impl Group {
    /// Carries out requests and answers each.
    async fn carry_out(self: Arc<Self>, requests: Vec<Request>) {
        match self.together(&requests).await {
            Ok(answers) => {
                for (request, answer) in requests.into_iter().zip(answers) {
                    // A caller who went away needs no answer.
                    let _ = request.answer.send(answer);
                }
            }
            // The database is away, for each of them.
            Err(Refusal::Unavailable) => {
                for request in requests {
                    let _ = request.answer.send(Err(Refusal::Unavailable));
                }
            }
            // The statement of one of them failed, and must not fail the others: each is tried alone.
            Err(refusal) => {
                let alone = requests.len() == 1;
                let mut refusal = Some(refusal).filter(|_| alone);
                for request in requests {
                    let answer = match refusal.take() {
                        Some(refusal) => Err(refusal),
                        None => self
                            .together(std::slice::from_ref(&request))
                            .await
                            .and_then(|mut answers| answers.pop().unwrap_or(Err(Refusal::Unavailable))),
                    };
                    let _ = request.answer.send(answer);
                }
            }
        }
    }

    /// Carries out requests in one transaction. Answers each, in their order.
    ///
    /// # Errors
    /// Those of the database; then nothing was changed.
    async fn together(&self, requests: &[Request]) -> Result<Vec<Answer>, Refusal> {
        let tx = self.db.begin().await?;
        let orders: BTreeSet<&OrderId> = requests.iter().map(|request| &request.order).collect();
        let mut draft = Draft::read(&tx, &orders, &self.known, self.clock.now()).await?;
        // Each with the number of events up to its own last one, if it caused any.
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(match &request.work {
                Work::Change { who, action } => {
                    let before = draft.events.len();
                    let order = draft.change(&request.order, who, action);
                    let after = draft.events.len();
                    Some(order.map(|order| (order, (after > before).then_some(after))))
                }
                Work::Other(_) => None,
            });
        }
        draft.write(&tx).await?;
        let mut events = std::mem::take(&mut draft.events);
        for (request, answer) in requests.iter().zip(&mut answers) {
            if let Work::Other(work) = &request.work {
                *answer = Some(in_savepoint(&tx, work, &mut events).await?);
            }
        }
        self.log_and_commit(tx, &mut events).await?;
        self.known.keep(draft.into_orders());
        let placed = |(order, events_up_to): (Order, Option<usize>)| {
            let last = events_up_to.and_then(|count| events.get(count - 1));
            (order, last.map(|event| event.position))
        };
        let answers = answers.into_iter().flatten().map(|answer| answer.map(placed)).collect();
        self.events.wake(events);
        Ok(answers)
    }

    /// Logs the events and commits. Without events there may be rows all the same; a commit of nothing costs nothing.
    async fn log_and_commit(
        &self,
        tx: DatabaseTransaction,
        events: &mut [OrderEvent],
    ) -> Result<(), Refusal> {
        if events.is_empty() {
            return Ok(tx.commit().await?);
        }
        log::append(&tx, events).await?;
        let started = instant();
        tx.commit().await?;
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.events_committed.inc_by(events.len() as u64);
        Ok(())
    }
}

/// Runs work in a savepoint of its own, which is rolled back when the work is refused. Answers as it does, with the number of
/// events up to its own last one.
///
/// # Errors
/// Those of the database.
async fn in_savepoint(
    tx: &DatabaseTransaction,
    work: &Other,
    events: &mut Vec<OrderEvent>,
) -> Result<Result<(Order, Option<usize>), Refusal>, Refusal> {
    let savepoint = tx.begin().await?;
    match work(&savepoint).await {
        Ok((order, caused)) => {
            savepoint.commit().await?;
            let some = !caused.is_empty();
            events.extend(caused);
            Ok(Ok((order, some.then_some(events.len()))))
        }
        Err(Refusal::Unavailable) => Err(Refusal::Unavailable),
        Err(refusal) => {
            savepoint.rollback().await?;
            Ok(Err(refusal))
        }
    }
}
