//! Load generator for Ordercast and for the bare relays it is measured against.
//!
//! It uses one thread, runs one command and prints one line of JSON. `tests/bench/run` starts the servers, runs this
//! program once per server and round, and prints the medians.
#![expect(clippy::disallowed_methods, reason = "a load generator measures with the machine's own clock")]

mod count;
mod engine;
mod idle;
mod kernel;
mod load;
mod measure;
mod nodes;
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
#[derive(Clone, clap::Args)]
pub struct Target {
    /// Address of the server
    #[arg(long, global = true, default_value = "127.0.0.1:9001")]
    addr: SocketAddr,
    /// Process id of the server, to measure its CPU time and memory. The default is the generator itself
    #[arg(long, global = true, default_value_t = std::process::id())]
    pid: u32,
    /// `JWT_SECRET` of the server. Without it, the server is a bare relay: it has no tokens and no REST
    #[arg(long, global = true)]
    jwt_secret: Option<String>,
    /// Protocol of the server
    #[arg(long, global = true, value_enum, default_value_t = wire::Wire::Socketio)]
    wire: wire::Wire,
    /// Name of the server in the result
    #[arg(long, global = true, default_value = "server")]
    label: String,
}

#[derive(Subcommand)]
enum Command {
    /// Drivers report positions in a closed loop, and the watchers of their orders receive them. Then an open loop at
    /// half that rate
    Relay(relay::Options),
    /// Drivers report at a fixed rate, and watchers on other nodes receive it
    Nodes(nodes::Options),
    /// Counts the instructions of a server under callgrind while drivers report in a closed loop
    Count(count::Options),
    /// One driver reports and many sockets watch
    Room(room::Options),
    /// Memory and CPU per idle authenticated socket, and the cost of a connection
    Idle(idle::Options),
    /// Durable status changes through REST or a socket, with the time until the order's watcher has them
    Status(status::Options),
    /// One listener of a room stops reading; shows the effect on the others
    Stall(stall::Options),
    /// All clients disconnect and reconnect at once; time until each one has the events that it missed
    Storm(storm::Options),
}

#[tokio::main(flavor = "local")]
async fn main() -> anyhow::Result<()> {
    let Cli { command, target } = Cli::parse();
    let (name, mut result) = match &command {
        Command::Relay(options) => ("relay", relay::run(&target, options).await?),
        Command::Nodes(options) => ("nodes", nodes::run(&target, options).await?),
        Command::Count(options) => ("count", count::run(&target, options).await?),
        Command::Room(options) => ("room", room::run(&target, options).await?),
        Command::Idle(options) => ("idle", idle::run(&target, options).await?),
        Command::Status(options) => ("status", status::run(&target, options).await?),
        Command::Stall(options) => ("stall", stall::run(&target, options).await?),
        Command::Storm(options) => ("storm", storm::run(&target, options).await?),
    };
    result["bench"] = name.into();
    result["server"] = target.label.into();
    println!("{result}");
    // Exits at once, because closing thousands of sockets one by one would take long.
    std::process::exit(0)
}
