//! Structured logs. What is logged is chosen member by member: no token, secret, phone or address ever is.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,sqlx::query=warn,sea_orm_migration=warn";

/// Below INFO, libraries log what passes through them, tokens and addresses among it: only our own crate may, whatever
/// `RUST_LOG` says.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("ordercast") || *metadata.level() <= Level::INFO
}

/// Starts logging to standard error: for people on a terminal, as JSON otherwise.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = if std::io::stderr().is_terminal() {
        fmt::layer().with_target(false).with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
    };
    let lines = lines.with_filter(filter_fn(is_discreet));
    // A logger that is already there is as good.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
