//! A graceful stop. The server first refuses new work. When the requests in progress are finished, it ends the
//! background work too.

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

/// Time for connections to write their queued bytes before they are ended.
const FLUSH_TIME: Duration = Duration::from_millis(100);
/// Time for tasks to end after they are cancelled.
const TASK_END_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the drain checks whether it can go on.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Time between the closing of two sockets, if the drain time allows it.
const SOCKET_INTERVAL: Duration = Duration::from_millis(50);
/// Time for closed sockets to disappear.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// The handles needed to stop the server.
pub(super) struct Drain {
    pub connections: Arc<conn::Shared>,
    /// Number of requests that are not answered yet.
    pub in_progress: Arc<AtomicUsize>,
    /// Tracks the tasks of connections.
    pub tracker: TaskTracker,
    /// Ends idle connections.
    pub end: CancellationToken,
}

impl Drain {
    /// Closes the sockets one by one over the drain time, while requests in progress are finished. Then ends
    /// connections, background work and the database, in this order.
    pub async fn run(self, sessions: &Sessions, mut tasks: Tasks) {
        tracing::info!("draining");
        let app = sessions.app();
        let drain_time = Duration::from_millis(app.config.limits.drain_ms);
        let delay = app.config.cluster.drain_delay_ms;
        // Without a delay nothing is accepted after `/ready` has said no.
        if delay > 0 {
            app.health.leave();
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        app.health.drain();
        app.events.release_waiting();
        let answered = async {
            while self.in_progress.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let ((), answered) =
            tokio::join!(close_all(sessions, drain_time), tokio::time::timeout(drain_time, answered));
        if answered.is_err() {
            tracing::warn!("requests were still in progress after the drain time");
        }
        tokio::time::sleep(FLUSH_TIME).await;
        self.end.cancel();
        self.connections.open().kill_all();
        self.tracker.close();
        let _ = tokio::time::timeout(TASK_END_TIMEOUT, self.tracker.wait()).await;
        tasks.background.cancel();
        self.connections.stop_flushing();
        if tokio::time::timeout(TASK_END_TIMEOUT, tasks.all_to_end()).await.is_err() {
            tracing::warn!("background tasks did not end in time");
        }
        app.close().await;
    }
}

/// Closes the sockets one by one in random order, so that their clients do not all reconnect at the same time.
async fn close_all(sessions: &Sessions, drain_time: Duration) {
    let clock = &sessions.app().clock;
    let mut open = sessions.all();
    let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return;
    }
    clock.shuffle(&mut open);
    // A few sockets do not need the whole drain time.
    let time = drain_time.min(SOCKET_INTERVAL.saturating_mul(count));
    let started = instant();
    for (number, session) in (0..count).zip(open) {
        let delay = time / count * number + time.mul_f64(clock.fraction()) / count;
        tokio::time::sleep_until(started + delay).await;
        session.close(CloseReason::Draining);
    }
    // Closes the sockets that were still connecting when the drain began.
    for session in sessions.all() {
        session.close(CloseReason::Draining);
    }
    let gone = async {
        while !sessions.all().is_empty() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, gone).await;
}
