//! The two wires of Socket.IO: the client's WebSocket, and socketioxide's queue as long as the client polls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};

use super::engine::Engine;
use super::established::PING;
use super::packet::{LONG_ACK, MARK, ack_frame, disconnect_frame, event_frame};
use super::polling::PollingClient;
use crate::base::json_text::Json;
use crate::dialect::close::CloseReason;
use crate::dialect::message::Message;
use crate::session::wire::{AckNumber, Handed, Urgency, Wire};
use crate::transport::conn::{ConnectionWriter, websocket};

/// How many messages may wait to be polled: of those that are safe in the log, and of those that something newer follows.
const DURABLE: usize = 64;
const LIVE: usize = 64;
/// What waits has to fit into one polling body: engineioxide loses the rest when the client then changes to a WebSocket.
/// These are the bytes for messages that are safe in the log, and for all messages.
const LOGGED_BYTES: usize = 192 * 1024;
const ALL_BYTES: usize = 448 * 1024;
/// An upper bound of what a packet has beside its payload: names, commas, an offset.
const FRAMING: usize = 256;
/// How long a client has to read why it is disconnected.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A WebSocket that the session writes to.
pub struct Direct {
    pub writer: Arc<ConnectionWriter>,
    pub namespace: &'static str,
    /// Durable events carry their offset.
    pub offsets: bool,
    /// The client answers pings. One of Engine.IO 3 sends them itself.
    pub can_prove: bool,
}

impl Wire for Direct {
    fn hand(&self, message: &Message, urgency: Urgency) -> Handed {
        let bytes = match &message.offset {
            Some(_) if !self.offsets => {
                message.bytes_without_offset(|message| event_frame(self.namespace, message, None))
            }
            offset => message.bytes(|message| event_frame(self.namespace, message, offset.as_deref())),
        };
        self.writer.push(bytes, urgency)
    }

    fn acknowledge(&self, ack: AckNumber, json: &Json) -> Handed {
        self.writer.push(ack_frame(self.namespace, ack, json), Urgency::Reply)
    }

    fn prove(&self) -> bool {
        self.can_prove && self.writer.prove(PING)
    }

    /// A client that gets a DISCONNECT packet does not come back by itself.
    fn close(&self, reason: CloseReason) {
        let end = if reason.is_final() {
            [disconnect_frame(self.namespace), websocket::GOING_AWAY].concat().into()
        } else {
            websocket::GOING_AWAY
        };
        self.writer.finish(end);
    }
}

/// A client that polls. The session and its [`Entry`](super::entry::Entry) share it.
pub struct Polled {
    /// Weak, because the socket owns the session through its handlers.
    socket: Weak<Socket<LocalAdapter>>,
    engine: Engine,
    client: Option<Arc<PollingClient>>,
    /// Durable events carry their offset.
    offsets: bool,
    /// The messages handed over since the client last polled, and their bytes.
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    /// There are events among them, not only answers.
    tells: AtomicBool,
    marked: AtomicBool,
}

impl Polled {
    pub(super) fn new(
        socket: Weak<Socket<LocalAdapter>>,
        engine: Engine,
        client: Option<Arc<PollingClient>>,
        offsets: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            socket,
            engine,
            client,
            offsets,
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            tells: AtomicBool::new(false),
            marked: AtomicBool::new(false),
        })
    }

    /// Puts the mark behind what is still to be polled. Called with the session locked. Returns `false` if there is no room,
    /// or the mark was put there before.
    pub(super) fn mark(&self) -> bool {
        if self.marked.load(Ordering::Acquire) {
            return false;
        }
        let marked = self.socket.upgrade().is_some_and(|socket| socket.emit(MARK, &()).is_ok());
        self.marked.store(marked, Ordering::Release);
        marked
    }

    /// The client has polled everything that was handed over.
    pub(super) fn drained(&self) {
        self.waiting.store(0, Ordering::Release);
        self.bytes.store(0, Ordering::Release);
        self.tells.store(false, Ordering::Release);
    }

    /// Whether events wait to be polled.
    pub(super) fn tells(&self) -> bool {
        self.tells.load(Ordering::Acquire)
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
}

impl Wire for Arc<Polled> {
    fn hand(&self, message: &Message, urgency: Urgency) -> Handed {
        let Some(socket) = self.socket.upgrade() else { return Handed::Gone };
        let waiting = self.waiting.load(Ordering::Acquire);
        let size = message.json.get().len() + FRAMING;
        let bytes = self.bytes.load(Ordering::Acquire) + size;
        let room = match urgency {
            Urgency::Live => waiting < LIVE && bytes <= LOGGED_BYTES,
            // The first message always fits.
            Urgency::Durable => waiting < DURABLE && (waiting == 0 || bytes <= LOGGED_BYTES),
            Urgency::Reply => bytes <= ALL_BYTES,
        };
        if !room {
            return Handed::Full;
        }
        self.tells.fetch_or(urgency != Urgency::Reply, Ordering::AcqRel);
        let sent = match message.offset.as_ref().filter(|_| self.offsets) {
            Some(offset) => socket.emit(&*message.name, &(&message.json, offset)),
            None => socket.emit(&*message.name, &message.json),
        };
        self.handed(&sent, size)
    }

    fn acknowledge(&self, ack: AckNumber, json: &Json) -> Handed {
        let Some(socket) = self.socket.upgrade() else { return Handed::Gone };
        let size = json.get().len() + FRAMING;
        if self.bytes.load(Ordering::Acquire) + size > ALL_BYTES {
            return Handed::Full;
        }
        let Ok(ack) = i64::try_from(ack) else {
            self.client.iter().for_each(|client| client.has_long_acks());
            return self.handed(&socket.emit(LONG_ACK, &(ack.to_string(), json)), size);
        };
        let mut nothing = Value::Bytes(bytes::Bytes::new());
        match AckSender::from_message_parts(&socket, &mut nothing, &Some(ack)) {
            Ok(sender) => self.handed(&sender.send(json), size),
            Err(never) => match never {},
        }
    }

    /// Its next poll proves it.
    fn prove(&self) -> bool {
        true
    }

    fn close(&self, reason: CloseReason) {
        let Some(socket) = self.socket.upgrade() else { return };
        let sid = socket.id.to_string();
        let eio3 = socket.protocol() == socketioxide::ProtocolVersion::V4;
        let told = reason.is_final() && socket.disconnect().is_ok();
        let (engine, client) = (self.engine.clone(), self.client.clone());
        tokio::spawn(async move {
            if told {
                tokio::time::sleep(LAST_WORDS).await;
            }
            if let Some(client) = client {
                client.close();
            }
            engine.close(&sid, eio3).await;
        });
    }
}
