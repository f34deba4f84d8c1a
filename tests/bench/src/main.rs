//! Load generator for Ordercast and for the bare relays it is measured against.
//!
//! One thread, one command a run, one line of JSON on standard output. `tests/bench/run` starts the servers, calls
//! this program once for each of them and round, and prints the medians.
#![expect(clippy::disallowed_methods, reason = "a load generator measures with the machine's own clock")]

mod engine;
mod idle;
mod kernel;
mod load;
mod measure;
mod relay;
mod rest;
mod room;
mod socket;
mod stall;
mod status;
mod storm;
mod traffic;
mod wire;

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

/// The server under load.
#[derive(clap::Args)]
pub struct Target {
    /// Where it listens
    #[arg(long, global = true, default_value = "127.0.0.1:9001")]
    addr: SocketAddr,
    /// Its process, for CPU time and memory; the default is the generator itself
    #[arg(long, global = true, default_value_t = std::process::id())]
    pid: u32,
    /// Its `JWT_SECRET`; without one the server is a bare relay: no tokens, no REST
    #[arg(long, global = true)]
    jwt_secret: Option<String>,
    /// What it speaks
    #[arg(long, global = true, value_enum, default_value_t = wire::Wire::Socketio)]
    wire: wire::Wire,
    /// Copied to the result
    #[arg(long, global = true, default_value = "server")]
    label: String,
}

#[derive(Subcommand)]
enum Command {
    /// Drivers report positions in a closed loop; the watchers of each one's order receive them. Then the same, open,
    /// at half of that rate
    Relay(relay::Options),
    /// One driver reports, many sockets watch
    Room(room::Options),
    /// Memory and CPU per idle authenticated socket, and what it costs to connect
    Idle(idle::Options),
    /// Durable status changes, through REST or a socket, until the order's watcher has them
    Status(status::Options),
    /// One listener of a room stops reading; what the others notice of it
    Stall(stall::Options),
    /// All clients are lost at once and come back at once; time until each has what it missed
    Storm(storm::Options),
}

#[tokio::main(flavor = "local")]
async fn main() -> anyhow::Result<()> {
    let Cli { command, target } = Cli::parse();
    let (name, mut result) = match &command {
        Command::Relay(options) => ("relay", relay::run(&target, options).await?),
        Command::Room(options) => ("room", room::run(&target, options).await?),
        Command::Idle(options) => ("idle", idle::run(&target, options).await?),
        Command::Status(options) => ("status", status::run(&target, options).await?),
        Command::Stall(options) => ("stall", stall::run(&target, options).await?),
        Command::Storm(options) => ("storm", storm::run(&target, options).await?),
    };
    result["bench"] = name.into();
    result["server"] = target.label.into();
    println!("{result}");
    // Thousands of sockets need no orderly end.
    std::process::exit(0)
}
