//! What waits to be written on a connection, in which order, and writing it.

use std::any::Any;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use smallvec::SmallVec;

use super::pipe::Pipe;
use super::tap::{OutgoingTap, WaitsForRoom};
use super::websocket;

/// The most parts of one write.
const PARTS: usize = 64;
/// Parts of this many bytes in all are copied together before they are written.
const TOGETHER: usize = 1024;
/// Writes in a row before other connections get their turn.
const WRITES: usize = 16;

/// What waits to be written.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
pub(super) struct Out {
    /// `None` once the connection is gone, so that a writer that is still held keeps no descriptor open.
    pub pipe: Option<Arc<Pipe>>,
    pub phase: Phase,
    /// Sessions may write.
    pub open: bool,
    /// The rest of a frame that was written in part. Nothing may be written before it.
    pub begun: Bytes,
    /// A frame of the library's. It goes before the queue, so that a long queue does not starve pings.
    pub own: Option<Bytes>,
    /// Frames of sessions, and their size in bytes.
    pub queue: VecDeque<Bytes>,
    pub queued: usize,
    /// There are events in the queue, not only answers.
    pub tells: bool,
    /// The kernel takes no more, and a task waits until it does.
    pub blocked: bool,
    /// The flusher has this connection on its list.
    pub left: bool,
    /// The round in which a frame was last pushed.
    pub round: u64,
    /// Recently more than one frame was pushed in a round.
    pub bursts: bool,
    /// The connection ends when everything is written.
    pub closing: bool,
    /// The sessions that write here: one for each namespace.
    pub waiters: SmallVec<[Weak<dyn WaitsForRoom>; 1]>,
    /// Dropped when the connection ends.
    pub until_end: Option<Box<dyn Any + Send>>,
}

/// What the bytes of a connection are.
pub(super) enum Phase {
    /// HTTP.
    Http,
    /// The head of the response that begins the WebSocket is being written. These are the last four bytes so far.
    Head([u8; 4], Option<Box<dyn OutgoingTap>>),
    /// WebSocket frames.
    Frames(Option<Box<dyn OutgoingTap>>),
}

/// How far a write got.
pub(super) enum Written {
    All,
    Some,
}

impl Out {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self {
            pipe: Some(Arc::new(pipe)),
            phase: Phase::Http,
            open: false,
            begun: Bytes::new(),
            own: None,
            queue: VecDeque::new(),
            queued: 0,
            tells: false,
            blocked: false,
            left: false,
            round: 0,
            bursts: false,
            closing: false,
            waiters: SmallVec::new(),
            until_end: None,
        }
    }

    /// Writes as much as the kernel takes: the rest of a frame, then the library's frame, then the queue.
    pub(super) fn write(&mut self) -> io::Result<Written> {
        for _ in 0..WRITES {
            if self.waiting() == 0 {
                return Ok(Written::All);
            }
            let Some(pipe) = &self.pipe else { return Err(aborted()) };
            if pipe.held() > 0 {
                pipe.flush()?;
                if pipe.held() > 0 {
                    return Ok(Written::Some);
                }
                continue;
            }
            let open = if self.open { self.queue.len() } else { 0 };
            if let (1, true, None) = (open, self.begun.is_empty(), &self.own) {
                // What is written most often.
                match pipe.send(&self.queue[0]) {
                    Ok(written) => self.written(written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Written::Some),
                    Err(error) => return Err(error),
                }
                continue;
            }
            let all = [&self.begun].into_iter().chain(&self.own).chain(self.queue.iter().take(open));
            let mut parts = [IoSlice::new(&[]); PARTS];
            let mut count = 0;
            for (part, bytes) in parts.iter_mut().zip(all.filter(|bytes| !bytes.is_empty())) {
                *part = IoSlice::new(bytes);
                count += 1;
            }
            match write_parts(pipe, &parts[..count]) {
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
        if self.queue.is_empty() {
            self.tells = false;
            if self.queue.capacity() > PARTS {
                // An idle connection keeps no queue.
                self.queue = VecDeque::new();
            }
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        let queued = if self.open { self.queued } else { 0 };
        let held = self.pipe.as_ref().map_or(0, |pipe| pipe.held());
        held + self.begun.len() + self.own.as_ref().map_or(0, Bytes::len) + queued
    }

    /// A part of the response's head was written that ends with these bytes.
    pub(super) fn head_passed(&mut self, tail: [u8; 4]) {
        let phase = std::mem::replace(&mut self.phase, Phase::Http);
        self.phase = match phase {
            Phase::Head(_, tap) if tail == *b"\r\n\r\n" => {
                // Without a tap there is no frame to wait for.
                self.open = self.open || tap.is_none();
                Phase::Frames(tap)
            }
            Phase::Head(_, tap) => Phase::Head(tail, tap),
            other => other,
        };
    }

    /// Takes a whole frame of the library's. Nothing may follow a close frame, so it clears the queue.
    pub(super) fn passes(&mut self, frame: Bytes) {
        if frame.first() == Some(&websocket::CLOSE) {
            self.closing = true;
            self.queue = VecDeque::new();
            self.queued = 0;
            self.tells = false;
        }
        self.own = Some(frame);
    }

    /// Adds a session that writes here.
    pub(super) fn attach<W: WaitsForRoom + 'static>(&mut self, waiter: &Arc<W>) {
        self.waiters.retain(|known| known.strong_count() > 0);
        let waiter = Arc::downgrade(waiter);
        self.waiters.push(waiter);
    }

    /// Ends the write side.
    pub(super) fn shut(&self) {
        if let Some(pipe) = &self.pipe {
            pipe.shut(Shutdown::Write);
        }
    }
}

/// Writes as much of these parts as the kernel takes. Small parts are copied together first: one piece is written faster
/// than a list.
fn write_parts(pipe: &Pipe, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    match parts {
        [only] => pipe.send(only),
        parts if parts.iter().map(|part| part.len()).sum::<usize>() <= TOGETHER => {
            let (mut together, mut end) = ([0; TOGETHER], 0);
            for part in parts {
                together[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            pipe.send(&together[..end])
        }
        parts => pipe.send_parts(parts),
    }
}

/// The connection is gone.
pub(super) fn aborted() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// The library writes whole frames. If it did not, a session's frame could end up inside one of its frames.
pub(super) fn not_whole() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a whole frame")
}
