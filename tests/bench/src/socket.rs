//! A Socket.IO client of the barest kind: one WebSocket, one namespace, frames made and read by hand.
//!
//! The generator has to be cheaper than any server it measures. A general WebSocket client spends about as much on a
//! frame as a server does; this one makes one system call for it and little else.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    Target,
    rest::{order_id, token, user_id},
};

/// Where a client was: its session, and the last offset it has.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub pid: Option<String>,
    pub offset: Option<String>,
}

/// A connected socket in `/realtime`.
pub struct Socket {
    tcp: TcpStream,
    /// What was read, of which the first `used` bytes are done with.
    read: Vec<u8>,
    used: usize,
    write: Vec<u8>,
}

impl Socket {
    /// Upgrade, connect to the namespace as the `index`th user in a role, and wait for the server's consent.
    pub async fn connect(target: &Target, role: &str, index: usize) -> Result<Self> {
        Ok(Self::resume(target, role, index, &Place::default()).await?.0)
    }

    /// The same, where it was before, if it was. Also returns the id of its session.
    pub async fn resume(
        target: &Target,
        role: &str,
        index: usize,
        place: &Place,
    ) -> Result<(Self, Option<String>)> {
        let addr = target.addr;
        let token = target
            .jwt_secret
            .as_ref()
            .map(|secret| token(secret, &user_id(role, index), role))
            .transpose()?;
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let mut socket = Self { tcp, read: Vec::with_capacity(1024), used: 0, write: Vec::new() };
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
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
        socket.expect(b"0{").await?;
        let auth = json!({ "token": token, "pid": place.pid, "offset": place.offset });
        socket.send(&format!("40/realtime,{auth}")).await?;
        let reply = socket.next().await?;
        let Some(reply) = reply.strip_prefix(b"40/realtime,") else {
            bail!("unexpected {}", String::from_utf8_lossy(reply));
        };
        let reply: Value = serde_json::from_slice(reply)?;
        let pid = reply["pid"].as_str().map(str::to_owned);
        Ok((socket, pid))
    }

    /// The customer of the `index`th order, subscribed to it.
    pub async fn watcher(target: &Target, index: usize) -> Result<Self> {
        let mut socket = Self::connect(target, "customer", index).await?;
        let order = json!({ "orderId": order_id(index) });
        socket.send(&format!("42/realtime,0[\"subscribe:order\",{order}]")).await?;
        socket.acknowledged().await?;
        Ok(socket)
    }

    /// Send one packet. The mask is zero, which leaves the text as it is and costs the server no less.
    pub async fn send(&mut self, packet: &str) -> Result<()> {
        self.write.clear();
        self.write.push(0x81);
        if let Ok(short @ ..=125) = u8::try_from(packet.len()) {
            self.write.push(0x80 | short);
        } else {
            self.write.push(0xFE);
            self.write.extend(u16::try_from(packet.len())?.to_be_bytes());
        }
        self.write.extend([0; 4]);
        self.write.extend(packet.as_bytes());
        Ok(self.tcp.write_all(&self.write).await?)
    }

    /// The next packet that is not a ping; pings are answered.
    pub async fn next(&mut self) -> Result<&[u8]> {
        loop {
            let Some(packet) = self.frame()? else {
                self.fill().await?;
                continue;
            };
            if self.read[packet.clone()] == *b"2" {
                self.send("3").await?;
            } else {
                return Ok(&self.read[packet]);
            }
        }
    }

    /// Wait for the answer to the one request in flight.
    pub async fn acknowledged(&mut self) -> Result<()> {
        loop {
            let packet = self.next().await?;
            if packet.starts_with(b"43/realtime,") {
                let says_yes = packet.windows(9).any(|bytes| bytes == b"\"ok\":true");
                ensure!(says_yes, "refused: {}", String::from_utf8_lossy(packet));
                return Ok(());
            }
        }
    }

    async fn expect(&mut self, prefix: &[u8]) -> Result<()> {
        let packet = self.next().await?;
        ensure!(packet.starts_with(prefix), "unexpected {}", String::from_utf8_lossy(packet));
        Ok(())
    }

    /// The payload of the next whole frame that has been read.
    fn frame(&mut self) -> Result<Option<Range<usize>>> {
        let rest = &self.read[self.used..];
        let (header, length) = match *rest {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, 127, ..] => bail!("a frame over 64 KB"),
            [_, length @ ..=125, ..] => (2, usize::from(length)),
            _ => return Ok(None),
        };
        if rest.len() < header + length {
            return Ok(None);
        }
        ensure!(rest[0] == 0x81, "unexpected frame type {:#x}", rest[0]);
        let start = self.used + header;
        self.used = start + length;
        Ok(Some(start..self.used))
    }

    async fn fill(&mut self) -> Result<()> {
        self.read.drain(..self.used);
        self.used = 0;
        self.read.reserve(1024);
        ensure!(self.tcp.read_buf(&mut self.read).await? > 0, "the server closed the connection");
        Ok(())
    }
}

/// Make many sockets, 64 at a time, in no particular order.
pub async fn many<T>(count: usize, make: impl AsyncFn(usize) -> Result<T>) -> Result<Vec<T>> {
    let make = &make;
    stream::iter(0..count).map(|index| make(index)).buffer_unordered(64).try_collect().await
}
