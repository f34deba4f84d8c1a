//! Stopping: first no new work, then, when the requests under way are finished, no background work either.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Tasks;
use crate::base::clock::instant;
use crate::dialect::close::CloseReason;
use crate::session::Sessions;
use crate::transport::conn;

/// How long connections have to write what was handed to them before they are ended.
const LAST_BYTES: Duration = Duration::from_millis(100);
/// How long tasks may take to notice that they are over.
const TASKS_END: Duration = Duration::from_secs(5);
/// How often a stopping server looks whether the last request is answered.
const LOOK: Duration = Duration::from_millis(10);
/// How far apart sockets are closed, if there is time enough.
const BETWEEN_SOCKETS: Duration = Duration::from_millis(50);
/// How long closed sockets have to be gone.
const LAST_WORDS: Duration = Duration::from_millis(1_200);

/// What has to be ended, in order.
pub(super) struct Drain {
    pub connections: Arc<conn::Shared>,
    /// Requests that are not answered yet.
    pub under_way: Arc<AtomicUsize>,
    /// Tasks of connections.
    pub tracker: TaskTracker,
    /// Ends connections that are idle.
    pub end: CancellationToken,
}

impl Drain {
    /// Closes the sockets over the drain time while requests under way are finished; then ends connections, background work
    /// and the database.
    pub async fn run(self, sessions: &Sessions, mut tasks: Tasks) {
        tracing::info!("draining");
        let app = sessions.app();
        let time = Duration::from_millis(app.config.limits.drain_ms);
        app.health.drain();
        app.events.release_waiting();
        let answered = async {
            while self.under_way.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let ((), answered) = tokio::join!(close_all(sessions, time), tokio::time::timeout(time, answered));
        if answered.is_err() {
            tracing::warn!("requests were still under way after the drain time");
        }
        tokio::time::sleep(LAST_BYTES).await;
        self.end.cancel();
        self.connections.open().kill_all();
        self.tracker.close();
        let _ = tokio::time::timeout(TASKS_END, self.tracker.wait()).await;
        tasks.background.cancel();
        self.connections.stop_flushing();
        if tokio::time::timeout(TASKS_END, tasks.all_to_end()).await.is_err() {
            tracing::warn!("background tasks did not end in time");
        }
        app.close().await;
    }
}

/// Closes the sockets one after the other in random order, so that their clients do not come back all at once.
async fn close_all(sessions: &Sessions, time: Duration) {
    let clock = &sessions.app().clock;
    let mut open = sessions.all();
    let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return;
    }
    clock.shuffle(&mut open);
    // A few need no time to be spread over.
    let time = time.min(BETWEEN_SOCKETS.saturating_mul(count));
    let started = instant();
    for (number, session) in (0..count).zip(open) {
        let jitter = time / count * number + time.mul_f64(clock.fraction()) / count;
        tokio::time::sleep_until(started + jitter).await;
        session.close(CloseReason::Draining);
    }
    // Those that were on their way in when it began.
    for session in sessions.all() {
        session.close(CloseReason::Draining);
    }
    let gone = async {
        while !sessions.all().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, gone).await;
}
