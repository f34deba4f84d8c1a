//! A connection as hyper and socketioxide see it: a stream of bytes. What it writes goes through its [`Lane`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::OwnedSemaphorePermit;

use super::lane::Lane;
use crate::transport::socketio::incoming::{Incoming, PONG};

/// A TCP connection that others can write to and end. It holds its place among the connections for as long as it lives,
/// as HTTP and then as a WebSocket.
pub struct Conn {
    tcp: OwnedReadHalf,
    lane: Arc<Lane>,
    /// What is looked for in what comes in, as long as something is.
    incoming: Option<Box<Incoming>>,
    number: u64,
    _place: OwnedSemaphorePermit,
}

impl Conn {
    pub(super) fn new(tcp: OwnedReadHalf, lane: Arc<Lane>, number: u64, place: OwnedSemaphorePermit) -> Self {
        Self { tcp, lane, incoming: None, number, _place: place }
    }

    /// Looks at what has come in while a WebSocket of Socket.IO's begins.
    fn look(&mut self, bytes: &mut [u8]) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.take(bytes);
        if incoming.is_done() {
            self.incoming = None;
            self.lane.watched.store(false, Ordering::Release);
        }
    }

    /// Answers the server's first ping, which the client was not shown.
    fn pong(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(incoming) = &mut self.incoming else { return false };
        let due = incoming.at_boundary()
            && buf.remaining() >= PONG.len()
            && self.lane.pong_due.swap(false, Ordering::AcqRel);
        if due {
            buf.put_slice(&PONG);
            incoming.ponged();
        }
        due
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.lane.shared.open.closed(self.number);
        self.lane.kill();
    }
}

// The stream's own polls are used, not `try_read`: they know when a socket is drained without asking it.
impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let watched = this.lane.watched.load(Ordering::Acquire);
        if watched {
            if this.incoming.is_none() {
                this.incoming = this.lane.take_incoming();
            }
            this.lane.reader.register(cx.waker());
            if this.pong(buf) {
                return Poll::Ready(Ok(()));
            }
        }
        let before = buf.filled().len();
        let answer = Pin::new(&mut this.tcp).poll_read(cx, buf);
        if answer.is_pending() {
            this.lane.reader.register(cx.waker());
        } else if watched {
            this.look(&mut buf.filled_mut()[before..]);
        }
        if let Poll::Ready(Err(error)) = &answer {
            this.lane.fail(&mut this.lane.out(), error);
        }
        if this.lane.is_dead() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        answer
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.lane.poll_write(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lane.poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was taken is written as soon as it can be; there is nothing to wait for.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lane.poll_shutdown(cx)
    }
}
