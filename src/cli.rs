//! The command line: subcommands with their flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser};
use clap_complete::Shell;

use crate::base::config::{Database, Serve, SmsProvider, TravelMode};
use crate::dialect::realtime::ask::FASTEST;
use crate::load;
use crate::model::Role;

/// Live order tracking over Socket.IO.
#[derive(Debug, Parser)]
#[command(name = "ordercast", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Subcommand>,
    #[command(flatten)]
    pub serve: Serve,
}

impl Cli {
    /// Reads the command line and the environment. The demo signs everybody in, so it has nothing to do with what a
    /// server uses in earnest: keys, databases, origins and other systems are not taken from the environment then.
    ///
    /// # Errors
    /// What clap has to say, also for `--help`.
    pub fn read() -> Result<Self, clap::Error> {
        let cli = Self::try_parse()?;
        let demo = match &cli.command {
            None => cli.serve.demo,
            Some(Subcommand::Serve(serve)) => serve.demo,
            Some(Subcommand::Doctor(doctor)) => doctor.serve.demo,
            Some(_) => false,
        };
        if !demo {
            return Ok(cli);
        }
        let command = Self::command().mut_args(without_environment);
        let command = command.mut_subcommand("serve", |serve| serve.mut_args(without_environment));
        let command = command.mut_subcommand("doctor", |doctor| doctor.mut_args(without_environment));
        Self::from_arg_matches(&command.try_get_matches()?)
    }
}

/// The flag without its variable, unless it is a limit or says how to listen.
fn without_environment(arg: Arg) -> Arg {
    let harmless = arg.get_help_heading() == Some("Limits")
        || matches!(arg.get_id().as_str(), "listen" | "reuse_port" | "tile_url");
    if harmless { arg } else { arg.env(Resettable::Reset) }
}

#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Run the server (the default)
    Serve(Serve),
    /// Ask the server on this machine whether it is ready: exit code 0 or 1. For health checks of containers
    Health(HealthArgs),
    /// Check settings, database, clock, Redis, keys and ports, without starting the server or changing anything
    Doctor(DoctorArgs),
    /// Print a JWT signed with `JWT_SECRET`
    Token(TokenArgs),
    /// Apply, revert or list database migrations
    Migrate(MigrateArgs),
    /// Copy the `SQLite` database into a file, beside running servers
    Backup(BackupArgs),
    /// Put such a copy in the place of a `SQLite` database that is not there
    Restore(RestoreArgs),
    /// Prepare roads for `--road-network`
    Roads(RoadsArgs),
    /// Load a server with drivers, customers and orders of its own, and count what arrives
    Load(load::Options),
    /// Judge the positions of a delivery again, with the same rules or with others
    Replay(ReplayArgs),
    /// Print the address that SMS of customers come in at, for the settings of the provider
    SmsAddress(SmsAddressArgs),
    /// Print the `OpenAPI` document
    Openapi,
    /// Print the `AsyncAPI` document: what sockets say and hear
    Asyncapi,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all subcommands
    Man(ManArgs),
}

#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// A folder that is there, to write `ordercast.1`, `ordercast-token.1` and so on into
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON document at the end instead of lines
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// Address that the server listens on
    #[arg(long, env = "ORDERCAST_LISTEN", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// The server's certificate, if it speaks TLS
    #[arg(long, env = "TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct SmsAddressArgs {
    /// The key that the server seals with
    #[arg(long, env = "NOTIFY_KEY", hide_env_values = true, value_name = "HEX")]
    pub notify_key: String,
    /// The address of the server as customers know it
    #[arg(long, env = "PUBLIC_URL", value_name = "URL")]
    pub public_url: String,
    /// Who sends SMS
    #[arg(long, env = "SMS_PROVIDER", value_enum, value_name = "PROVIDER")]
    pub sms_provider: SmsProvider,
}

#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// User id
    #[arg(long)]
    pub sub: String,
    /// Role: customer, chef, driver, admin or service
    #[arg(long, value_parser = parse_role)]
    pub role: Role,
    /// Name of the user
    #[arg(long)]
    pub name: Option<String>,
    /// Lifetime, for example 30s, 15m, 1h or 7d
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// HS256 secret, at least 32 bytes
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct RoadsArgs {
    #[command(subcommand)]
    pub command: RoadsCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum RoadsCommand {
    /// Make a file that loads at once out of an extract of `OpenStreetMap`
    Build(BuildArgs),
}

#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    /// The extract (`.osm.pbf`)
    #[arg(value_name = "FILE.osm.pbf")]
    pub extract: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// What the roads are for
    #[arg(long, value_enum, value_delimiter = ',', default_value = "car", value_name = "MODES")]
    pub modes: Vec<TravelMode>,
}

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Id of the order
    #[arg(long)]
    pub order: String,
    /// Something that is to be different: `filter.vmax=30`, `filter.vmaxLong=20`, `filter.mode=bike`, `filter.mocked=drop`
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// What drivers travel with
    #[arg(long, env = "DRIVER_MODE", value_enum, default_value = "car", value_name = "MODE")]
    pub driver_mode: TravelMode,
    /// Print the events as they came, so many times as fast, instead of what became of each position
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(FASTEST)), value_name = "TIMES")]
    pub speed: Option<u32>,
    /// Print everything as JSON, as `POST /orders/{id}/replay` has it; with `--speed` each event in a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub database: Database,
}

#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    #[arg(value_enum)]
    pub direction: Direction,
    /// Do not ask before `down`, which deletes data
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub database: Database,
}

#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The file to write, which must not be there
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    #[command(flatten)]
    pub database: Database,
}

#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// The copy
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    #[command(flatten)]
    pub database: Database,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// Apply all pending migrations
    Up,
    /// Revert the newest migration, with the data that only it has room for. No server may run on the database
    Down,
    /// List all migrations and whether they are applied
    Status,
}

fn parse_role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "must be customer, chef, driver, admin or service".to_owned())
}
