//! Connections to `PostgreSQL`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseBackend, DatabaseConnection, DbErr, Statement,
};
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use super::locks::NODE_LOCKS;
use super::{AdvisoryLock, STATEMENT_CACHE, shared_options};
use crate::base::clock::instant;

/// Connections of a process that is no server.
const CONNECTIONS: u32 = 4;
/// `PostgreSQL` cancels a statement that takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// `PostgreSQL` ends a transaction in which nothing is asked for so long, in milliseconds.
const IDLE_IN_TRANSACTION: &str = "2000";
/// A connection that was idle for so long is tested before it is used.
const IDLE_TEST: Duration = Duration::from_secs(30);
const MARK: &str = "SELECT pg_advisory_lock_shared($1), pg_advisory_lock_shared($2, hashtext($3))";
/// The keys of a lock are shown without their sign.
const CONNECTED: &str = "SELECT node FROM json_array_elements_text(CAST($1 AS json)) AS node WHERE EXISTS (
        SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE locktype = 'advisory' AND datname = current_database() AND classid::bigint = $2 AND objsubid = 2
            AND objid::bigint = hashtext(node)::bigint & 4294967295)";
/// The parameters of a URL that sqlx knows, beside `options[…]`. It logs others with their values, which may be secret.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Which connections of a pool are still trusted.
#[derive(Debug)]
pub(super) struct Trust {
    start: Instant,
    /// Connections opened before this are closed; in milliseconds after `start`.
    since: AtomicU64,
}

impl Default for Trust {
    fn default() -> Self {
        Self { start: instant(), since: AtomicU64::new(0) }
    }
}

impl Trust {
    /// From now on, connections that are open already are closed at their next use.
    pub fn renew(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    /// Whether a connection of this age may be used at a time `now`.
    fn trusts(&self, age: Duration, now: u64) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since == 0 || millis(age) < now.saturating_sub(since)
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed()).max(1)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a server says of itself.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    /// How many connections it needs.
    pub connections: u32,
    /// The id of the process.
    pub node: &'a str,
}

/// Opens a pool. A server marks its connections, so that [`alone`] and [`connected`] see that it is alive.
pub(super) async fn connect(
    url: &str,
    trust: &Arc<Trust>,
    server: Option<Server<'_>>,
) -> Result<DatabaseConnection, DbErr> {
    let (url, unknown) = known_parameters(url);
    for name in unknown {
        tracing::warn!(name, "a parameter of DATABASE_URL is not known, and ignored");
    }
    Database::connect(options(&url, Arc::clone(trust), server)).await
}

/// Host and port of a URL. `None` for a socket of the file system, and for a URL that cannot be read.
#[must_use]
pub fn address(url: &str) -> Option<(String, u16)> {
    let options: PgConnectOptions = known_parameters(url).0.parse().ok()?;
    let host = options.get_host();
    let is_file = options.get_socket().is_some() || host.starts_with('/');
    (!is_file).then(|| (host.to_owned(), options.get_port()))
}

fn options(url: &str, trust: Arc<Trust>, server: Option<Server<'_>>) -> ConnectOptions {
    let mut options = shared_options(url, server.map_or(CONNECTIONS, |server| server.connections));
    options
        .min_connections(2)
        .test_before_acquire_if_idle_for(IDLE_TEST)
        .statement_timeout(STATEMENT_TIMEOUT)
        .map_sqlx_postgres_opts(|postgres| {
            // Every statement has an index. Without this setting, PostgreSQL keeps a plan that it made while a table
            // was small and goes on reading the whole table when it is large. JIT is off because compiling a plan takes
            // longer than running any of these statements. A node that is cut off in the middle of a transaction would
            // keep its locks, that of the log too, until TCP gives up: all nodes would stand still.
            postgres.statement_cache_capacity(STATEMENT_CACHE).options([
                ("enable_seqscan", "off"),
                ("jit", "off"),
                ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
            ])
        })
        .map_sqlx_postgres_before_acquire(move |_, meta| {
            let trusted = trust.trusts(meta.age, trust.now());
            Box::pin(async move { Ok(trusted) })
        });
    if let Some(Server { node, .. }) = server {
        let node: Arc<str> = node.into();
        options.map_sqlx_postgres_pool_opts(move |pool| {
            let node = Arc::clone(&node);
            pool.after_connect(move |connection, _| {
                let node = Arc::clone(&node);
                Box::pin(async move {
                    let mark = sqlx::query(MARK).bind(AdvisoryLock::Servers.number());
                    mark.bind(NODE_LOCKS).bind(&*node).execute(connection).await?;
                    Ok(())
                })
            })
        });
    }
    options
}

/// Those of these nodes that have marked a connection which is still open.
pub(super) async fn connected(db: &DatabaseConnection, nodes: &[String]) -> Result<Vec<String>, DbErr> {
    let nodes = serde_json::to_string(nodes).map_err(|error| DbErr::Custom(error.to_string()))?;
    let values = [nodes.into(), i64::from(NODE_LOCKS).into()];
    let found = db
        .query_all_raw(Statement::from_sql_and_values(DatabaseBackend::Postgres, CONNECTED, values))
        .await?;
    found.iter().map(|row| row.try_get("", "node")).collect()
}

/// Takes the lock that the connections of every running server share, so that none can start meanwhile. Returns
/// whether there was none.
pub(super) async fn alone(db: &DatabaseConnection) -> Result<bool, DbErr> {
    let taken = db
        .query_one_raw(Statement::from_string(
            db.get_database_backend(),
            format!("SELECT pg_try_advisory_lock({}) AS taken", AdvisoryLock::Servers.number()),
        ))
        .await?;
    taken.map_or(Ok(false), |row| row.try_get("", "taken"))
}

/// The URL without the parameters that sqlx does not know, and the names of those. `sslrootcert=system` is libpq's word
/// for the public roots, which are always trusted here.
fn known_parameters(url: &str) -> (String, Vec<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), Vec::new()) };
    let mut known = form_urlencoded::Serializer::new(String::new());
    let mut unknown = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "sslrootcert" && value == "system" {
            continue;
        }
        if PARAMETERS.contains(&&*name) || name.starts_with("options[") {
            known.append_pair(&name, &value);
        } else {
            unknown.push(name.into_owned());
        }
    }
    (format!("{base}?{}", known.finish()), unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_parameters_are_named_without_their_values() {
        let (url, unknown) = known_parameters(
            "postgres://u:p@h/d?sslmode=verify-full&sslrootcert=%2Fa%20b.pem&secret_word=secret&options[x]=y&channel_binding=require",
        );
        assert_eq!(url, "postgres://u:p@h/d?sslmode=verify-full&sslrootcert=%2Fa+b.pem&options%5Bx%5D=y");
        assert_eq!(unknown, ["secret_word", "channel_binding"]);
        let (url, _) = known_parameters("postgres://u@h/d?sslmode=verify-full&sslrootcert=system");
        assert_eq!(url, "postgres://u@h/d?sslmode=verify-full");
        assert_eq!(known_parameters("postgres://u@h/d").0, "postgres://u@h/d");
    }

    #[test]
    fn connections_opened_before_a_failure_are_not_trusted() {
        let trust = Trust::default();
        let hour = Duration::from_secs(3_600);
        assert!(trust.trusts(hour, trust.now()), "nothing has failed");
        trust.renew();
        let later = trust.now() + 1_000;
        assert!(!trust.trusts(hour, later) && !trust.trusts(Duration::from_millis(1_000), later));
        assert!(trust.trusts(Duration::from_millis(10), later), "opened since");
    }
}
