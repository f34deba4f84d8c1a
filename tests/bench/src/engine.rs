//! Many sockets on one thread with `epoll`: one system call per read and per sent frame, no tasks and no parser.

use std::{
    io::{ErrorKind, Read, Write},
    mem,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    socket::Socket,
    wire::{self, Packet, Wire},
};

/// Bytes of one read. A read that returns less has emptied the socket.
const BUFFER: usize = 256 * 1024;

/// Polls the connections and reads their packets.
pub struct Engine {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    pub connections: Connections,
}

/// All connections. They are identified by their index.
pub struct Connections {
    wire: Wire,
    all: Vec<Connection>,
    text: Vec<u8>,
    write: Vec<u8>,
}

struct Connection {
    tcp: TcpStream,
    /// The beginning of a frame whose end has not arrived yet.
    partial: Vec<u8>,
}

impl Engine {
    pub fn new(wire: Wire) -> Result<Self> {
        let connections = Connections { wire, all: Vec::new(), text: Vec::new(), write: Vec::new() };
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER],
            connections,
        })
    }

    /// Takes over a socket and returns its index. Indexes count from 0.
    pub fn add(&mut self, socket: Socket) -> Result<usize> {
        let (tcp, partial) = socket.into_parts()?;
        let mut tcp = TcpStream::from_std(tcp);
        let index = self.connections.all.len();
        self.poll.registry().register(&mut tcp, Token(index), Interest::READABLE)?;
        self.connections.all.push(Connection { tcp, partial });
        Ok(index)
    }

    /// Stops reading from a socket.
    pub fn mute(&mut self, index: usize) -> Result<()> {
        Ok(self.poll.registry().deregister(&mut self.connections.all[index].tcp)?)
    }

    /// Whether the server has closed a muted socket. Reads the remaining bytes until the end of the stream, or until
    /// nothing arrives for a second.
    pub fn is_closed(&mut self, index: usize) -> Result<bool> {
        let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1));
        let tcp = &mut self.connections.all[index].tcp;
        poll.registry().register(tcp, Token(0), Interest::READABLE)?;
        loop {
            match tcp.read(&mut self.buffer) {
                Ok(0) => return Ok(true),
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(true),
            }
            poll.poll(&mut events, Some(Duration::from_secs(1)))?;
            if events.is_empty() {
                return Ok(false);
            }
        }
    }

    /// Waits for data up to `timeout`, in whole milliseconds. Passes each packet to `on_packet` with the index of its
    /// socket and the time of the read. Answers pings itself. Returns whether there was data.
    pub fn poll(
        &mut self,
        timeout: Duration,
        mut on_packet: impl FnMut(&mut Connections, usize, Packet<'_>, Instant) -> Result<()>,
    ) -> Result<bool> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            other => other?,
        }
        for event in &self.events {
            let index = event.token().0;
            loop {
                let count = match self.connections.all[index].tcp.read(&mut self.buffer) {
                    Ok(0) => bail!("the server closed a connection"),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("reading"),
                };
                self.connections.split(index, &self.buffer[..count], &mut on_packet)?;
                // A short read has emptied the socket. Later data causes a new epoll event.
                if count < BUFFER {
                    break;
                }
            }
        }
        Ok(!self.events.is_empty())
    }
}

impl Connections {
    /// Sends a request. Its answer has the same id.
    pub fn request(&mut self, index: usize, id: u64, event: &str, data: &[&str]) -> Result<()> {
        self.text.clear();
        self.wire.request(&mut self.text, id, event, data);
        self.write.clear();
        wire::push_text(&mut self.write, &self.text)?;
        self.send(index)
    }

    fn send(&mut self, index: usize) -> Result<()> {
        let sent = self.all[index].tcp.write(&self.write).context("the server does not read")?;
        ensure!(sent == self.write.len(), "the server does not read");
        Ok(())
    }

    /// Splits the received bytes into packets and passes them to `on_packet`.
    fn split(
        &mut self,
        index: usize,
        read: &[u8],
        on_packet: &mut impl FnMut(&mut Self, usize, Packet<'_>, Instant) -> Result<()>,
    ) -> Result<()> {
        let (now, wire) = (Instant::now(), self.wire);
        let mut joined = mem::take(&mut self.all[index].partial);
        let mut bytes = read;
        if !joined.is_empty() {
            joined.extend_from_slice(read);
            bytes = &joined;
        }
        while let Some(frame) = wire::frame(bytes)? {
            self.write.clear();
            match wire::text(&frame, bytes, &mut self.write)? {
                Some(text) => on_packet(self, index, wire.packet(text), now)?,
                None => self.send(index)?,
            }
            bytes = &bytes[frame.payload.end..];
        }
        self.all[index].partial = bytes.to_vec();
        Ok(())
    }
}
