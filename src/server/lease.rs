//! Nodes tell each other how far they are in the logs. And what happens while this node may not know who may hear what: it is
//! silent, then not ready, then lets its sockets go to other nodes.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::base::clock::instant;
use crate::cluster::heads::{Heads, Reached, agreed};
use crate::dialect::close::CloseReason;
use crate::session::Sessions;

/// How often the lease is looked at: how late sessions go on.
const TICK: Duration = Duration::from_millis(50);
/// How often nodes tell each other how far they are, and more seldom when there are more than so many.
const TOLD: Duration = Duration::from_millis(250);
const MANY: usize = 25;
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
    let (mut told, mut silent_since) = (None, None);
    let mut patience = LET_GO;
    let mut last = instant();
    loop {
        tick.tick().await;
        let now = instant();
        let passed = now - std::mem::replace(&mut last, now);
        if told.is_none_or(|told| now - told >= pause(app)) {
            told = Some(now);
            tell_heads(app);
        }
        let someone_is_fresh = agree(app);
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
        if now - since >= patience && app.cluster.has_others() && someone_is_fresh {
            let mut open = sessions.all();
            app.clock.shuffle(&mut open);
            let share = open.len().div_ceil(STEPS);
            for session in open.into_iter().take(share) {
                session.close(CloseReason::Draining);
            }
        }
    }
}

fn pause(app: &App) -> Duration {
    TOLD * u32::try_from(app.cluster.roster().len().div_ceil(MANY)).unwrap_or(u32::MAX)
}

fn tell_heads(app: &App) {
    if app.cluster.has_others() {
        let (at, events) = (app.clock.now(), app.events.reached());
        let is_fresh = app.cluster.lease().is_fresh();
        app.bus.tell_heads(Heads { at, events, control: app.cluster.control().complete(), is_fresh });
    }
}

/// Makes the lease longer if the other nodes say that nothing can have happened that this one does not know. Returns whether one
/// of them may know who may hear what.
fn agree(app: &App) -> bool {
    let heard = app.bus.heads();
    let own = app.cluster.number();
    let others = app.cluster.roster();
    let others = others.iter().map(|node| node.number).filter(|number| *number != own);
    let control = app.cluster.control();
    let here = Reached { events: app.events.position(), control: control.reached() };
    let complete = app.events.reached() == here.events && control.complete().is_some();
    if let Some(at) = agreed(here, others, app.cluster.lease().looked(), &heard).filter(|_| complete) {
        app.cluster.lease().agreed(at);
    }
    heard.is_empty() || heard.values().any(|heard| heard.heads.is_fresh)
}
