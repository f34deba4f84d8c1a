//! How the library that owns the stream writes to a connection: bytes as long as it speaks HTTP, then WebSocket frames. A tap
//! may look at the frames.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::out::{Out, Phase, aborted, not_whole};
use super::pipe::Pipe;
use super::tap::{Fate, Then, Verdict};
use super::websocket;
use super::writer::ConnectionWriter;

impl ConnectionWriter {
    pub(super) fn poll_write(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut out = self.out();
        let Some(pipe) = out.pipe.clone() else {
            // socketioxide keeps a session for ever whose first packet it cannot write. The read side tells it the end.
            return Poll::Ready(match out.phase {
                Phase::Http => Err(aborted()),
                Phase::Head(..) | Phase::Frames(_) => Ok(bufs.iter().map(|buf| buf.len()).sum()),
            });
        };
        let Some(buf) = bufs.iter().find(|buf| !buf.is_empty()) else { return Poll::Ready(Ok(0)) };
        match &mut out.phase {
            Phase::Http => self.poll_pass(cx, &mut out, &pipe, bufs),
            Phase::Head(tail, _) => {
                let mut tail = *tail;
                let written = self.poll_pass(cx, &mut out, &pipe, &[IoSlice::new(buf)]);
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
                let (written, then) = self.poll_tapped(cx, &mut out, buf);
                drop(out);
                if let Some(then) = then {
                    then(self);
                }
                written
            }
        }
    }

    /// Writes bytes that are not frames.
    fn poll_pass(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        out: &mut Out,
        pipe: &Pipe,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match pipe.send_parts(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    if pipe.held() > 0 && !out.blocked {
                        self.write(out);
                    }
                    return Poll::Ready(done);
                }
            }
            self.write_waker.register(cx.waker());
            if self.is_dead() {
                return Poll::Ready(Err(aborted()));
            }
            std::task::ready!(pipe.tcp.as_ref().poll_write_ready(cx))?;
        }
    }

    /// Takes one frame without a tap.
    fn poll_frames(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        out: &mut Out,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if out.closing {
            // Nothing may follow our close frame.
            return Poll::Ready(Ok(buf.len()));
        }
        if out.own.is_some() {
            return self.wait(cx);
        }
        let Some((_, end)) = whole_frame(buf) else { return Poll::Ready(Err(not_whole())) };
        out.passes(Bytes::copy_from_slice(&buf[..end]));
        if !out.blocked {
            self.write(out);
        }
        Poll::Ready(Ok(end))
    }

    /// Takes one frame and does with it what the tap says.
    fn poll_tapped(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        out: &mut Out,
        buf: &[u8],
    ) -> (Poll<io::Result<usize>>, Option<Then>) {
        if out.closing {
            // Nothing may follow our close frame.
            return (Poll::Ready(Ok(buf.len())), None);
        }
        if out.own.is_some() {
            return (self.wait(cx), None);
        }
        let Some((begin, end)) = whole_frame(buf) else {
            return (Poll::Ready(Err(not_whole())), None);
        };
        let Phase::Frames(Some(tap)) = &mut out.phase else {
            return (self.poll_frames(cx, out, buf), None);
        };
        let text = (buf[0] == websocket::TEXT).then(|| &buf[begin..end]);
        let Verdict { fate, opens, then } = tap.see(text);
        match fate {
            Fate::Pass => out.passes(Bytes::copy_from_slice(&buf[..end])),
            Fate::Replace(frame) => out.own = Some(frame),
            Fate::Drop => {}
            Fate::AnswerPing => {
                self.pong_due.store(true, Ordering::Release);
                self.read_waker.wake();
            }
        }
        out.open |= opens;
        if !out.blocked {
            self.write(out);
        }
        (Poll::Ready(Ok(end)), then)
    }

    fn wait(&self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        self.write_waker.register(cx.waker());
        if self.is_dead() { Poll::Ready(Err(aborted())) } else { Poll::Pending }
    }

    /// Ends the write side once everything is written.
    pub(super) fn poll_shutdown(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.out();
        if out.pipe.is_none() {
            return Poll::Ready(Ok(()));
        }
        if out.waiting() > 0 && out.blocked {
            self.write_waker.register(cx.waker());
            return Poll::Pending;
        }
        let _ = out.write();
        out.shut();
        Poll::Ready(Ok(()))
    }
}

/// Where the payload of the first frame begins and ends, if the frame is complete.
fn whole_frame(buf: &[u8]) -> Option<(usize, usize)> {
    websocket::first(buf).filter(|(_, end)| *end <= buf.len())
}
