//! The write side of a connection, shared by those who write to it: hyper and socketioxide through the stream, and
//! sessions, whose ready-made WebSocket frames go in between socketioxide's own, never inside one.
//!
//! Whoever has something writes it, or leaves it for the end of the round. Only while the kernel takes no more is there a
//! task for it, which gives the connection up when nothing was taken for too long.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

use super::Shared;
use super::websocket::{self, GOING_AWAY};
use crate::fanout::session::{Handed, Session, Urgency};
use crate::transport::socketio::greeting::{Greeting, Seen};
use crate::transport::socketio::incoming::Incoming;
use crate::transport::socketio::peers::Peer;

/// What may be left for the end of a round before it is written at once; and while the kernel takes no more, what may
/// wait of messages that are safe in the log.
const ROUND_FRAMES: usize = 64;
const ROUND_BYTES: usize = 64 * 1024;
/// What may wait of messages that exist nowhere else.
const REPLY_FRAMES: usize = 1_024;
const REPLY_BYTES: usize = 512 * 1024;
/// Most parts of one write.
const PARTS: usize = 64;
/// Writes in a row before others get their turn.
const WRITES: usize = 16;
/// How long a client has to read the last we had to say.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The write side of one connection.
pub struct Lane {
    out: Mutex<Out>,
    pub(super) shared: Arc<Shared>,
    pub(super) reader: AtomicWaker,
    writer: AtomicWaker,
    dead: AtomicBool,
    incoming: Mutex<Option<Box<Incoming>>>,
    /// The read side has to look at what comes in: see [`super::stream`].
    pub(super) watched: AtomicBool,
    /// The answer to the server's first ping has to be put into what comes in.
    pub(super) pong_due: AtomicBool,
}

struct Out {
    /// `None` once the connection is gone: whoever still holds the lane holds no descriptor.
    tcp: Option<Arc<OwnedWriteHalf>>,
    phase: Phase,
    /// The rest of a frame that was begun. Nothing may come before it.
    begun: Bytes,
    /// A frame of socketioxide's: before ours, so that a long queue of ours does not starve its pings.
    own: Option<Bytes>,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// The kernel takes no more; a task waits for it.
    blocked: bool,
    /// The flusher knows of it.
    left: bool,
    /// When it is all written, that was it.
    closing: bool,
    session: Weak<Session>,
}

enum Phase {
    /// Bytes of HTTP pass as they are.
    Http,
    /// The head of the response that makes it a WebSocket is passing; these are its last bytes so far.
    Head([u8; 4], Box<Greeting>),
    /// Frames. Ours wait as long as there is a greeting to pass first.
    Frames(Option<Box<Greeting>>),
}

/// What is to be done once the lock is released.
enum Then {
    Nothing,
    /// The session may write here from now on.
    Pump(Arc<Session>),
    /// The session moves here from polling.
    Move(Arc<Session>),
    /// It has not got as far as that yet.
    Mark(Arc<Peer>),
}

impl Lane {
    pub(super) fn new(tcp: OwnedWriteHalf, shared: Arc<Shared>) -> Arc<Self> {
        let out = Out {
            tcp: Some(Arc::new(tcp)),
            phase: Phase::Http,
            begun: Bytes::new(),
            own: None,
            queue: VecDeque::new(),
            queued: 0,
            blocked: false,
            left: false,
            closing: false,
            session: Weak::new(),
        };
        Arc::new(Self {
            out: Mutex::new(out),
            shared,
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            dead: AtomicBool::new(false),
            incoming: Mutex::default(),
            watched: AtomicBool::new(false),
            pong_due: AtomicBool::new(false),
        })
    }

    /// After the response that is written next, the connection is a WebSocket of Socket.IO's.
    pub fn becomes_websocket(&self, greeting: Greeting, incoming: Incoming) {
        self.out().phase = Phase::Head([0; 4], Box::new(greeting));
        *self.incoming.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(incoming));
        self.watched.store(true, Ordering::Release);
    }

    /// What the read side has to look for, once.
    pub(super) fn take_incoming(&self) -> Option<Box<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The session writes here once the namespace's CONNECT reply has passed.
    pub fn expect(&self, session: &Arc<Session>) {
        let mut out = self.out();
        out.session = Arc::downgrade(session);
        match &mut out.phase {
            Phase::Http => {}
            Phase::Head(_, greeting) | Phase::Frames(Some(greeting)) => greeting.expect(session),
            Phase::Frames(greeting @ None) => {
                let mut again = Box::new(Greeting::again());
                again.expect(session);
                *greeting = Some(again);
            }
        }
    }

    /// Takes a frame of a session's, unless there is no room for one of this urgency.
    pub fn push(self: &Arc<Self>, frame: Bytes, urgency: Urgency) -> Handed {
        let mut out = self.out();
        if out.tcp.is_none() || out.closing {
            return Handed::Gone;
        }
        let waiting = out.blocked || !matches!(out.phase, Phase::Frames(None));
        let full = match urgency {
            Urgency::Live => waiting,
            Urgency::Durable => waiting && (out.queue.len() >= ROUND_FRAMES || out.queued >= ROUND_BYTES),
            Urgency::Reply => out.queue.len() >= REPLY_FRAMES || out.queued >= REPLY_BYTES,
        };
        if full {
            return Handed::Full;
        }
        out.queued += frame.len();
        out.queue.push_back(frame);
        if !waiting {
            if out.queue.len() >= ROUND_FRAMES || out.queued >= ROUND_BYTES {
                self.write(&mut out);
            } else if !std::mem::replace(&mut out.left, true) {
                self.shared.flusher.add(self);
            }
        }
        Handed::Taken
    }

    /// Writes what was left.
    pub(super) fn flush(self: &Arc<Self>) {
        let mut out = self.out();
        out.left = false;
        if !out.blocked {
            self.write(&mut out);
        }
    }

    /// Writes as much as the kernel takes; when it takes no more, a task goes on.
    fn write(self: &Arc<Self>, out: &mut Out) {
        match out.write() {
            Ok(Written::All) => {
                if out.own.is_none() {
                    self.writer.wake();
                }
                if out.closing {
                    out.shut();
                }
            }
            Ok(Written::Some) => {
                if out.own.is_none() {
                    self.writer.wake();
                }
                if !std::mem::replace(&mut out.blocked, true) {
                    tokio::spawn(Arc::clone(self).write_on());
                }
            }
            Err(_) => self.end(out),
        }
    }

    /// Writes until there is nothing left, or nothing was taken for too long.
    async fn write_on(self: Arc<Self>) {
        let stall = self.shared.stall;
        let mut deadline = Instant::now() + stall;
        loop {
            let Some(tcp) = self.out().tcp.clone() else { return };
            match tokio::time::timeout_at(deadline, tcp.writable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return self.kill(),
                Err(_) => {
                    self.shared.metrics.stalls.inc();
                    return self.abort();
                }
            }
            drop(tcp);
            let session = {
                let mut out = self.out();
                let before = out.waiting();
                let Ok(written) = out.write() else { return self.end(&mut out) };
                if out.own.is_none() {
                    self.writer.wake();
                }
                if out.waiting() != before {
                    deadline = Instant::now() + stall;
                }
                match written {
                    Written::Some => continue,
                    Written::All => {}
                }
                out.blocked = false;
                if out.closing {
                    out.shut();
                }
                out.session.upgrade()
            };
            if let Some(session) = session {
                session.pump();
            }
            return;
        }
    }

    /// Writes for hyper or socketioxide.
    pub(super) fn poll_write(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut out = self.out();
        let Some(tcp) = out.tcp.clone() else { return Poll::Ready(Err(aborted())) };
        let Some(buf) = bufs.iter().find(|buf| !buf.is_empty()) else { return Poll::Ready(Ok(0)) };
        match &mut out.phase {
            Phase::Http => self.poll_pass(cx, &tcp, bufs),
            Phase::Head(tail, _) => {
                let mut tail = *tail;
                let written = self.poll_pass(cx, &tcp, &[IoSlice::new(buf)]);
                if let Poll::Ready(Ok(count)) = written {
                    for byte in &buf[..count] {
                        tail = [tail[1], tail[2], tail[3], *byte];
                    }
                    out.head_passed(tail);
                }
                written
            }
            Phase::Frames(None) => self.poll_frames(cx, &mut out, buf),
            Phase::Frames(Some(_)) => {
                let (written, then) = self.poll_greeting(cx, &mut out, buf);
                drop(out);
                match then {
                    Then::Nothing => {}
                    Then::Pump(session) => session.pump(),
                    Then::Move(session) => session.upgraded(self),
                    Then::Mark(peer) => peer.mark(),
                }
                written
            }
        }
    }

    /// Bytes that are not frames.
    fn poll_pass(
        &self,
        cx: &mut Context<'_>,
        tcp: &OwnedWriteHalf,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match tcp.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            self.writer.register(cx.waker());
            if self.is_dead() {
                return Poll::Ready(Err(aborted()));
            }
            std::task::ready!(tcp.as_ref().poll_write_ready(cx))?;
        }
    }

    /// Whole frames of socketioxide's, when ours may already go between them.
    fn poll_frames(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        out: &mut Out,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if out.own.is_some() {
            return self.wait(cx);
        }
        let Some((_, end)) = websocket::first(buf).filter(|(_, end)| *end <= buf.len()) else {
            return Poll::Ready(Err(not_whole()));
        };
        out.own = Some(Bytes::copy_from_slice(&buf[..end]));
        if !out.blocked {
            self.write(out);
        }
        Poll::Ready(Ok(end))
    }

    /// One frame of socketioxide's, before ours may.
    fn poll_greeting(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        out: &mut Out,
        buf: &[u8],
    ) -> (Poll<io::Result<usize>>, Then) {
        if out.own.is_some() {
            return (self.wait(cx), Then::Nothing);
        }
        let Some((begin, end)) = websocket::first(buf).filter(|(_, end)| *end <= buf.len()) else {
            return (Poll::Ready(Err(not_whole())), Then::Nothing);
        };
        let seen = match &mut out.phase {
            Phase::Frames(Some(greeting)) if buf[0] == websocket::TEXT => greeting.see(&buf[begin..end]),
            _ => Seen::Pass,
        };
        let mut then = Then::Nothing;
        if let (Seen::Pass, Phase::Frames(Some(greeting))) = (&seen, &out.phase)
            && let Some(peer) = greeting.peer()
        {
            then = Then::Mark(Arc::clone(peer));
        }
        match seen {
            Seen::Pass => out.own = Some(Bytes::copy_from_slice(&buf[..end])),
            Seen::Instead(frame) => out.own = Some(frame),
            Seen::Ping => {
                self.pong_due.store(true, Ordering::Release);
                self.reader.wake();
            }
            Seen::Open(frame, session) => {
                out.own = Some(frame.unwrap_or_else(|| Bytes::copy_from_slice(&buf[..end])));
                out.phase = Phase::Frames(None);
                then = session.upgrade().map_or(Then::Nothing, Then::Pump);
            }
            Seen::Moved(session) => {
                out.phase = Phase::Frames(None);
                out.session = Arc::downgrade(&session);
                then = Then::Move(session);
            }
        }
        if !out.blocked {
            self.write(out);
        }
        (Poll::Ready(Ok(end)), then)
    }

    fn wait(&self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        self.writer.register(cx.waker());
        if self.is_dead() { Poll::Ready(Err(aborted())) } else { Poll::Pending }
    }

    /// Ends the write side, once everything is written.
    pub(super) fn poll_shutdown(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.out();
        if out.tcp.is_none() {
            return Poll::Ready(Ok(()));
        }
        if out.waiting() > 0 && out.blocked {
            self.writer.register(cx.waker());
            return Poll::Pending;
        }
        let _ = out.write();
        out.shut();
        Poll::Ready(Ok(()))
    }

    /// Ends the connection once everything is written and the client had time to read it.
    pub fn finish(self: &Arc<Self>) {
        {
            let mut out = self.out();
            if out.tcp.is_none() || std::mem::replace(&mut out.closing, true) {
                return;
            }
            if matches!(out.phase, Phase::Frames(_)) {
                out.queued += GOING_AWAY.len();
                out.queue.push_back(GOING_AWAY);
            }
            if !out.blocked {
                self.write(&mut out);
            }
        }
        let lane = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            lane.kill();
        });
    }

    /// Ends the connection now, in both directions; whoever reads or writes it learns that at once.
    pub fn kill(&self) {
        self.end(&mut self.out());
    }

    /// Ends a connection that takes nothing: what the kernel still holds for it is thrown away.
    fn abort(&self) {
        let mut out = self.out();
        if let Some(tcp) = &out.tcp
            && let Err(error) = SockRef::from(tcp.as_ref().as_ref()).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "SO_LINGER cannot be set");
        }
        self.end(&mut out);
    }

    fn end(&self, out: &mut Out) {
        self.dead.store(true, Ordering::Release);
        if let Some(tcp) = out.tcp.take() {
            let _ = SockRef::from(tcp.as_ref().as_ref()).shutdown(std::net::Shutdown::Both);
        }
        out.begun = Bytes::new();
        out.own = None;
        out.queue = VecDeque::new();
        out.queued = 0;
        self.reader.wake();
        self.writer.wake();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn aborted() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Tungstenite writes whole frames; if it ever did not, ours could end up inside one.
fn not_whole() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a whole frame")
}

/// How far a write got.
enum Written {
    All,
    Some,
}

impl Out {
    /// Writes as much as the kernel takes: the rest of the frame that was begun, socketioxide's, then ours.
    fn write(&mut self) -> io::Result<Written> {
        for _ in 0..WRITES {
            if self.waiting() == 0 {
                return Ok(Written::All);
            }
            let Some(tcp) = &self.tcp else { return Err(aborted()) };
            let ours = if matches!(self.phase, Phase::Frames(None)) { self.queue.len() } else { 0 };
            let all = [&self.begun].into_iter().chain(&self.own).chain(self.queue.iter().take(ours));
            let mut parts = [IoSlice::new(&[]); PARTS];
            let mut count = 0;
            for (part, bytes) in parts.iter_mut().zip(all.filter(|bytes| !bytes.is_empty())) {
                *part = IoSlice::new(bytes);
                count += 1;
            }
            match tcp.try_write_vectored(&parts[..count]) {
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
    fn waiting(&self) -> usize {
        let ours = if matches!(self.phase, Phase::Frames(None)) { self.queued } else { 0 };
        self.begun.len() + self.own.as_ref().map_or(0, Bytes::len) + ours
    }

    fn head_passed(&mut self, tail: [u8; 4]) {
        let phase = std::mem::replace(&mut self.phase, Phase::Http);
        self.phase = match phase {
            Phase::Head(_, greeting) if tail == *b"\r\n\r\n" => Phase::Frames(Some(greeting)),
            Phase::Head(_, greeting) => Phase::Head(tail, greeting),
            other => other,
        };
    }

    fn shut(&self) {
        if let Some(tcp) = &self.tcp {
            let _ = SockRef::from(tcp.as_ref().as_ref()).shutdown(std::net::Shutdown::Write);
        }
    }
}
