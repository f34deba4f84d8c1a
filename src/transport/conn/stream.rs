//! A connection as the library sees it: a stream of bytes. What it writes goes through the [`ConnectionWriter`].

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::linger::Linger;
use super::pipe::Input;
use super::tap::IncomingTap;
use super::writer::ConnectionWriter;

/// Bytes that are read at a time from a WebSocket with a tap.
const READ: usize = 16 * 1024;
/// What a WebSocket may send before a verified token has come, in bytes. A token has up to 8 KiB.
const STRANGE: usize = 32 * 1024;

thread_local! {
    /// The buffer for these reads. All connections of a thread share it, because most of them have nothing to read.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TCP connection that others can write to and end. After a take-over the library keeps an empty one, where nothing is
/// read and what is written is thrown away.
pub struct Conn(Option<Stream>);

struct Stream {
    input: Input,
    writer: Arc<ConnectionWriter>,
    /// Bytes that hyper has read and that were not for hyper.
    before: Option<Box<[u8]>>,
    tap: Option<Box<dyn IncomingTap>>,
    number: u64,
    linger: Option<Linger>,
    /// Bytes of a WebSocket that may still come before a verified token has.
    strange: usize,
    /// The connection counts against the limits of all and of its address until it ends, also as a WebSocket.
    _place: Place,
}

/// A place among all connections, and among those of an address.
pub(super) type Place = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Conn {
    pub(super) fn new(input: Input, writer: Arc<ConnectionWriter>, number: u64, place: Place) -> Self {
        let strange = STRANGE;
        Self(Some(Stream {
            input,
            writer,
            before: None,
            tap: None,
            number,
            linger: None,
            strange,
            _place: place,
        }))
    }

    /// Puts bytes back that were read already. They are read again.
    pub fn unread(&mut self, bytes: &[u8]) {
        if let Some(stream) = self.0.as_mut().filter(|_| !bytes.is_empty()) {
            stream.before = Some(bytes.into());
        }
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let answer = match &mut self.tap {
            Some(tap) => {
                let mut incoming =
                    Incoming { input: &mut self.input, writer: &self.writer, strange: &mut self.strange };
                poll_frames(&mut incoming, &mut self.before, &mut **tap, cx, buf)
            }
            None if self.before.is_some() => {
                let before = self.before.take().unwrap_or_default();
                let (now, later) = before.split_at(before.len().min(buf.remaining()));
                buf.put_slice(now);
                self.before = (!later.is_empty()).then(|| later.into());
                Poll::Ready(Ok(()))
            }
            None => self.input.poll_read(cx, buf, &self.writer),
        };
        if let Poll::Ready(Err(error)) = &answer {
            self.writer.fail(&mut self.writer.out(), error);
        }
        if self.writer.is_dead() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        answer
    }
}

/// Where the frames of a tapped WebSocket are read from.
struct Incoming<'a> {
    input: &'a mut Input,
    writer: &'a Arc<ConnectionWriter>,
    strange: &'a mut usize,
}

/// Reads until there is something for the library.
fn poll_frames(
    incoming: &mut Incoming<'_>,
    unread: &mut Option<Box<[u8]>>,
    tap: &mut dyn IncomingTap,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let Incoming { input, writer, strange } = incoming;
    let before = buf.filled().len();
    loop {
        let ready = tap.poll_ready(cx, buf);
        if buf.filled().len() > before || tap.give(buf) {
            return Poll::Ready(Ok(()));
        }
        if writer.pong_due.load(Ordering::Acquire) && tap.pong(buf) {
            writer.pong_due.store(false, Ordering::Release);
            return Poll::Ready(Ok(()));
        }
        ready!(ready);
        if let Some(mut bytes) = unread.take() {
            tap.take(&mut bytes, buf);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        let mut scratch = SCRATCH.take();
        scratch.resize(READ, 0);
        let mut read = ReadBuf::new(&mut scratch);
        let answer = input.poll_read(cx, &mut read, writer);
        let bytes = read.filled_mut();
        if **strange > 0 {
            **strange = if writer.is_authenticated() { 0 } else { strange.saturating_sub(bytes.len()) };
            if **strange == 0 && !writer.is_authenticated() {
                writer.kill();
            }
        }
        let ended = bytes.is_empty();
        tap.take(bytes, buf);
        SCRATCH.set(scratch);
        ready!(answer)?;
        if ended || buf.filled().len() > before || writer.is_dead() {
            return Poll::Ready(Ok(()));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.writer.shared.open.closed(self.number);
        self.writer.kill();
    }
}

// The stream's own polls are used, not `try_read`: they know without a system call when a socket is drained.
impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.0 else { return Poll::Ready(Ok(())) };
        stream.writer.read_waker.register(cx.waker());
        stream.writer.update_reader(&mut stream.tap);
        if let Some(take_over) = stream.tap.as_mut().and_then(|tap| tap.asked()) {
            let writer = Arc::clone(&stream.writer);
            writer.drop_tap();
            take_over(Self(this.0.take()), writer);
            return Poll::Ready(Ok(()));
        }
        stream.poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &self.0 {
            Some(stream) => stream.writer.poll_write(cx, &[io::IoSlice::new(buf)]),
            None => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &self.0 {
            Some(stream) => stream.writer.poll_write(cx, bufs),
            None => Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Frames are written as soon as the kernel takes them, so there is nothing to wait for.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.get_mut().0 else { return Poll::Ready(Ok(())) };
        if stream.linger.is_none() {
            ready!(stream.writer.poll_shutdown(cx))?;
            if !stream.writer.lingers.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        stream.linger.get_or_insert_with(Linger::begin).poll(cx, &mut stream.input, &stream.writer).map(Ok)
    }
}
