//! Limits of the process.

use rustix::process::{Resource, getrlimit};

use super::Report;
use crate::base::config::Serve;

const AREA: &str = "process";
/// Files that a server has open besides connections: its log, keys, timers.
const OWN: u64 = 64;

pub(super) fn check(config: &Serve, report: &mut Report) {
    let limit = getrlimit(Resource::Nofile);
    let database = if config.database.is_shared() { config.cluster.database_max_connections } else { 16 };
    let wanted = config.limits.max_connections as u64 + u64::from(database) + OWN;
    match limit.current {
        Some(files) if files < wanted => report.warn(
            AREA,
            format!(
                "this process may open {files} files, and MAX_CONNECTIONS and the database want {wanted}"
            ),
            "beyond that, nobody else can connect",
            format!(
                "raise it (`ulimit -n {wanted}`, LimitNOFILE={wanted} for systemd), or lower MAX_CONNECTIONS"
            ),
        ),
        Some(files) => {
            report.ok(AREA, format!("this process may open {files} files, and wants up to {wanted}"));
        }
        None => report.ok(AREA, "this process may open as many files as it likes"),
    }
}
