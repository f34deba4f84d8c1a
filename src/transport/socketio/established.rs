//! Clients of Engine.IO 4 on a WebSocket need little of the protocol, and that is spoken here. socketioxide keeps 12 KB and
//! three tasks for each client, and keeps them for a while when the client is gone. A client that was polling first is taken
//! over when it has come in: socketioxide is told that the connection has ended, and forgets it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use smallvec::SmallVec;
use socketioxide_core::packet::{Packet, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError, ParserState};
use socketioxide_core::{Str, Value};
use socketioxide_parser_common::CommonParser;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message as WsMessage};

use super::decode::is_nameless;
use super::door::Door;
use super::entry::{Entry, Owner};
use super::handler::number;
use super::handshake::{Caller, Handshake};
use super::joining::{JoiningClient, SID, json_of};
use super::longest_packet;
use super::packet::{MAX_ATTACHMENTS, READ_BUFFER, connect_frame, refusal_frame};
use super::polling::PollingClient;
use super::{CONNECT_TIMEOUT, MESSAGES_PER_BODY};
use crate::base::clock::instant;
use crate::base::config::Limits;
use crate::dialect::Dialect;
use crate::session::wire::{Handed, Urgency};
use crate::transport::conn::{self, Conn, ConnectionWriter, websocket};
use crate::transport::upgrade::{Ending, read_to_end, speak, upgraded};

/// A ping, `2`, as a WebSocket frame of the server.
pub(super) const PING: Bytes = Bytes::from_static(&[websocket::TEXT, 1, b'2']);
/// The delay before the next try when there was no room for a ping.
const PING_RETRY: Duration = Duration::from_secs(1);

/// How a client came.
pub(super) struct Arrival {
    pub(super) door: Arc<Door>,
    /// When the Engine.IO session was opened.
    pub(super) came: Instant,
    pub(super) caller: Caller,
    /// The client, if it was polling before.
    pub(super) client: Option<Arc<PollingClient>>,
}

/// A client whose session is ours now: see [`Entry::take_over`].
pub(super) struct Establishing {
    pub(super) arrival: Box<Arrival>,
    pub(super) entry: Arc<Entry>,
}

impl Establishing {
    /// Serves the connection from now on.
    pub(super) fn go_on(self, conn: Conn, writer: Arc<ConnectionWriter>) {
        let Self { arrival, entry } = self;
        let Arrival { door, came, caller, .. } = *arrival;
        let mut client = Client::new(door, writer, came, caller, None);
        client.has(entry);
        tokio::spawn(client.serve(conn));
    }
}

/// Serves a WebSocket of Engine.IO 4 from the start, once the answer to its handshake is written.
pub(super) fn begin(
    door: Arc<Door>,
    writer: Arc<ConnectionWriter>,
    handshake: Arc<Handshake>,
    upgrade: OnUpgrade,
) {
    tokio::spawn(async move {
        let Some(stream) = upgraded(upgrade).await else { return };
        let limits = &door.sessions.app().config.limits;
        let open = json!({
            "sid": URL_SAFE_NO_PAD.encode(door.sessions.app().clock.random::<SID>()),
            "upgrades": [],
            "pingInterval": limits.ping_interval_ms,
            "pingTimeout": limits.ping_timeout_ms,
            "maxPayload": limits.max_message_bytes.saturating_mul(MESSAGES_PER_BODY),
        });
        let _ = writer.push(websocket::text(&[b"0", open.to_string().as_bytes()]), Urgency::Reply);
        let caller = handshake.caller.clone();
        Client::new(door, writer, instant(), caller, Some(handshake)).serve(stream.into_conn()).await;
    });
}

/// A client and the namespaces that it is in.
struct Client {
    door: Arc<Door>,
    writer: Arc<ConnectionWriter>,
    /// When the Engine.IO session was opened.
    came: Instant,
    caller: Caller,
    /// How it came, until it is in a namespace.
    handshake: Option<Arc<Handshake>>,
    entries: SmallVec<[Arc<Entry>; 1]>,
    /// Since when it has been in no namespace.
    idle_since: Instant,
    /// It has been in a namespace.
    established: bool,
    /// A packet that waits for its attachments.
    partial: Option<Box<ParserState>>,
}

/// The rooms are left also when the task panics or is dropped.
impl Drop for Client {
    fn drop(&mut self) {
        for entry in &self.entries {
            entry.end(None);
        }
        if self.established {
            self.door.sessions.metrics().established.dec();
        }
    }
}

impl Client {
    fn new(
        door: Arc<Door>,
        writer: Arc<ConnectionWriter>,
        came: Instant,
        caller: Caller,
        handshake: Option<Arc<Handshake>>,
    ) -> Self {
        let (entries, idle_since) = (SmallVec::new(), instant());
        Self { door, writer, came, caller, handshake, entries, idle_since, established: false, partial: None }
    }

    /// It is in a namespace.
    fn has(&mut self, entry: Arc<Entry>) {
        if !std::mem::replace(&mut self.established, true) {
            self.door.sessions.metrics().established.inc();
        }
        self.handshake = None;
        self.entries.push(entry);
    }

    async fn serve(mut self, conn: Conn) {
        let longest = longest_packet(self.limits());
        let mut socket = speak(conn, READ_BUFFER, longest).await;
        let ending = self.hear(&mut socket).await;
        for entry in &self.entries {
            entry.end(Some(ending.name));
        }
        if let Some(close) = ending.close {
            // No Engine.IO close packet goes before it: python-socketio takes that for a goodbye and stays away.
            self.writer.finish(close);
            read_to_end(socket.into_inner()).await;
        }
    }

    fn limits(&self) -> &Limits {
        &self.door.sessions.app().config.limits
    }

    /// Reads until the client leaves or breaks the protocol. Most events do not come this way: see
    /// [`incoming`](super::incoming).
    async fn hear(&mut self, socket: &mut WebSocketStream<Conn>) -> Ending {
        let limits = self.limits();
        let interval = Duration::from_millis(limits.ping_interval_ms);
        let timeout = Duration::from_millis(limits.ping_timeout_ms);
        // The next ping, and the time until which the last one has to be answered. The client counts from its last ping.
        // socketioxide has pinged it at the beginning and then once in each interval.
        let since =
            u64::try_from(self.came.elapsed().as_millis()).unwrap_or(u64::MAX) % limits.ping_interval_ms;
        let (mut next, mut until) = (instant() + interval - Duration::from_millis(since), None);
        let mut drained = false;
        loop {
            let idle = self.entries.is_empty().then(|| self.idle_since + CONNECT_TIMEOUT);
            let due = until.unwrap_or(next);
            let message = tokio::select! {
                biased;
                message = poll_fn(|cx| poll_message(socket, &self.writer, &mut drained, cx)) => message,
                () = tokio::time::sleep_until(idle.map_or(due, |idle| idle.min(due))) => {
                    let now = instant();
                    if until.is_some() && self.entries.iter().any(|entry| entry.inbox.is_held()) {
                        // The answer waits behind requests that are not read yet.
                        until = Some(now + PING_RETRY);
                        continue;
                    }
                    if idle.is_some_and(|idle| idle <= now) {
                        return Ending { name: "no_namespace", close: Some(websocket::GOING_AWAY) };
                    }
                    if until.is_some() {
                        return Ending { name: "heartbeat_timeout", close: Some(websocket::GOING_AWAY) };
                    }
                    if self.writer.beat(PING) {
                        (next, until) = (now + interval, Some(now + timeout));
                    } else {
                        next = now + PING_RETRY;
                    }
                    continue;
                }
            };
            let heard = match message {
                Some(Ok(WsMessage::Text(text))) => match text.as_bytes().first() {
                    Some(b'2') => {
                        until = None;
                        Ok(())
                    }
                    Some(b'3') => {
                        until = None;
                        if self.writer.answered() {
                            self.entries.iter().for_each(|entry| entry.session.proved());
                        }
                        Ok(())
                    }
                    Some(b'4') => {
                        self.packet(|parser, config, state| {
                            parser.decode_str(config, state, Str::copy_from_slice(&text[1..]))
                        })
                        .await
                    }
                    Some(b'1') => Err(Ending::silent("transport_close")),
                    _ => Err(Ending::protocol()),
                },
                Some(Ok(WsMessage::Binary(bytes))) => {
                    self.packet(|parser, config, state| parser.decode_bin(config, state, bytes)).await
                }
                // The WebSocket library answers pings.
                Some(Ok(
                    WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Close(_) | WsMessage::Frame(_),
                )) => Ok(()),
                Some(Err(error)) => Err(Ending::of(Some(error))),
                None => Err(Ending::of(None)),
            };
            if let Err(ending) = heard {
                return ending;
            }
        }
    }

    /// Takes a packet once it is complete.
    async fn packet(
        &mut self,
        decode: impl FnOnce(CommonParser, &ParseConfig, &ParserState) -> Result<Packet, ParseError>,
    ) -> Result<(), Ending> {
        let config = ParseConfig {
            max_incoming_binaries: MAX_ATTACHMENTS,
            max_incoming_binary_buf_size: self.limits().max_message_bytes,
            ..ParseConfig::default()
        };
        let state = self.partial.take().unwrap_or_default();
        match decode(CommonParser, &config, &state) {
            Ok(packet) => self.take(packet).await,
            Err(ParseError::NeedsMoreBinaryData) => {
                self.partial = Some(state);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "a packet cannot be read");
                Err(Ending::protocol())
            }
        }
    }

    async fn take(&mut self, packet: Packet) -> Result<(), Ending> {
        let namespace = &*packet.ns;
        match packet.inner {
            // The client is in this namespace already. socketioxide ignores that as well.
            PacketData::Connect(_) if self.entry(namespace).is_some() => {}
            PacketData::Connect(auth) => {
                self.connect(namespace, auth.as_ref().and_then(json_of)).await;
            }
            // The client is not in this namespace.
            PacketData::Disconnect | PacketData::EventAck(..) | PacketData::BinaryAck(..)
                if self.entry(namespace).is_none() =>
            {
                return Err(Ending::protocol());
            }
            PacketData::Disconnect => self.leave(namespace),
            PacketData::Event(Value::Str(json, _), ack)
            | PacketData::BinaryEvent(Value::Str(json, _), ack) => {
                let entry = self.entry(namespace);
                let number = ack.and_then(number);
                if !entry.is_some_and(|entry| entry.inbox.event(&json, number) || is_nameless(&json)) {
                    return Err(Ending::protocol());
                }
            }
            // We ask clients for no acks, and no event is binary.
            PacketData::EventAck(..)
            | PacketData::BinaryAck(..)
            | PacketData::ConnectError(_)
            | PacketData::Event(Value::Bytes(_), _)
            | PacketData::BinaryEvent(Value::Bytes(_), _) => {}
        }
        Ok(())
    }

    fn entry(&self, namespace: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| entry.namespace == namespace)
    }

    fn leave(&mut self, namespace: &str) {
        self.entries.retain(|entry| {
            let stays = entry.namespace != namespace;
            if !stays {
                entry.end(Some("client_left"));
            }
            stays
        });
        if self.entries.is_empty() {
            self.idle_since = instant();
        }
    }

    /// Lets the client into another namespace, or again into one that it has left.
    async fn connect(&mut self, namespace: &str, auth: Option<String>) {
        let dialect = Dialect::of_namespace(namespace);
        let let_in = match dialect {
            None => Err("Invalid namespace".to_owned()),
            Some(dialect) => {
                let joining = JoiningClient::on_websocket(
                    &self.door.sessions.app().clock,
                    auth,
                    self.caller.clone(),
                    self.handshake.clone(),
                    conn::Handle::of(&self.writer),
                );
                self.door.let_in(&joining, dialect, Owner::us()).await.map_err(|denied| denied.to_string())
            }
        };
        match let_in {
            Ok(entry) => {
                self.writer.attach(&entry.session);
                self.has(Arc::clone(&entry));
                let reply = connect_frame(namespace, &entry.sid, &entry.session);
                let mut handed = Handed::Taken;
                entry.enter(|| handed = self.writer.push(reply, Urgency::Reply));
                if handed != Handed::Taken {
                    // The client sends requests and does not read the answers.
                    return self.writer.kill();
                }
                entry.hears_on(&self.writer);
            }
            Err(why) => {
                let _ = self.writer.push(refusal_frame(namespace, &why), Urgency::Reply);
            }
        }
    }
}

/// The next message. Once everything that was read is dealt with and answered, the connection is asked first: as long as only
/// events come, the memory of the WebSocket library is not touched.
fn poll_message(
    socket: &mut WebSocketStream<Conn>,
    writer: &ConnectionWriter,
    drained: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<WsMessage, Error>>> {
    if *drained {
        // There is no room, so what is to be read stays where it is. An error shows again at the next read.
        let mut nowhere = ReadBuf::new(&mut []);
        let _ = ready!(Pin::new(socket.get_mut()).poll_read(cx, &mut nowhere));
    }
    let message = socket.poll_next_unpin(cx);
    *drained = message.is_pending() && !writer.has_own();
    message
}
