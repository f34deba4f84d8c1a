//! A small Socket.IO client for tests: Engine.IO 4 over a WebSocket. It keeps all received packets in order.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use ordercast::load::packet::{self, Packet};
use ordercast::model::Role;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{PATIENCE, Server};

/// One event from the server.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub data: Value,
    /// The last argument of a durable event; `None` for other events.
    pub offset: Option<String>,
}

/// A packet from the server.
#[derive(Clone, Debug)]
pub enum Incoming {
    Event(Event),
    Ack(u64, Value),
    /// The server refused the connection to the namespace, with this message.
    Refused(String),
    /// The server disconnected the client from the namespace.
    Disconnected,
    /// The connection has ended.
    Closed,
}

/// A client of the namespace `/realtime`.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_ack: u64,
    /// The session id.
    pub pid: Option<String>,
    /// The last received offset, which the official client also keeps.
    pub offset: Option<String>,
    /// Packets that arrived while a test waited for another one.
    received: VecDeque<Incoming>,
}

impl Socket {
    /// Connects and waits for the greeting.
    pub async fn connect(server: &Server, id: &str, role: Role) -> Self {
        let token = server.token(id, role);
        let mut socket = Self::connect_with_auth(server, json!({"token": token})).await;
        socket.event("connected").await;
        socket
    }

    /// Closes this connection and connects again with its session id and offset, as the official client does. Returns
    /// whether the session was recovered.
    pub async fn reconnect(self, server: &Server, token: &str) -> (Self, bool) {
        let auth = json!({"token": token, "pid": self.pid, "offset": self.offset});
        drop(self.stream);
        let mut socket = Self::connect_with_auth(server, auth).await;
        let greeting = socket.event("connected").await;
        (socket, greeting["recovered"] == true)
    }

    /// Connects and asks for the namespace with an auth payload. Does not wait for the answer.
    pub async fn connect_with_auth(server: &Server, auth: Value) -> Self {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.address);
        let (stream, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
        let mut socket = Self { stream, next_ack: 0, pid: None, offset: None, received: VecDeque::new() };
        socket.raw(&packet::join(&auth)).await;
        socket
    }

    /// Sends a text frame unchanged.
    pub async fn raw(&mut self, text: &str) {
        // An error is ignored here. The next read shows that the server has closed the connection.
        let _ = self.stream.send(Message::text(text)).await;
    }

    /// Sends bytes directly over TCP, without a WebSocket frame.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let MaybeTlsStream::Plain(tcp) = self.stream.get_mut() else {
            unreachable!("there is no TLS in tests")
        };
        tcp.write_all(bytes).await.expect("sent");
    }

    /// Sends a binary frame unchanged.
    pub async fn raw_binary(&mut self, bytes: &'static [u8]) {
        let _ = self.stream.send(Message::binary(bytes)).await;
    }

    pub async fn emit(&mut self, event: &str, payload: &Value) {
        self.raw(&packet::emit(None, event, payload)).await;
    }

    /// Emits an event with an ack, without waiting for it. Returns the number of the ack.
    pub async fn emit_ack(&mut self, event: &str, payload: &Value) -> u64 {
        self.next_ack += 1;
        self.raw(&packet::emit(Some(self.next_ack), event, payload)).await;
        self.next_ack
    }

    /// Emits an event and waits for its ack. Keeps other packets that arrive first.
    pub async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let number = self.emit_ack(event, &payload).await;
        self.answer_to(number).await
    }

    /// Waits for the ack with this number. Keeps other packets that arrive first.
    pub async fn answer_to(&mut self, number: u64) -> Value {
        self.wait_for(|incoming| match incoming {
            Incoming::Ack(ack, answer) if *ack == number => Some(answer.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the next event with this name. Keeps other packets that arrive first.
    pub async fn event(&mut self, name: &str) -> Value {
        self.wait_for(|incoming| match incoming {
            Incoming::Event(event) if event.name == name => Some(event.data.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the message with which the server refuses the connection.
    pub async fn refusal(&mut self) -> String {
        self.wait_for(|incoming| match incoming {
            Incoming::Refused(why) => Some(why.clone()),
            _ => None,
        })
        .await
    }

    /// Returns the first packet, kept or new, for which `look` returns a value.
    pub async fn wait_for<T>(&mut self, mut look: impl FnMut(&Incoming) -> Option<T>) -> T {
        for index in 0..self.received.len() {
            if let Some(found) = look(&self.received[index]) {
                self.received.remove(index);
                return found;
            }
        }
        loop {
            let incoming = self.read().await;
            if let Some(found) = look(&incoming) {
                return found;
            }
            assert!(
                !matches!(incoming, Incoming::Closed),
                "the connection ended; received: {:?}",
                self.received
            );
            self.received.push_back(incoming);
        }
    }

    /// All events until now. Sends a request first: all packets before its answer count.
    pub async fn events_so_far(&mut self) -> Vec<Event> {
        let answer = self.ask("ping:latency", json!({"t": 1})).await;
        assert_eq!(answer["ok"], true);
        let received = std::mem::take(&mut self.received);
        let events = received.into_iter().filter_map(|incoming| match incoming {
            Incoming::Event(event) => Some(event),
            _ => None,
        });
        events.collect()
    }

    /// Discards all kept packets.
    pub fn discard_received(&mut self) {
        self.received.clear();
    }

    /// Waits until the server ends the connection or disconnects the client from the namespace.
    pub async fn until_closed(&mut self) {
        while !matches!(self.read().await, Incoming::Closed | Incoming::Disconnected) {}
    }

    /// Waits until the server ends the connection. Returns whether it says first that it does: with a Socket.IO packet or with
    /// an Engine.IO one.
    pub async fn is_dismissed(&mut self) -> bool {
        loop {
            match self.read().await {
                Incoming::Closed => return false,
                Incoming::Disconnected => return true,
                _ => {}
            }
        }
    }

    /// Reads the next packet. Answers heartbeats.
    async fn read(&mut self) -> Incoming {
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("something in time");
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Incoming::Closed,
                Some(Ok(_)) => continue,
            };
            match Packet::read(&text) {
                Packet::Ping => {
                    self.raw(packet::PONG).await;
                    continue;
                }
                Packet::Joined { pid } => self.pid = pid,
                _ => {}
            }
            let Some(incoming) = parse(&text) else { continue };
            if let Incoming::Event(Event { offset: Some(offset), .. }) = &incoming {
                self.offset = Some(offset.clone());
            }
            return incoming;
        }
    }
}

fn parse(text: &str) -> Option<Incoming> {
    let value = |json: &RawValue| serde_json::from_str(json.get()).expect("JSON");
    match Packet::read(text) {
        Packet::Refused { message } => Some(Incoming::Refused(message)),
        Packet::Left => Some(Incoming::Disconnected),
        Packet::Event(packet::Event { name, data, offset }) => {
            Some(Incoming::Event(Event { name: name.into_owned(), data: value(data), offset }))
        }
        Packet::Answer { number, body } => Some(Incoming::Ack(number, value(body))),
        Packet::Ping | Packet::Joined { .. } | Packet::Other => None,
    }
}
