//! Reads the log in position order and hands every event on. A wake-up makes it prompt, a sweep makes it sure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{OrderEvent, log};
use crate::app::App;
use crate::driver::live::Outlook;
use crate::id::OrderId;

/// How often the log is looked at when nothing woke us: other nodes write to it too.
const SWEEP: Duration = Duration::from_secs(1);
/// How long we wait after the database failed.
const RETRY: Duration = Duration::from_millis(200);
/// How long a writer waits for its event to be handed on before it answers all the same.
const RELAY_WAIT: Duration = Duration::from_secs(2);

/// The relay's side of the log: who waits for what.
pub struct Relay {
    wake: Notify,
    /// Position up to which every event was handed on here.
    done: watch::Sender<i64>,
    /// Long polls, by order. An entry lives as long as somebody waits on it.
    waiting: Mutex<HashMap<OrderId, Weak<Notify>>>,
}

impl Default for Relay {
    fn default() -> Self {
        Self { wake: Notify::new(), done: watch::Sender::new(0), waiting: Mutex::default() }
    }
}

impl Relay {
    /// Says that the log has grown.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The position up to which every event was handed on.
    #[must_use]
    pub fn position(&self) -> i64 {
        *self.done.borrow()
    }

    /// Waits until the event at this position was handed on, within reason: the change is on disk already.
    pub async fn handed_on(&self, position: i64) {
        let mut done = self.done.subscribe();
        let wait = done.wait_for(|handed| *handed >= position);
        if tokio::time::timeout(RELAY_WAIT, wait).await.is_err() {
            tracing::warn!(position, "an event is slow to be handed on");
        }
    }

    /// Something that is notified at every event of one order from now on.
    #[must_use]
    pub fn events_of(&self, order: &OrderId) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = waiting.get(order).and_then(Weak::upgrade) {
            return known;
        }
        let notify = Arc::new(Notify::new());
        waiting.insert(order.clone(), Arc::downgrade(&notify));
        notify
    }

    /// Lets every long poll look again, and so learn that the server is leaving.
    pub fn release_waiting(&self) {
        for notify in
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).values().filter_map(Weak::upgrade)
        {
            notify.notify_waiters();
        }
    }

    fn tell_waiting(&self, order: &OrderId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return;
        }
        if let Some(notify) = waiting.get(order).and_then(Weak::upgrade) {
            notify.notify_waiters();
        }
        waiting.retain(|_, notify| notify.strong_count() > 0);
    }
}

/// Starts at the log's head: what happened before is told by snapshots.
///
/// # Errors
/// Those of the database.
pub async fn start(app: &App) -> Result<(), crate::error::Refusal> {
    let head = log::head(app.db.reader()).await?;
    app.relay.done.send_replace(head);
    app.live.load(&app.db).await
}

/// Hands on events until told to stop: to the live state first, so that a driver who hears of an assignment can
/// report for it at once, then to `deliver`.
pub async fn run(app: App, deliver: impl Fn(OrderEvent, Outlook) + Send, stop: CancellationToken) {
    loop {
        let started = Instant::now();
        app.metrics.log_reads.inc();
        match log::after(app.db.reader(), app.relay.position()).await {
            Ok(events) => {
                app.healthy(true);
                let count = events.len();
                for event in events {
                    let (order, position) = (event.order.id.clone(), event.position);
                    if let Err(error) = app.live.recall(&app.db, &event).await {
                        // The next fix tells.
                        tracing::debug!(%error, "where a driver was last cannot be read");
                    }
                    app.live.apply(event, |event, outlook| {
                        app.snapshots.outdate(&order, position);
                        deliver(event, outlook);
                    });
                    app.relay.tell_waiting(&order);
                    app.relay.done.send_replace(position);
                }
                if count > 0 {
                    app.metrics.relay_seconds.observe(started.elapsed().as_secs_f64());
                }
                if count as u64 == log::PAGE {
                    continue;
                }
            }
            Err(error) => {
                app.healthy(false);
                tracing::warn!(%error, "the log cannot be read; trying again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => continue,
                    () = stop.cancelled() => return,
                }
            }
        }
        tokio::select! {
            () = app.relay.wake.notified() => {}
            () = tokio::time::sleep(SWEEP) => {}
            () = stop.cancelled() => return,
        }
    }
}
