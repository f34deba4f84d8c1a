//! The lowest layer. Every other layer may use it: clock and randomness, settings, database, errors, metrics.

pub mod address;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod fullness;
pub mod health;
pub mod json;
pub mod json_text;
pub mod metrics;
pub mod outbound;
pub mod rate_limit;
pub mod spawn;
mod strict;
pub mod systemd;
pub mod telemetry;
pub mod trace;
