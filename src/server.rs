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
use crate::clock::Clock;
use crate::config::Serve;
use crate::db::Db;
use crate::driver::live::Live;
use crate::driver::trail::{self, Trail};
use crate::error::Refusal;
use crate::event::bus::Bus;
use crate::event::relay::{self, Relay};
use crate::fanout::Fanout;
use crate::fanout::hub::Hub;
use crate::metrics::Metrics;
use crate::transport::conn::{self, Open};
use crate::transport::{http, socketio};

/// How often what is no longer needed is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How long connections have to write what was handed to them before they are ended.
const LAST_BYTES: Duration = Duration::from_millis(100);
/// How long tasks may take to notice that they are over.
const TASKS_END: Duration = Duration::from_secs(5);
/// How often a draining server looks whether the last request is answered.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

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
    let drain = Duration::from_millis(config.limits.drain_ms);
    let app = App::new(Parts {
        live: Live::new(clock.clone(), config.limits.location_burst),
        config,
        db,
        auth,
        relay: Relay::default(),
        bus: Bus::local(),
        trail,
        clock,
        metrics,
        database_answers: AtomicBool::new(true),
        draining: AtomicBool::new(false),
    });
    app.auth.prepare().await;
    relay::start(&app).await.map_err(Failure::Start)?;
    let hub = Arc::new(Hub::default());
    let fanout = Fanout::new(app.clone(), Arc::clone(&hub));
    let live = fanout.clone();
    app.bus.subscribe(move |event| live.live(event));

    // Two signals: first no new work, then, when what was under way is done, no background work either.
    let background = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let tell = move |event: &_| fanout.durable(event);
    supervise(&mut tasks, "relay", relay::run(app.clone(), tell, background.clone()));
    supervise(&mut tasks, "trail", trail::write_forever(app.clone(), fixes, background.clone()));
    supervise(&mut tasks, "keys", until(background.clone(), refresh_keys(app.clone())));
    supervise(&mut tasks, "housekeeping", until(background.clone(), keep_house(app.clone())));
    if app.config.demo {
        supervise(&mut tasks, "demo", until(stop.clone(), crate::demo::simulate::run(app.clone())));
    }

    let open = Arc::new(Open::default());
    let under_way = Arc::new(AtomicUsize::new(0));
    let router = http::router(&app, Arc::clone(&hub), Arc::clone(&open), Arc::clone(&under_way));
    let front = socketio::service(&socketio::Door { app: app.clone(), hub });
    let router = router.route_service("/socket.io/", front.clone()).route_service("/socket.io", front);
    let router = http::outer(router, &app.config, origins);
    let connections = TaskTracker::new();
    let accept =
        conn::serve(app.clone(), listener, router, Arc::clone(&open), stop.clone(), connections.clone());
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
    if tokio::time::timeout(drain, idle).await.is_err() {
        tracing::warn!("requests were still under way after the drain time");
    }
    tokio::time::sleep(LAST_BYTES).await;
    open.kill_all();
    connections.close();
    let _ = tokio::time::timeout(TASKS_END, connections.wait()).await;
    background.cancel();
    let ending = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(TASKS_END, ending).await.is_err() {
        tracing::warn!("background tasks did not end in time");
    }
    app.db.close().await;
    early.map_or(Ok(()), |task| Err(Failure::Task(task)))
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

async fn refresh_keys(app: App) {
    app.auth.refresh_forever().await;
}

async fn keep_house(app: App) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        tick.tick().await;
        app.live.sweep();
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
