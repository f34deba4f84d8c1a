//! How hyper and socketioxide write to a connection: bytes as long as it is HTTP, then frames, which are looked at until
//! the session may write as well.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::net::tcp::OwnedWriteHalf;

use super::lane::Lane;
use super::out::{Out, Phase, aborted, not_whole};
use super::websocket;
use crate::session::session::Session;
use crate::transport::socketio::greeting::Seen;
use crate::transport::socketio::peers::Peer;

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
                    Then::Pump(session) => {
                        self.hears(&session);
                        session.pump();
                    }
                    Then::Move(session) => {
                        session.upgraded(self);
                        self.hears(&session);
                    }
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
        if out.closing {
            // After our close frame nothing may come.
            return Poll::Ready(Ok(buf.len()));
        }
        if out.own.is_some() {
            return self.wait(cx);
        }
        let Some((_, end)) = websocket::first(buf).filter(|(_, end)| *end <= buf.len()) else {
            return Poll::Ready(Err(not_whole()));
        };
        out.passes(Bytes::copy_from_slice(&buf[..end]));
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
            Seen::Pass => out.passes(Bytes::copy_from_slice(&buf[..end])),
            Seen::Nothing => {}
            Seen::Instead(frame) => out.own = Some(frame),
            Seen::Ping => {
                self.pong_due.store(true, Ordering::Release);
                self.reader.wake();
            }
            Seen::Open(frame, session) => {
                out.own = Some(frame.unwrap_or_else(|| Bytes::copy_from_slice(&buf[..end])));
                out.open = true;
                then = session.upgrade().map_or(Then::Nothing, Then::Pump);
            }
            Seen::Moved(session) => {
                out.open = true;
                out.attach(&session);
                then = Then::Move(session);
            }
        }
        if out.open && matches!(&out.phase, Phase::Frames(Some(greeting)) if greeting.is_done()) {
            out.phase = Phase::Frames(None);
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
}
