//! Why a session is closed.

/// Why the server closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sends requests and does not read the answers.
    SlowReader,
    /// Too many requests for too long.
    Flood,
    /// The token ended and was not refreshed.
    Expired,
    /// The user's sessions were ended.
    Revoked,
    /// The same client is back on another connection.
    Superseded,
    /// The server shuts down.
    Draining,
    /// The session's part of the log cannot be read.
    Unreadable,
}

impl CloseReason {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Flood => "flood",
            Self::Expired => "token_expired",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
            Self::Draining => "draining",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether the client is told not to reconnect by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Revoked => true,
            Self::Flood
            | Self::SlowReader
            | Self::Expired
            | Self::Superseded
            | Self::Draining
            | Self::Unreadable => false,
        }
    }
}
