//! The ways to a Socket.IO client: its WebSocket itself, or, as long as it polls, socketioxide's queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};

use super::engine::Engine;
use super::packet::{MARK, ack_frame, disconnect_frame, event_frame};
use super::peers::Peer;
use crate::dialect::message::Message;
use crate::session::wire::{Handed, Urgency};
use crate::transport::conn::{Lane, websocket};

/// What may wait to be polled of messages that are safe in the log, and of those that something newer supersedes.
const DURABLE: usize = 64;
const LIVE: usize = 64;
/// What is handed over has to fit into one polling body: engineioxide loses what does not when the client then moves to a
/// WebSocket. This many bytes for what is safe in the log, and for all.
const LOGGED_BYTES: usize = 192 * 1024;
const ALL_BYTES: usize = 448 * 1024;
/// What a packet has beside its payload: names, commas, an offset.
const FRAMING: usize = 256;
/// How long a client has to read why it is disconnected.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A WebSocket that the session writes to.
pub struct Direct {
    pub lane: Arc<Lane>,
    pub namespace: &'static str,
}

/// A client that polls. Weak: the socket owns the session through its handlers.
pub struct Polled {
    pub socket: Weak<Socket<LocalAdapter>>,
    pub namespace: &'static str,
    pub engine: Engine,
    pub peer: Option<Arc<Peer>>,
    /// What was handed over since the client last polled, and how many bytes that is.
    pub waiting: AtomicUsize,
    pub bytes: AtomicUsize,
}

impl Direct {
    #[must_use]
    pub fn hand(&self, frame: &Message, urgency: Urgency) -> Handed {
        self.lane.push(frame.bytes(|frame| event_frame(self.namespace, frame)), urgency)
    }

    #[must_use]
    pub fn acknowledge(&self, ack: i64, json: &RawValue) -> Handed {
        self.lane.push(ack_frame(self.namespace, ack, json), Urgency::Reply)
    }

    /// Ends the connection. Who is told that it is for good does not come back by itself.
    pub fn close(&self, is_final: bool) {
        let end = if is_final {
            [disconnect_frame(self.namespace), websocket::GOING_AWAY].concat().into()
        } else {
            websocket::GOING_AWAY
        };
        self.lane.finish(end);
    }
}

impl Polled {
    #[must_use]
    pub fn hand(&self, frame: &Message, urgency: Urgency) -> Handed {
        let Some(socket) = self.socket.upgrade() else { return Handed::Gone };
        let waiting = self.waiting.load(Ordering::Acquire);
        let size = frame.json.get().len() + FRAMING;
        let bytes = self.bytes.load(Ordering::Acquire) + size;
        let room = match urgency {
            Urgency::Live => waiting < LIVE && bytes <= LOGGED_BYTES,
            // The first always fits.
            Urgency::Durable => waiting < DURABLE && (waiting == 0 || bytes <= LOGGED_BYTES),
            Urgency::Reply => bytes <= ALL_BYTES,
        };
        if !room {
            return Handed::Full;
        }
        let sent = match &frame.offset {
            Some(offset) => socket.emit(&*frame.name, &(&*frame.json, offset)),
            None => socket.emit(&*frame.name, &*frame.json),
        };
        self.handed(&sent, size)
    }

    #[must_use]
    pub fn acknowledge(&self, ack: i64, json: &RawValue) -> Handed {
        let Some(socket) = self.socket.upgrade() else { return Handed::Gone };
        let size = json.get().len() + FRAMING;
        if self.bytes.load(Ordering::Acquire) + size > ALL_BYTES {
            return Handed::Full;
        }
        let mut nothing = Value::Bytes(bytes::Bytes::new());
        match AckSender::from_message_parts(&socket, &mut nothing, &Some(ack)) {
            Ok(sender) => self.handed(&sender.send(json), size),
            Err(never) => match never {},
        }
    }

    fn handed(&self, sent: &Result<(), SendError>, size: usize) -> Handed {
        match sent {
            Ok(()) => {
                self.bytes.fetch_add(size, Ordering::AcqRel);
                self.waiting.fetch_add(1, Ordering::AcqRel);
                Handed::Taken
            }
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Handed::Full,
            Err(SendError::Socket(SocketError::Closed) | SendError::Serialize(_)) => Handed::Gone,
        }
    }

    /// Puts the mark behind what is still to be polled. Says whether there was room for it.
    #[must_use]
    pub fn mark(&self) -> bool {
        self.socket.upgrade().is_some_and(|socket| socket.emit(MARK, &()).is_ok())
    }

    pub fn close(&self, is_final: bool) {
        let Some(socket) = self.socket.upgrade() else { return };
        let sid = socket.id.to_string();
        let eio3 = socket.protocol() == socketioxide::ProtocolVersion::V4;
        let told = is_final && socket.disconnect().is_ok();
        let (engine, peer) = (self.engine.clone(), self.peer.clone());
        tokio::spawn(async move {
            if told {
                tokio::time::sleep(LAST_WORDS).await;
            }
            if let Some(peer) = peer {
                peer.close();
            }
            engine.close(&sid, eio3).await;
        });
    }
}
