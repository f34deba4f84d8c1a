//! Putting it together, and taking it apart in order.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use entity::idempotency_key;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Parts};
use crate::auth::Auth;
use crate::base::clock::{Clock, instant};
use crate::base::config::Serve;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::dialect::close::CloseReason;
use crate::driver::live::Live;
use crate::driver::trail::{self, Trail};
use crate::event::bus::Bus;
use crate::event::relay::{self, Relay};
use crate::order::snapshot::Snapshots;
use crate::order::writer::{self, Writer};
use crate::recovery::{self, Recovery};
use crate::session::Sessions;
use crate::transport::socketio::polling::PollingClients;
use crate::transport::{conn, http, socketio};

/// How often what is no longer needed is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How long connections have to write what was handed to them before they are ended.
const LAST_BYTES: Duration = Duration::from_millis(100);
/// How long tasks may take to notice that they are over.
const TASKS_END: Duration = Duration::from_secs(5);
/// How often a draining server looks whether the last request is answered.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// How far apart sockets are let go, if there is time enough.
const BETWEEN_SOCKETS: Duration = Duration::from_millis(50);
/// How long sockets that were let go have to be gone.
const LAST_WORDS: Duration = Duration::from_millis(1_200);
/// How often we look what another process has revoked: it must end here within a second.
const REVOCATIONS: Duration = Duration::from_millis(500);

/// Why the server could not start, or stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A setting cannot be used; one line for the operator.
    #[error("{0}")]
    Config(String),
    /// The database does not answer, or a migration failed.
    #[error("the database cannot be opened: {0}")]
    Database(#[source] sea_orm::DbErr),
    /// What is needed at start cannot be read.
    #[error("the server cannot start: {0}")]
    Start(#[source] Refusal),
    /// A task that must always run has ended.
    #[error("the {0} task ended; the server cannot go on without it")]
    Task(&'static str),
}

/// Serves until `stop`, then drains: requests under way are finished, connections ended, positions written. Calls
/// `started` once everything that may fail at start has not.
///
/// # Errors
/// See [`Failure`].
pub async fn run(
    config: Serve,
    clock: Clock,
    listener: TcpListener,
    stop: CancellationToken,
    started: impl FnOnce(),
) -> Result<(), Failure> {
    let auth = Auth::new(config.key_source(), clock.clone()).map_err(Failure::Config)?;
    let origins = config.allow_origin().map_err(Failure::Config)?;
    let url = config.database.url().map_err(Failure::Config)?;
    let db = Db::open(&url).await.map_err(Failure::Database)?;
    let metrics = Metrics::new();
    let (trail, fixes) = Trail::new(metrics.clone());
    let (writer, changes) = Writer::new();
    warn_of_open_doors(&config);
    let drain = Duration::from_millis(config.limits.drain_ms);
    let reuse_port = config.reuse_port;
    let app = App::new(Parts {
        live: Live::new(clock.clone(), config.limits.location_burst),
        snapshots: Snapshots::default(),
        config,
        db,
        auth,
        writer,
        relay: Relay::default(),
        bus: Bus::local(),
        trail,
        clock,
        metrics,
        calls: tokio::sync::Notify::new(),
        database_answers: AtomicBool::new(true),
        draining: AtomicBool::new(false),
    });
    app.auth.prepare().await;
    relay::start(&app).await.map_err(Failure::Start)?;
    app.auth.revocations().poll(&app.db).await.map_err(Failure::Start)?;
    let (recovery, sessions) = Recovery::open(&app).await.map_err(Failure::Start)?;
    let fanout = Sessions::new(app.clone(), recovery.clone());
    let polls = PollingClients::default();
    let live = fanout.clone();
    app.bus.subscribe(move |event| live.live(event));

    // Two signals: first no new work, then, when what was under way is done, no background work either.
    let background = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let told = fanout.clone();
    let tell = move |event, outlook| told.durable(event, outlook);
    supervise(&mut tasks, "relay", relay::run(app.clone(), tell, background.clone()));
    supervise(&mut tasks, "writer", writer::run(app.clone(), changes, background.clone()));
    supervise(&mut tasks, "trail", trail::write_forever(app.clone(), fixes, background.clone()));
    supervise(&mut tasks, "keys", until(background.clone(), refresh_keys(app.clone())));
    supervise(&mut tasks, "housekeeping", until(background.clone(), keep_house(app.clone(), polls.clone())));
    supervise(&mut tasks, "sessions", sessions.run(app.clone(), recovery, background.clone()));
    supervise(&mut tasks, "tokens", until(background.clone(), fanout.clone().end_tokens()));
    supervise(&mut tasks, "revocations", until(background.clone(), hear_revocations(fanout.clone())));
    let calls = until(background.clone(), crate::outbox::order_service::make_forever(app.clone()));
    supervise(&mut tasks, "order service", calls);
    if app.config.demo {
        supervise(&mut tasks, "demo", until(stop.clone(), crate::demo::simulate::run(app.clone())));
    }

    let shared = conn::Shared::new(&app.config.limits, app.metrics.clone());
    supervise(&mut tasks, "flusher", Arc::clone(&shared).flush());
    let under_way = Arc::new(AtomicUsize::new(0));
    let router = http::router(&fanout, Arc::clone(&shared), Arc::clone(&under_way));
    let front = socketio::service(&fanout, &polls);
    let router = router.route_service("/socket.io/", front.clone()).route_service("/socket.io", front);
    let router = http::outer(router, &app.config, origins);
    let connections = TaskTracker::new();
    // Who is told to stop goes on answering that it does, unless another process takes over the port.
    let end = CancellationToken::new();
    let listening = if reuse_port { stop.clone() } else { end.clone() };
    let accept =
        conn::serve(Arc::clone(&shared), listener, router, listening, end.clone(), connections.clone());
    supervise(&mut tasks, "accept", accept);

    started();
    // Biased: tasks that end because of `stop` have not ended early.
    let early = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        Some(ended) = tasks.join_next() => Some(ended.unwrap_or("panicked")),
    };

    tracing::info!("draining");
    app.draining.store(true, Ordering::Release);
    stop.cancel();
    app.relay.release_waiting();
    let idle = async {
        while under_way.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    let ((), idle) = tokio::join!(let_go(&fanout, drain), tokio::time::timeout(drain, idle));
    if idle.is_err() {
        tracing::warn!("requests were still under way after the drain time");
    }
    tokio::time::sleep(LAST_BYTES).await;
    end.cancel();
    shared.open().kill_all();
    connections.close();
    let _ = tokio::time::timeout(TASKS_END, connections.wait()).await;
    background.cancel();
    shared.stop_flushing();
    let ending = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(TASKS_END, ending).await.is_err() {
        tracing::warn!("background tasks did not end in time");
    }
    app.db.close().await;
    early.map_or(Ok(()), |task| Err(Failure::Task(task)))
}

fn warn_of_open_doors(config: &Serve) {
    if config.legacy_open {
        tracing::warn!(
            "LEGACY_OPEN: without a token, anyone may hear of every order in the default Socket.IO namespace, and read any \
             order whose id they know at /orders/track and GET /api/orders/{{id}}; without names, phones and addresses"
        );
    }
}

fn supervise(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    stop.run_until_cancelled(task).await;
}

/// Lets every socket go, one after the other in no order, so that they do not all come back at once.
async fn let_go(fanout: &Sessions, drain: Duration) {
    let clock = &fanout.app().clock;
    let mut sessions = fanout.sessions();
    let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return;
    }
    clock.shuffle(&mut sessions);
    // A few need no time to be spread over.
    let time = drain.min(BETWEEN_SOCKETS.saturating_mul(count));
    let started = instant();
    for (number, session) in (0..count).zip(sessions) {
        let jitter = time / count * number + time.mul_f64(clock.fraction()) / count;
        tokio::time::sleep_until(started + jitter).await;
        session.close(CloseReason::Draining);
    }
    // Those who were on their way in when it began.
    for session in fanout.sessions() {
        session.close(CloseReason::Draining);
    }
    let gone = async {
        while !fanout.sessions().is_empty() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, gone).await;
}

/// Ends the sessions of users whose tokens another process has revoked.
async fn hear_revocations(fanout: Sessions) {
    let app = fanout.app();
    let mut tick = tokio::time::interval(REVOCATIONS);
    loop {
        tick.tick().await;
        match app.auth.revocations().poll(&app.db).await {
            Ok(users) => {
                for user in users {
                    let sockets = fanout.revoke(&user);
                    tracing::info!(%user, sockets, "sessions were revoked elsewhere");
                }
            }
            Err(error) => tracing::debug!(%error, "revocations cannot be read; trying again"),
        }
    }
}

async fn refresh_keys(app: App) {
    app.auth.refresh_forever().await;
}

async fn keep_house(app: App, polls: PollingClients) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        tick.tick().await;
        app.live.sweep();
        polls.sweep();
        if let Err(error) = recovery::sweep(&app).await {
            tracing::warn!(%error, "old sessions could not be removed");
        }
        let lifetime = chrono::TimeDelta::hours(i64::from(app.config.limits.idempotency_hours));
        let forgotten = idempotency_key::Entity::delete_many()
            .filter(idempotency_key::Column::CreatedAt.lt(app.clock.now() - lifetime))
            .exec(app.db.writer())
            .await;
        if let Err(error) = forgotten {
            tracing::warn!(%error, "old idempotency keys could not be removed");
        }
    }
}
