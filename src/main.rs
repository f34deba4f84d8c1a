//! The `ordercast` binary: handles flags, logs, signals and exit codes.

mod commands;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use ordercast::base::clock::{Clock, instant};
use ordercast::base::config::Serve;
use ordercast::base::{systemd, telemetry};
use ordercast::cli::{BuildArgs, Cli, DoctorArgs, HealthArgs, RoadsArgs, RoadsCommand, Subcommand};
use ordercast::describe;
use ordercast::doctor::{self, Level, Report};
use ordercast::load::{self, LoadError};
use ordercast::route::network::Network;
use ordercast::server::{self, ServerError};
use tokio_util::sync::CancellationToken;

use self::commands::{
    backup, exit_bad_config, exit_failure, man, migrate, print, print_completions, print_openapi,
    print_sms_address, print_token, replay, restore,
};

/// mimalloc, because frames are many small allocations that one task makes and another one frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        .http1_only()
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
