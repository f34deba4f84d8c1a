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
    /// Its id and its connection, for clients that can come back with it.
    pub holder: Option<SessionOwner>,
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
