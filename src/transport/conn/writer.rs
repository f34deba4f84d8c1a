//! The write side of a connection. Several write to it: the library that owns the stream (hyper or a WebSocket library), and
//! sessions, whose ready-made WebSocket frames go between the library's frames.
//!
//! - `push`: how frames of sessions are queued and written.
//! - `writing`: how the library writes.
//! - `out`: what waits to be written, and in which order.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::out::{Out, Phase};
use super::pipe::Pipe;
use super::tap::{IncomingTap, News, OutgoingTap, WaitsForRoom};
use crate::transport::limits::Room;

/// How long a client has to read the last frames before its connection is ended.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// The write side of one connection.
pub struct ConnectionWriter {
    out: Mutex<Out>,
    pub(super) shared: Arc<Shared>,
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// No verified token has come here yet: the memory counts as unauthenticated.
    strange: AtomicBool,
    room: Mutex<Option<Box<Room>>>,
    /// Counts a WebSocket from behind a proxy for its client.
    of_client: OnceLock<OwnedSemaphorePermit>,
    /// Wakes the library's task that reads.
    pub(super) read_waker: AtomicWaker,
    /// Wakes the library's task that writes.
    pub(super) write_waker: AtomicWaker,
    dead: AtomicBool,
    for_reader: Mutex<ForReader>,
    /// `for_reader` has something new.
    news: AtomicBool,
    /// The incoming tap has to answer a ping.
    pub(super) pong_due: AtomicBool,
    /// The client may still send a request that was refused.
    pub(super) lingers: AtomicBool,
    pub(super) pings: Mutex<Pings>,
}

/// The pings that the client has not answered yet.
#[derive(Default)]
pub(super) struct Pings {
    pub outstanding: u32,
    /// How many answers there have to be until everything before a ping is proved to have come.
    pub awaited: Option<u32>,
}

/// What the read side has to take over from here.
#[derive(Default)]
struct ForReader {
    tap: Option<Box<dyn IncomingTap>>,
    news: SmallVec<[News; 1]>,
}

impl ConnectionWriter {
    pub(super) fn new(pipe: Pipe, shared: Arc<Shared>, peer: IpAddr, room: Room) -> Arc<Self> {
        Arc::new(Self {
            out: Mutex::new(Out::new(pipe)),
            shared,
            peer,
            strange: AtomicBool::new(true),
            room: Mutex::new(Some(Box::new(room))),
            of_client: OnceLock::new(),
            read_waker: AtomicWaker::new(),
            write_waker: AtomicWaker::new(),
            dead: AtomicBool::new(false),
            for_reader: Mutex::default(),
            news: AtomicBool::new(false),
            pong_due: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            pings: Mutex::default(),
        })
    }

    /// A verified token has come on this connection.
    pub fn authenticated(&self) {
        if self.strange.swap(false, Ordering::AcqRel) {
            self.leave_room();
        }
    }

    /// Keeps a permit until the connection is gone.
    pub fn counts_for_client(&self, permit: Option<OwnedSemaphorePermit>) {
        if let Some(permit) = permit {
            let _ = self.of_client.set(permit);
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        !self.strange.load(Ordering::Acquire)
    }

    fn leave_room(&self) {
        drop(self.room.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The connection is a WebSocket after the next response. The taps see its frames. Without an outgoing one, sessions may
    /// write at once. `until_end` is dropped when the connection ends.
    pub fn becomes_tapped_websocket(
        &self,
        outgoing: Option<Box<dyn OutgoingTap>>,
        incoming: Box<dyn IncomingTap>,
        until_end: Option<Box<dyn Any + Send>>,
    ) {
        {
            let mut out = self.out();
            out.phase = Phase::Head([0; 4], outgoing);
            out.until_end = until_end;
            if out.pipe.is_none() {
                self.end(&mut out);
            }
        }
        self.for_reader(|reader| reader.tap = Some(incoming));
    }

    /// The connection is a WebSocket after the next response, and sessions may write at once.
    pub fn becomes_websocket(&self) {
        self.out().phase = Phase::Head([0; 4], None);
    }

    /// Adds a session that writes here.
    pub fn attach<W: WaitsForRoom + 'static>(&self, waiter: &Arc<W>) {
        self.out().attach(waiter);
    }

    /// Adds a session that may write here once the outgoing tap has seen the frame it waits for. `news` tells the tap which
    /// frame that is. `tap` makes a tap if there is none any more.
    pub fn expect<W: WaitsForRoom + 'static>(
        &self,
        waiter: &Arc<W>,
        news: News,
        tap: impl FnOnce() -> Box<dyn OutgoingTap>,
    ) {
        let mut out = self.out();
        out.attach(waiter);
        out.open = false;
        match &mut out.phase {
            Phase::Http => {}
            Phase::Head(_, known) | Phase::Frames(known) => known.get_or_insert_with(tap).tell(news),
        }
    }

    /// Tells the incoming tap something. It hears of it the next time the connection is read.
    pub fn tell_incoming(&self, news: News) {
        self.for_reader(|reader| reader.news.push(news));
    }

    fn for_reader(&self, tell: impl FnOnce(&mut ForReader)) {
        tell(&mut self.for_reader.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.store(true, Ordering::Release);
        self.read_waker.wake();
    }

    /// Makes the library's task read the connection again, so that the incoming tap is asked.
    pub fn wake_reader(&self) {
        self.read_waker.wake();
    }

    /// Gives the read side its tap, and the tap its news.
    pub(super) fn update_reader(&self, tap: &mut Option<Box<dyn IncomingTap>>) {
        if !self.news.load(Ordering::Acquire) || !self.news.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut reader = self.for_reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = reader.tap.take() {
            *tap = Some(new);
        }
        if let Some(tap) = tap {
            for news in std::mem::take(&mut reader.news) {
                tap.tell(news);
            }
        }
    }

    /// Removes the outgoing tap: the library writes nothing more here.
    pub(super) fn drop_tap(&self) {
        let mut out = self.out();
        if let Phase::Frames(tap) = &mut out.phase {
            *tap = None;
        }
    }

    /// Ends the connection once everything is written, with this close frame last. The client gets [`LAST_WORDS`] to read.
    pub fn finish(self: &Arc<Self>, close: Bytes) {
        {
            let mut out = self.out();
            if out.pipe.is_none() || std::mem::replace(&mut out.closing, true) {
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
        let writer = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            writer.kill();
        });
    }

    /// Ends the connection now, in both directions. Tasks that read or write it learn that at once.
    pub fn kill(&self) {
        self.end(&mut self.out());
    }

    /// Ends a connection that takes nothing. The kernel throws away what it still holds for it.
    pub(super) fn abort(&self) {
        let mut out = self.out();
        if let Some(pipe) = &out.pipe {
            pipe.forget();
        }
        self.fail(&mut out, &io::ErrorKind::TimedOut.into());
    }

    /// Ends a connection that failed. The kernel may be the first to report that nothing was taken for too long.
    pub(super) fn fail(&self, out: &mut Out, error: &io::Error) {
        if out.pipe.is_some() && error.kind() == io::ErrorKind::TimedOut {
            self.shared.metrics.stalls.inc();
        }
        self.end(out);
    }

    fn end(&self, out: &mut Out) {
        self.dead.store(true, Ordering::Release);
        if let Some(pipe) = out.pipe.take() {
            pipe.shut(Shutdown::Both);
        }
        out.until_end = None;
        self.leave_room();
        out.begun = Bytes::new();
        out.own = None;
        out.queue = VecDeque::new();
        out.queued = 0;
        self.read_waker.wake();
        self.write_waker.wake();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(super) fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
