//! Refusals in terms of the domain. The transport turns them into HTTP answers and socket errors.

use std::error::Error;
use std::fmt;
use std::panic::Location;

use entity::OrderStatus;
use sea_orm::DbErr;

use super::db::{self, FailureKind};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A member of the input is missing, has the wrong type, or is out of range.
    #[error("{member}: {reason}")]
    Invalid { member: String, reason: String },
    /// No client may send an event of this name.
    #[error("event: is not one that this server knows")]
    UnknownEvent(String),
    /// The input is not well-formed, for example not JSON.
    #[error("{0}")]
    Malformed(String),
    /// The token is missing or does not verify.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The token was valid and has expired.
    #[error("the token has expired")]
    TokenExpired,
    /// The caller is authenticated but may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The resource does not exist, or the caller may not know that it exists.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The resource existed and has expired.
    #[error("{0} expired")]
    Gone(&'static str),
    /// The current status of the order does not allow this.
    #[error("{detail}")]
    Illegal { detail: String, status: OrderStatus, allowed: Vec<OrderStatus> },
    /// `expectedSeq` is not the order's seq.
    #[error("the order is at seq {seq}, not {expected}")]
    StaleSeq { expected: i64, seq: i64 },
    /// Another order has this id or number.
    #[error("{0} is already in use")]
    Taken(&'static str),
    /// Another driver was first, or the order is not offered any more.
    #[error("the order is not offered any more")]
    OfferTaken,
    /// The order asks for proofs before it is delivered.
    #[error("the order is not proven to be handed over")]
    ProofRequired { missing: Vec<&'static str> },
    /// The number is not the customer's.
    #[error("the PIN is wrong; {attempts_left} attempts are left")]
    WrongPin { attempts_left: u32 },
    /// Too many wrong numbers.
    #[error("the PIN was wrong too often; another proof or an admin is needed")]
    PinLocked,
    /// Too many announcements wait for one user.
    #[error("too many announcements wait for this user")]
    QueueFull,
    /// The same `Idempotency-Key` was used with a different request.
    #[error("this Idempotency-Key was used with another request")]
    KeyReused,
    /// The time of the fix is too far in the future.
    #[error("recordedAt is {ahead_ms} ms ahead of the server's clock")]
    ClockSkew { ahead_ms: i64 },
    /// Too many requests of one kind.
    #[error("too many requests; try again in {retry_after_ms} ms")]
    RateLimited { retry_after_ms: u64 },
    /// A limit was reached; `what` names it.
    #[error("too many {what}: the limit is {limit}")]
    TooMany { what: &'static str, limit: usize },
    /// A message is too long.
    #[error("the message has more than {limit} bytes")]
    TooLarge { limit: usize },
    /// The server cannot answer now. The client should try again.
    #[error("the service is not available right now")]
    Unavailable,
    /// A concurrent transaction took the same id, number or key first. The use case retries.
    #[error("internal error")]
    Conflict(#[source] Fault),
    /// A bug in the server. The cause goes to the log, never to the client.
    #[error("internal error")]
    Internal(#[source] Fault),
}

/// The cause of an internal error, and the place in our source where it was detected.
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
    /// An internal error, with the caller of this function as its place.
    #[track_caller]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(Fault { cause: cause.into(), place: Location::caller() })
    }

    /// Logs an internal error with its cause and place. Does nothing for other refusals, which the client caused.
    pub fn log_fault(&self, event: &'static str) {
        if let Self::Internal(fault) | Self::Conflict(fault) = self {
            tracing::error!(error = %fault, event, "a request failed");
        }
    }

    /// Refuses one member of the input.
    pub fn invalid(member: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { member: member.into(), reason: reason.into() }
    }

    /// The stable error code that clients may branch on.
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
            Self::OfferTaken => "taken",
            Self::ProofRequired { .. } => "proof_required",
            Self::WrongPin { .. } => "wrong_pin",
            Self::PinLocked => "pin_locked",
            Self::QueueFull => "queue_full",
            Self::KeyReused => "idempotency_key_reused",
            Self::ClockSkew { .. } => "clock_skew",
            Self::RateLimited { .. } => "rate_limited",
            Self::TooMany { .. } => "too_many",
            Self::TooLarge { .. } => "too_large",
            Self::Unavailable => "unavailable",
            Self::Conflict(_) | Self::Internal(_) => "internal_error",
        }
    }
}

impl From<DbErr> for Refusal {
    /// Uses [`db::failure_kind`]: if the database does not answer, the refusal is [`Refusal::Unavailable`].
    #[track_caller]
    fn from(error: DbErr) -> Self {
        let place = Location::caller();
        match db::failure_kind(&error) {
            FailureKind::Outage => {
                tracing::warn!(%error, "the database does not answer");
                Self::Unavailable
            }
            FailureKind::Conflict => Self::Conflict(Fault { cause: Box::new(error), place }),
            FailureKind::Bug => Self::Internal(Fault { cause: Box::new(error), place }),
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
    fn a_fault_shows_its_cause_and_its_place() {
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
