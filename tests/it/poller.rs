//! A small client that polls, Engine.IO 4 or 3, and may send each request to another node.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use ordercast::model::Role;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{PATIENCE, Server};

pub type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client that sends each request to the next node.
pub struct Polling<'a> {
    pub nodes: &'a [&'a Server],
    pub turn: AtomicUsize,
    version: usize,
    pub sid: String,
    pub pid: Option<String>,
    packets: VecDeque<String>,
}

impl<'a> Polling<'a> {
    /// Opens a session at the first node.
    pub async fn open(nodes: &'a [&'a Server], version: usize) -> Self {
        let (turn, sid, packets) = (AtomicUsize::new(0), String::new(), VecDeque::new());
        let mut client = Self { nodes, turn, version, sid, pid: None, packets };
        let (status, body) = client.request("GET", String::new()).await;
        assert_eq!(status, 200, "{body}");
        let [packet] = &client.packets_of(&body)[..] else { panic!("one packet: {body}") };
        let open: Value = serde_json::from_str(&packet[1..]).expect("JSON");
        open["sid"].as_str().expect("an id").clone_into(&mut client.sid);
        client
    }

    pub fn next_node(&self) -> &'a Server {
        self.nodes[self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }

    pub fn path(&self) -> String {
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        format!("/socket.io/?EIO={}&transport=polling{sid}", self.version)
    }

    pub async fn request(&self, method: &str, body: String) -> (u16, String) {
        let request = self.next_node().anonymous().request(method, &self.path());
        let request = request.header("content-type", "text/plain;charset=UTF-8").body(body);
        let answer =
            tokio::time::timeout(PATIENCE, request.send()).await.expect("in time").expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    pub fn packets_of(&self, body: &str) -> Vec<String> {
        if self.version == 4 {
            return body.split('\u{1e}').filter(|packet| !packet.is_empty()).map(str::to_owned).collect();
        }
        let (mut packets, mut rest) = (Vec::new(), body);
        while let Some((length, after)) = rest.split_once(':') {
            let length = length.parse().expect("a length");
            packets.push(after.chars().take(length).collect::<String>());
            rest = &after[packets.last().map_or(0, String::len)..];
        }
        packets
    }

    pub async fn post(&self, packet: String) -> u16 {
        let body = if self.version == 4 { packet } else { format!("{}:{packet}", packet.chars().count()) };
        self.request("POST", body).await.0
    }

    /// Joins `/realtime`. `more` is said beside the token. Returns the greeting.
    pub async fn join(&mut self, user: &str, role: Role, more: Value) -> Value {
        let token = self.nodes[0].token(user, role);
        let mut auth = more;
        auth["token"] = json!(token);
        let old = format!("40/realtime?token={token},");
        assert_eq!(self.post(if self.version == 4 { format!("40/realtime,{auth}") } else { old }).await, 200);
        let reply = self.packet("40/realtime").await;
        self.pid =
            reply.split("\"pid\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        event(&self.packet("42/realtime,[\"connected\"").await)[1].clone()
    }

    /// Polls until the order has this status. Returns the event.
    pub async fn hears(&mut self, status: &str) -> Value {
        loop {
            let event = event(&self.packet("42/realtime,[\"order:status_update\"").await);
            if event[1]["status"] == status {
                return event;
            }
        }
    }

    /// Polls until a packet begins with this.
    pub async fn packet(&mut self, begins: &str) -> String {
        loop {
            while let Some(packet) = self.packets.pop_front() {
                if packet.starts_with(begins) {
                    return packet;
                }
                if packet == "2" {
                    assert_eq!(self.post("3".to_owned()).await, 200);
                }
            }
            let (status, body) = self.request("GET", String::new()).await;
            assert_eq!(status, 200, "{body}");
            self.packets.extend(self.packets_of(&body));
        }
    }

    pub async fn ask(&mut self, event: &str, payload: Value) -> String {
        assert_eq!(self.post(format!("42/realtime,7{}", json!([event, payload]))).await, 200);
        self.packet("43/realtime,7[").await
    }

    pub fn url(&self, node: &Server) -> String {
        let Self { version, sid, .. } = self;
        format!("ws://{}/socket.io/?EIO={version}&transport=websocket&sid={sid}", node.address)
    }

    /// Changes to a WebSocket at this node.
    pub async fn upgrade(&mut self, node: &Server) -> WebSocket {
        let (mut socket, _) = tokio_tungstenite::connect_async(self.url(node)).await.expect("a WebSocket");
        socket.send(Message::text("2probe")).await.expect("sent");
        assert_eq!(text(&mut socket).await, "3probe");
        // The poll that waits is ended for the upgrade.
        self.packet("6").await;
        socket.send(Message::text("5")).await.expect("sent");
        socket
    }
}

/// The arguments of an event of `/realtime`.
pub fn event(packet: &str) -> Value {
    serde_json::from_str(packet.strip_prefix("42/realtime,").expect("an event")).expect("JSON")
}

pub async fn text(socket: &mut WebSocket) -> String {
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time");
    message.expect("a message").expect("no error").into_text().expect("text").to_string()
}

/// Reads until a message begins with this.
pub async fn message(socket: &mut WebSocket, begins: &str) -> String {
    loop {
        let text = text(socket).await;
        if text == "2" {
            socket.send(Message::text("3")).await.expect("sent");
        }
        if text.starts_with(begins) {
            return text;
        }
    }
}
