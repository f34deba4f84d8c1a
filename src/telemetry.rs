//! Structured logs. What is logged is chosen member by member: no token, secret, phone or address ever is.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise. socketioxide and engineioxide log payloads, tokens among
/// them, below INFO; they are held there whatever `RUST_LOG` says.
const DEFAULT_FILTER: &str = "info";
const ALWAYS: [&str; 4] =
    ["socketioxide=info", "engineioxide=info", "sqlx::query=warn", "sea_orm_migration=warn"];

/// Starts logging to standard error: for people on a terminal, as JSON otherwise.
pub fn start() {
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    for directive in ALWAYS {
        if let Ok(directive) = directive.parse() {
            filter = filter.add_directive(directive);
        }
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A logger that is already there (in tests) is as good.
    let _ = if std::io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}
