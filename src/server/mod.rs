//! Wires the parts of the server together, starts it, and stops it.

mod control;
mod drain;
mod failover;
mod lease;
mod listener;
mod upkeep;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::control::Poller;
use self::drain::Drain;
pub use self::listener::{here, listen};
use crate::app::{App, Infrastructure, Logs};
use crate::auth::Auth;
use crate::base::clock::Clock;
use crate::base::config::{Origins, Serve};
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::health::Health;
use crate::base::metrics::{Metrics, Words};
use crate::base::outbound::Guarded;
use crate::base::trace::{Exporter, Tracer};
use crate::cluster::control::Control;
use crate::cluster::{Cluster, Membership};
use crate::dialect::Dialect;
use crate::dialect::names;
use crate::driver::progress::{Notes, NotesWriter};
use crate::driver::trail::{Trail, TrailWriter};
use crate::eta::log::{EtaLog, EtaLogWriter};
use crate::event::bus::Bus;
use crate::event::relay::{self, Relay};
use crate::event::{restored, writable};
use crate::model::{Role, Verdict};
use crate::notify::{Notifications, Prepared};
use crate::order::Orders;
use crate::order::writer::{Commits, Writer};
use crate::outbox::order_service::OrderService;
use crate::recovery::Recovery;
use crate::recovery::store::RecoveryWorker;
use crate::route::Roads;
use crate::route::remote::Address;
use crate::session::Sessions;
use crate::session::deliver::deliver;
use crate::session::interest::keep_listening;
use crate::transport::conn::{self, Callers, Identity, Reload};
use crate::transport::{http, socketio};
use crate::webhook::Webhooks;

/// How often the log is read on `SQLite` without a wake-up: other processes are there for a moment only.
const SQLITE_SWEEP: Duration = Duration::from_secs(1);

/// Why the server could not start, or why it ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting is invalid. The text is one line for the operator.
    #[error("{0}")]
    Config(String),
    /// The database does not answer, or a migration failed.
    #[error("the database cannot be opened: {0}")]
    Database(#[source] sea_orm::DbErr),
    /// Reading the database at start failed.
    #[error("the server cannot start: {0}")]
    Start(#[source] Refusal),
    /// A task that must run as long as the server has ended.
    #[error("the {0} task ended; the server cannot go on without it")]
    Task(&'static str),
}

/// Runs the server until `stop` is cancelled, then drains it: finishes requests in progress, closes connections and
/// writes queued positions. Calls `on_started` when everything that can fail at start has succeeded.
///
/// # Errors
/// See [`ServerError`].
pub async fn run(
    mut config: Serve,
    clock: Clock,
    listener: TcpListener,
    stop: CancellationToken,
    on_started: impl FnOnce(),
) -> Result<(), ServerError> {
    let origins = config.origins().map_err(ServerError::Config)?;
    let identity = identity(&config).map_err(ServerError::Config)?;
    warn_if_legacy_open(&config);
    let for_nodes = listen_for_nodes(&mut config).await.map_err(ServerError::Config)?;
    let (app, background) = Box::pin(wire(config, clock)).await?;
    let mut tasks = Tasks::default();
    let sessions = Sessions::new(app.clone());
    background.start(&mut tasks, &app, &sessions, &stop);
    let drain = serve(&mut tasks, &sessions, (listener, for_nodes), identity, origins, &stop);
    on_started();
    let failed_task = tasks.first_to_end(&stop).await;
    stop.cancel();
    drain.run(&sessions, tasks).await;
    failed_task.map_or(Ok(()), |task| Err(ServerError::Task(task)))
}

/// Work that runs beside requests, such as the receiving ends of the queues.
struct Background {
    db: Db,
    relay: Relay,
    commits: Commits,
    trail: TrailWriter,
    notes: NotesWriter,
    eta_log: EtaLogWriter,
    recovery: RecoveryWorker,
    membership: Membership,
    control_head: i64,
    order_service: Option<OrderService>,
    spans: Option<Exporter>,
}

/// Opens the database, makes the use cases and loads their state.
async fn wire(config: Serve, clock: Clock) -> Result<(App, Background), ServerError> {
    let url = config.database.url().map_err(ServerError::Config)?;
    let clock = match clock {
        Clock::System if config.database.is_shared() => Clock::shared(),
        clock => clock,
    };
    let auth = Auth::new(config.key_source(), clock.clone()).map_err(ServerError::Config)?;
    let node = clock.uuid().to_string();
    let (db, restores) = open_database(&config, &url, &node).await?;
    let (health, metrics) = (Arc::new(Health::default()), Metrics::new(words()));
    let tracing = Tracer::new(&config.traces, &node, &clock, &metrics);
    let (tracer, spans) = tracing.map_err(ServerError::Config)?;
    let limits = config.limits.clone();
    let joined = Cluster::join(node, db.clone(), clock.clone(), &config.cluster, metrics.clone()).await;
    let (cluster, membership) = joined.map_err(ServerError::Start)?;
    let bus = Bus::new(cluster.clone(), &config.cluster, clock.clone(), metrics.clone());
    let bus = bus.map_err(ServerError::Config)?;
    let control = cluster.control().clone();
    // Before anything is read from the tables that its entries are about.
    let control_head = control.head().await.map_err(ServerError::Start)?;
    let every = Duration::from_millis(config.cluster.cluster_poll_ms.into());
    let every = if db.is_shared() { every } else { SQLITE_SWEEP };
    let events = Relay::new(db.clone(), Arc::clone(&health), metrics.clone(), cluster.lease().clone(), every);
    let (writer, commits) = Writer::new(
        db.clone(),
        clock.clone(),
        events.clone(),
        control.clone(),
        Arc::clone(&health),
        metrics.clone(),
    );
    let (trail, trail_writer) = Trail::new(db.clone(), clock.clone(), &limits, metrics.clone());
    let (notes, notes_writer) = Notes::new(db.clone(), control.clone(), metrics.clone());
    let (eta_log, eta_log_writer) = EtaLog::new(db.clone(), clock.clone(), &config.routing, metrics.clone());
    let orders = Orders::new(
        db.clone(),
        clock.clone(),
        events.clone(),
        writer,
        cluster.clone(),
        &limits,
        metrics.clone(),
    );
    auth.prepare().await;
    events.begin(restores).await.map_err(ServerError::Start)?;
    let opened = Recovery::open(db.clone(), clock.clone(), limits.clone(), control).await;
    let (recovery, recovery_work) = opened.map_err(ServerError::Start)?;
    let order_service = match config.order_service_url.clone() {
        None => None,
        Some(url) => {
            let (db, clock, events) = (db.clone(), clock.clone(), events.clone());
            let retry_ms = limits.order_service_retry_ms;
            let opened = OrderService::open(url, retry_ms, db, clock, events, metrics.clone()).await;
            Some(opened.map_err(ServerError::Start)?)
        }
    };
    let relay = events.clone();
    check_routers(&config)?;
    let roads = Roads::new(&config.routing, metrics.clone());
    let notify =
        open_notifications(&config, &db, &clock, &events, &bus, cluster.control().clone(), &metrics).await?;
    let guard = Guarded::new(&config.notify.outbound_allow).map_err(ServerError::Start)?;
    let webhooks = Webhooks::new(db.clone(), clock.clone(), events.clone(), guard, metrics.clone());
    notify.tell_failures(webhooks.clone());
    let notes_writer = notes_writer.notifying(notify.clone(), webhooks.clone());
    let infrastructure = Infrastructure {
        config,
        health,
        auth,
        events,
        bus,
        cluster,
        roads,
        notify,
        webhooks,
        clock,
        metrics,
        tracer,
        db: db.clone(),
    };
    let app = App::new(infrastructure, orders, Logs { trail, notes, eta_log }, recovery);
    app.calibrating.load().await.map_err(ServerError::Start)?;
    app.drivers.load().await.map_err(ServerError::Start)?;
    app.load_revocations().await.map_err(ServerError::Start)?;
    let (trail, notes, recovery, eta_log) = (trail_writer, notes_writer, recovery_work, eta_log_writer);
    let background = Background {
        db,
        relay,
        commits,
        trail,
        notes,
        eta_log,
        recovery,
        membership,
        control_head,
        order_service,
        spans,
    };
    Ok((app, background))
}

/// Opens the database, and settles one that was restored. Returns how often this one was.
async fn open_database(config: &Serve, url: &str, node: &str) -> Result<(Db, u32), ServerError> {
    let connections = config.cluster.database_max_connections;
    let db = Db::open(url, connections, node).await.map_err(ServerError::Database)?;
    let restores = restored::settle(&db).await.map_err(ServerError::Start)?;
    Ok((db, restores))
}

fn check_routers(config: &Serve) -> Result<(), ServerError> {
    for router in &config.routing.router {
        router.parse::<Address>().map_err(ServerError::Config)?;
    }
    Ok(())
}

/// Opens the ways to people who are not connected.
async fn open_notifications(
    config: &Serve,
    db: &Db,
    clock: &Clock,
    events: &Relay,
    bus: &Bus,
    control: Control,
    metrics: &Metrics,
) -> Result<Notifications, ServerError> {
    let prepared = Prepared::new(&config.notify, clock).map_err(ServerError::Config)?;
    let (db, clock, events, bus, metrics) =
        (db.clone(), clock.clone(), events.clone(), bus.clone(), metrics.clone());
    let opened = Notifications::open(db, clock, events, bus, control, prepared, metrics).await;
    opened.map_err(ServerError::Start)
}

/// The labels of metrics.
fn words() -> Words {
    Words {
        roles: Role::ALL.map(Role::as_str).to_vec(),
        clients: Dialect::ALL.map(Dialect::as_str).to_vec(),
        requests: names::of_requests(),
        verdicts: Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect(),
    }
}

impl Background {
    /// Starts the background work. It continues while the drain finishes requests in progress.
    fn start(self, tasks: &mut Tasks, app: &App, sessions: &Sessions, stop: &CancellationToken) {
        let listeners = sessions.clone();
        app.bus.subscribe(move |event| listeners.live(event));
        app.cluster.tell_figures(upkeep::figures(sessions.clone()));
        let end = tasks.background.clone();
        let receivers = sessions.clone();
        let deliver = move |event| deliver(receivers.clone(), event);
        tasks.supervise("relay", relay::run(self.relay, app.bus.clone(), deliver, end.clone()));
        tasks.supervise("bus", upkeep::hear_others(sessions.clone(), end.clone()));
        tasks.supervise("fleet", sessions.clone().tell_fleet(end.clone()));
        if app.bus.is_connected() {
            tasks.supervise("interest", until(end.clone(), keep_listening(sessions.clone())));
        }
        let (orders, fullness) = (app.orders.clone(), app.events.fullness().clone());
        let watch =
            fullness.watch(app.config.limits.full_at, move || orders.writes_waiting(), app.metrics.clone());
        tasks.supervise("fullness", until(end.clone(), watch));
        tasks.supervise("writer", self.commits.run(end.clone()));
        tasks.supervise("trail", self.trail.run(end.clone()));
        tasks.supervise("shown ETAs", self.eta_log.run(end.clone()));
        tasks.supervise("calibration", until(end.clone(), app.calibrating.clone().run()));
        let watching = sessions.clone();
        app.notify.ask_watchers(move |user| watching.watching(user));
        tasks.supervise("receipts", app.notify.clone().write_receipts(end.clone()));
        if app.notify.is_on() {
            tasks.supervise("proofs", until(end.clone(), sessions.clone().ask_later()));
            tasks.supervise("notifications", app.notify.clone().plan(end.clone()));
            tasks.supervise("sending", app.notify.clone().send(end.clone()));
        }
        tasks.supervise("webhooks", app.webhooks.clone().run(end.clone()));
        tasks.supervise("milestones", self.notes.run(end.clone()));
        tasks.supervise("watch", app.drivers.clone().watch(end.clone()));
        tasks.supervise("sessions", self.recovery.run(end.clone()));
        if let Some(spans) = self.spans {
            tasks.supervise("traces", spans.run(end.clone()));
        }
        if let Some(order_service) = self.order_service {
            tasks.supervise("order service", order_service.run(end.clone()));
        }
        tasks.supervise("membership", self.membership.run(Arc::clone(&app.health), end.clone()));
        let health = Arc::clone(&app.health);
        tasks.supervise("check of the log", until(end.clone(), writable::check(self.db.clone(), health)));
        tasks.supervise("keys", until(end.clone(), upkeep::refresh_keys(app.clone())));
        tasks.supervise("housekeeping", until(end.clone(), upkeep::delete_expired(sessions.clone())));
        tasks.supervise("retention", until(end.clone(), upkeep::remove_finished(sessions.clone())));
        tasks.supervise("erasure", until(end.clone(), upkeep::erase(app.clone())));
        let erasures = Arc::new(Notify::new());
        let forgetting = upkeep::forget_erased(sessions.clone(), Arc::clone(&erasures));
        tasks.supervise("forgetting", until(end.clone(), forgetting));
        let (bus, clock) = (app.bus.clone(), app.clock.clone());
        // The nodes look into the log itself: that something is new is all that they have to be told.
        app.cluster.control().on_append(move || bus.wake_control(clock.now().timestamp_millis()));
        let poller = Poller::new(sessions.clone(), self.control_head, erasures);
        tasks.supervise("control", until(end.clone(), poller.run()));
        tasks.supervise("tokens", until(end.clone(), sessions.clone().end_tokens()));
        tasks.supervise("failover", until(end.clone(), failover::watch(sessions.clone(), self.db)));
        tasks.supervise("lease", until(end.clone(), lease::watch(sessions.clone())));
        tasks.supervise("roads", until(end.clone(), app.roads.clone().watch()));
        tasks.supervise("routes", app.drivers.clone().find_routes(end.clone()));
        if app.config.demo {
            tasks.supervise("demo", until(stop.clone(), crate::demo::simulate::run(app.clone())));
        }
    }
}

/// Starts to accept connections. Returns the handles that the drain needs to end them.
fn serve(
    tasks: &mut Tasks,
    sessions: &Sessions,
    (listener, for_nodes): (TcpListener, Option<TcpListener>),
    identity: Option<(Arc<Identity>, Reload)>,
    origins: Origins,
    stop: &CancellationToken,
) -> Drain {
    let app = sessions.app();
    let connections = conn::Shared::new(&app.config.limits, app.metrics.clone(), app.cluster.lease().clone());
    tasks.supervise("flusher", Arc::clone(&connections).flush());
    let in_progress = Arc::new(AtomicUsize::new(0));
    let router = http::router(sessions, Arc::clone(&connections), Arc::clone(&in_progress));
    let front = socketio::service(sessions, connections.gate(), stop);
    let end = tasks.background.clone();
    tasks.supervise("handshakes", until(end.clone(), front.clone().close_idle()));
    tasks.supervise("limits", until(end, upkeep::forget_idle(Arc::clone(connections.gate()))));
    let router =
        router.route_service("/socket.io/", front.clone()).route_service("/socket.io", front.clone());
    let router = http::outer(router, origins);
    let router = if app.config.demo { http::demo::for_this_machine_only(router) } else { router };
    let drain =
        Drain { connections, in_progress, tracker: TaskTracker::new(), end: CancellationToken::new() };
    // A stopping server still accepts connections, to answer that it stops. With `reuse_port` it leaves them to the
    // process that takes over.
    let stop_listening = if app.config.reuse_port { stop.clone() } else { drain.end.clone() };
    let shared = Arc::clone(&drain.connections);
    let (identity, reload) = identity.unzip();
    if let Some(reload) = reload {
        tasks.supervise("certificate", until(tasks.background.clone(), reload.forever()));
    }
    if let Some(listener) = for_nodes {
        // Sessions are closed one by one while the server drains, so other nodes are served until the end.
        let (end, tracker) = (drain.end.clone(), drain.tracker.clone());
        let (shared, router) = (Arc::clone(&shared), front.for_nodes());
        let accept = conn::serve(shared, listener, Callers::Nodes, router, end.clone(), end, tracker);
        tasks.supervise("accept from nodes", accept);
    }
    let accept = conn::serve(
        shared,
        listener,
        Callers::Clients(identity),
        router,
        stop_listening,
        drain.end.clone(),
        drain.tracker.clone(),
    );
    tasks.supervise("accept", accept);
    drain
}

/// Listens for other nodes, if that is wanted. Port 0 becomes the port that was free.
async fn listen_for_nodes(config: &mut Serve) -> Result<Option<TcpListener>, String> {
    let Some(address) = config.cluster.cluster_listen else { return Ok(None) };
    let failed = |error| format!("cannot listen on {address} for other nodes (CLUSTER_LISTEN): {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    config.cluster.cluster_listen = Some(listener.local_addr().map_err(failed)?);
    Ok(Some(listener))
}

/// The certificate of the server, if it is to speak TLS.
fn identity(config: &Serve) -> Result<Option<(Arc<Identity>, Reload)>, String> {
    match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Identity::open(certificate.clone(), key.clone()).map(Some),
        _ => Ok(None),
    }
}

fn warn_if_legacy_open(config: &Serve) {
    if config.legacy_open {
        tracing::warn!(
            "LEGACY_OPEN is set: anyone without a token can receive events of every order in the default Socket.IO \
             namespace, and can read any order whose id they know at /orders/track and GET /api/orders/{{id}}; names, phones \
             and addresses are left out"
        );
    }
}

/// Tasks that must run as long as the server.
#[derive(Default)]
struct Tasks {
    tasks: JoinSet<&'static str>,
    /// Ends background work. Cancelled after the requests in progress are finished.
    background: CancellationToken,
}

impl Tasks {
    fn supervise(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits for `stop`. Returns the name of a task if one ended before.
    async fn first_to_end(&mut self, stop: &CancellationToken) -> Option<&'static str> {
        // `biased` checks `stop` first, because a task that ends due to `stop` has not ended early.
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            Some(ended) = self.tasks.join_next() => Some(ended.unwrap_or("panicked")),
        }
    }

    async fn all_to_end(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    stop.run_until_cancelled(task).await;
}
