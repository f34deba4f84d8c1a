//! Refusals, in the words of the domain. The transport says what HTTP or a socket makes of them.

use std::error::Error;
use std::fmt;
use std::panic::Location;

use entity::OrderStatus;
use sea_orm::DbErr;

use super::db::{self, Failure};

/// Why something asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The input has a member that is missing, of the wrong type, or out of range.
    #[error("{member}: {reason}")]
    Invalid { member: String, reason: String },
    /// There is no event of this name that a client may send.
    #[error("event: is not one that this server knows")]
    UnknownEvent(String),
    /// The input is not even well-formed.
    #[error("{0}")]
    Malformed(String),
    /// No token, or one that does not verify.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The token was good once.
    #[error("the token has expired")]
    TokenExpired,
    /// The caller is known and may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// No such thing, or none that the caller may know of.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// It was there, and is over.
    #[error("{0} expired")]
    Gone(&'static str),
    /// The order's status does not allow it now.
    #[error("{detail}")]
    Illegal { detail: String, status: OrderStatus, allowed: Vec<OrderStatus> },
    /// `expectedSeq` is not the order's seq.
    #[error("the order is at seq {seq}, not {expected}")]
    StaleSeq { expected: i64, seq: i64 },
    /// The id or number is taken.
    #[error("{0} is already in use")]
    Taken(&'static str),
    /// The same `Idempotency-Key` came with another request.
    #[error("this Idempotency-Key was used with another request")]
    KeyReused,
    /// The fix claims to be from the future.
    #[error("recordedAt is {ahead_ms} ms ahead of the server's clock")]
    ClockSkew { ahead_ms: i64 },
    /// Too many requests of one kind.
    #[error("too many requests; try again in {retry_after_ms} ms")]
    RateLimited { retry_after_ms: u64 },
    /// A bound was reached; `what` names it.
    #[error("too many {what}: the limit is {limit}")]
    TooMany { what: &'static str, limit: usize },
    /// We cannot serve now; the client should try again.
    #[error("the service is not available right now")]
    Unavailable,
    /// A concurrent transaction took the same id, number or key first. The use case tries again.
    #[error("internal error")]
    Conflict(#[source] Fault),
    /// A fault of ours. The cause is for the log, never for the client.
    #[error("internal error")]
    Internal(#[source] Fault),
}

/// What went wrong, and where in our code it was noticed.
#[derive(Debug)]
pub struct Fault {
    cause: Box<dyn Error + Send + Sync>,
    place: &'static Location<'static>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        let mut source = self.cause.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        write!(f, " (at {}:{})", self.place.file(), self.place.line())
    }
}

impl Error for Fault {}

impl Refusal {
    /// A fault of ours, noticed where this is called.
    #[track_caller]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(Fault { cause: cause.into(), place: Location::caller() })
    }

    /// Logs a fault of ours with its cause and its place; other refusals are the client's business.
    pub fn log_fault(&self, event: &'static str) {
        if let Self::Internal(fault) | Self::Conflict(fault) = self {
            tracing::error!(error = %fault, event, "a request failed");
        }
    }

    /// A refusal of one member of the input.
    pub fn invalid(member: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { member: member.into(), reason: reason.into() }
    }

    /// The stable code that clients may branch on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } | Self::UnknownEvent(_) => "invalid_payload",
            Self::Malformed(_) => "malformed",
            Self::Unauthorized(_) => "unauthorized",
            Self::TokenExpired => "token_expired",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Gone(_) => "expired",
            Self::Illegal { .. } => "illegal_transition",
            Self::StaleSeq { .. } => "stale_seq",
            Self::Taken(_) => "already_exists",
            Self::KeyReused => "idempotency_key_reused",
            Self::ClockSkew { .. } => "clock_skew",
            Self::RateLimited { .. } => "rate_limited",
            Self::TooMany { .. } => "too_many",
            Self::Unavailable => "unavailable",
            Self::Conflict(_) | Self::Internal(_) => "internal_error",
        }
    }
}

impl From<DbErr> for Refusal {
    /// By [`db::failure`]: a database that does not answer is [`Refusal::Unavailable`].
    #[track_caller]
    fn from(error: DbErr) -> Self {
        let place = Location::caller();
        match db::failure(&error) {
            Failure::Outage => {
                tracing::warn!(%error, "the database does not answer");
                Self::Unavailable
            }
            Failure::Conflict => Self::Conflict(Fault { cause: Box::new(error), place }),
            Failure::Bug => Self::Internal(Fault { cause: Box::new(error), place }),
        }
    }
}

impl From<serde_json::Error> for Refusal {
    #[track_caller]
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_its_cause_and_its_place() {
        fn fails() -> Result<(), Refusal> {
            Err(DbErr::Custom("no such column".to_owned()))?;
            Ok(())
        }
        let refusal = fails().expect_err("a fault");
        let Refusal::Internal(fault) = &refusal else { panic!("{refusal:?}") };
        let text = fault.to_string();
        assert!(text.contains("no such column") && text.contains("base/error.rs:"), "{text}");
        assert_eq!(refusal.to_string(), "internal error", "nothing of it reaches a client");
    }
}
