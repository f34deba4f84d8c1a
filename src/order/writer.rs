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
use super::names;
use crate::base::clock::{Clock, instant};
use crate::base::db::{ACQUIRE_TIMEOUT, Db};
use crate::base::error::Refusal;
use crate::base::health::Health;
use crate::base::metrics::Metrics;
use crate::base::trace::{self, Link, Span};
use crate::cluster::control::{Control, Notice};
use crate::event::log;
use crate::event::relay::Relay;
use crate::model::{Action, Asked, Order, OrderEvent, OrderId, Principal};

/// Requests that may wait. Further callers wait to get into the queue.
const QUEUE: usize = 1024;
/// The most requests in one transaction.
const GROUP: usize = 128;
/// The longest wait for the callers of the last group is a quarter of its duration, but no more than this. While some
/// of them arrive it may be four times as long.
const PATIENCE: Duration = Duration::from_millis(2);

/// The kinds of work of the writer.
pub enum Work {
    /// A change of an existing order.
    Change { who: Principal, asked: Asked },
    /// Other work that creates or reads the order. It may run more than once, but commits once. The names are what it
    /// takes for the order besides its id, each with its kind, such as `number 7`. They are locked first.
    Other { names: Vec<String>, work: Other },
}

/// Reads and writes in the given transaction, but not the log. Returns the order and the events.
pub type Other = Box<
    dyn for<'a> Fn(&'a DatabaseTransaction) -> BoxFuture<'a, Result<(Order, Vec<OrderEvent>), Refusal>>
        + Send
        + Sync,
>;

/// A request in the queue.
pub struct Request {
    /// The order that it reads, which is locked first.
    order: OrderId,
    work: Work,
    /// Set by whichever comes first: the writer, which carries it out, or the caller's timeout.
    taken: Arc<AtomicBool>,
    answer: oneshot::Sender<Answer>,
    /// The trace that it belongs to.
    link: Option<Link>,
}

impl Request {
    /// Begins the part of its trace in which it is written, together with so many.
    fn writing(&self, together: usize) -> Span {
        let mut span = self.link.as_ref().map(|link| link.span("database write")).unwrap_or_default();
        span.say("ordercast.group", i64::try_from(together).unwrap_or(i64::MAX));
        span
    }
}

/// The order afterwards, and the position of the last event of this request, if it has one.
type Answer = Result<(Order, Option<i64>), Refusal>;

/// The sending end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
    /// Requests in the present transaction.
    under_way: Arc<AtomicUsize>,
    events: Relay,
    known: Arc<Known>,
}

/// The receiving end of the queue, for [`Commits::run`].
pub struct Commits {
    requests: mpsc::Receiver<Request>,
    under_way: Arc<AtomicUsize>,
    group: Arc<Group>,
}

/// What a group of requests needs.
struct Group {
    db: Db,
    clock: Clock,
    events: Relay,
    known: Arc<Known>,
    control: Control,
    health: Arc<Health>,
    metrics: Metrics,
}

impl Writer {
    /// A new queue.
    #[must_use]
    pub fn new(
        db: Db,
        clock: Clock,
        events: Relay,
        control: Control,
        health: Arc<Health>,
        metrics: Metrics,
    ) -> (Self, Commits) {
        let (queue, requests) = mpsc::channel(QUEUE);
        let under_way = Arc::new(AtomicUsize::new(0));
        let (known, relay) = (Arc::<Known>::default(), events.clone());
        let group = Group { db, clock, events: relay, known: Arc::clone(&known), control, health, metrics };
        let writer = Self { queue, under_way: Arc::clone(&under_way), events, known };
        (writer, Commits { requests, under_way, group: Arc::new(group) })
    }

    /// An event was delivered: the next change of its order need not read it, whichever node changed it last.
    pub fn learn(&self, event: &OrderEvent) {
        self.known.learn(event);
    }

    /// How many requests wait for their turn or for their commit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity() + self.under_way.load(Ordering::Relaxed)
    }

    /// Writes something. When this returns, it is on disk and its events have been delivered to every session of this
    /// node. A caller that goes away does not cancel it.
    ///
    /// # Errors
    /// Those of the work, or [`Refusal::Unavailable`] when its turn did not come in time: then nothing was changed.
    pub async fn write(&self, order: OrderId, work: Work) -> Result<Order, Refusal> {
        let (answer, mut answered) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let request = Request { order, work, taken: Arc::clone(&taken), answer, link: trace::current() };
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
            let mut span = trace::part("relay");
            span.say("ordercast.position", position);
            self.events.handed_on(position).await;
        }
        Ok(order)
    }
}

/// The writer has stopped, or panicked in this request.
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
    /// Carries out requests, group by group, until `stop`.
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
            // A task of its own, so that a panic loses the answers of this group only.
            if tokio::spawn(Arc::clone(&self.group).carry_out(requests)).await.is_err() {
                tracing::error!("a change panicked");
            }
            self.under_way.store(0, Ordering::Relaxed);
            last = Last { size, took: began.elapsed() };
        }
    }
}

/// Callers that just got an answer often ask again at once. They should form one group, not two that alternate, each
/// with its own flush of the disk. So this waits a short time for as many requests as the last group had. Timers are
/// too coarse for that, so it yields to the scheduler.
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
                    // The caller may have gone away.
                    let _ = request.answer.send(answer);
                }
            }
            // The database is unavailable for all of them.
            Err(Refusal::Unavailable) => {
                for request in requests {
                    let _ = request.answer.send(Err(Refusal::Unavailable));
                }
            }
            // The statement of one request failed and must not fail the others, so each is tried alone.
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

    /// Carries out requests in one transaction. Answers each, in their order. Tells the health of the server how it went.
    ///
    /// # Errors
    /// Those of the database; then nothing was changed.
    async fn together(&self, requests: &[Request]) -> Result<Vec<Answer>, Refusal> {
        let mut spans = Vec::new();
        if requests.iter().any(|request| request.link.is_some()) {
            spans.extend(requests.iter().map(|request| request.writing(requests.len())));
        }
        let answers = self.in_one_transaction(requests).await;
        if answers.is_err() {
            spans.iter_mut().for_each(Span::fail);
        }
        if let Err(Refusal::Unavailable) = &answers {
            self.health.write_failed();
        }
        answers
    }

    async fn in_one_transaction(&self, requests: &[Request]) -> Result<Vec<Answer>, Refusal> {
        let tx = self.db.begin().await?;
        let orders: BTreeSet<&OrderId> = requests.iter().map(|request| &request.order).collect();
        let mut draft = Draft::read(&tx, &orders, &self.known, self.clock.now()).await?;
        // Each with the number of events up to its own last one, if it has any.
        let mut answers = Vec::with_capacity(requests.len());
        // ETAs and kitchen times that are set by hand are no events, and other nodes have to know them all the same.
        let mut etas = Vec::new();
        for request in requests {
            answers.push(match &request.work {
                Work::Change { who, asked } => {
                    let before = draft.events.len();
                    let order = draft.change(&request.order, who, asked);
                    let after = draft.events.len();
                    let by_hand =
                        matches!(asked.action, Action::OverrideEta { .. } | Action::SetReady { .. });
                    if order.is_ok() && by_hand {
                        etas.push(Notice::Eta { order: request.order.clone() });
                    }
                    Some(order.map(|order| (order, (after > before).then_some(after))))
                }
                Work::Other { .. } => None,
            });
        }
        draft.write(&tx).await?;
        let mut events = std::mem::take(&mut draft.events);
        let names = requests.iter().filter_map(|request| match &request.work {
            Work::Other { names, .. } => {
                Some(names.iter().map(String::as_str).chain([request.order.as_str()]))
            }
            Work::Change { .. } => None,
        });
        names::lock(&tx, &names.flatten().collect()).await?;
        for (request, answer) in requests.iter().zip(&mut answers) {
            if let Work::Other { work, .. } = &request.work {
                *answer = Some(in_savepoint(&tx, work, &mut events).await?);
            }
        }
        self.log_and_commit(tx, &mut events, &etas).await?;
        self.known.keep(draft.into_orders());
        let placed = |(order, events_up_to): (Order, Option<usize>)| {
            let last = events_up_to.and_then(|count| events.get(count - 1));
            (order, last.map(|event| event.position))
        };
        let answers: Vec<Answer> = answers.into_iter().flatten().map(|answer| answer.map(placed)).collect();
        for (request, answer) in requests.iter().zip(&answers) {
            if let (Some(link), Ok((_, Some(position)))) = (&request.link, answer) {
                self.events.trace(*position, link.clone());
            }
        }
        self.events.wake(events);
        Ok(answers)
    }

    /// Logs the events and commits. There may be rows without events. A commit of nothing is free.
    async fn log_and_commit(
        &self,
        tx: DatabaseTransaction,
        events: &mut [OrderEvent],
        etas: &[Notice],
    ) -> Result<(), Refusal> {
        if events.is_empty() && etas.is_empty() {
            return Ok(tx.commit().await?);
        }
        if !events.is_empty() {
            let asked = instant();
            log::append(&tx, events).await?;
            // The statement that waits for the head writes the events, too.
            self.metrics.log_wait.observe(asked.elapsed().as_secs_f64());
        }
        self.control.append(&tx, etas).await?;
        let started = instant();
        tx.commit().await?;
        if !etas.is_empty() {
            self.control.appended();
        }
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.events_committed.inc_by(events.len() as u64);
        self.health.wrote();
        Ok(())
    }
}

/// Runs work in a savepoint, which is rolled back when the work is refused. Returns its result with the number of
/// events up to its last one.
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
