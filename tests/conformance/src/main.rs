//! The server that the official Engine.IO and Socket.IO test suites are run against: our transport in front of plain
//! services that say back what they are told. Nothing of Ordercast itself is in it.
//!
//! The suites are in `socketio/socket.io`, below `docs`: `engine.io-protocol/v3-test-suite`, `…/v4-test-suite` and
//! `socket.io-protocol/v5-test-suite`. With `--bare` socketioxide is there alone, which tells whose a failure is.

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
use ordercast::transport::conn;
use ordercast::transport::conn::Shared;
use ordercast::transport::socketio::polling::PollingClients;
use ordercast::transport::socketio::{Engine, Front};
use socketioxide::SocketIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the suites expect of the server under test.
const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_PAYLOAD: usize = 1_000_000;

/// Serves what the official suites expect, behind Ordercast's transport
#[derive(Parser)]
struct Flags {
    /// Port on 127.0.0.1; 0 takes a free one, which is printed
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// socketioxide alone, without our transport
    #[arg(long)]
    bare: bool,
}

fn main() -> std::io::Result<()> {
    let flags = Flags::parse();
    runtime()?.block_on(serve(flags))
}

/// The same choice as Ordercast's.
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
    let shared = Shared::new(&limits()?, Metrics::new(Words::default()));
    tokio::spawn(Arc::clone(&shared).flush());
    let never = CancellationToken::new();
    conn::serve(shared, listener, router, never.clone(), never, TaskTracker::new()).await;
    Ok(())
}

/// Ordercast's own limits, with the suites' heartbeat.
fn limits() -> std::io::Result<Limits> {
    let args = [
        "conformance".to_owned(),
        format!("--ping-interval-ms={}", PING_INTERVAL.as_millis()),
        format!("--ping-timeout-ms={}", PING_TIMEOUT.as_millis()),
    ];
    let cli = Cli::try_parse_from(args).map_err(std::io::Error::other)?;
    Ok(cli.serve.limits)
}

/// Our side of the protocol in front of a service that everybody may use.
fn front(engine: Engine) -> Front {
    Front::new(engine, PollingClients::default(), None, MAX_PAYLOAD)
}

/// Engine.IO alone.
fn engine_io() -> EngineIoService<echo::Messages> {
    let config = EngineIoConfig::builder()
        .req_path("/engine.io/")
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .max_payload(MAX_PAYLOAD as u64)
        .build();
    EngineIoService::with_config(Arc::new(echo::Messages), config)
}

/// Socket.IO, with the two namespaces that the suite joins.
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
