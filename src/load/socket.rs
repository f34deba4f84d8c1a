//! A client of `/realtime` over a WebSocket. It comes back as socket.io-client does: with its session's id and its last offset.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::{Client, Upgraded};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::packet::{self, Event, PONG, Packet};
use super::trouble::Trouble;
use crate::dialect::names::RealtimeEvent;

/// Time for a connection until the server greets.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that are read at once. Small, because there are thousands of sockets.
const BUFFER: usize = 4 << 10;
/// No event of an order is as long as this, in bytes.
const LONGEST: usize = 1 << 20;

/// What brings a session back.
#[derive(Debug, Default)]
pub(super) struct Resume {
    pid: Option<String>,
    offset: Option<String>,
}

impl Resume {
    /// Whether there is a session to bring back.
    pub const fn is_known(&self) -> bool {
        self.pid.is_some()
    }
}

/// A socket in the namespace.
pub(super) struct Socket {
    stream: WebSocketStream<Upgraded>,
    requests: u64,
    /// Whether the server has brought its session back.
    pub recovered: bool,
}

/// What a server said, as text that [`Packet::read`] can read once more.
pub(super) type Said = Utf8Bytes;

impl Socket {
    /// Connects, and waits until the server greets. What the session needs to come back is in `resume` then.
    pub async fn connect(
        http: &Client,
        base: &str,
        token: &str,
        resume: &mut Resume,
    ) -> Result<Self, Trouble> {
        timeout(PATIENCE, Self::enter(http, base, token, resume))
            .await
            .unwrap_or_else(|_| Err(Trouble::timeout()))
    }

    async fn enter(http: &Client, base: &str, token: &str, resume: &mut Resume) -> Result<Self, Trouble> {
        #[derive(Serialize)]
        struct Auth<'a> {
            token: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            pid: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            offset: Option<&'a str>,
        }
        #[derive(Deserialize)]
        struct Greeting {
            recovered: bool,
        }
        let mut socket = Self { stream: upgrade(http, base).await?, requests: 0, recovered: false };
        let auth = Auth { token, pid: resume.pid.as_deref(), offset: resume.offset.as_deref() };
        socket.send(packet::join(&auth)).await?;
        loop {
            let text = socket.next(resume).await?;
            match Packet::read(&text) {
                Packet::Joined { pid } => resume.pid = pid,
                Packet::Refused { message } => return Err(Trouble::refused(&message)),
                Packet::Event(Event { name, data, .. }) if name == RealtimeEvent::Connected.as_str() => {
                    let greeting: Greeting = serde_json::from_str(data.get()).map_err(unreadable)?;
                    socket.recovered = greeting.recovered;
                    return Ok(socket);
                }
                _ => {}
            }
        }
    }

    /// The next text of the server. Answers heartbeats, and remembers the offset of a durable event. May be dropped while it
    /// waits.
    pub async fn next(&mut self, resume: &mut Resume) -> Result<Said, Trouble> {
        loop {
            let text = match self.stream.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) | None => return Err(lost("the server closed the connection")),
                Some(Err(error)) => return Err(lost(error.to_string())),
                Some(Ok(_)) => continue,
            };
            match Packet::read(&text) {
                Packet::Ping => self.send(PONG.to_owned()).await?,
                Packet::Left => return Err(lost("the server ended the session")),
                Packet::Event(Event { offset: Some(offset), .. }) => {
                    resume.offset = Some(offset);
                    return Ok(text);
                }
                _ => return Ok(text),
            }
        }
    }

    /// Asks for something. The answer comes with the next texts.
    pub async fn ask(&mut self, event: &str, data: &impl Serialize) -> Result<(), Trouble> {
        self.requests += 1;
        self.send(packet::emit(Some(self.requests), event, data)).await
    }

    async fn send(&mut self, text: String) -> Result<(), Trouble> {
        self.stream.send(Message::text(text)).await.map_err(|error| lost(error.to_string()))
    }
}

/// Opens a WebSocket, over TLS if the address says so.
async fn upgrade(http: &Client, base: &str) -> Result<WebSocketStream<Upgraded>, Trouble> {
    let request = http
        .get(format!("{base}/socket.io/?EIO=4&transport=websocket"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key());
    let answer = request.send().await.map_err(|error| Trouble::unanswered(&error))?;
    if answer.status().as_u16() != 101 {
        return Err(Trouble::answer(answer).await);
    }
    let stream = answer.upgrade().await.map_err(|error| lost(error.without_url().to_string()))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
}

fn lost(text: impl Into<String>) -> Trouble {
    Trouble::new("connection_lost", text)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: serde_json::Error) -> Trouble {
    Trouble::new("unreadable", error.to_string())
}

/// The code of a refusal in an answer; `None` if it is none.
pub(super) fn refusal(body: &RawValue) -> Option<Trouble> {
    #[derive(Deserialize)]
    struct Answer {
        ok: bool,
        error: Option<Fault>,
    }
    #[derive(Deserialize)]
    struct Fault {
        code: String,
        message: String,
    }
    match serde_json::from_str::<Answer>(body.get()) {
        Ok(Answer { ok: true, .. }) => None,
        Ok(Answer { error: Some(Fault { code, message }), .. }) => Some(Trouble::new(&code, message)),
        _ => Some(Trouble::new("unreadable", "an answer that cannot be read")),
    }
}
