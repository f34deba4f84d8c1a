//! The command line: subcommands with their flags.

use std::time::Duration;

use clap::{Args, Parser};

use crate::base::config::{Database, Serve};
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

#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "exists once, at start")]
pub enum Subcommand {
    /// Run the server (the default)
    Serve(Serve),
    /// Print a JWT signed with `JWT_SECRET`
    Token(TokenArgs),
    /// Apply, revert or list database migrations
    Migrate(MigrateArgs),
    /// Print the `OpenAPI` document
    Openapi,
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
pub struct MigrateArgs {
    #[arg(value_enum)]
    pub direction: Direction,
    #[command(flatten)]
    pub database: Database,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Direction {
    /// Apply all pending migrations
    Up,
    /// Revert the newest migration
    Down,
    /// List all migrations and whether they are applied
    Status,
}

fn parse_role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "must be customer, chef, driver, admin or service".to_owned())
}
