//! Periodic background tasks of a running server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::event::log;
use crate::keeping::Erasure;
use crate::model::UserId;
use crate::recovery;
use crate::session::Sessions;
use crate::transport::http::figures::Figures;
use crate::transport::limits::Gate;

/// How often expired data is deleted.
const DELETE_INTERVAL: Duration = Duration::from_secs(60);
/// Time until finished orders are deleted for the first time.
const RETENTION_DELAY: Duration = Duration::from_secs(10);
/// How often erasures that other processes accepted are looked for.
const ERASURE_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum assumed difference between the clocks of two processes.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);
/// How long the relay may take to deliver what is in the log.
const RELAY_PATIENCE: Duration = Duration::from_secs(10);
/// How soon an erasure is looked at again that this process could not carry out in memory.
const ERASURE_RETRY: Duration = Duration::from_millis(500);

/// The figures of this node, for the others and for admins: a JSON object.
pub(super) fn figures(sessions: Sessions) -> impl Fn() -> String {
    move || serde_json::to_string(&Figures::of(&sessions)).unwrap_or_default()
}

/// Hands what other nodes say to the drivers and sessions of this one.
pub(super) async fn hear_others(sessions: Sessions, stop: CancellationToken) {
    let (app, asked) = (sessions.app().clone(), sessions.clone());
    let drivers = app.drivers.clone();
    let apply = move |event, sent| drivers.hear(event, sent);
    app.bus.clone().run(apply, move |question| asked.answer(question), stop).await;
}

/// Forgets addresses and users that have asked nothing lately.
pub(super) async fn forget_idle(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(DELETE_INTERVAL);
    loop {
        tick.tick().await;
        gate.sweep();
    }
}

pub(super) async fn refresh_keys(app: App) {
    app.auth.refresh_forever().await;
}

/// Deletes finished orders that were kept long enough.
pub(super) async fn remove_finished(sessions: Sessions) {
    let app = sessions.app();
    // Consumers of the log have taken up their work by then: what they have not read is kept.
    let mut tick = tokio::time::interval_at(instant() + RETENTION_DELAY, DELETE_INTERVAL);
    loop {
        tick.tick().await;
        match app.keeping.remove_finished().await {
            Ok(0) => {}
            Ok(_) => forget_old(&sessions),
            Err(error) => tracing::warn!(%error, "finished orders could not be deleted; trying again"),
        }
    }
}

/// Drops from memory what is not kept any longer, whichever process deleted it.
fn forget_old(sessions: &Sessions) {
    if let Some(before) = sessions.app().keeping.kept_since() {
        sessions.app().orders.forget_before(before);
        sessions.window().forget_before(before);
    }
}

/// Erases the data of persons for whom that was asked, in this process or another one.
pub(super) async fn erase(app: App) {
    loop {
        if let Err(error) = app.keeping.erase_pending().await {
            tracing::warn!(%error, "the data of a person could not be erased; trying again");
        }
        let _ = tokio::time::timeout(ERASURE_INTERVAL, app.keeping.asked()).await;
    }
}

/// Ends the sockets of persons whose data is erased by any process, and drops what this process has in memory once it is
/// gone from disk. Reads the table of erasures at each of these `news`.
pub(super) async fn forget_erased(sessions: Sessions, news: Arc<Notify>) {
    let app = sessions.app();
    let mut known: HashMap<String, Erasure> = HashMap::new();
    let mut since = app.clock.now() - CLOCK_SKEW;
    let mut done = true;
    loop {
        if done {
            news.notified().await;
        } else {
            let _ = tokio::time::timeout(ERASURE_RETRY, news.notified()).await;
        }
        done = false;
        let now = app.clock.now();
        let erasures = match app.keeping.erasures_since(since).await {
            Ok(erasures) => erasures,
            Err(error) => {
                tracing::debug!(%error, "erasures could not be read; trying again");
                continue;
            }
        };
        done = true;
        for erasure in erasures {
            let user = UserId::stored(&erasure.user_id);
            let before = known.get(&erasure.user_id);
            if before.is_none_or(|before| before.requested_at != erasure.requested_at) {
                let _ = sessions.revoke(&user);
            }
            let is_new = before.is_none_or(|before| before.redacted_at != erasure.redacted_at);
            if erasure.redacted_at.is_some()
                && is_new
                && let Err(error) = forget(&sessions, &user).await
            {
                tracing::warn!(%error, "an erased person could not be dropped from memory; trying again");
                done = false;
                continue;
            }
            known.insert(erasure.user_id.clone(), erasure);
        }
        if done {
            since = now - CLOCK_SKEW;
            known.retain(|_, erasure| erasure.redacted_at.is_none_or(|redacted_at| redacted_at >= since));
        }
    }
}

async fn forget(sessions: &Sessions, user: &UserId) -> Result<(), Refusal> {
    let app = sessions.app();
    // Events from before the erasure may still be on their way from memory.
    let head = log::head(app.events.log()).await?;
    let delivered = tokio::time::timeout(RELAY_PATIENCE, app.events.beyond(head - 1)).await;
    delivered.map_err(|_| Refusal::Unavailable)?;
    app.orders.forget_all();
    app.webhooks.forget_read();
    sessions.window().forget_all();
    app.drivers.forget(user).await?;
    sessions.end_watchers(user).await
}

/// Removes idle drivers from memory, and deletes expired sessions, idempotency keys and revoked tokens.
pub(super) async fn delete_expired(sessions: Sessions) {
    let app = sessions.app();
    let mut tick = tokio::time::interval(DELETE_INTERVAL);
    loop {
        tick.tick().await;
        app.drivers.sweep();
        forget_old(&sessions);
        if let Err(error) = recovery::sweep(&app.recovery).await {
            tracing::warn!(%error, "old sessions could not be deleted");
        }
        if let Err(error) = app.orders.sweep().await {
            tracing::warn!(%error, "old idempotency keys could not be deleted");
        }
        if let Err(error) = app.cluster.control().sweep().await {
            tracing::warn!(%error, "old entries of the control log could not be deleted");
        }
        if let Err(error) = app.sweep_revocations().await {
            tracing::warn!(%error, "revoked tokens that have ended could not be deleted");
        }
    }
}
