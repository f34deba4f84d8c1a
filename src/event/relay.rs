//! Delivers every event of the log in position order. Events of this node come from memory. Earlier ones that are
//! missing there were written by other nodes and are read from the log. Writers wake the relay, and a regular sweep
//! finds what no writer announced. Other nodes tell of what they have written over the bus.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::bus::Bus;
use super::log::{self, Entry, Page};
use crate::base::clock::instant;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::fullness::Fullness;
use crate::base::health::Health;
use crate::base::metrics::Metrics;
use crate::base::trace::{Link, Noted};
use crate::cluster::fresh::{Log, RightsLease};
use crate::model::{OrderEvent, OrderId};

/// The pause after a database failure.
const RETRY: Duration = Duration::from_millis(200);
/// A database that takes longer to read a page of the log counts as unavailable until the read ends.
const PROMPT: Duration = Duration::from_secs(2);
/// Events that may wait in memory. Further ones are read from the log.
const FRESH: usize = 1024;
/// How long a writer waits for the delivery of its event before it answers anyway.
const RELAY_WAIT: Duration = Duration::from_secs(2);

/// The log of this node's database, and the tasks that wait for its events. Cheap to clone.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    db: Db,
    fullness: Fullness,
    health: Arc<Health>,
    metrics: Metrics,
    lease: RightsLease,
    /// How often the log is read without a wake-up: other nodes write to it too.
    every: Duration,
    wake: Notify,
    /// The newest position that this node has written.
    written: AtomicI64,
    /// What this node has written and the relay has not delivered yet.
    fresh: Mutex<Fresh>,
    /// Position up to which this node has delivered every event.
    done: watch::Sender<i64>,
    /// How often the log was restored from a backup.
    restores: AtomicU32,
    /// Events that belong to traces.
    traced: Noted,
    /// Long polls by order. An entry lives while a task waits on it.
    waiting: Mutex<HashMap<OrderId, Weak<Notify>>>,
}

/// Committed events in position order.
#[derive(Default)]
struct Fresh {
    events: VecDeque<OrderEvent>,
    /// There were too many, so the log must be read.
    missed: bool,
}

impl Relay {
    /// A relay that has delivered nothing yet: see [`Relay::begin`].
    #[must_use]
    pub fn new(db: Db, health: Arc<Health>, metrics: Metrics, lease: RightsLease, every: Duration) -> Self {
        Self(Arc::new(Inner {
            db,
            fullness: Fullness::default(),
            health,
            metrics,
            lease,
            every,
            wake: Notify::new(),
            written: AtomicI64::new(0),
            fresh: Mutex::default(),
            done: watch::Sender::new(0),
            restores: AtomicU32::new(0),
            traced: Noted::default(),
            waiting: Mutex::default(),
        }))
    }

    /// Starts at the head of the log, which was restored so many times. Sessions learn earlier events from snapshots.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(&self, restores: u32) -> Result<(), Refusal> {
        self.0.restores.store(restores, Ordering::Release);
        let head = log::head(self.log()).await?;
        self.0.done.send_replace(head);
        Ok(())
    }

    /// How often the log was restored from a backup: what had a seq before may be something else since.
    #[must_use]
    pub fn restores(&self) -> u32 {
        self.0.restores.load(Ordering::Acquire)
    }

    /// There is nothing up to this position that is not delivered.
    pub fn skip_to(&self, position: i64) {
        self.0.done.send_if_modified(|done| {
            let is_behind = *done < position;
            *done = position.max(*done);
            is_behind
        });
    }

    /// The newest position that this node has delivered, or written and may deliver yet.
    #[must_use]
    pub fn reached(&self) -> i64 {
        self.position().max(self.0.written.load(Ordering::Acquire))
    }

    /// How full the server is. Who reads the log for others than sessions takes turns.
    #[must_use]
    pub fn fullness(&self) -> &Fullness {
        &self.0.fullness
    }

    /// Where the log is read.
    #[must_use]
    pub fn log(&self) -> &DatabaseConnection {
        self.0.db.reader()
    }

    /// Whether this node knows who may hear what.
    #[must_use]
    pub fn lease(&self) -> &RightsLease {
        &self.0.lease
    }

    /// Waits until an event after this position was delivered.
    pub async fn beyond(&self, position: i64) {
        // The channel cannot close, because `self` holds its sender.
        let _ = self.0.done.subscribe().wait_for(|handed| *handed > position).await;
    }

    /// The event at a position belongs to a trace: call it before [`Relay::wake`].
    pub fn trace(&self, position: i64, link: Link) {
        self.0.traced.put(position, link);
    }

    /// These events were committed.
    pub fn wake(&self, events: Vec<OrderEvent>) {
        if let Some(last) = events.last() {
            self.0.written.fetch_max(last.position, Ordering::AcqRel);
        }
        {
            let mut fresh = self.fresh();
            if fresh.events.len() + events.len() > FRESH {
                *fresh = Fresh { events: VecDeque::new(), missed: true };
            } else {
                fresh.events.extend(events);
            }
        }
        self.0.wake.notify_one();
    }

    /// The next events, if this node has written them; `None` if the log has to be read.
    fn next(&self) -> Option<Vec<OrderEvent>> {
        let mut fresh = self.fresh();
        if std::mem::take(&mut fresh.missed) {
            return None;
        }
        let mut next = self.position() + 1;
        let mut events = Vec::new();
        while let Some(event) = fresh.events.pop_front() {
            if event.position > next {
                // Another node's events come first.
                fresh.events.push_front(event);
                return if events.is_empty() { None } else { Some(events) };
            }
            if event.position == next {
                events.push(event);
                next += 1;
            }
        }
        Some(events)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position up to which every event was delivered.
    #[must_use]
    pub fn position(&self) -> i64 {
        *self.0.done.borrow()
    }

    /// Waits, for a limited time, until the event at this position was delivered. The change is on disk already.
    pub async fn handed_on(&self, position: i64) {
        let mut done = self.0.done.subscribe();
        let wait = done.wait_for(|handed| *handed >= position);
        if tokio::time::timeout(RELAY_WAIT, wait).await.is_err() {
            tracing::warn!(position, "an event is slow to be handed on");
        }
    }

    /// Reads what other nodes have written until the event at this position was delivered, for a limited time.
    pub async fn reach(&self, position: i64) {
        if self.position() < position {
            self.fresh().missed = true;
            self.0.wake.notify_one();
            self.handed_on(position).await;
        }
    }

    /// A handle that is notified of every further event of one order.
    #[must_use]
    pub fn events_of(&self, order: &OrderId) -> OrderNews {
        let mut waiting = self.waiting();
        let known = waiting.get(order).and_then(Weak::upgrade);
        let notify = known.unwrap_or_else(|| {
            let notify = Arc::new(Notify::new());
            waiting.insert(order.clone(), Arc::downgrade(&notify));
            notify
        });
        drop(waiting);
        OrderNews { relay: self.clone(), order: order.clone(), notify }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<OrderId, Weak<Notify>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every long poll, so that it sees that the server shuts down.
    pub fn release_waiting(&self) {
        for notify in self.waiting().values().filter_map(Weak::upgrade) {
            notify.notify_waiters();
        }
    }

    fn tell_waiting(&self, order: &OrderId) {
        if let Some(notify) = self.waiting().get(order).and_then(Weak::upgrade) {
            notify.notify_waiters();
        }
    }
}

/// Is notified of every further event of one order. Nothing of it is left when the last one that waits is dropped.
pub struct OrderNews {
    relay: Relay,
    order: OrderId,
    notify: Arc<Notify>,
}

impl OrderNews {
    /// Resolves at the next event.
    pub fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for OrderNews {
    fn drop(&mut self) {
        let mut waiting = self.relay.waiting();
        // Dropped under the lock, so that of two that are dropped together one sees that it is the last.
        drop(std::mem::take(&mut self.notify));
        if waiting.get(&self.order).is_some_and(|notify| notify.strong_count() == 0) {
            waiting.remove(&self.order);
        }
    }
}

/// Delivers events in log order with `deliver`, one at a time, until `stop`. Tells other nodes over `bus` what this one has
/// written, and looks into the log when they do.
pub async fn run<D>(relay: Relay, bus: Bus, deliver: impl Fn(Entry) -> D, stop: CancellationToken)
where
    D: Future<Output = ()>,
{
    let mut swept = true;
    let mut read_at = instant();
    let (mut announced, mut news) = (0, bus.log_news());
    loop {
        let started = instant();
        let written = relay.0.written.load(Ordering::Acquire);
        if written > announced {
            bus.wake_log(written);
            announced = written;
        }
        let every = bus.poll(relay.0.every);
        // A node that has always something of its own to deliver must read all the same: only that shows that it knows
        // what others have written.
        let due = relay.0.lease.binds() && started - read_at >= every;
        let known = if swept || due { None } else { relay.next() };
        let is_read = known.is_none();
        let page = match known {
            Some(events) => Page { entries: events.into_iter().map(Entry::Event).collect(), is_full: false },
            None => match read(&relay).await {
                Ok(page) => page,
                Err(error) => {
                    relay.0.health.set_readable(false);
                    tracing::warn!(%error, "the log cannot be read; trying again");
                    swept = true;
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => continue,
                        () = stop.cancelled() => return,
                    }
                }
            },
        };
        let count = page.entries.len();
        for entry in page.entries {
            let (order, position) = (entry.order().clone(), entry.position());
            let mut span = relay.0.traced.take(position, "deliver");
            span.say("ordercast.position", position);
            deliver(entry).await;
            drop(span);
            relay.tell_waiting(&order);
            relay.0.done.send_replace(position);
        }
        if count > 0 {
            relay.0.metrics.relay_seconds.observe(started.elapsed().as_secs_f64());
        }
        // A full page has more behind it. After any other page new events may have been written meanwhile.
        swept = page.is_full;
        if is_read {
            read_at = started;
            if !swept {
                relay.0.lease.polled(Log::Events, started);
            }
        }
        if swept || count > 0 {
            continue;
        }
        tokio::select! {
            () = relay.0.wake.notified() => {}
            // Each position is looked for once: if it is not there, the next sweep is soon enough.
            Ok(()) = news.changed() => swept = *news.borrow_and_update() > relay.position(),
            () = tokio::time::sleep(every) => swept = true,
            () = stop.cancelled() => return,
        }
    }
}

async fn read(relay: &Relay) -> Result<Page, Refusal> {
    relay.0.metrics.log_reads.inc();
    let mut read = pin!(log::after(relay.log(), relay.position()));
    let page = if let Ok(page) = tokio::time::timeout(PROMPT, &mut read).await {
        page?
    } else {
        relay.0.health.set_readable(false);
        read.await?
    };
    relay.0.health.set_readable(true);
    Ok(page)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::metrics::Words;

    fn event_at(position: i64) -> OrderEvent {
        let at = "2026-11-21T12:00:00.000Z";
        let event = json!({
            "kind": "created", "previousStatus": "pending", "at": at,
            "order": {
                "id": "o", "orderNumber": "1", "customer": {"id": "c", "name": "Clara"}, "chef": {"id": "d", "name": "Chiara"},
                "delivery": {"address": "Linden Lane 12", "latitude": 47.15, "longitude": 9.53}, "items": [],
                "status": "pending", "paymentStatus": "pending", "seq": 1, "createdAt": at, "updatedAt": at,
            },
        });
        OrderEvent { position, ..serde_json::from_value(event).expect("an event") }
    }

    #[tokio::test]
    async fn from_memory_without_a_gap_or_not_at_all() {
        let db = Db::connect("sqlite::memory:").await.expect("a database");
        let relay = Relay::new(
            db,
            Arc::default(),
            Metrics::new(Words::default()),
            RightsLease::always(),
            Duration::from_secs(1),
        );
        let positions = |relay: &Relay| {
            relay.next().map(|events| events.iter().map(|event| event.position).collect::<Vec<_>>())
        };
        assert_eq!(positions(&relay), Some(vec![]));
        relay.wake([1, 2, 5, 6].map(event_at).into());
        assert_eq!(positions(&relay), Some(vec![1, 2]));
        relay.0.done.send_replace(2);
        assert_eq!(positions(&relay), None, "3 and 4 are another node's");
        relay.0.done.send_replace(5);
        relay.wake(vec![event_at(7)]);
        assert_eq!(positions(&relay), Some(vec![6, 7]), "5 was in the log as well");
        relay.0.done.send_replace(7);
        let many = 8 + i64::try_from(FRESH).expect("few");
        relay.wake((8..=many).map(event_at).collect());
        assert_eq!(positions(&relay), None, "too many to be kept");
        assert_eq!(positions(&relay), Some(vec![]));
    }
}
