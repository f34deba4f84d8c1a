//! What passes between a session and its wire.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::value::RawValue;

use crate::dialect::close::CloseReason;
use crate::dialect::message::Message;
use crate::transport::conn::Lane;
use crate::transport::socketio::wire::{Direct, Polled};
use crate::transport::websocket::Raw;

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
    pub fn hand(&self, frame: &Message, urgency: Urgency) -> Handed {
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
