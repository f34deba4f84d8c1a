//! What waits to be written on a connection, in which order, and writing it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;

use super::websocket;
use crate::session::session::Session;
use crate::transport::socketio::Handshake;
use crate::transport::socketio::greeting::Greeting;

/// Most parts of one write.
const PARTS: usize = 64;
/// Bytes of several parts that are put together for a write.
const TOGETHER: usize = 1024;
/// Writes in a row before others get their turn.
const WRITES: usize = 16;

/// What waits to be written.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
pub(super) struct Out {
    /// `None` once the connection is gone: whoever still holds the lane holds no descriptor.
    pub tcp: Option<Arc<OwnedWriteHalf>>,
    pub phase: Phase,
    /// Sessions may write.
    pub open: bool,
    /// The rest of a frame that was begun. Nothing may come before it.
    pub begun: Bytes,
    /// A frame of socketioxide's: before ours, so that a long queue of ours does not starve its pings.
    pub own: Option<Bytes>,
    pub queue: VecDeque<Bytes>,
    pub queued: usize,
    /// The kernel takes no more; a task waits for it.
    pub blocked: bool,
    /// The flusher knows of it.
    pub left: bool,
    /// The round in which a frame was written at once.
    pub round: u64,
    /// More than one frame came in a round lately.
    pub bursts: bool,
    /// When it is all written, that was it.
    pub closing: bool,
    /// Who writes here: one, or one for each namespace.
    pub sessions: SmallVec<[Weak<Session>; 1]>,
    /// Of a client that came with a WebSocket: it is over when the connection is.
    pub handshake: Option<Arc<Handshake>>,
}

/// What the bytes of a connection are.
pub(super) enum Phase {
    /// Bytes of HTTP pass as they are.
    Http,
    /// The head of the response that makes it a WebSocket is passing; these are its last bytes so far.
    Head([u8; 4], Option<Box<Greeting>>),
    /// Frames, looked at as long as there is something to look for.
    Frames(Option<Box<Greeting>>),
}

/// How far a write got.
pub(super) enum Written {
    All,
    Some,
}

impl Out {
    pub(super) fn new(tcp: OwnedWriteHalf) -> Self {
        Self {
            tcp: Some(Arc::new(tcp)),
            phase: Phase::Http,
            open: false,
            begun: Bytes::new(),
            own: None,
            queue: VecDeque::new(),
            queued: 0,
            blocked: false,
            left: false,
            round: 0,
            bursts: false,
            closing: false,
            sessions: SmallVec::new(),
            handshake: None,
        }
    }

    /// Writes as much as the kernel takes: the rest of the frame that was begun, socketioxide's, then ours.
    pub(super) fn write(&mut self) -> io::Result<Written> {
        for _ in 0..WRITES {
            if self.waiting() == 0 {
                return Ok(Written::All);
            }
            let Some(tcp) = &self.tcp else { return Err(aborted()) };
            let ours = if self.open { self.queue.len() } else { 0 };
            let all = [&self.begun].into_iter().chain(&self.own).chain(self.queue.iter().take(ours));
            let mut parts = [IoSlice::new(&[]); PARTS];
            let mut count = 0;
            for (part, bytes) in parts.iter_mut().zip(all.filter(|bytes| !bytes.is_empty())) {
                *part = IoSlice::new(bytes);
                count += 1;
            }
            match write_parts(tcp, &parts[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Written::Some),
                Err(error) => return Err(error),
            }
        }
        Ok(if self.waiting() == 0 { Written::All } else { Written::Some })
    }

    fn written(&mut self, mut count: usize) {
        let rest = count.min(self.begun.len());
        self.begun = self.begun.split_off(rest);
        count -= rest;
        if count > 0
            && let Some(own) = self.own.take()
        {
            let rest = count.min(own.len());
            self.begun = own.slice(rest..);
            count -= rest;
        }
        while count > 0 {
            let Some(frame) = self.queue.pop_front() else { return };
            self.queued -= frame.len();
            let rest = count.min(frame.len());
            self.begun = frame.slice(rest..);
            count -= rest;
        }
        if self.queue.is_empty() && self.queue.capacity() > PARTS {
            // An idle socket keeps no queue.
            self.queue = VecDeque::new();
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        let ours = if self.open { self.queued } else { 0 };
        self.begun.len() + self.own.as_ref().map_or(0, Bytes::len) + ours
    }

    pub(super) fn head_passed(&mut self, tail: [u8; 4]) {
        let phase = std::mem::replace(&mut self.phase, Phase::Http);
        self.phase = match phase {
            Phase::Head(_, greeting) if tail == *b"\r\n\r\n" => {
                // Nothing of anybody else's has to pass first.
                self.open = self.open || greeting.is_none();
                Phase::Frames(greeting)
            }
            Phase::Head(_, greeting) => Phase::Head(tail, greeting),
            other => other,
        };
    }

    /// Takes a whole frame that is not a session's. After a close frame nothing may come, of nobody.
    pub(super) fn passes(&mut self, frame: Bytes) {
        if frame.first() == Some(&websocket::CLOSE) {
            self.closing = true;
            self.queue = VecDeque::new();
            self.queued = 0;
        }
        self.own = Some(frame);
    }

    pub(super) fn attach(&mut self, session: &Arc<Session>) {
        self.sessions.retain(|known| known.strong_count() > 0);
        self.sessions.push(Arc::downgrade(session));
    }

    pub(super) fn shut(&self) {
        if let Some(tcp) = &self.tcp {
            let _ = SockRef::from(tcp.as_ref().as_ref()).shutdown(std::net::Shutdown::Write);
        }
    }
}

/// Writes parts, as much as the kernel takes. It takes one piece faster than a list of them, so that a few small ones are
/// put together first.
fn write_parts(tcp: &OwnedWriteHalf, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    match parts {
        [only] => send(tcp, only),
        parts if parts.iter().map(|part| part.len()).sum::<usize>() <= TOGETHER => {
            let (mut together, mut end) = ([0; TOGETHER], 0);
            for part in parts {
                together[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            send(tcp, &together[..end])
        }
        parts => tcp.try_write_vectored(parts),
    }
}

/// Sends without asking tokio whether the kernel will take it, which costs a look at memory that nothing else needs. When
/// it does not, tokio has to know, so that it can say when it does.
pub(super) fn send(tcp: &OwnedWriteHalf, bytes: &[u8]) -> io::Result<usize> {
    match SockRef::from(tcp.as_ref()).send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.try_write(bytes),
        done => done,
    }
}

/// The connection is gone.
pub(super) fn aborted() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Tungstenite writes whole frames; if it ever did not, ours could end up inside one.
pub(super) fn not_whole() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a whole frame")
}
