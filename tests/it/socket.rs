//! A small Socket.IO client for tests: Engine.IO 4 over a WebSocket, every packet kept in the order it came.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use ordercast::model::Role;
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
    /// The last argument of a durable event.
    pub offset: Option<String>,
}

/// What may come from the server.
#[derive(Clone, Debug)]
pub enum Incoming {
    Event(Event),
    Ack(u64, Value),
    Refused(String),
    /// The server took us out of the namespace.
    Disconnected,
    /// The connection is over.
    Closed,
}

/// A client, connected to `/realtime`.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_ack: u64,
    /// The id of its session.
    pub pid: Option<String>,
    /// The last offset that it has seen, as the stock client keeps it.
    pub offset: Option<String>,
    /// What came while something else was waited for.
    kept: VecDeque<Incoming>,
}

impl Socket {
    /// Connects and waits for the greeting.
    pub async fn connect(server: &Server, id: &str, role: Role) -> Self {
        let token = server.token(id, role);
        let mut socket = Self::knock(server, json!({"token": token})).await;
        socket.event("connected").await;
        socket
    }

    /// Comes back, as the stock client does, with the session and the offset that another socket had. Returns whether it
    /// was recovered.
    pub async fn back(self, server: &Server, token: &str) -> (Self, bool) {
        let auth = json!({"token": token, "pid": self.pid, "offset": self.offset});
        drop(self.stream);
        let mut socket = Self::knock(server, auth).await;
        let greeting = socket.event("connected").await;
        (socket, greeting["recovered"] == true)
    }

    /// Connects as far as asking for the namespace.
    pub async fn knock(server: &Server, auth: Value) -> Self {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.address);
        let (stream, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
        let mut socket = Self { stream, next_ack: 0, pid: None, offset: None, kept: VecDeque::new() };
        socket.raw(&format!("40/realtime,{auth}")).await;
        socket
    }

    /// Sends one text frame as it is.
    pub async fn raw(&mut self, text: &str) {
        // A connection that the server has just closed is found out when something is read.
        let _ = self.stream.send(Message::text(text)).await;
    }

    /// Sends one binary frame as it is.
    /// Sends bytes below the WebSocket.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let MaybeTlsStream::Plain(tcp) = self.stream.get_mut() else {
            unreachable!("there is no TLS in tests")
        };
        tcp.write_all(bytes).await.expect("sent");
    }

    pub async fn raw_binary(&mut self, bytes: &'static [u8]) {
        let _ = self.stream.send(Message::binary(bytes)).await;
    }

    pub async fn emit(&mut self, event: &str, payload: &Value) {
        self.raw(&format!("42/realtime,{}", json!([event, payload]))).await;
    }

    /// Emits with an ack and does not wait for it; the ack's number.
    pub async fn emit_ack(&mut self, event: &str, payload: &Value) -> u64 {
        self.next_ack += 1;
        self.raw(&format!("42/realtime,{}{}", self.next_ack, json!([event, payload]))).await;
        self.next_ack
    }

    /// Emits and waits for the answer. What comes before it is kept.
    pub async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let number = self.emit_ack(event, &payload).await;
        self.answer_to(number).await
    }

    /// The answer to the request of this number. What comes before it is kept.
    pub async fn answer_to(&mut self, number: u64) -> Value {
        self.wait_for(|incoming| match incoming {
            Incoming::Ack(ack, answer) if *ack == number => Some(answer.clone()),
            _ => None,
        })
        .await
    }

    /// The next event of this name. What comes before it is kept.
    pub async fn event(&mut self, name: &str) -> Value {
        self.wait_for(|incoming| match incoming {
            Incoming::Event(event) if event.name == name => Some(event.data.clone()),
            _ => None,
        })
        .await
    }

    /// Why it was not let in.
    pub async fn refusal(&mut self) -> String {
        self.wait_for(|incoming| match incoming {
            Incoming::Refused(why) => Some(why.clone()),
            _ => None,
        })
        .await
    }

    /// The first thing, kept or new, that is looked for.
    pub async fn wait_for<T>(&mut self, mut look: impl FnMut(&Incoming) -> Option<T>) -> T {
        for index in 0..self.kept.len() {
            if let Some(found) = look(&self.kept[index]) {
                self.kept.remove(index);
                return found;
            }
        }
        loop {
            let incoming = self.read().await;
            if let Some(found) = look(&incoming) {
                return found;
            }
            assert!(!matches!(incoming, Incoming::Closed), "the connection ended; kept: {:?}", self.kept);
            self.kept.push_back(incoming);
        }
    }

    /// Everything that has come until now, the answer to a ping of ours being the last of it.
    pub async fn so_far(&mut self) -> Vec<Event> {
        let answer = self.ask("ping:latency", json!({"t": 1})).await;
        assert_eq!(answer["ok"], true);
        let kept = std::mem::take(&mut self.kept);
        let events = kept.into_iter().filter_map(|incoming| match incoming {
            Incoming::Event(event) => Some(event),
            _ => None,
        });
        events.collect()
    }

    /// Lets go of everything that was kept.
    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// Waits until the server ends the connection or takes us out of the namespace.
    pub async fn closed(&mut self) {
        while !matches!(self.read().await, Incoming::Closed | Incoming::Disconnected) {}
    }

    /// The next thing the server sends, heartbeats aside.
    async fn read(&mut self) -> Incoming {
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("something in time");
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Incoming::Closed,
                Some(Ok(_)) => continue,
            };
            if text.as_str() == "2" {
                self.raw("3").await;
                continue;
            }
            if let Some(reply) = text.strip_prefix("40/realtime,") {
                let reply: Value = serde_json::from_str(reply).expect("JSON");
                self.pid = reply["pid"].as_str().map(str::to_owned);
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
    if let Some(error) = text.strip_prefix("44/realtime,") {
        let error: Value = serde_json::from_str(error).expect("JSON");
        return Some(Incoming::Refused(error["message"].as_str().expect("a message").to_owned()));
    }
    if text.starts_with("41/realtime") {
        return Some(Incoming::Disconnected);
    }
    if let Some(event) = text.strip_prefix("42/realtime,") {
        let event: Vec<Value> = serde_json::from_str(event).expect("JSON");
        let name = event[0].as_str().expect("a name").to_owned();
        let data = event.get(1).cloned().unwrap_or(Value::Null);
        let offset = event.get(2).and_then(Value::as_str).map(str::to_owned);
        return Some(Incoming::Event(Event { name, data, offset }));
    }
    if let Some(ack) = text.strip_prefix("43/realtime,") {
        let (number, answer) = ack.split_at(ack.find('[').expect("an array"));
        let answer: Vec<Value> = serde_json::from_str(answer).expect("JSON");
        return Some(Incoming::Ack(number.parse().expect("a number"), answer[0].clone()));
    }
    None
}
