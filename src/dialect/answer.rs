//! The types between a dialect and the code that carries out a client's request.

use serde_json::value::RawValue;

use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{Command, Eta, Order, OrderId, Overview, Verdict};

/// A request as it arrived: the event's name, for metrics and errors, and the command or the reason why it has none.
pub struct Request {
    pub event: &'static str,
    pub command: Result<Command, Refusal>,
}

/// The result of a request, for the dialect to put into the client's words.
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
        verdict: Verdict,
    },
    BatchReceived {
        accepted: usize,
        rejected: &'a [(usize, &'a Refusal)],
    },
    Refreshed {
        expires_at: Time,
    },
    Pong {
        t: Option<&'a RawValue>,
        now: Time,
    },
    /// A delivery is played from now on.
    Playing {
        order: &'a OrderId,
        fixes: usize,
        seconds: u64,
        incomplete: bool,
    },
    /// A tracking session was updated. All its watchers are told.
    Updated,
}
