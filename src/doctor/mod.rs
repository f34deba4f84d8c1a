//! `ordercast doctor`: looks at everything that a server needs, without starting one and without changing anything. Each finding says
//! what is so, why it matters and how to mend it.
//!
//! One file an area; each reads and connects with the code that the server itself uses.

mod certificate;
mod clock;
mod database;
mod keys;
mod ports;
mod postgres;
mod process;
mod redis;
mod report;
mod roads;
mod settings;
mod traces;

use std::future::Future;
use std::time::Duration;

use clap::ArgMatches;

pub use self::report::{Finding, Level, Report};
use crate::base::config::Serve;
use crate::base::db::Db;

/// How long one check may take: less than a pool waits for a connection, which does not say what it waited for.
const PATIENCE: Duration = Duration::from_secs(4);

/// Makes all checks. `given` are the flags and variables as they were read, to know which were set.
pub async fn examine(mut config: Serve, given: Option<&ArgMatches>, report: &mut Report) {
    settings::check(&config, given, report);
    // Fills in what `--demo` implies. What cannot be used was said, and the other areas are looked at all the same.
    if let Ok(checked) = config.clone().check() {
        config = checked;
    }
    let db = database::check(&config, report).await;
    clock::check(db.as_ref(), report).await;
    redis::check(&config, db.as_ref(), report).await;
    keys::check(&config, db.as_ref(), report).await;
    ports::check(&config, report).await;
    process::check(&config, report);
    roads::check(&config, report).await;
    traces::check(&config, report).await;
    if let Some(db) = db {
        db.close().await;
    }
}

/// The result of a check, or `None` if it did not end in time, which is then said.
async fn in_time<T>(
    area: &'static str,
    what: &str,
    report: &mut Report,
    check: impl Future<Output = T>,
) -> Option<T> {
    let ended = tokio::time::timeout(PATIENCE, check).await;
    if ended.is_err() {
        report.fail(
            area,
            format!("{what} did not answer within {} s", PATIENCE.as_secs()),
            "a server would wait for it too, or go on without it",
            "look whether it is overloaded, and whether a firewall drops packets on the way there",
        );
    }
    ended.ok()
}

/// What the checks of several areas need of the database: see `database`.
type Open<'a> = Option<&'a Db>;
