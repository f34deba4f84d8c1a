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
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::SlowReader,
        Self::Flood,
        Self::Expired,
        Self::Revoked,
        Self::Superseded,
        Self::Draining,
        Self::Unreadable,
    ];

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

/// Close code (RFC 6455 §7.4) and reason of a raw WebSocket.
pub type Close = (u16, &'static str);

/// The client has broken the WebSocket protocol.
pub const PROTOCOL_ERROR: Close = (1002, "Protocol error");
/// A text of the client is none.
pub const NOT_UTF8: Close = (1007, "Not UTF-8");
/// A message was so long that it was not read.
pub const TOO_LARGE: Close = (1009, "Message too large");
/// A client without a token is not let in.
pub const TOKEN_REQUIRED: Close = (1008, "Token required");
/// The token does not verify.
pub const INVALID_TOKEN: Close = (1008, "Invalid token");
/// There is no tracking session of this id.
pub const TRACKING_NOT_FOUND: Close = (1008, "Tracking not found");
/// The tracking session is over.
pub const SESSION_EXPIRED: Close = (1008, "Session expired");
