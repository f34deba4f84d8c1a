//! The `ordercast` binary: flags, logs, signals.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use migration::{Migrator, MigratorTrait};
use ordercast::auth::mint;
use ordercast::base::clock::Clock;
use ordercast::base::config::{Serve, check_secret};
use ordercast::base::db::Db;
use ordercast::base::telemetry;
use ordercast::cli::{Cli, Direction, Migrate, Subcommand, Token};
use ordercast::server::{self, Failure};
use ordercast::transport;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// Frames are many small allocations, made by one task and released by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for settings that cannot be used.
const BAD_CONFIG: u8 = 2;
/// Connections that may wait to be accepted: many clients come back at once.
const BACKLOG: u32 = 4_096;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            return refuse(line);
        }
        // --help and --version
        Err(error) => return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE },
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no runtime: {error}")),
    };
    let code = runtime.block_on(async {
        match cli.command {
            None => serve(cli.serve).await,
            Some(Subcommand::Serve(serve)) => self::serve(serve).await,
            Some(Subcommand::Token(token)) => print_token(&token),
            Some(Subcommand::Migrate(migrate)) => self::migrate(migrate).await,
            Some(Subcommand::Openapi) => print_document(),
        }
    });
    // Sockets that are still being written to are not waited for.
    runtime.shutdown_background();
    code
}

/// On one core, one thread does everything: a multi-thread runtime's only worker was measured to let some sockets wait
/// 0.7 s under full load, seven times as long.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("ordercast: {line}");
    ExitCode::from(BAD_CONFIG)
}

fn fail(line: &str) -> ExitCode {
    eprintln!("ordercast: {line}");
    ExitCode::FAILURE
}

async fn serve(config: Serve) -> ExitCode {
    let config = match config.check() {
        Ok(config) => config,
        Err(line) => return refuse(&line),
    };
    telemetry::start();
    let listener = match listen(config.listen, config.reuse_port) {
        Ok(listener) => listener,
        Err(error) => return refuse(&format!("cannot listen on {}: {error}", config.listen)),
    };
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return fail(&format!("no address: {error}")),
    };
    let stop = CancellationToken::new();
    let demo = config.demo;
    let started = move || {
        if demo {
            println!("Ordercast demo: open http://{address} in a browser");
        } else {
            println!("Ordercast listens on http://{address}");
        }
        tracing::info!(%address, "listening");
    };
    let running = server::run(config, Clock::System, listener, stop.clone(), started);
    tokio::spawn(async move {
        signal().await;
        stop.cancel();
    });
    match running.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(line)) => refuse(&line),
        Err(failure @ Failure::Database(_)) => refuse(&failure.to_string()),
        Err(failure) => fail(&failure.to_string()),
    }
}

fn listen(address: SocketAddr, reuse_port: bool) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(reuse_port)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Waits for SIGTERM or SIGINT.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn print_token(asked: &Token) -> ExitCode {
    let Some(secret) = &asked.jwt_secret else { return refuse("set JWT_SECRET to sign a token with") };
    if let Err(line) = check_secret(secret) {
        return refuse(&line);
    }
    if ordercast::model::UserId::parse(&asked.sub).is_err() {
        return refuse("--sub must be 1–128 characters of A–Z a–z 0–9 . _ : - | @");
    }
    match mint(secret, &asked.sub, asked.role, asked.name.as_deref(), Clock::System.now(), asked.ttl) {
        Ok(token) => print(&token),
        Err(error) => fail(&format!("cannot sign: {error}")),
    }
}

async fn migrate(asked: Migrate) -> ExitCode {
    let url = match asked.database.url() {
        Ok(url) => url,
        Err(line) => return refuse(&line),
    };
    let db = match Db::connect(&url).await {
        Ok(db) => db,
        Err(error) => return fail(&format!("the database cannot be opened: {error}")),
    };
    let done = match asked.direction {
        Direction::Up => Migrator::up(db.writer(), None).await,
        Direction::Down => Migrator::down(db.writer(), Some(1)).await,
        Direction::Status => Ok(()),
    };
    let listed = match done {
        Ok(()) => Migrator::get_migration_with_status(db.writer()).await,
        Err(error) => Err(error),
    };
    match listed {
        Ok(migrations) => {
            for migration in migrations {
                println!("{:8} {}", migration.status().to_string().to_lowercase(), migration.name());
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("migration failed: {error}")),
    }
}

/// Prints to whoever reads it, as far as they do.
fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(&format!("cannot print: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print_document() -> ExitCode {
    match transport::http::document().to_pretty_json() {
        Ok(document) => print(&document),
        Err(error) => fail(&format!("the document cannot be written: {error}")),
    }
}
