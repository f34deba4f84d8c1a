//! The server for the official Engine.IO and Socket.IO test suites: Ordercast's transport in front of plain echo
//! services. It contains no use cases of Ordercast.
//!
//! The suites are in `socketio/socket.io`, below `docs`: `engine.io-protocol/v3-test-suite`, `…/v4-test-suite` and
//! `socket.io-protocol/v5-test-suite`. With `--bare` the server is socketioxide alone, which shows whether socketioxide
//! or our transport causes a failure.

mod echo;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Parser;
use engineioxide::config::EngineIoConfig;
use engineioxide::service::EngineIoService;
use ordercast::base::config::Limits;
use ordercast::base::metrics::{Metrics, Words};
use ordercast::cli::Cli;
use ordercast::cluster::fresh::RightsLease;
use ordercast::transport::conn;
use ordercast::transport::conn::{Callers, Shared};
use ordercast::transport::socketio::polling::PollingClients;
use ordercast::transport::socketio::{Engine, Front};
use socketioxide::SocketIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

// Values that the suites expect from the server under test.
const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_PAYLOAD: usize = 1_000_000;

/// Echo server for the official Engine.IO and Socket.IO test suites, behind Ordercast's transport
#[derive(Parser)]
struct Flags {
    /// Port on 127.0.0.1. 0 means any free port, which is printed
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Use socketioxide alone, without Ordercast's transport
    #[arg(long)]
    bare: bool,
}

fn main() -> std::io::Result<()> {
    let flags = Flags::parse();
    runtime()?.block_on(serve(flags))
}

/// Chooses the same kind of runtime as Ordercast.
fn runtime() -> std::io::Result<Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

async fn serve(flags: Flags) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, flags.port)).await?;
    let (engine, socket) = (engine_io(), socket_io());
    println!("listening on http://{}", listener.local_addr()?);
    if flags.bare {
        let router = Router::new().route_service("/engine.io/", engine).route_service("/socket.io/", socket);
        return axum::serve(listener, router).await;
    }
    let router = Router::new()
        .route_service("/engine.io/", front(Engine::new(engine, "/engine.io/")))
        .route_service("/socket.io/", front(Engine::new(socket, "/socket.io/")));
    let shared = Shared::new(&limits()?, Metrics::new(Words::default()), RightsLease::always());
    tokio::spawn(Arc::clone(&shared).flush());
    let never = CancellationToken::new();
    conn::serve(shared, listener, Callers::Clients(None), router, never.clone(), never, TaskTracker::new())
        .await;
    Ok(())
}

/// Ordercast's default limits, with the heartbeat of the suites.
fn limits() -> std::io::Result<Limits> {
    let args = [
        "conformance".to_owned(),
        format!("--ping-interval-ms={}", PING_INTERVAL.as_millis()),
        format!("--ping-timeout-ms={}", PING_TIMEOUT.as_millis()),
    ];
    let cli = Cli::try_parse_from(args).map_err(std::io::Error::other)?;
    Ok(cli.serve.limits)
}

/// Ordercast's front for an engine that needs no authentication.
fn front(engine: Engine) -> Front {
    Front::new(engine, PollingClients::default(), None, MAX_PAYLOAD)
}

/// A plain Engine.IO echo service.
fn engine_io() -> EngineIoService<echo::Messages> {
    let config = EngineIoConfig::builder()
        .req_path("/engine.io/")
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .max_payload(MAX_PAYLOAD as u64)
        .build();
    EngineIoService::with_config(Arc::new(echo::Messages), config)
}

/// A Socket.IO echo service with the two namespaces that the suite joins.
fn socket_io() -> socketioxide::service::SocketIoService<engineioxide::service::NotFoundService> {
    let (service, io) = SocketIo::builder()
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .max_payload(MAX_PAYLOAD as u64)
        .build_svc();
    io.ns("/", echo::events);
    io.ns("/custom", echo::events);
    service
}
