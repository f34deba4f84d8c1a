//! All requests to Ordercast, valid by construction. Each dialect parses into these.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::tracking::Moved;
use super::{Bounds, FailureReason, LocationReport, OrderId, OrderStatus, Paragraph, WholeNumber};
use crate::base::error::Refusal;

/// A request from a socket. Each dialect can express some of these.
#[derive(Debug)]
pub enum Command {
    Subscribe {
        order: OrderId,
        since: Option<i64>,
    },
    Unsubscribe {
        order: OrderId,
    },
    Location(LocationReport),
    LocationBatch(Vec<Result<LocationReport, Refusal>>),
    ChangeStatus {
        order: OrderId,
        to: OrderStatus,
        note: Option<Paragraph>,
        /// Why it could not be delivered.
        reason: Option<FailureReason>,
        expected_seq: Option<i64>,
    },
    Tracking {
        order: OrderId,
    },
    Refresh {
        token: Secret,
    },
    /// A rider's position, and perhaps a new status, in a tracking session.
    TrackingUpdate(Moved),
    /// Hear where all drivers are, or those in a box.
    WatchFleet {
        bounds: Option<Bounds>,
    },
    UnwatchFleet,
    /// Play a delivery again, into this socket.
    Play {
        order: OrderId,
        /// How many times as fast as it was.
        speed: u32,
        /// What is to be different.
        set: BTreeMap<String, Value>,
    },
    /// Play no longer.
    StopPlaying,
    /// Whether somebody looks at the app.
    AppState {
        foreground: bool,
    },
    /// The user has seen an order as it was at this seq.
    Seen {
        order: OrderId,
        seq: i64,
    },
    /// A notification is there, or was opened.
    Acknowledge {
        id: String,
        state: NotificationState,
    },
    Ping {
        t: Option<Box<serde_json::value::RawValue>>,
    },
}

impl Command {
    /// # Errors
    /// [`Refusal::Invalid`] for a `since` before the beginning.
    pub fn subscribe(order: OrderId, since: Option<WholeNumber>) -> Result<Self, Refusal> {
        let since = since.map(|WholeNumber(seq)| seq);
        if since.is_some_and(i64::is_negative) {
            return Err(Refusal::invalid("since", "must not be negative"));
        }
        Ok(Self::Subscribe { order, since })
    }
}

/// What a device says of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotificationState {
    Delivered,
    Opened,
}

/// An announcement, which is never logged.
#[derive(Deserialize)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
