//! Clients that are in, on a WebSocket. What they need from then on is little, and it is spoken here: socketioxide, which
//! keeps 12 KB and three tasks for each, is told that the connection has ended, and forgets it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use smallvec::{SmallVec, smallvec};
use socketioxide_core::packet::{Packet, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError, ParserState};
use socketioxide_core::{Str, Value};
use socketioxide_parser_common::CommonParser;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message as WsMessage};

use super::door::{Door, ended, leave};
use super::incoming::{Arrival, Establishing};
use super::packet::{MAX_ATTACHMENTS, READ_BUFFER, connect_frame, refusal_frame};
use super::visitor::{self, Visitor};
use crate::base::clock::instant;
use crate::base::config::Limits;
use crate::dialect::Dialect;
use crate::session::inbox::Inbox;
use crate::session::wire::{Handed, Urgency};
use crate::transport::conn::{self, Conn, Lane, websocket};
use crate::transport::upgrade::{Ending, listen_out, speak};

/// `2`, a ping, and `1`, the end, as the server's WebSocket frames.
const PING: Bytes = Bytes::from_static(&[websocket::TEXT, 1, b'2']);
/// When a ping is tried again for which there was no room.
const PING_RETRY: Duration = Duration::from_secs(1);
const END: &[u8] = &[websocket::TEXT, 1, b'1'];

impl Establishing {
    /// Takes the connection over.
    pub fn go_on(self, conn: Conn) {
        let Self { arrival, inbox, lane } = self;
        let Arrival { door, came, token, .. } = *arrival;
        door.fanout.metrics().established.inc();
        let client = Client { door, lane, came, token, inboxes: smallvec![inbox], partial: None };
        tokio::spawn(client.serve(conn));
    }
}

/// A client and the namespaces it is in.
struct Client {
    door: Arc<Door>,
    lane: Arc<Lane>,
    /// When its session was opened.
    came: Instant,
    token: Option<String>,
    inboxes: SmallVec<[Arc<Inbox>; 1]>,
    /// A packet that waits for its attachments.
    partial: Option<Box<ParserState>>,
}

/// However this ends, the rooms are left.
impl Drop for Client {
    fn drop(&mut self) {
        for inbox in &self.inboxes {
            leave(inbox.session());
        }
        self.door.fanout.metrics().established.dec();
    }
}

impl Client {
    async fn serve(mut self, conn: Conn) {
        let longest = self.limits().max_message_bytes;
        let mut socket = speak(conn, READ_BUFFER, longest).await;
        let ending = self.hear(&mut socket).await;
        for inbox in &self.inboxes {
            ended(inbox.session(), ending.name);
        }
        if let Some(close) = ending.close {
            self.lane.finish([END, &close].concat().into());
            listen_out(socket.into_inner()).await;
        }
    }

    fn limits(&self) -> &Limits {
        &self.door.fanout.app().config.limits
    }

    /// Hears what a client says, until it has left or says what it must not. Events mostly do not come this way, but past it:
    /// see [`incoming`](super::incoming).
    async fn hear(&mut self, socket: &mut WebSocketStream<Conn>) -> Ending {
        let limits = self.limits();
        let interval = Duration::from_millis(limits.ping_interval_ms);
        let timeout = Duration::from_millis(limits.ping_timeout_ms);
        // When it is asked next whether it is there, and when it must have said so. The client counts from when it was last
        // asked, by socketioxide: which does that when it comes, and from then on once in an interval.
        let since =
            u64::try_from(self.came.elapsed().as_millis()).unwrap_or(u64::MAX) % limits.ping_interval_ms;
        let (mut next, mut until) = (instant() + interval - Duration::from_millis(since), None);
        let mut drained = false;
        loop {
            let message = tokio::select! {
                biased;
                message = poll_fn(|cx| poll_message(socket, &self.lane, &mut drained, cx)) => message,
                () = tokio::time::sleep_until(until.unwrap_or(next)) => {
                    let now = instant();
                    if until.is_some() {
                        return Ending { name: "heartbeat_timeout", close: Some(websocket::GOING_AWAY) };
                    }
                    if self.lane.push_first(PING) {
                        (next, until) = (now + interval, Some(now + timeout));
                    } else {
                        next = now + PING_RETRY;
                    }
                    continue;
                }
            };
            let heard = match message {
                Some(Ok(WsMessage::Text(text))) => match text.as_bytes().first() {
                    Some(b'2' | b'3') => {
                        until = None;
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
                // Pings are answered as they are read.
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

    /// Takes a packet, once all of it is there.
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
            // It is there already: as socketioxide has it, nothing comes of that.
            PacketData::Connect(_)
                if self.inboxes.iter().any(|inbox| inbox.namespace() == Some(namespace)) => {}
            PacketData::Connect(auth) => {
                self.connect(namespace, auth.as_ref().and_then(visitor::json)).await;
            }
            PacketData::Disconnect => self.leave(namespace),
            PacketData::Event(Value::Str(json, _), ack)
            | PacketData::BinaryEvent(Value::Str(json, _), ack) => {
                let inbox = self.inboxes.iter().find(|inbox| inbox.namespace() == Some(namespace));
                if !inbox.is_some_and(|inbox| inbox.event(&json, ack)) {
                    return Err(Ending::protocol());
                }
            }
            // Nothing is asked of clients, and nothing comes in bytes.
            PacketData::EventAck(..)
            | PacketData::BinaryAck(..)
            | PacketData::ConnectError(_)
            | PacketData::Event(Value::Bytes(_), _)
            | PacketData::BinaryEvent(Value::Bytes(_), _) => {}
        }
        Ok(())
    }

    fn leave(&mut self, namespace: &str) {
        self.inboxes.retain(|inbox| {
            let stays = inbox.namespace() != Some(namespace);
            if !stays {
                ended(inbox.session(), "client_left");
            }
            stays
        });
    }

    /// Lets the client into another namespace, or into one that it has left.
    async fn connect(&mut self, namespace: &str, auth: Option<String>) {
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect.namespace() == Some(namespace));
        let let_in = match dialect {
            None => Err("Invalid namespace".to_owned()),
            Some(dialect) => {
                let visitor = Visitor::returning(
                    &self.door.fanout.app().clock,
                    auth,
                    self.token.clone(),
                    conn::Handle::of(&self.lane),
                );
                self.door.let_in(&visitor, dialect).await.map_err(|denied| denied.to_string())
            }
        };
        match let_in {
            Ok(entry) => {
                let session = &entry.session;
                self.lane.attach(session);
                self.inboxes.push(Arc::clone(&entry.inbox));
                let reply = connect_frame(namespace, &entry.sid, session);
                let mut handed = Handed::Taken;
                entry.enter(|| handed = self.lane.push(reply, Urgency::Reply));
                if handed != Handed::Taken {
                    // It asks, and reads no answers.
                    return self.lane.kill();
                }
                self.lane.hears(session);
            }
            Err(why) => {
                let _ = self.lane.push(refusal_frame(namespace, &why), Urgency::Reply);
            }
        }
    }
}

/// The next message. Once all that was read is dealt with, and answered, it is the connection that is asked first: as long as
/// nothing but events comes, nothing else of the socket is touched.
fn poll_message(
    socket: &mut WebSocketStream<Conn>,
    lane: &Lane,
    drained: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<WsMessage, Error>>> {
    if *drained {
        // No room: what is to be read stays where it is. What went wrong shows again.
        let mut nowhere = ReadBuf::new(&mut []);
        let _ = ready!(Pin::new(socket.get_mut()).poll_read(cx, &mut nowhere));
    }
    let message = socket.poll_next_unpin(cx);
    *drained = message.is_pending() && !lane.has_own();
    message
}
