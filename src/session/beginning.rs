//! Where a session begins.

use std::sync::Arc;

use super::outbox::Replay;
use crate::base::clock::Time;
use crate::dialect::place::Place;
use crate::model::{OrderId, TrackingSession};
use crate::recovery::SessionOwner;

/// Where a session begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The session's id and its connection, for clients that can come back with it.
    pub holder: Option<SessionOwner>,
    /// Whether the client came back with this session.
    pub recovered: bool,
    /// Every event after this place is told.
    pub place: Place,
    /// Status updates up to this position are marked as replayed.
    pub replayed_until: i64,
    /// The orders that the session follows from the start.
    pub orders: Vec<OrderId>,
    /// Replays that the client asked for before and did not get.
    pub replays: Vec<Replay>,
    /// How many replays the client has asked for.
    pub replayed: i32,
    /// For a socket that only watches a tracking session: the session, and when it ends.
    pub watched: Option<(Arc<TrackingSession>, Time)>,
}

impl Beginning {
    /// At the present place in the log, with nothing to come back to.
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
