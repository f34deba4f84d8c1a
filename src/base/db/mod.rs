//! Database connections: one writer and several readers on `SQLite`, one pool on `PostgreSQL`.

mod beside;
mod failure;
mod locks;
mod look;
mod many;
mod postgres;
mod shared;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use serde::Serialize;

pub use self::failure::{FailureKind, failure_code, failure_kind};
pub use self::locks::{AdvisoryLock, NAME_LOCKS};
pub use self::look::Schema;
pub use self::many::InsertMany;
use self::postgres::Trust;
pub use self::postgres::address as postgres_address;
pub use self::shared::shared;
pub use self::sqlite::{beside, file_of as sqlite_file};
use super::clock::{Time, instant, rfc3339};
use super::config::is_disabled;

/// How long a caller waits for a free connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the process waits for a pool to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const SLOW_STATEMENT: Duration = Duration::from_millis(250);
/// How long a starting process waits for another one that migrates a `SQLite` database.
const MIGRATION_WAIT: Duration = Duration::from_secs(60);
/// Maximum number of rows in one INSERT.
const MAX_INSERT_ROWS: usize = 64;
/// Prepared statements that each connection caches.
const STATEMENT_CACHE: usize = 256;

/// Connections for reading and for writing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    trust: Arc<Trust>,
}

impl Db {
    /// Connects as a running server with so many connections to `PostgreSQL`, and applies pending migrations. `node` is the id of
    /// the process: see [`Db::connected`].
    ///
    /// # Errors
    /// If the database does not answer or a migration fails.
    pub async fn open(url: &str, connections: u32, node: &str) -> Result<Self, DbErr> {
        let db = Self::connect_as(url, Some(postgres::Server { connections, node })).await?;
        db.migrate().await?;
        Ok(db)
    }

    /// Applies pending migrations. Processes that start at the same time take turns, and those that come later find
    /// nothing left to do.
    ///
    /// # Errors
    /// If a migration fails, another process holds the database for more than a minute, or a node of an older version runs that
    /// could not go on afterwards.
    pub async fn migrate(&self) -> Result<(), DbErr> {
        let deadline = instant() + MIGRATION_WAIT;
        let tx = loop {
            match self.begin().await {
                // `SQLite` gives up waiting for the lock after a while.
                Err(error) if failure_kind(&error) == FailureKind::Outage && instant() < deadline => {}
                tx => break tx?,
            }
        };
        if tx.get_database_backend() != DatabaseBackend::Sqlite && !is_disabled("lock") {
            let number = AdvisoryLock::Migrations.number();
            let lock = format!("SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({number})");
            tx.execute_unprepared(&lock).await?;
        }
        if !beside::is_ahead(&tx).await? {
            beside::check(&tx).await?;
            Migrator::up(&tx, None).await?;
        }
        tx.commit().await
    }

    /// Connects without applying migrations.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn connect(url: &str) -> Result<Self, DbErr> {
        Self::connect_as(url, None).await
    }

    /// Connects if no server runs on this database, and keeps servers from starting as long as this connection is open.
    /// `None` if one runs.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn connect_alone(url: &str) -> Result<Option<Self>, DbErr> {
        if is_sqlite(url) {
            let alone = sqlite::connect_alone(url).await?;
            return Ok(alone.map(|db| Self { writer: db.clone(), reader: db, trust: Arc::default() }));
        }
        let db = Self::connect(url).await?;
        Ok(postgres::alone(&db.writer).await?.then_some(db))
    }

    /// Connects to look, without changing anything: a file of `SQLite` is neither made nor written, nor its mode changed.
    ///
    /// # Errors
    /// If the database does not answer, or there is no such file.
    pub async fn look(url: &str) -> Result<Self, DbErr> {
        if is_sqlite(url) {
            let db = sqlite::look(url).await?;
            return Ok(Self { writer: db.clone(), reader: db, trust: Arc::default() });
        }
        Self::connect(url).await
    }

    async fn connect_as(url: &str, server: Option<postgres::Server<'_>>) -> Result<Self, DbErr> {
        let trust = Arc::default();
        let (writer, reader) = if is_sqlite(url) {
            sqlite::connect(url).await?
        } else {
            let pool = postgres::connect(url, &trust, server).await?;
            (pool.clone(), pool)
        };
        Ok(Self { writer, reader, trust })
    }

    /// Something failed that points at the connections: they are closed at their next use, and new ones are opened.
    /// Those of `SQLite` have no other end that could fail.
    pub fn renew(&self) {
        self.trust.renew();
    }

    /// Those of these nodes that have a connection to `PostgreSQL`. Who has none has ended, or was cut off so that it is known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn connected(&self, nodes: &[String]) -> Result<Vec<String>, DbErr> {
        if nodes.is_empty() || !self.is_shared() {
            return Ok(Vec::new());
        }
        postgres::connected(&self.writer, nodes).await
    }

    /// Whether several machines may use it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.writer.get_database_backend() != DatabaseBackend::Sqlite
    }

    /// For statements that only read.
    #[must_use]
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// For single statements that write.
    #[must_use]
    pub fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Begins a transaction that will write. On `SQLite` it takes the write lock at once (IMMEDIATE). Otherwise a
    /// transaction that reads first could fail when it starts to write.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let mode = match self.writer.get_database_backend() {
            DatabaseBackend::Sqlite => Some(SqliteTransactionMode::Immediate),
            _ => None,
        };
        self.writer
            .begin_with_options(TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() })
            .await
    }

    /// Closes all connections. Committed data is already on disk, so this does not wait long: a pool that tries to
    /// connect to a database that is away would do so for minutes.
    pub async fn close(&self) {
        let closed = async {
            for end in [&self.reader, &self.writer] {
                if let Err(error) = end.close_by_ref().await {
                    tracing::warn!(%error, "the database did not close cleanly");
                }
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the database did not close in time");
        }
    }
}

fn is_sqlite(url: &str) -> bool {
    url.starts_with("sqlite:")
}

fn shared_options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .sqlx_logging_level(log::LevelFilter::Debug)
        .sqlx_slow_statements_logging_settings(log::LevelFilter::Warn, SLOW_STATEMENT);
    options
}

/// A statement in both SQL dialects. All its rows are one JSON parameter, see [`rows`], so that its text never changes
/// and each connection keeps it prepared. The `SQLite` text may hold several statements.
pub struct Sql {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

impl Sql {
    /// Binds the values, `$1` first, to the text for this database.
    pub fn with<const N: usize>(&self, db: &impl ConnectionTrait, values: [Value; N]) -> Statement {
        let backend = db.get_database_backend();
        let text = if backend == DatabaseBackend::Sqlite { self.sqlite } else { self.postgres };
        Statement::from_sql_and_values(backend, text, values)
    }
}

/// Rows for a [`Sql`] statement as one JSON parameter.
///
/// # Errors
/// If a row cannot be serialized.
pub fn rows(rows: &impl Serialize) -> Result<Value, serde_json::Error> {
    Ok(serde_json::to_string(rows)?.into())
}

/// A time as a value. In `SQLite` it is the text that `sqlx` would write, in a fraction of its time: there times are compared as
/// text.
#[must_use]
pub fn stored_time(at: Time, backend: DatabaseBackend) -> Value {
    if backend != DatabaseBackend::Sqlite {
        return at.into();
    }
    let text = rfc3339(at);
    let text = text.strip_suffix('Z').unwrap_or(&text);
    [text.strip_suffix(".000").unwrap_or(text), "+00:00"].concat().into()
}

/// Repeats the last key until the number of keys is a power of two. Statements with a list of keys then have few
/// different lengths, so that a connection can keep them all prepared.
#[must_use]
pub fn padded<K: Clone>(mut keys: Vec<K>) -> Vec<K> {
    if let Some(last) = keys.last().cloned() {
        keys.resize(keys.len().next_power_of_two(), last);
    }
    keys
}

/// Splits rows for INSERT into chunks of 64 rows or fewer. The length of each chunk is a power of two, for the same
/// reason as in [`padded`].
pub fn pieces<R>(mut rows: Vec<R>) -> impl Iterator<Item = Vec<R>> {
    std::iter::from_fn(move || {
        let size = rows.len().checked_ilog2().map(|power| (1 << power).min(MAX_INSERT_ROWS))?;
        let rest = rows.split_off(size);
        Some(std::mem::replace(&mut rows, rest))
    })
}
