//! How bytes move: connections, HTTP, Socket.IO and raw WebSockets.

pub mod conn;
pub mod http;
pub mod inbox;
mod requests;
pub mod socketio;
mod strict;
pub mod websocket;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::conn::Lane;
use self::socketio::wire::{Direct, Polled};
use self::strict::Strict;
use self::websocket::Raw;
use crate::error::Refusal;
use crate::fanout::Frame;
use crate::fanout::handing::{CloseReason, Handed, Urgency};

/// The one way from a session to its client. A closed set; each takes a rendered frame at once or says why not.
pub enum Wire {
    /// A WebSocket of Socket.IO's.
    Direct(Direct),
    /// Socket.IO, as long as it polls.
    Polled(Polled),
    /// A WebSocket, and nothing more.
    Raw(Raw),
}

impl Wire {
    /// Hands a frame to the client's connection.
    #[must_use]
    pub fn hand(&self, frame: &Frame, urgency: Urgency) -> Handed {
        match self {
            Self::Direct(wire) => wire.hand(frame, urgency),
            Self::Polled(wire) => wire.hand(frame, urgency),
            Self::Raw(wire) => wire.hand(frame, urgency),
        }
    }

    /// Answers a request of the client's.
    #[must_use]
    pub fn acknowledge(&self, ack: i64, json: &RawValue) -> Handed {
        match self {
            Self::Direct(wire) => wire.acknowledge(ack, json),
            Self::Polled(wire) => wire.acknowledge(ack, json),
            Self::Raw(wire) => wire.answer(json),
        }
    }

    /// Ends the connection. Unless the reason is final, the client comes back by itself.
    pub fn close(&self, reason: CloseReason) {
        match self {
            Self::Direct(wire) => wire.close(reason.is_final()),
            Self::Polled(wire) => wire.close(reason.is_final()),
            Self::Raw(wire) => wire.close(reason),
        }
    }

    /// The connection that the session writes to itself.
    #[must_use]
    pub const fn lane(&self) -> Option<&Arc<Lane>> {
        match self {
            Self::Direct(wire) => Some(&wire.lane),
            Self::Raw(wire) => Some(&wire.lane),
            Self::Polled(_) => None,
        }
    }

    /// The client has fetched all that was handed over.
    pub fn drained(&self) {
        match self {
            Self::Direct(_) | Self::Raw(_) => {}
            Self::Polled(wire) => {
                wire.waiting.store(0, Ordering::Release);
                wire.bytes.store(0, Ordering::Release);
            }
        }
    }

    /// Puts the mark that a move to a WebSocket begins with behind all that was handed over. Says whether it is there.
    #[must_use]
    pub fn mark(&self) -> bool {
        match self {
            Self::Direct(_) | Self::Raw(_) => false,
            Self::Polled(wire) => wire.mark(),
        }
    }

    /// The client has moved to this WebSocket.
    pub fn move_to(&mut self, lane: &Arc<Lane>) {
        let namespace = match self {
            Self::Direct(wire) => wire.namespace,
            Self::Polled(wire) => wire.namespace,
            // It has nowhere to move from.
            Self::Raw(_) => return,
        };
        *self = Self::Direct(Direct { lane: Arc::clone(lane), namespace });
    }
}

/// Reads JSON from the network; a refusal names the member at fault.
///
/// # Errors
/// [`Refusal::Malformed`] for what is not JSON, [`Refusal::Invalid`] for what is not as it should be.
pub fn read_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Refusal> {
    // Keeping track of the path costs something: only what is refused is read again with it.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    if let Ok(value) = T::deserialize(Strict(&mut deserializer))
        && deserializer.end().is_ok()
    {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value =
        serde_path_to_error::deserialize(Strict(&mut deserializer)).map_err(|error| refuse(&error))?;
    deserializer.end().map_err(|error| Refusal::Malformed(format!("not JSON: {error}")))?;
    Ok(value)
}

fn refuse(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    use serde_json::error::Category;
    let inner = error.inner();
    // serde_json adds where in the text it happened, which the member's name says better.
    let text = inner.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    // What it calls a struct is known by another name outside.
    let reason = match reason.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => reason.to_owned(),
    };
    match inner.classify() {
        Category::Syntax | Category::Eof | Category::Io => Refusal::Malformed(format!("not JSON: {text}")),
        Category::Data => {
            let path = error.path().to_string();
            // "missing field `x`" is reported at the object that lacks it.
            match reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
                Some(field) if path == "." => Refusal::invalid(field, "is required"),
                Some(field) => Refusal::invalid(format!("{path}.{field}"), "is required"),
                None => Refusal::invalid(if path == "." { "body".to_owned() } else { path }, reason),
            }
        }
    }
}
