//! Work that one process at a time does on a shared database.

use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseTransaction, Statement};

use crate::base::db::{AdvisoryLock, Db};
use crate::base::error::Refusal;

/// The turn of this process, until [`Turn::end`]. On `PostgreSQL` it is an advisory lock, which ends with its connection.
/// On `SQLite` there is none: few processes share a file, and each batch of work has the database for itself.
pub(super) struct Turn {
    lock: Option<DatabaseTransaction>,
}

impl Turn {
    /// Lets the next process have its turn. A turn that is dropped ends a little later.
    pub async fn end(self) {
        if let Some(lock) = self.lock
            && let Err(error) = lock.rollback().await
        {
            tracing::debug!(%error, "a lock was not released; it ends with its connection");
        }
    }

    /// Takes the turn for a kind of work. `None` while another process has it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take(db: &Db, work: AdvisoryLock) -> Result<Option<Self>, Refusal> {
        if db.writer().get_database_backend() == DatabaseBackend::Sqlite {
            return Ok(Some(Self { lock: None }));
        }
        let tx = db.begin().await?;
        // Nothing is asked in this transaction while the work is done on other connections.
        tx.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
        let sql = format!("SELECT pg_try_advisory_xact_lock({}) AS taken", work.number());
        let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await?;
        let taken = row.map(|row| row.try_get::<bool>("", "taken")).transpose()?.unwrap_or_default();
        if !taken {
            tx.rollback().await?;
            return Ok(None);
        }
        Ok(Some(Self { lock: Some(tx) }))
    }
}
