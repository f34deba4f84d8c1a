//! A connection as hyper, socketioxide and tungstenite see it: a stream of bytes. What it writes goes through its [`Lane`].

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::OwnedSemaphorePermit;

use super::lane::Lane;
use crate::transport::socketio::incoming::Incoming;

/// Bytes that are read at a time from a WebSocket of Socket.IO's.
const READ: usize = 16 * 1024;

thread_local! {
    /// Where they are read to: one for all connections, for most of the time none of them has anything to read.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TCP connection that others can write to and end; or what is left of one that was taken over: nothing comes in there,
/// and what is written goes nowhere.
pub struct Conn(Option<Stream>);

/// It holds its place among the connections for as long as it lives, as HTTP and then as a WebSocket.
struct Stream {
    tcp: OwnedReadHalf,
    lane: Arc<Lane>,
    /// What hyper has read of it that was not for hyper.
    before: Option<Box<[u8]>>,
    /// Looks at what comes in, once this is a WebSocket of Socket.IO's.
    incoming: Option<Box<Incoming>>,
    number: u64,
    _place: OwnedSemaphorePermit,
}

impl Conn {
    pub(super) fn new(tcp: OwnedReadHalf, lane: Arc<Lane>, number: u64, place: OwnedSemaphorePermit) -> Self {
        Self(Some(Stream { tcp, lane, before: None, incoming: None, number, _place: place }))
    }

    /// This was read of it, and is to be read again.
    pub fn unread(&mut self, bytes: &[u8]) {
        if let Some(stream) = self.0.as_mut().filter(|_| !bytes.is_empty()) {
            stream.before = Some(bytes.into());
        }
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let answer = match &mut self.incoming {
            Some(incoming) => poll_frames(&mut self.tcp, &mut self.before, incoming, &self.lane, cx, buf),
            None if self.before.is_some() => {
                let before = self.before.take().unwrap_or_default();
                let (now, later) = before.split_at(before.len().min(buf.remaining()));
                buf.put_slice(now);
                self.before = (!later.is_empty()).then(|| later.into());
                Poll::Ready(Ok(()))
            }
            None => Pin::new(&mut self.tcp).poll_read(cx, buf),
        };
        if let Poll::Ready(Err(error)) = &answer {
            self.lane.fail(&mut self.lane.out(), error);
        }
        if self.lane.is_dead() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        answer
    }
}

/// Reads until there is something for whoever reads.
fn poll_frames(
    tcp: &mut OwnedReadHalf,
    unread: &mut Option<Box<[u8]>>,
    incoming: &mut Incoming,
    lane: &Lane,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let before = buf.filled().len();
    loop {
        if incoming.give(buf) {
            return Poll::Ready(Ok(()));
        }
        if lane.pong_due.load(Ordering::Acquire) && incoming.pong(buf) {
            lane.pong_due.store(false, Ordering::Release);
            return Poll::Ready(Ok(()));
        }
        if let Some(mut bytes) = unread.take() {
            incoming.take(&mut bytes, buf);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        let mut scratch = SCRATCH.take();
        scratch.resize(READ, 0);
        let mut read = ReadBuf::new(&mut scratch);
        let answer = Pin::new(&mut *tcp).poll_read(cx, &mut read);
        let bytes = read.filled_mut();
        let ended = bytes.is_empty();
        incoming.take(bytes, buf);
        SCRATCH.set(scratch);
        ready!(answer)?;
        if ended || buf.filled().len() > before || lane.is_dead() {
            return Poll::Ready(Ok(()));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.lane.shared.open.closed(self.number);
        self.lane.kill();
    }
}

// The stream's own polls are used, not `try_read`: they know when a socket is drained without asking it.
impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.0 else { return Poll::Ready(Ok(())) };
        stream.lane.reader.register(cx.waker());
        stream.lane.tell_reader(&mut stream.incoming);
        if let Some(incoming) = &mut stream.incoming {
            incoming.asked();
            if let Some(establishing) = incoming.establishes() {
                stream.lane.establish();
                establishing.go_on(Self(this.0.take()));
                return Poll::Ready(Ok(()));
            }
        }
        stream.poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &self.0 {
            Some(stream) => stream.lane.poll_write(cx, &[io::IoSlice::new(buf)]),
            None => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &self.0 {
            Some(stream) => stream.lane.poll_write(cx, bufs),
            None => Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was taken is written as soon as it can be; there is nothing to wait for.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Some(stream) => stream.lane.poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
