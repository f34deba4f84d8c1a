//! What happens while this node may not know who may hear what: it is silent, then not ready, then lets its sockets go to other
//! nodes.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::base::clock::instant;
use crate::dialect::close::CloseReason;
use crate::session::Sessions;

/// How often the lease is looked at: how late sessions go on.
const TICK: Duration = Duration::from_millis(50);
/// After so long, clients are sent elsewhere.
const NOT_READY: Duration = Duration::from_secs(10);
/// After so long and a random part of [`JITTER`], the sockets are let go.
const LET_GO: Duration = Duration::from_secs(15);
const JITTER: Duration = Duration::from_secs(5);
/// The sockets are let go in so many ticks.
const STEPS: usize = 100;

/// Watches the lease, for ever.
pub(super) async fn watch(sessions: Sessions) {
    let app = sessions.app();
    let lease = app.cluster.lease();
    app.metrics.fresh.set(1);
    if !lease.binds() {
        return std::future::pending().await;
    }
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut silent_since = None;
    let mut patience = LET_GO;
    let mut last = instant();
    loop {
        tick.tick().await;
        let now = instant();
        let passed = now - std::mem::replace(&mut last, now);
        if lease.is_fresh() {
            if silent_since.take().is_some() {
                tracing::warn!("this node can read the logs again and goes on");
                app.metrics.fresh.set(1);
                app.health.set_mute(false);
            }
            sessions.go_on().await;
            continue;
        }
        app.metrics.muted_seconds.inc_by(passed.as_secs_f64());
        let since = *silent_since.get_or_insert_with(|| {
            tracing::warn!("this node cannot read the logs and tells its sockets nothing");
            app.metrics.fresh.set(0);
            patience = LET_GO + JITTER.mul_f64(app.clock.fraction());
            now
        });
        if now - since >= NOT_READY {
            app.health.set_mute(true);
        }
        if now - since >= patience && app.cluster.roster().len() > 1 {
            let mut open = sessions.all();
            app.clock.shuffle(&mut open);
            let share = open.len().div_ceil(STEPS);
            for session in open.into_iter().take(share) {
                session.close(CloseReason::Draining);
            }
        }
    }
}
