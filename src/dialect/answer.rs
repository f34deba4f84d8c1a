//! What passes between a dialect and those who carry out what a client asks.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;

use super::{json, typed};
use crate::clock::Time;
use crate::command::Command;
use crate::driver::eta::Eta;
use crate::error::Refusal;
use crate::id::OrderId;
use crate::order::Order;
use crate::order::read::Tracking;

/// A request as it came: which event, for metrics and errors, and the command, or why there is none.
pub struct Request {
    pub event: &'static str,
    pub command: Result<Command, Refusal>,
}

/// What came of a request, to be said in the client's words.
pub enum Answer<'a> {
    Subscribed {
        tracking: &'a Tracking,
        eta: Option<Eta>,
    },
    Unsubscribed {
        order: &'a OrderId,
    },
    Changed(&'a Order),
    Tracking {
        tracking: &'a Tracking,
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

/// How a raw WebSocket is told that something was refused.
#[must_use]
pub fn error_message(refusal: &Refusal) -> Box<RawValue> {
    #[skip_serializing_none]
    #[derive(Serialize)]
    struct Error<'a> {
        r#type: &'static str,
        code: &'static str,
        message: String,
        member: Option<&'a str>,
    }
    let member = match refusal {
        Refusal::Invalid { member, .. } => Some(member.as_str()),
        _ => None,
    };
    json(&Error { r#type: "error", code: refusal.code(), message: refusal.to_string(), member })
}

/// The answer of those who have words for nothing else.
#[must_use]
pub fn pong(answer: &Answer<'_>) -> Option<Box<RawValue>> {
    match answer {
        Answer::Pong { .. } => Some(typed("pong", None)),
        Answer::Subscribed { .. }
        | Answer::Unsubscribed { .. }
        | Answer::Changed(_)
        | Answer::Tracking { .. }
        | Answer::Received { .. }
        | Answer::BatchReceived { .. }
        | Answer::Refreshed { .. }
        | Answer::Updated => None,
    }
}
