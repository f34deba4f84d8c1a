//! The database: one writer and several readers on `SQLite`, one pool on `PostgreSQL`.

use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection, Error};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseBackend, DatabaseConnection, DatabaseTransaction,
    DbErr, RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use serde::Serialize;

/// How long anybody waits for a connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const SLOW_STATEMENT: Duration = Duration::from_millis(250);
const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 20;
/// Rows that one statement inserts at most.
const PIECE: usize = 64;
/// Rows that a connection of `SQLite` hands over at a time.
const ROWS: usize = 512;
/// Pages that the log of `SQLite` holds (64 MB) before the commit that fills it also copies them into the database. Such a
/// commit waits for the disk three times, and all who come meanwhile wait with it: so it must be rare.
const LOG_PAGES: &str = "16000";
/// Statements that a connection keeps prepared.
const PREPARED: usize = 256;
/// A statement of ours that takes longer on `PostgreSQL` is given up.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Both ends of the database.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
}

impl Db {
    /// Connects, and applies the migrations that are missing.
    ///
    /// # Errors
    /// When the database does not answer or a migration fails.
    pub async fn open(url: &str) -> Result<Self, DbErr> {
        let db = Self::connect(url).await?;
        Migrator::up(&db.writer, None).await?;
        Ok(db)
    }

    /// Connects only.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn connect(url: &str) -> Result<Self, DbErr> {
        if url.starts_with("sqlite:") {
            // An in-memory database is its connection: there can be only one.
            let memory = url.contains(":memory:") || url.contains("mode=memory");
            let writer = Database::connect(sqlite(url, 1)).await?;
            let reader =
                if memory { writer.clone() } else { Database::connect(sqlite(url, SQLITE_READERS)).await? };
            Ok(Self { writer, reader })
        } else {
            let pool = Database::connect(postgres(url)).await?;
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

    /// Begins a transaction that will write. On `SQLite` it takes the write lock at once (IMMEDIATE), so that
    /// reading first and writing later can never fail half-way.
    ///
    /// # Errors
    /// When the database does not answer.
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

    /// Closes all connections; what was committed is on disk already.
    pub async fn close(&self) {
        for end in [&self.reader, &self.writer] {
            if let Err(error) = end.close_by_ref().await {
                tracing::warn!(%error, "the database did not close cleanly");
            }
        }
    }
}

fn common(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .sqlx_logging_level(log::LevelFilter::Debug)
        .sqlx_slow_statements_logging_settings(log::LevelFilter::Warn, SLOW_STATEMENT);
    options
}

fn sqlite(url: &str, connections: u32) -> ConnectOptions {
    let mut options = common(url, connections);
    options.min_connections(1).test_before_acquire(false).map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .journal_mode(SqliteJournalMode::Wal)
            // FULL, not NORMAL: what was acknowledged survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE_TIMEOUT)
            .foreign_keys(true)
            .pragma("cache_size", "-16000")
            .pragma("wal_autocheckpoint", LOG_PAGES)
            // What a statement may have to take back is kept in memory, not in a file.
            .pragma("temp_store", "memory")
            .statement_cache_capacity(PREPARED)
            // Rows come from a thread of their own, so many at a time.
            .row_buffer_size(ROWS)
    });
    // A full disk makes SQLite roll back by itself, and sqlx goes on to believe that it is inside a transaction: what
    // comes next on that connection would never be committed. Such a connection is not used again.
    options.map_sqlx_sqlite_before_acquire(|connection, _| {
        Box::pin(async move {
            // A rollback may still be on its way: a ping comes after it.
            if connection.is_in_transaction() {
                connection.ping().await?;
            }
            Ok(!connection.is_in_transaction())
        })
    });
    // Connections live as long as the server: an in-memory database would be lost with its connection.
    options.idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
    options
}

fn postgres(url: &str) -> ConnectOptions {
    let mut options = common(url, POSTGRES_CONNECTIONS);
    options
        .min_connections(2)
        .test_before_acquire_if_idle_for(Duration::from_secs(30))
        .statement_timeout(STATEMENT_TIMEOUT)
        .map_sqlx_postgres_opts(|postgres| {
            // Every statement of ours has an index to use. PostgreSQL keeps plans that it made while a table was small, and
            // would read all of it long after that; compiling a plan takes longer than any of them.
            postgres.statement_cache_capacity(PREPARED).options([("enable_seqscan", "off"), ("jit", "off")])
        });
    options
}

/// What a failure of the database means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection or the disk is at fault: the same may succeed later.
    Outage,
    /// A concurrent transaction took a unique value first: the same may succeed at once.
    Conflict,
    /// The statement is at fault.
    Bug,
}

/// Tells failures of the database apart, by the error codes of both databases.
#[must_use]
pub fn failure(error: &DbErr) -> Failure {
    if matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_))) {
        return Failure::Conflict;
    }
    let inner = match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => return Failure::Outage,
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return Failure::Bug,
    };
    let outage = match &**inner {
        Error::Io(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed | Error::Tls(_) => true,
        Error::Database(database) => database.code().is_some_and(|code| match code.parse::<u32>() {
            // SQLite: busy, I/O error, disk full, cannot open. Bits above the lowest byte only say more about it.
            Ok(sqlite @ 0..10_000) => matches!(sqlite & 0xFF, 5 | 10 | 13 | 14),
            // PostgreSQL: admin shutdown, crash shutdown, cannot connect now, statement timeout, disk full.
            _ => matches!(&*code, "57P01" | "57P02" | "57P03" | "57014" | "53100"),
        }),
        _ => false,
    };
    if outage { Failure::Outage } else { Failure::Bug }
}

/// A statement in both dialects, for any number of rows: they are one value, [`rows`]. So its text is the same each time,
/// nothing has to be built, and a connection keeps it prepared. `SQLite` takes several statements as one.
pub struct Sql {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

impl Sql {
    /// The statement with its values, `$1` first.
    pub fn with<const N: usize>(&self, db: &impl ConnectionTrait, values: [Value; N]) -> Statement {
        let backend = db.get_database_backend();
        let text = if backend == DatabaseBackend::Sqlite { self.sqlite } else { self.postgres };
        Statement::from_sql_and_values(backend, text, values)
    }
}

/// Rows for a statement, as JSON.
///
/// # Errors
/// When a value has no JSON.
pub fn rows(rows: &impl Serialize) -> Result<Value, serde_json::Error> {
    Ok(serde_json::to_string(rows)?.into())
}

/// Repeats the last key until there are 1, 2, 4, 8… of them: statements with a list of keys come in few lengths, and a
/// connection keeps each of them prepared.
#[must_use]
pub fn padded<K: Clone>(mut keys: Vec<K>) -> Vec<K> {
    if let Some(last) = keys.last().cloned() {
        keys.resize(keys.len().next_power_of_two(), last);
    }
    keys
}

/// Cuts rows to be inserted into pieces of at most 64, each a power of two long, for the same reason.
pub fn pieces<R>(mut rows: Vec<R>) -> impl Iterator<Item = Vec<R>> {
    std::iter::from_fn(move || {
        let size = rows.len().checked_ilog2().map(|power| (1 << power).min(PIECE))?;
        let rest = rows.split_off(size);
        Some(std::mem::replace(&mut rows, rest))
    })
}
