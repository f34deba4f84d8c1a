//! What an error of the database means to the caller. This is the one place that knows the error codes.

use sea_orm::{DbErr, RuntimeErr};
use sqlx::Error;

/// What a database error means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The database cannot do this now: its connection, its disk or its locks failed, or it is read-only. A retry may
    /// succeed later, on another connection.
    Outage,
    /// A concurrent transaction took a unique value first. A retry may succeed at once.
    Conflict,
    /// The statement is wrong.
    Bug,
}

/// Classifies an error of either database.
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
        // `Protocol` and `BeginFailed`: the connection is out of step, as one that was cut in the middle of an answer.
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::BeginFailed
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed => true,
        Error::Database(database) => database.code().is_some_and(|code| is_outage(&code)),
        _ => false,
    };
    if outage { FailureKind::Outage } else { FailureKind::Bug }
}

/// The code that the database gave: a SQLSTATE of `PostgreSQL`, a number of `SQLite`.
#[must_use]
pub fn failure_code(error: &DbErr) -> Option<String> {
    let (DbErr::Conn(RuntimeErr::SqlxError(inner))
    | DbErr::Exec(RuntimeErr::SqlxError(inner))
    | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
    else {
        return None;
    };
    match &**inner {
        Error::Database(database) => database.code().map(std::borrow::Cow::into_owned),
        _ => None,
    }
}

/// Whether an error code means that the database is away. A SQLSTATE of `PostgreSQL` always has five characters, a code
/// of `SQLite` has four digits or fewer.
fn is_outage(code: &str) -> bool {
    if code.len() != 5 {
        // The lowest byte of an extended code is the primary code: permission, busy, locked, no memory, read-only,
        // interrupted, I/O error, disk full, cannot open, locking protocol.
        return code
            .parse::<u32>()
            .is_ok_and(|code| matches!(code & 0xFF, 3 | 5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15));
    }
    // Classes: connection exception, transaction rollback (deadlock, serialization), insufficient resources (disk,
    // memory, connections), operator intervention (shutdown, crash, timeout), system error.
    if matches!(&code[..2], "08" | "40" | "53" | "57" | "58") {
        return true;
    }
    matches!(
        code,
        // Read-only, as after a failover; a transaction that PostgreSQL ended because it was idle or too long.
        "25006" | "25P03" | "25P04"
        // In use, not accepting this now, lock not available.
        | "55006" | "55000" | "55P03"
        // The connection's prepared statements are not what it believes: the schema changed below them, or a proxy
        // gave it another server connection.
        | "0A000" | "26000" | "42P05"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_database_that_is_away_are_outages() {
        for postgres in [
            "08000", "08001", "08003", "08004", "08006", "08007", "08P01", "25006", "25P03", "25P04",
            "40001", "40003", "40P01", "53000", "53100", "53200", "53300", "53400", "55000", "55006",
            "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58000", "58030", "0A000", "26000",
            "42P05",
        ] {
            assert!(is_outage(postgres), "{postgres}");
        }
        // Busy, busy snapshot, locked, out of memory, read-only, moved, interrupted, I/O errors, full, cannot open.
        for sqlite in
            ["5", "517", "6", "7", "8", "1032", "9", "10", "778", "4874", "8714", "13", "14", "1038", "15"]
        {
            assert!(is_outage(sqlite), "{sqlite}");
        }
    }

    #[test]
    fn codes_of_a_wrong_statement_are_bugs() {
        for postgres in
            ["22001", "22007", "22021", "23502", "23503", "25P02", "42601", "42703", "42P01", "XX001"]
        {
            assert!(!is_outage(postgres), "{postgres}");
        }
        // Error, corrupt, schema, too big, constraint, mismatch, misuse, range, not a database.
        for sqlite in ["1", "11", "17", "18", "19", "787", "20", "21", "25", "26"] {
            assert!(!is_outage(sqlite), "{sqlite}");
        }
    }
}
