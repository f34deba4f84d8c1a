//! What passes between a dialect and those who carry out what a client asks.

use serde_json::value::RawValue;

use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{Command, Eta, Order, OrderId, Overview};

/// A request as it came: which event, for metrics and errors, and the command, or why there is none.
pub struct Request {
    pub event: &'static str,
    pub command: Result<Command, Refusal>,
}

/// What came of a request, to be said in the client's words.
pub enum Answer<'a> {
    Subscribed {
        tracking: &'a Overview,
        eta: Option<Eta>,
    },
    Unsubscribed {
        order: &'a OrderId,
    },
    Changed(&'a Order),
    Tracking {
        tracking: &'a Overview,
        eta: Option<Eta>,
    },
    Received {
        at: Time,
    },
    BatchReceived {
        accepted: usize,
        rejected: &'a [(usize, &'static str)],
    },
    Refreshed {
        expires_at: Time,
    },
    Pong {
        t: Option<&'a RawValue>,
        now: Time,
    },
    /// A tracking session was updated: everybody who watches it is told.
    Updated,
}
