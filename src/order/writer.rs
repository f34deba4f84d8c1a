//! The one write path of orders: lock, decide, write, log, commit.
//!
//! A commit costs a flush of the disk, so those who ask meanwhile share the next one (group commit): their orders are
//! locked, their changes decided and written together, in one transaction. Each has its own answer all the same. Who is refused writes
//! nothing; work that reads and writes by itself has a savepoint; and when a statement fails, each is tried alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseTransaction, TransactionTrait};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::change::Action;
use super::draft::Draft;
use super::known::Known;
use crate::app::App;
use crate::base::clock::instant;
use crate::base::db::ACQUIRE_TIMEOUT;
use crate::base::error::Refusal;
use crate::event::log;
use crate::model::{Order, OrderEvent, OrderId, Principal};

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

/// The near end of the queue.
pub struct Writer {
    queue: mpsc::Sender<Request>,
    /// Requests that share the transaction under way.
    under_way: AtomicUsize,
    known: Known,
}

impl Writer {
    /// Both ends of a new queue; the far one is for [`run`].
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (queue, requests) = mpsc::channel(QUEUE);
        (Self { queue, under_way: AtomicUsize::new(0), known: Known::default() }, requests)
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
    pub async fn write(&self, app: &App, order: OrderId, work: Work) -> Result<Order, Refusal> {
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
            app.relay.handed_on(position).await;
        }
        Ok(order)
    }
}

/// The writer is gone, or panicked over this request.
fn lost(error: oneshot::error::RecvError) -> Refusal {
    Refusal::Internal(Box::new(error))
}

/// The group before.
#[derive(Clone, Copy, Default)]
struct Last {
    size: usize,
    took: Duration,
}

/// Carries out what is asked, group by group, until told to stop.
pub async fn run(app: App, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
    let mut last = Last::default();
    loop {
        let mut group = Vec::new();
        tokio::select! {
            count = requests.recv_many(&mut group, GROUP) => if count == 0 { return },
            () = stop.cancelled() => return,
        }
        gather(&mut group, &mut requests, last).await;
        group.retain(|request| !request.taken.swap(true, Ordering::AcqRel));
        app.writer.under_way.store(group.len(), Ordering::Relaxed);
        let (size, began) = (group.len(), instant());
        // In a task of its own: what panics there loses its own answers only.
        if tokio::spawn(carry_out(app.clone(), group)).await.is_err() {
            tracing::error!("a change panicked");
        }
        app.writer.under_way.store(0, Ordering::Relaxed);
        last = Last { size, took: began.elapsed() };
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

/// Carries out a group and answers it.
async fn carry_out(app: App, group: Vec<Request>) {
    match together(&app, &group).await {
        Ok(answers) => {
            for (request, answer) in group.into_iter().zip(answers) {
                // Who went away needs no answer.
                let _ = request.answer.send(answer);
            }
        }
        // The database is away, for each of them.
        Err(Refusal::Unavailable) => {
            for request in group {
                let _ = request.answer.send(Err(Refusal::Unavailable));
            }
        }
        // Somebody's statement failed: the others shall not suffer for it.
        Err(refusal) => {
            let alone = group.len() == 1;
            let mut refusal = Some(refusal).filter(|_| alone);
            for request in group {
                let answer = match refusal.take() {
                    Some(refusal) => Err(refusal),
                    None => together(&app, std::slice::from_ref(&request))
                        .await
                        .and_then(|mut answers| answers.pop().unwrap_or(Err(Refusal::Unavailable))),
                };
                let _ = request.answer.send(answer);
            }
        }
    }
}

/// Carries out requests in one transaction; an answer for each, in their order.
///
/// # Errors
/// Those of the database; then nothing was changed.
async fn together(app: &App, group: &[Request]) -> Result<Vec<Answer>, Refusal> {
    let tx = app.db.begin().await?;
    let orders: BTreeSet<&OrderId> = group.iter().map(|request| &request.order).collect();
    let mut draft = Draft::read(&tx, &orders, &app.writer.known, app.clock.now()).await?;
    // Each with the number of events up to its own last one, if it caused any.
    let mut answers = Vec::with_capacity(group.len());
    for request in group {
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
    draft.write(&tx, app).await?;
    let delivers = draft.delivers();
    let mut events = std::mem::take(&mut draft.events);
    for (request, answer) in group.iter().zip(&mut answers) {
        if let Work::Other(work) = &request.work {
            let savepoint = tx.begin().await?;
            *answer = Some(match work(&savepoint).await {
                Ok((order, caused)) => {
                    savepoint.commit().await?;
                    let some = !caused.is_empty();
                    events.extend(caused);
                    Ok((order, some.then_some(events.len())))
                }
                Err(Refusal::Unavailable) => return Err(Refusal::Unavailable),
                Err(refusal) => {
                    savepoint.rollback().await?;
                    Err(refusal)
                }
            });
        }
    }
    log_and_commit(app, tx, &mut events).await?;
    app.writer.known.keep(draft.into_orders());
    let placed = |(order, events_up_to): (Order, Option<usize>)| {
        let last = events_up_to.and_then(|count| events.get(count - 1));
        (order, last.map(|event| event.position))
    };
    let answers = answers.into_iter().flatten().map(|answer| answer.map(placed)).collect();
    app.relay.wake(events);
    if delivers {
        // There may be a call of the order service to make, and it is on disk now.
        app.calls.notify_one();
    }
    Ok(answers)
}

/// Logs the events and commits. Without events there may be rows all the same; a commit of nothing costs nothing.
async fn log_and_commit(
    app: &App,
    tx: DatabaseTransaction,
    events: &mut [OrderEvent],
) -> Result<(), Refusal> {
    if events.is_empty() {
        return Ok(tx.commit().await?);
    }
    log::append(&tx, events).await?;
    let started = instant();
    tx.commit().await?;
    app.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
    app.metrics.events_committed.inc_by(events.len() as u64);
    Ok(())
}
