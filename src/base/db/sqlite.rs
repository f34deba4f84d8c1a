//! Connections to `SQLite`.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, Statement};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::base::clock::instant;

use super::{ACQUIRE_TIMEOUT, FailureKind, STATEMENT_CACHE, failure_kind, shared_options};

const READERS: u32 = 4;
/// Rows that the thread of a connection buffers for its reader.
const ROW_BUFFER: usize = 512;
/// Size of the write-ahead log in pages (64 MB) at which a commit also copies the log into the database file. Such a
/// commit waits for the disk three times, and all other writers wait with it, so it must be rare.
const WAL_PAGES: &str = "16000";
/// How long to wait while another process makes the file.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Only the user of the server reads and writes the database.
const PRIVATE: u32 = 0o600;
/// What a file of the database may not allow others.
const OTHERS: u32 = 0o007;

/// An in-memory database exists in one connection only.
fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}

/// Opens the connection that writes and those that read.
pub(super) async fn connect(url: &str) -> Result<(DatabaseConnection, DatabaseConnection), DbErr> {
    keep_private(url);
    let writer = connect_writer(url).await?;
    let reader =
        if is_in_memory(url) { writer.clone() } else { Database::connect(options(url, READERS)).await? };
    Ok((writer, reader))
}

/// Opens the connection that writes. While another process makes the file, `SQLite` does not wait for it but fails.
async fn connect_writer(url: &str) -> Result<DatabaseConnection, DbErr> {
    let began = instant();
    loop {
        match Database::connect(options(url, 1)).await {
            Err(error) if error.to_string().contains("locked") && began.elapsed() < ACQUIRE_TIMEOUT => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// Opens a single connection that no other process can have beside it; `None` if another process has the database open.
pub(super) async fn connect_alone(url: &str) -> Result<Option<DatabaseConnection>, DbErr> {
    keep_private(url);
    let db = Database::connect(options(url, 1)).await?;
    for pragma in ["PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = DELETE"] {
        // Only the last connection of all can leave the WAL. SQLite's own locks say so, and they end with the process.
        let left = db.query_all_raw(Statement::from_string(db.get_database_backend(), pragma)).await;
        match left {
            Err(error) if failure_kind(&error) == FailureKind::Outage => return Ok(None),
            left => drop(left?),
        }
    }
    Ok(Some(db))
}

/// Opens a single connection that reads and changes nothing, not even the files beside the database.
pub(super) async fn look(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = shared_options(url, 1);
    // Without a WAL nobody writes there now, and SQLite need not make one to read.
    let is_still = file_of(url).is_some_and(|file| !beside(&file, "-wal").exists());
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite.create_if_missing(false).read_only(true).immutable(is_still).busy_timeout(ACQUIRE_TIMEOUT)
    });
    Database::connect(options).await
}

/// A file that `SQLite` has beside that of the database.
#[must_use]
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn options(url: &str, connections: u32) -> ConnectOptions {
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

/// Makes a new database file readable for its owner only; `SQLite` gives the files of its WAL the same mode. A file that
/// everybody may read, as an older version made it, is closed to others too. An operator may allow a group.
fn keep_private(url: &str) {
    let Some(file) = file_of(url) else { return };
    let created = url.contains("mode=rwc")
        && OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&file).is_ok();
    if created {
        return;
    }
    for suffix in ["", "-wal", "-shm"] {
        let file = beside(&file, suffix);
        if let Err(error) = close_to_others(&file) {
            tracing::warn!(%error, file = %file.display(), "others may read this file of the database");
        }
    }
}

fn close_to_others(file: &Path) -> std::io::Result<()> {
    match std::fs::metadata(file) {
        Ok(found) if found.is_file() && found.permissions().mode() & OTHERS != 0 => {
            std::fs::set_permissions(file, Permissions::from_mode(PRIVATE))
        }
        _ => Ok(()),
    }
}

/// The file of a `SQLite` database. `None` for one in memory, and for a URL that cannot be read.
#[must_use]
pub fn file_of(url: &str) -> Option<PathBuf> {
    if is_in_memory(url) {
        return None;
    }
    let options: SqliteConnectOptions = url.parse().ok()?;
    Some(options.get_filename().to_owned())
}
