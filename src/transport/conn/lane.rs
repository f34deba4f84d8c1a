//! The write side of a connection, shared by those who write to it: hyper, socketioxide and tungstenite through the stream,
//! and sessions, whose ready-made WebSocket frames go in between those, never inside one.
//!
//! Whoever has something writes it, or leaves it for the end of the round. Only while the kernel takes no more is there a
//! task for it, which gives the connection up when nothing was taken for too long.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;

use super::Shared;
use super::out::{self, Out, Phase, Written};
use crate::base::clock::instant;
use crate::session::inbox::Inbox;
use crate::session::session::Session;
use crate::session::wire::{Handed, Urgency};
use crate::transport::socketio::Handshake;
use crate::transport::socketio::greeting::Greeting;
use crate::transport::socketio::incoming::Incoming;

/// What may be left for the end of a round before it is written at once; and while the kernel takes no more, what may
/// wait of messages that are safe in the log.
const ROUND_FRAMES: usize = 64;
const ROUND_BYTES: usize = 64 * 1024;
/// What may wait of messages that exist nowhere else.
const REPLY_FRAMES: usize = 1_024;
const REPLY_BYTES: usize = 512 * 1024;
/// How long a client has to read the last we had to say.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// The write side of one connection.
pub struct Lane {
    out: Mutex<Out>,
    pub(super) shared: Arc<Shared>,
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
    dead: AtomicBool,
    for_reader: Mutex<ForReader>,
    /// There is something new for the read side.
    news: AtomicBool,
    /// The answer to the server's first ping has to be put into what comes in.
    pub(super) pong_due: AtomicBool,
}

/// What the write side has for the read side.
#[derive(Default)]
struct ForReader {
    /// What looks at all that comes in from now on.
    incoming: Option<Box<Incoming>>,
    /// Sessions that are in.
    inboxes: SmallVec<[Weak<Inbox>; 1]>,
}

impl Lane {
    pub(super) fn new(tcp: OwnedWriteHalf, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            out: Mutex::new(Out::new(tcp)),
            shared,
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            dead: AtomicBool::new(false),
            for_reader: Mutex::default(),
            news: AtomicBool::new(false),
            pong_due: AtomicBool::new(false),
        })
    }

    /// After the response that is written next, the connection is a WebSocket of Socket.IO's.
    pub fn becomes_websocket(
        &self,
        greeting: Greeting,
        incoming: Incoming,
        handshake: Option<Arc<Handshake>>,
    ) {
        {
            let mut out = self.out();
            out.phase = Phase::Head([0; 4], Some(Box::new(greeting)));
            out.handshake = handshake;
            if out.tcp.is_none() {
                self.end(&mut out);
            }
        }
        self.for_reader(|news| news.incoming = Some(Box::new(incoming)));
    }

    /// The session is in: what it sends goes straight to its inbox.
    pub fn hears(&self, session: &Session) {
        self.for_reader(|news| news.inboxes.extend(session.inbox().cloned()));
    }

    fn for_reader(&self, tell: impl FnOnce(&mut ForReader)) {
        tell(&mut self.for_reader.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Has the read side look at what is new.
    pub fn wake_reader(&self) {
        self.reader.wake();
    }

    /// The connection is taken over from socketioxide, which has nothing more to say on it.
    pub(super) fn establish(&self) {
        let mut out = self.out();
        if let Phase::Frames(greeting) = &mut out.phase {
            *greeting = None;
        }
    }

    /// After the response that is written next, the connection is a raw WebSocket, on which a session may write at once.
    pub fn becomes_raw_websocket(&self) {
        self.out().phase = Phase::Head([0; 4], None);
    }

    /// The session writes here, from now on.
    pub fn attach(&self, session: &Arc<Session>) {
        self.out().attach(session);
    }

    /// Tells the read side what is new for it.
    pub(super) fn tell_reader(&self, incoming: &mut Option<Box<Incoming>>) {
        if !self.news.load(Ordering::Acquire) || !self.news.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut news = self.for_reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = news.incoming.take() {
            *incoming = Some(new);
        }
        if let Some(incoming) = incoming {
            for inbox in std::mem::take(&mut news.inboxes) {
                incoming.hears(inbox);
            }
        }
    }

    /// The session writes here once the namespace's CONNECT reply has passed.
    pub fn expect(&self, session: &Arc<Session>) {
        let mut out = self.out();
        out.attach(session);
        out.open = false;
        match &mut out.phase {
            Phase::Http => {}
            Phase::Head(_, greeting) | Phase::Frames(greeting) => {
                greeting.get_or_insert_with(|| Box::new(Greeting::again())).expect(session);
            }
        }
    }

    /// Takes a frame of a session's, unless there is no room for one of this urgency.
    pub fn push(self: &Arc<Self>, frame: Bytes, urgency: Urgency) -> Handed {
        let mut out = self.out();
        if out.tcp.is_none() || out.closing {
            return Handed::Gone;
        }
        let waiting = out.blocked || !out.open;
        let full = match urgency {
            Urgency::Live => waiting,
            Urgency::Durable => waiting && (out.queue.len() >= ROUND_FRAMES || out.queued >= ROUND_BYTES),
            Urgency::Reply => out.queue.len() >= REPLY_FRAMES || out.queued >= REPLY_BYTES,
        };
        if full {
            return Handed::Full;
        }
        if urgency != Urgency::Reply && !waiting && self.is_alone(&mut out) {
            return self.write_now(&mut out, frame);
        }
        if out.queue.capacity() == 0 {
            // Room for one: most sockets never have more at a time, and are many.
            out.queue.reserve_exact(1);
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

    /// Writes a frame that is not a session's before those that wait. Says whether there was room: one such frame waits at
    /// most.
    pub fn push_first(self: &Arc<Self>, frame: Bytes) -> bool {
        let mut out = self.out();
        if out.tcp.is_none() || out.closing || out.own.is_some() {
            return false;
        }
        out.passes(frame);
        if !out.blocked {
            self.write(&mut out);
        }
        true
    }

    /// Whether a frame that is not a session's waits to be written.
    pub fn has_own(&self) -> bool {
        self.out().own.is_some()
    }

    /// Whether this frame seems to be the only one of its round: nothing waits, nothing was written in this round, and lately
    /// no others came. Then it is cheaper to write it at once than to come back to the connection for it.
    fn is_alone(&self, out: &mut Out) -> bool {
        let round = self.shared.flusher.round();
        let again = std::mem::replace(&mut out.round, round) == round;
        out.bursts |= again;
        !out.bursts && !out.left && out.waiting() == 0
    }

    fn write_now(self: &Arc<Self>, out: &mut Out, frame: Bytes) -> Handed {
        let Some(tcp) = &out.tcp else { return Handed::Gone };
        match out::send(tcp, &frame) {
            Ok(written) if written == frame.len() => return Handed::Taken,
            Ok(written) => out.begun = frame.slice(written..),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                out.queued += frame.len();
                out.queue.push_back(frame);
            }
            Err(error) => {
                self.fail(out, &error);
                return Handed::Gone;
            }
        }
        self.write(out);
        Handed::Taken
    }

    /// Writes what was left.
    pub(super) fn flush(self: &Arc<Self>) {
        let mut out = self.out();
        out.left = false;
        out.bursts = out.queue.len() > 1;
        if !out.blocked {
            self.write(&mut out);
        }
    }

    /// Writes as much as the kernel takes; when it takes no more, a task goes on.
    pub(super) fn write(self: &Arc<Self>, out: &mut Out) {
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
            Err(error) => self.fail(out, &error),
        }
    }

    /// Writes until there is nothing left, or nothing was taken for too long.
    async fn write_on(self: Arc<Self>) {
        let stall = self.shared.stall;
        let mut deadline = instant() + stall;
        loop {
            let Some(tcp) = self.out().tcp.clone() else { return };
            match tokio::time::timeout_at(deadline, tcp.writable()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.fail(&mut self.out(), &error),
                Err(_) => return self.abort(),
            }
            drop(tcp);
            let sessions: SmallVec<[_; 2]> = {
                let mut out = self.out();
                let before = out.waiting();
                let written = match out.write() {
                    Ok(written) => written,
                    Err(error) => return self.fail(&mut out, &error),
                };
                if out.own.is_none() {
                    self.writer.wake();
                }
                if out.waiting() != before {
                    deadline = instant() + stall;
                }
                match written {
                    Written::Some => continue,
                    Written::All => {}
                }
                out.blocked = false;
                if out.closing {
                    out.shut();
                }
                out.sessions.iter().filter_map(Weak::upgrade).collect()
            };
            for session in sessions {
                session.pump();
            }
            return;
        }
    }

    /// Ends the connection once everything is written, this close frame last, and the client had time to read it.
    pub fn finish(self: &Arc<Self>, close: Bytes) {
        {
            let mut out = self.out();
            if out.tcp.is_none() || std::mem::replace(&mut out.closing, true) {
                return;
            }
            if matches!(out.phase, Phase::Frames(_)) {
                out.queued += close.len();
                out.queue.push_back(close);
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
        self.fail(&mut out, &io::ErrorKind::TimedOut.into());
    }

    /// Ends a connection that failed. When it took nothing for too long, it is the kernel that may say so first.
    pub(super) fn fail(&self, out: &mut Out, error: &io::Error) {
        if out.tcp.is_some() && error.kind() == io::ErrorKind::TimedOut {
            self.shared.metrics.stalls.inc();
        }
        self.end(out);
    }

    fn end(&self, out: &mut Out) {
        self.dead.store(true, Ordering::Release);
        if let Some(tcp) = out.tcp.take() {
            let _ = SockRef::from(tcp.as_ref().as_ref()).shutdown(std::net::Shutdown::Both);
        }
        if let Some(handshake) = out.handshake.take() {
            handshake.ends();
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

    pub(super) fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
