//! What passes between a session and its wire.

use std::sync::Arc;

use super::Place;
use super::outbox::Replay;
use crate::clock::Time;
use crate::id::OrderId;
use crate::recovery::Holder;
use crate::tracking::TrackingSession;

/// How much a wire may hold of a message before it says that it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Something newer will come: only if it can leave at once.
    Live,
    /// It is safe in the log: a little at a time.
    Durable,
    /// It exists nowhere else: as long as there is room at all.
    Reply,
}

/// What became of a message handed to a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    Taken,
    /// The wire has no room now; the session is pumped when it has.
    Full,
    /// There is nobody any more.
    Gone,
}

/// Why we close a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It asks and does not read the answers.
    SlowReader,
    /// Too many requests per second.
    Flood,
    /// A message over the limit.
    TooLarge,
    /// Its token ended and was not refreshed.
    Expired,
    /// Its user's sessions were ended.
    Revoked,
    /// The same client is back on another connection.
    Superseded,
    /// The server is leaving.
    Draining,
    /// Its share of the log cannot be read.
    Unreadable,
}

impl CloseReason {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Flood => "flood",
            Self::TooLarge => "too_large",
            Self::Expired => "token_expired",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
            Self::Draining => "draining",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether the client is told not to come back by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Flood | Self::TooLarge | Self::Revoked => true,
            Self::SlowReader | Self::Expired | Self::Superseded | Self::Draining | Self::Unreadable => false,
        }
    }
}

/// Where a session begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its id and its connection, for clients that can come back with it.
    pub holder: Option<Holder>,
    /// Whether it is one that came back.
    pub recovered: bool,
    /// It is told everything after this.
    pub place: Place,
    /// Status updates up to this position are marked as replayed.
    pub replayed_until: i64,
    /// The orders it follows from the start.
    pub orders: Vec<OrderId>,
    /// What it had asked to be replayed and has not got.
    pub replays: Vec<Replay>,
    /// How many replays it has asked for.
    pub replayed: i32,
    /// The tracking session that it watches, if that is all it is for, and when that ends.
    pub watched: Option<(Arc<TrackingSession>, Time)>,
}

impl Beginning {
    /// Here and now, with nothing to come back to.
    #[must_use]
    pub const fn at(place: Place, watched: Option<(Arc<TrackingSession>, Time)>) -> Self {
        Self {
            holder: None,
            recovered: false,
            place,
            replayed_until: 0,
            orders: Vec::new(),
            replays: Vec::new(),
            replayed: 0,
            watched,
        }
    }
}
