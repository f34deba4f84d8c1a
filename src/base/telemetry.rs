//! Structured logs. Each logged field is chosen by hand: tokens, secrets, phone numbers and addresses are never logged.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The log filter if `RUST_LOG` is not set.
const DEFAULT_FILTER: &str = "info,sqlx::query=warn,sea_orm_migration=warn";

/// Whether an event may be logged. Below INFO, libraries log the data that passes through them, including tokens and
/// addresses, so only our own crate may log there, whatever `RUST_LOG` says.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("ordercast") || *metadata.level() <= Level::INFO
}

/// Starts logging to standard error: readable text on a terminal, otherwise JSON.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = if std::io::stderr().is_terminal() {
        fmt::layer().with_target(false).with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
    };
    let lines = lines.with_filter(filter_fn(may_be_logged));
    // Fails if a logger is already installed, for example in a test. That logger is kept.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
