//! Database connections: one writer and several readers on `SQLite`, one pool on `PostgreSQL`.

use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection, Error};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseBackend, DatabaseConnection, DatabaseTransaction,
    DbErr, RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use serde::Serialize;

use super::clock::instant;

/// How long a caller waits for a free connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const SLOW_STATEMENT: Duration = Duration::from_millis(250);
const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 20;
/// How long a starting process waits for another one that migrates a `SQLite` database.
const MIGRATION_WAIT: Duration = Duration::from_secs(60);
/// The advisory lock of migrations on `PostgreSQL`. Any number that nothing else uses.
const MIGRATION_LOCK: i64 = 0x006f_7264_6572_0001;
/// Maximum number of rows in one INSERT.
const MAX_INSERT_ROWS: usize = 64;
/// Rows that the thread of a `SQLite` connection buffers for its reader.
const ROW_BUFFER: usize = 512;
/// Size of `SQLite`'s write-ahead log in pages (64 MB) at which a commit also copies the log into the database file.
/// Such a commit waits for the disk three times, and all other writers wait with it, so it must be rare.
const WAL_PAGES: &str = "16000";
/// Prepared statements that each connection caches.
const STATEMENT_CACHE: usize = 256;
/// `PostgreSQL` cancels a statement that takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections for reading and for writing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
}

impl Db {
    /// Connects and applies pending migrations.
    ///
    /// # Errors
    /// If the database does not answer or a migration fails.
    pub async fn open(url: &str) -> Result<Self, DbErr> {
        let db = Self::connect(url).await?;
        db.migrate().await?;
        Ok(db)
    }

    /// Applies pending migrations. Processes that start at the same time take turns, and those that come later find
    /// nothing left to do.
    ///
    /// # Errors
    /// If a migration fails, or another process holds the database for more than a minute.
    pub async fn migrate(&self) -> Result<(), DbErr> {
        let deadline = instant() + MIGRATION_WAIT;
        let tx = loop {
            match self.begin().await {
                // `SQLite` gives up waiting for the lock after a while.
                Err(error) if failure_kind(&error) == FailureKind::Outage && instant() < deadline => {}
                tx => break tx?,
            }
        };
        if tx.get_database_backend() != DatabaseBackend::Sqlite {
            let lock =
                format!("SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
            tx.execute_unprepared(&lock).await?;
        }
        Migrator::up(&tx, None).await?;
        tx.commit().await
    }

    /// Connects without applying migrations.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn connect(url: &str) -> Result<Self, DbErr> {
        if url.starts_with("sqlite:") {
            // An in-memory database exists in one connection only, so reader and writer share it.
            let memory = url.contains(":memory:") || url.contains("mode=memory");
            let writer = Database::connect(sqlite_options(url, 1)).await?;
            let reader = if memory {
                writer.clone()
            } else {
                Database::connect(sqlite_options(url, SQLITE_READERS)).await?
            };
            Ok(Self { writer, reader })
        } else {
            let pool = Database::connect(postgres_options(url)).await?;
            Ok(Self { writer: pool.clone(), reader: pool })
        }
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

    /// Whether the database answers.
    pub async fn answers(&self) -> bool {
        matches!(tokio::time::timeout(ACQUIRE_TIMEOUT, self.reader.ping()).await, Ok(Ok(())))
    }

    /// Closes all connections. Committed data is already on disk.
    pub async fn close(&self) {
        for end in [&self.reader, &self.writer] {
            if let Err(error) = end.close_by_ref().await {
                tracing::warn!(%error, "the database did not close cleanly");
            }
        }
    }
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

fn sqlite_options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = shared_options(url, connections);
    options.min_connections(1).test_before_acquire(false).map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .journal_mode(SqliteJournalMode::Wal)
            // FULL, not NORMAL: an acknowledged change survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE_TIMEOUT)
            .foreign_keys(true)
            .pragma("cache_size", "-16000")
            .pragma("wal_autocheckpoint", WAL_PAGES)
            // Keeps the journal of a statement that may be undone in memory instead of a file.
            .pragma("temp_store", "memory")
            .statement_cache_capacity(STATEMENT_CACHE)
            .row_buffer_size(ROW_BUFFER)
    });
    // When the disk is full, SQLite rolls back by itself, but sqlx still believes that it is inside a transaction.
    // Later statements on that connection would never be committed, so the pool must discard it.
    options.map_sqlx_sqlite_before_acquire(|connection, _| {
        Box::pin(async move {
            // A queued rollback may not have run yet. The ping runs after it.
            if connection.is_in_transaction() {
                connection.ping().await?;
            }
            Ok(!connection.is_in_transaction())
        })
    });
    // Connections live as long as the server, because an in-memory database ends with its connection.
    options.idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
    options
}

fn postgres_options(url: &str) -> ConnectOptions {
    let mut options = shared_options(url, POSTGRES_CONNECTIONS);
    options
        .min_connections(2)
        .test_before_acquire_if_idle_for(Duration::from_secs(30))
        .statement_timeout(STATEMENT_TIMEOUT)
        .map_sqlx_postgres_opts(|postgres| {
            // Every statement has an index. Without this setting, PostgreSQL keeps a plan that it made while a table
            // was small and goes on reading the whole table when it is large. JIT is off because compiling a plan takes
            // longer than running any of these statements.
            postgres
                .statement_cache_capacity(STATEMENT_CACHE)
                .options([("enable_seqscan", "off"), ("jit", "off")])
        });
    options
}

/// What a database error means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The connection or the disk failed. A retry may succeed later.
    Outage,
    /// A concurrent transaction took a unique value first. A retry may succeed at once.
    Conflict,
    /// The statement is wrong.
    Bug,
}

/// Classifies an error by the error codes of both databases.
#[must_use]
pub fn failure_kind(error: &DbErr) -> FailureKind {
    if matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_))) {
        return FailureKind::Conflict;
    }
    let inner = match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => return FailureKind::Outage,
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return FailureKind::Bug,
    };
    let outage = match &**inner {
        Error::Io(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed | Error::Tls(_) => true,
        Error::Database(database) => database.code().is_some_and(|code| match code.parse::<u32>() {
            // SQLite: busy, I/O error, disk full, cannot open. The lowest byte is the primary code.
            Ok(sqlite @ 0..10_000) => matches!(sqlite & 0xFF, 5 | 10 | 13 | 14),
            // PostgreSQL: admin shutdown, crash shutdown, cannot connect now, statement timeout, disk full.
            _ => matches!(&*code, "57P01" | "57P02" | "57P03" | "57014" | "53100"),
        }),
        _ => false,
    };
    if outage { FailureKind::Outage } else { FailureKind::Bug }
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
