//! Whether the log can be written. A database that still answers may be read-only after a failover, have no room on its
//! disk, or be locked by another process: only a write shows it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr};

use crate::base::db::Db;
use crate::base::health::Health;

/// How often the log is checked while nothing is written.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often it is checked while it cannot be written. A failed write counts for at least so long.
const RETRY: Duration = Duration::from_secs(1);
/// A write that takes longer counts as failed until it ends.
const PROMPT: Duration = Duration::from_secs(2);

/// Writes the head row as it was. It takes the lock that every change takes, and flushes the disk. Two statements,
/// because `SQLite` does not write a row that does not change.
const TOUCH: &str = "UPDATE log_head SET position = position + 1 WHERE id = 1;
    UPDATE log_head SET position = position - 1 WHERE id = 1";
/// Needs 40 KB of new room, as the next changes will. Nobody else has a stretch below 0.
const GROW_POSTGRES: &str = "INSERT INTO event_audience (stretch, audience, position)
    SELECT -1, repeat('x', 128), n FROM generate_series(1, 256) AS n; DELETE FROM event_audience WHERE stretch = -1";
const GROW_SQLITE: &str = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 256)
    INSERT INTO event_audience (stretch, audience, position) SELECT -1, printf('%.*c', 128, 'x'), n FROM t;
    DELETE FROM event_audience WHERE stretch = -1";

/// Keeps [`Health`] up to date, for ever. Commits of this node are proof enough, so a busy server writes nothing more.
pub async fn check(db: Db, health: Arc<Health>) {
    let mut good = true;
    loop {
        let before = health.writes();
        if good {
            let failed = tokio::time::timeout(INTERVAL, health.failure()).await;
            good = failed.is_err();
        } else {
            tokio::time::sleep(RETRY).await;
        }
        let (written, failed) = health.writes();
        if good && written > before.0 {
            continue;
        }
        if !good {
            // A connection that has failed, or leads to a server that is not the primary any more, must not be used
            // again. Neither may the others that were opened before.
            db.renew();
        }
        let writable = is_writable(&db, &health, !good).await;
        let failed_again = health.writes().1 > failed;
        if writable != good {
            tracing::warn!(writable, "whether the log can be written has changed");
        }
        good = writable && !failed_again;
        health.set_writable(good);
    }
}

/// Tries a write. With `grow`, one that needs new room on the disk.
async fn is_writable(db: &Db, health: &Health, grow: bool) -> bool {
    let mut tried = pin!(write(db, grow));
    let written = if let Ok(written) = tokio::time::timeout(PROMPT, &mut tried).await {
        written
    } else {
        health.set_writable(false);
        tried.await
    };
    if let Err(error) = &written {
        tracing::warn!(%error, "the log cannot be written; trying again");
    }
    written.is_ok()
}

async fn write(db: &Db, grow: bool) -> Result<(), DbErr> {
    let tx = db.begin().await?;
    if grow {
        let sqlite = tx.get_database_backend() == DatabaseBackend::Sqlite;
        tx.execute_unprepared(if sqlite { GROW_SQLITE } else { GROW_POSTGRES }).await?;
    }
    tx.execute_unprepared(TOUCH).await?;
    tx.commit().await
}
