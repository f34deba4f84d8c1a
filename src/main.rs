//! The `ordercast` binary: handles flags, logs, signals and exit codes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use migration::{Migrator, MigratorTrait};
use ordercast::auth::mint;
use ordercast::backup::{BackupError, Copied};
use ordercast::base::clock::{Clock, instant};
use ordercast::base::config::{Serve, check_secret};
use ordercast::base::db::{Db, Schema};
use ordercast::base::{systemd, telemetry};
use ordercast::cli::{
    BackupArgs, BuildArgs, Cli, CompletionsArgs, Direction, DoctorArgs, HealthArgs, ManArgs, MigrateArgs,
    ReplayArgs, RestoreArgs, RoadsArgs, RoadsCommand, SmsAddressArgs, Subcommand, TokenArgs,
};
use ordercast::describe;
use ordercast::doctor::{self, Level, Report};
use ordercast::driver::filter::Rules;
use ordercast::driver::positions::recorded;
use ordercast::load::{self, LoadError};
use ordercast::model::OrderId;
use ordercast::notify::texting::inbound_address;
use ordercast::replay::Changes;
use ordercast::route::network::Network;
use ordercast::server::{self, ServerError};
use ordercast::transport;
use tokio_util::sync::CancellationToken;

/// mimalloc, because frames are many small allocations that one task makes and another one frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for invalid settings.
const BAD_CONFIG: u8 = 2;
/// How long the server may take to say that it is ready.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a load test says how it goes on a terminal.
const LOAD_PROGRESS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            // The flags that are missing stand in lines of their own.
            let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            return exit_bad_config(lines.join(" ").trim_start_matches("error: "));
        }
        // --help and --version arrive here.
        Err(error) => return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE },
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return exit_failure(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(async {
        match cli.command {
            None => Box::pin(serve(cli.serve)).await,
            Some(Subcommand::Serve(serve)) => Box::pin(self::serve(serve)).await,
            Some(Subcommand::Health(args)) => health(&args).await,
            Some(Subcommand::Doctor(args)) => Box::pin(examine(args)).await,
            Some(Subcommand::Token(args)) => print_token(&args),
            Some(Subcommand::Migrate(args)) => migrate(args).await,
            Some(Subcommand::Backup(args)) => backup(args).await,
            Some(Subcommand::Restore(args)) => restore(args).await,
            Some(Subcommand::Roads(args)) => build_roads(&args),
            Some(Subcommand::Load(options)) => load(&options).await,
            Some(Subcommand::Replay(args)) => replay(args).await,
            Some(Subcommand::SmsAddress(args)) => print_sms_address(&args),
            Some(Subcommand::Openapi) => print_openapi(),
            Some(Subcommand::Asyncapi) => print(&describe::pretty()),
            Some(Subcommand::Completions(args)) => print_completions(&args),
            Some(Subcommand::Man(args)) => man(&args),
        }
    });
    // Does not wait for tasks that still write to sockets.
    runtime.shutdown_background();
    code
}

/// On one core, this is a current-thread runtime. A multi-thread runtime with one worker was measured to let some
/// sockets wait 0.7 s under full load, seven times as long.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

/// Prepares roads, and says what it does.
fn build_roads(args: &RoadsArgs) -> ExitCode {
    let RoadsCommand::Build(BuildArgs { extract, out, modes }) = &args.command;
    let began = instant();
    let say = |step: &str| eprintln!("{:>6.1} s  {step}", began.elapsed().as_secs_f64());
    let networks = match Network::build(extract, modes, &say) {
        Ok(networks) => networks,
        Err(error) => return exit_bad_config(&format!("{}: {error}", extract.display())),
    };
    say("writing the file");
    if let Err(error) = Network::save(&networks, out) {
        return exit_bad_config(&format!("{} cannot be written: {error}", out.display()));
    }
    for network in &networks {
        println!("{}: {} segments of road", network.mode().as_str(), network.len());
    }
    println!("{} is ready for --road-network", out.display());
    ExitCode::SUCCESS
}

fn exit_bad_config(line: &str) -> ExitCode {
    eprintln!("ordercast: {line}");
    ExitCode::from(BAD_CONFIG)
}

fn exit_failure(line: &str) -> ExitCode {
    eprintln!("ordercast: {line}");
    ExitCode::FAILURE
}

async fn serve(config: Serve) -> ExitCode {
    let config = match config.check() {
        Ok(config) => config,
        Err(line) => return exit_bad_config(&line),
    };
    telemetry::start();
    let listener = match server::listen(config.listen, config.reuse_port) {
        Ok(listener) => listener,
        Err(error) => return exit_bad_config(&format!("cannot listen on {}: {error}", config.listen)),
    };
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return exit_failure(&format!("the listener has no address: {error}")),
    };
    let stop = CancellationToken::new();
    let (demo, scheme) = (config.demo, if config.tls_cert.is_some() { "https" } else { "http" });
    let on_started = move || {
        if demo {
            println!("Ordercast demo: open {scheme}://{address} in a browser");
        } else {
            println!("Ordercast listens on {scheme}://{address}");
        }
        tracing::info!(%address, "listening");
        systemd::tell("READY=1");
    };
    let running = server::run(config, Clock::System, listener, stop.clone(), on_started);
    tokio::spawn(async move {
        stop_signal().await;
        systemd::tell("STOPPING=1");
        stop.cancel();
    });
    match running.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(ServerError::Config(line)) => exit_bad_config(&line),
        Err(error @ ServerError::Database(_)) => exit_bad_config(&error.to_string()),
        Err(error) => exit_failure(&error.to_string()),
    }
}

/// Waits for SIGTERM or SIGINT.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let sigterm = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = sigterm => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Asks `/ready` of the server on this machine.
async fn health(args: &HealthArgs) -> ExitCode {
    let address = server::here(args.listen);
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    // The certificate is for a name, and this asks an address of this machine.
    let client = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .timeout(HEALTH_TIMEOUT)
        .build();
    let answer = match client {
        Ok(client) => client.get(format!("{scheme}://{address}/ready")).send().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) if answer.status().is_success() => ExitCode::SUCCESS,
        Ok(answer) => exit_failure(&format!("the server is not ready: {}", answer.status())),
        Err(error) => exit_failure(&format!("the server does not answer: {error}")),
    }
}

/// Looks at everything that a server needs. Exit code 1 if something failed.
async fn examine(args: DoctorArgs) -> ExitCode {
    let given = Cli::command().get_matches();
    let mut report = Report::new(args.json);
    Box::pin(doctor::examine(args.serve, given.subcommand_matches("doctor"), &mut report)).await;
    match report.finish() {
        Ok(()) if report.count(Level::Fail) == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => exit_failure(&error.to_string()),
    }
}

fn print_sms_address(args: &SmsAddressArgs) -> ExitCode {
    match inbound_address(&args.notify_key, &args.public_url, args.sms_provider) {
        Ok(address) => print(&address),
        Err(_) => exit_bad_config("NOTIFY_KEY must be 64 hex digits"),
    }
}

fn print_token(args: &TokenArgs) -> ExitCode {
    let Some(secret) = &args.jwt_secret else {
        return exit_bad_config("set JWT_SECRET to sign a token with");
    };
    if let Err(line) = check_secret(secret) {
        return exit_bad_config(&line);
    }
    if let Err(rule) = ordercast::model::UserId::parse(&args.sub) {
        return exit_bad_config(&format!("--sub {rule}"));
    }
    match mint(secret, &args.sub, args.role, args.name.as_deref(), Clock::System.now(), args.ttl) {
        Ok(token) => print(&token),
        Err(error) => exit_failure(&format!("cannot sign: {error}")),
    }
}

/// Loads a server until it is over, or until a signal. A second signal ends it at once.
async fn load(options: &load::Options) -> ExitCode {
    let (stop, is_terminal) = (CancellationToken::new(), std::io::stderr().is_terminal());
    let every = if is_terminal { LOAD_PROGRESS } else { LOAD_PROGRESS * 5 };
    let loading = load::run(options, Clock::System, stop.clone(), every, |line| {
        if is_terminal { eprint!("\r\x1b[2K{line}") } else { eprintln!("{line}") }
    });
    let told_twice = async {
        stop_signal().await;
        stop.cancel();
        stop_signal().await;
    };
    let loaded = tokio::select! {
        loaded = loading => loaded,
        () = told_twice => return exit_failure("stopped; its orders may be open"),
    };
    if is_terminal {
        eprintln!();
    }
    match loaded {
        Ok(summary) => {
            let text =
                if options.json { serde_json::to_string_pretty(&summary) } else { Ok(summary.to_string()) };
            match text.map(|text| print(&text)) {
                Ok(code) if summary.passed => code,
                _ => ExitCode::FAILURE,
            }
        }
        Err(LoadError::Usage(line)) => exit_bad_config(&line),
        Err(error @ LoadError::Failed(_)) => exit_failure(&error.to_string()),
    }
}

/// Judges a delivery again, and says how it went.
async fn replay(args: ReplayArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    let Ok(order) = OrderId::parse(&args.order) else {
        return exit_bad_config("--order is not the id of an order");
    };
    let mut changes = Changes::none(Rules::of(args.driver_mode, false));
    for change in &args.set {
        let set = change.split_once('=').ok_or_else(|| "--set must be NAME=VALUE".to_owned());
        if let Err(rule) = set.and_then(|(name, value)| changes.set(name, value)) {
            return exit_bad_config(&rule);
        }
    }
    let db = match Db::connect(&url).await {
        Ok(db) => db,
        Err(error) => return exit_failure(&format!("the database cannot be opened: {error}")),
    };
    let recorded = match recorded(&db, Clock::System.now(), &order).await {
        Ok(recorded) => recorded,
        Err(error) => return exit_failure(&format!("{}: {error}", order.as_str())),
    };
    let replayed = ordercast::replay::replay(&recorded, &changes);
    if args.json {
        return match serde_json::to_string_pretty(&replayed) {
            Ok(json) => {
                println!("{json}");
                ExitCode::SUCCESS
            }
            Err(error) => exit_failure(&error.to_string()),
        };
    }
    print!("{replayed}");
    ExitCode::SUCCESS
}

async fn migrate(args: MigrateArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    let down = args.direction == Direction::Down;
    if down && !args.yes && !agrees() {
        return exit_bad_config("nothing was reverted: `migrate down` deletes data and needs `--yes`");
    }
    let opened = if down { Db::connect_alone(&url).await } else { Db::connect(&url).await.map(Some) };
    let db = match opened {
        Ok(Some(db)) => db,
        Ok(None) => {
            return exit_failure(
                "a server runs on this database, or another program has it open: stop it first",
            );
        }
        Err(error) => return exit_failure(&format!("the database cannot be opened: {error}")),
    };
    let applied = match args.direction {
        Direction::Up => db.migrate().await,
        Direction::Down => Migrator::down(db.writer(), Some(1)).await,
        Direction::Status => Ok(()),
    };
    let listed = match applied {
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
        Err(error) => exit_failure(&format!("migration failed: {error}")),
    }
}

async fn backup(args: BackupArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    match ordercast::backup::backup(&url, &args.to).await {
        Ok(Copied { position, size, .. }) => {
            println!("{}: {size} bytes, everything up to position {position}", args.to.display());
            ExitCode::SUCCESS
        }
        Err(error) => exit_failed_copy(&error),
    }
}

async fn restore(args: RestoreArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    match ordercast::backup::restore(&url, &args.from).await {
        Ok(Copied { position, size, schema }) => {
            println!("restored: {size} bytes, everything up to position {position}");
            match schema {
                Schema::Older { pending } => {
                    println!(
                        "it is of an older version: the server applies {pending} migrations at its start"
                    );
                }
                Schema::Newer { more } => {
                    println!("it is of a newer version, with {more} migrations that this one does not need");
                }
                _ => {}
            }
            println!("start the server; all clients begin anew");
            ExitCode::SUCCESS
        }
        Err(error) => exit_failed_copy(&error),
    }
}

fn exit_failed_copy(error: &BackupError) -> ExitCode {
    match error {
        BackupError::Refused(line) => exit_bad_config(line),
        error => exit_failure(&error.to_string()),
    }
}

/// Asks on the terminal, if there is one.
fn agrees() -> bool {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return false;
    }
    eprint!(
        "This reverts the newest migration and deletes the data that only it has room for. Type yes to go on: "
    );
    let mut line = String::new();
    input.read_line(&mut line).is_ok() && line.trim() == "yes"
}

/// Prints a text to standard output. A reader that closes the pipe early, such as `head`, is no error.
fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            exit_failure(&format!("cannot print: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print_openapi() -> ExitCode {
    match transport::http::document().to_pretty_json() {
        Ok(document) => print(&document),
        Err(error) => exit_failure(&format!("the document cannot be written: {error}")),
    }
}

fn print_completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ordercast", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

fn man(args: &ManArgs) -> ExitCode {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page) {
            Ok(()) => print(String::from_utf8_lossy(&page).trim_end()),
            Err(error) => exit_failure(&format!("the page cannot be made: {error}")),
        };
    };
    match clap_mangen::generate_to(Cli::command(), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_bad_config(&format!("--out: {} cannot be written to: {error}", folder.display())),
    }
}
