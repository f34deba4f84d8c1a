//! A minimal client: one WebSocket and one namespace, with frames encoded and decoded by hand.
//!
//! Each client is one task that connects, subscribes and waits. For measurements with hundreds of thousands of packets,
//! [`Engine`](crate::engine::Engine) takes over its connection.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Target,
    rest::{order_id, token, user_id},
    wire::{self, Packet, Wire},
};

/// How long a server may take to accept a socket or to answer a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// The state that a client needs to recover its session: the session id and the last offset.
#[derive(Clone, Debug, Default)]
pub struct ResumePoint {
    pub pid: Option<String>,
    pub offset: Option<String>,
}

/// A connected socket. With Socket.IO it is in the namespace `/realtime`.
pub struct Socket {
    wire: Wire,
    tcp: TcpStream,
    /// Received bytes. The first `used` bytes are already processed.
    read: Vec<u8>,
    used: usize,
    write: Vec<u8>,
}

impl Socket {
    /// Connects as the `index`th user of a role, and waits until the server accepts.
    pub async fn connect(target: &Target, role: &str, index: usize) -> Result<Self> {
        Ok(Self::resume(target, role, index, &ResumePoint::default()).await?.0)
    }

    /// Connects and recovers an earlier session. Also returns the id of the session.
    pub async fn resume(
        target: &Target,
        role: &str,
        index: usize,
        resume: &ResumePoint,
    ) -> Result<(Self, Option<String>)> {
        let secret = target.jwt_secret.as_ref();
        let token = secret.map(|secret| token(secret, &user_id(role, index), role)).transpose()?;
        timeout(PATIENCE, async {
            let mut socket = Self::upgrade(target).await?;
            let pid = match target.wire {
                Wire::Socketio => socket.enter(token, resume).await?,
                Wire::Ws => None,
            };
            Ok((socket, pid))
        })
        .await
        .context("the server does not accept a socket")?
    }

    /// Connects as the `index`th user of a role and subscribes to the `order`th order.
    pub async fn watcher(target: &Target, role: &str, index: usize, order: usize) -> Result<Self> {
        let mut socket = Self::connect(target, role, index).await?;
        socket.subscribe(&order_id(order)).await?;
        Ok(socket)
    }

    /// Subscribes to an order.
    pub async fn subscribe(&mut self, order: &str) -> Result<()> {
        self.request("subscribe:order", &json!({ "orderId": order })).await
    }

    /// Sends a request and waits for its answer. A refusal is an error.
    pub async fn request(&mut self, event: &str, data: &Value) -> Result<()> {
        self.ask(event, data).await?;
        let answered = async {
            loop {
                if let Packet::Answer { body, .. } = self.next().await? {
                    ensure!(wire::is_ok(body), "{event}: refused: {}", String::from_utf8_lossy(body));
                    return Ok(());
                }
            }
        };
        timeout(PATIENCE, answered).await.with_context(|| format!("{event} is not answered"))?
    }

    /// Sends a request without waiting for its answer.
    pub async fn ask(&mut self, event: &str, data: &Value) -> Result<()> {
        let mut text = Vec::new();
        self.wire.request(&mut text, 0, event, &[&data.to_string()]);
        self.send(&text).await
    }

    /// Waits for the next packet.
    pub async fn next(&mut self) -> Result<Packet<'_>> {
        let wire = self.wire;
        Ok(wire.packet(self.text().await?))
    }

    /// Returns the connection and the received bytes that are not processed yet.
    pub fn into_parts(mut self) -> Result<(std::net::TcpStream, Vec<u8>)> {
        Ok((self.tcp.into_std()?, self.read.split_off(self.used)))
    }

    async fn upgrade(target: &Target) -> Result<Self> {
        let (addr, wire) = (target.addr, target.wire);
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let mut socket = Self { wire, tcp, read: Vec::with_capacity(1024), used: 0, write: Vec::new() };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            wire.path()
        );
        socket.tcp.write_all(request.as_bytes()).await?;
        let head = loop {
            socket.fill().await.context("handshake")?;
            if let Some(at) = socket.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let status = socket.read.split(|byte| *byte == b'\r').next().unwrap_or_default();
        ensure!(status.starts_with(b"HTTP/1.1 101"), "handshake: {}", String::from_utf8_lossy(status));
        socket.used = head;
        Ok(socket)
    }

    /// Enters the namespace and returns the session id.
    async fn enter(&mut self, token: Option<String>, resume: &ResumePoint) -> Result<Option<String>> {
        let opened = self.text().await?;
        ensure!(opened.starts_with(b"0{"), "unexpected {}", String::from_utf8_lossy(opened));
        let auth = json!({ "token": token, "pid": resume.pid, "offset": resume.offset });
        self.send(format!("40/realtime,{auth}").as_bytes()).await?;
        let reply = self.text().await?;
        let session = reply.strip_prefix(b"40/realtime,");
        let session = session.with_context(|| format!("unexpected {}", String::from_utf8_lossy(reply)))?;
        let session: Value = serde_json::from_slice(session)?;
        Ok(session["pid"].as_str().map(str::to_owned))
    }

    async fn send(&mut self, text: &[u8]) -> Result<()> {
        self.write.clear();
        wire::push_text(&mut self.write, text)?;
        Ok(self.tcp.write_all(&self.write).await?)
    }

    /// Waits for the next text frame. Answers pings.
    async fn text(&mut self) -> Result<&[u8]> {
        loop {
            let from = self.used;
            let Some(frame) = wire::frame(&self.read[from..])? else {
                self.fill().await?;
                continue;
            };
            self.used += frame.payload.end;
            self.write.clear();
            if wire::text(&frame, &self.read[from..], &mut self.write)?.is_some() {
                return Ok(&self.read[from..][frame.payload]);
            }
            self.tcp.write_all(&self.write).await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.read.drain(..self.used);
        self.used = 0;
        self.read.reserve(1024);
        ensure!(self.tcp.read_buf(&mut self.read).await? > 0, "the server closed the connection");
        Ok(())
    }
}

/// Makes many sockets, 64 at a time. The order of the result is not defined.
pub async fn many<T>(count: usize, make: impl AsyncFn(usize) -> Result<T>) -> Result<Vec<T>> {
    let make = &make;
    stream::iter(0..count).map(|index| make(index)).buffer_unordered(64).try_collect().await
}
