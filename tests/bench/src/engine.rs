//! Many sockets on one thread: `epoll`, one system call for each read and each frame sent, no task and no parser.

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

/// One read empties a socket, unless it holds more than this.
const BUFFER: usize = 256 * 1024;

/// Waits for what the servers say.
pub struct Engine {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    pub lines: Lines,
}

/// The sockets, by number.
pub struct Lines {
    wire: Wire,
    all: Vec<Line>,
    text: Vec<u8>,
    write: Vec<u8>,
}

struct Line {
    tcp: TcpStream,
    /// The beginning of a frame that has not come in full.
    rest: Vec<u8>,
}

impl Engine {
    pub fn new(wire: Wire) -> Result<Self> {
        let lines = Lines { wire, all: Vec::new(), text: Vec::new(), write: Vec::new() };
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(1024), buffer: vec![0; BUFFER], lines })
    }

    /// Take a socket over; returns its number: they count from 0.
    pub fn add(&mut self, socket: Socket) -> Result<usize> {
        let (tcp, rest) = socket.into_parts()?;
        let mut tcp = TcpStream::from_std(tcp);
        let line = self.lines.all.len();
        self.poll.registry().register(&mut tcp, Token(line), Interest::READABLE)?;
        self.lines.all.push(Line { tcp, rest });
        Ok(line)
    }

    /// Never read from this socket again.
    pub fn mute(&mut self, line: usize) -> Result<()> {
        Ok(self.poll.registry().deregister(&mut self.lines.all[line].tcp)?)
    }

    /// Whether the server has given a muted socket up: reads what is left, until the end or for a second in vain.
    pub fn is_cut(&mut self, line: usize) -> bool {
        let mut quiet = 0;
        while quiet < 10 {
            match self.lines.all[line].tcp.read(&mut self.buffer) {
                Ok(0) => return true,
                Ok(_) => quiet = 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    quiet += 1;
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(_) => return true,
            }
        }
        false
    }

    /// Wait for something to be read, at most so many whole milliseconds, and hand over every packet that came, with its
    /// socket and the moment of reading. Pings are answered here. Returns whether there was something to read.
    pub fn turn(
        &mut self,
        timeout: Duration,
        mut hear: impl FnMut(&mut Lines, usize, Packet<'_>, Instant) -> Result<()>,
    ) -> Result<bool> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            other => other?,
        }
        for event in &self.events {
            let line = event.token().0;
            loop {
                let count = match self.lines.all[line].tcp.read(&mut self.buffer) {
                    Ok(0) => bail!("the server closed a connection"),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("reading"),
                };
                self.lines.take(line, &self.buffer[..count], &mut hear)?;
                // A short read has emptied the socket; what comes later is an edge of its own.
                if count < BUFFER {
                    break;
                }
            }
        }
        Ok(!self.events.is_empty())
    }
}

impl Lines {
    /// Send a request. The answer has this id.
    pub fn request(&mut self, line: usize, id: u64, event: &str, data: &[&str]) -> Result<()> {
        self.text.clear();
        self.wire.request(&mut self.text, id, event, data);
        self.write.clear();
        wire::push_text(&mut self.write, &self.text)?;
        self.send(line)
    }

    fn send(&mut self, line: usize) -> Result<()> {
        let sent = self.all[line].tcp.write(&self.write).context("the server does not read")?;
        ensure!(sent == self.write.len(), "the server does not read");
        Ok(())
    }

    /// Hand over the packets in what was read.
    fn take(
        &mut self,
        line: usize,
        read: &[u8],
        hear: &mut impl FnMut(&mut Self, usize, Packet<'_>, Instant) -> Result<()>,
    ) -> Result<()> {
        let (now, wire) = (Instant::now(), self.wire);
        let mut joined = mem::take(&mut self.all[line].rest);
        let mut bytes = read;
        if !joined.is_empty() {
            joined.extend_from_slice(read);
            bytes = &joined;
        }
        while let Some(frame) = wire::frame(bytes)? {
            self.write.clear();
            match wire::text(&frame, bytes, &mut self.write)? {
                Some(text) => hear(self, line, wire.packet(text), now)?,
                None => self.send(line)?,
            }
            bytes = &bytes[frame.payload.end..];
        }
        self.all[line].rest = bytes.to_vec();
        Ok(())
    }
}
