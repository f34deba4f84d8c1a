//! How sessions write to a connection. A frame is written at once, or queued for the end of the scheduling round. Only while
//! the kernel takes no more does the connection have a task. That task gives the connection up when the kernel takes nothing
//! for too long.

use std::io;
use std::sync::{Arc, PoisonError, Weak};

use bytes::Bytes;
use smallvec::SmallVec;

use super::out::{Out, Written};
use super::writer::ConnectionWriter;
use crate::base::clock::instant;
use crate::session::wire::{Handed, Urgency};

/// The limit of what is queued in one round before it is written at once. While the kernel takes no more, it is the limit of
/// what waits of messages that are safe in the log.
const ROUND_FRAMES: usize = 64;
const ROUND_BYTES: usize = 64 * 1024;
/// The limit of what waits of messages that exist nowhere else.
const REPLY_FRAMES: usize = 1_024;
const REPLY_BYTES: usize = 512 * 1024;

impl ConnectionWriter {
    /// Takes a frame of a session, unless there is no room for one of this urgency.
    pub fn push(self: &Arc<Self>, frame: Bytes, urgency: Urgency) -> Handed {
        let mut out = self.out();
        if out.pipe.is_none() || out.closing {
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
            // There are many connections, and most of them never queue more than one frame.
            out.queue.reserve_exact(1);
        }
        out.queued += frame.len();
        out.queue.push_back(frame);
        out.tells |= urgency != Urgency::Reply;
        if !waiting {
            if out.queue.len() >= ROUND_FRAMES || out.queued >= ROUND_BYTES {
                self.write(&mut out);
            } else if !std::mem::replace(&mut out.left, true) {
                self.shared.flusher.add(self);
            }
        }
        Handed::Taken
    }

    /// Writes a frame of the protocol before the queue. Returns `false` if another such frame still waits.
    pub fn push_first(self: &Arc<Self>, frame: Bytes) -> bool {
        let mut out = self.out();
        if out.pipe.is_none() || out.closing || out.own.is_some() {
            return false;
        }
        out.passes(frame);
        if !out.blocked {
            self.write(&mut out);
        }
        true
    }

    /// Sends a ping of the heartbeat, before the queue. Returns `false` if another frame of the protocol still waits.
    pub fn beat(self: &Arc<Self>, ping: Bytes) -> bool {
        let is_sent = self.push_first(ping);
        if is_sent {
            let mut pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
            pings.outstanding += 1;
            // It may have passed the one that proves something.
            pings.awaited = pings.awaited.map(|awaited| awaited + 1);
        }
        is_sent
    }

    /// Sends a ping of the heartbeat behind everything else, if nothing waits.
    pub fn beat_behind(self: &Arc<Self>, ping: Bytes) -> Handed {
        let mut pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
        let handed = self.push(ping, Urgency::Live);
        if handed == Handed::Taken {
            pings.outstanding += 1;
        }
        handed
    }

    /// Sends a ping behind everything else. Its answer proves that all of that has come. Returns `false` if one is under way.
    pub fn prove(self: &Arc<Self>, ping: Bytes) -> bool {
        let mut pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
        if pings.awaited.is_some() || self.push(ping, Urgency::Reply) != Handed::Taken {
            return false;
        }
        pings.outstanding += 1;
        pings.awaited = Some(pings.outstanding);
        true
    }

    /// The client has answered a ping. Returns whether that proves something.
    pub fn answered(&self) -> bool {
        let mut pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
        pings.outstanding = pings.outstanding.saturating_sub(1);
        pings.awaited = pings.awaited.and_then(|awaited| awaited.checked_sub(1));
        let is_proved = pings.awaited == Some(0);
        if is_proved {
            pings.awaited = None;
        }
        is_proved
    }

    /// Whether a frame of the library or the protocol waits to be written.
    pub fn has_own(&self) -> bool {
        self.out().own.is_some()
    }

    /// Whether this frame is probably the only one of its round: nothing waits, nothing was pushed in this round, and recent
    /// rounds had one frame each. Then writing at once is cheaper than coming back to the connection.
    fn is_alone(&self, out: &mut Out) -> bool {
        let round = self.shared.flusher.round();
        let again = std::mem::replace(&mut out.round, round) == round;
        out.bursts |= again;
        !out.bursts && !out.left && out.waiting() == 0
    }

    fn write_now(self: &Arc<Self>, out: &mut Out, frame: Bytes) -> Handed {
        let Some(pipe) = &out.pipe else { return Handed::Gone };
        match pipe.send(&frame) {
            Ok(written) if written == frame.len() && pipe.held() == 0 => return Handed::Taken,
            Ok(written) => out.begun = frame.slice(written..),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                out.queued += frame.len();
                out.queue.push_back(frame);
                out.tells = true;
            }
            Err(error) => {
                self.fail(out, &error);
                return Handed::Gone;
            }
        }
        self.write(out);
        Handed::Taken
    }

    /// Writes what was queued in a round.
    pub(super) fn flush(self: &Arc<Self>) {
        let mut out = self.out();
        out.left = false;
        out.bursts = out.queue.len() > 1;
        if !out.blocked {
            self.write(&mut out);
        }
    }

    /// Writes as much as the kernel takes. If it takes no more, a task goes on.
    pub(super) fn write(self: &Arc<Self>, out: &mut Out) {
        match self.write_some(out) {
            Ok(Written::All) => {
                if out.own.is_none() {
                    self.write_waker.wake();
                }
                if out.closing {
                    out.shut();
                }
            }
            Ok(Written::Some) => {
                if out.own.is_none() {
                    self.write_waker.wake();
                }
                if !std::mem::replace(&mut out.blocked, true) {
                    tokio::spawn(Arc::clone(self).write_on());
                }
            }
            Err(error) => self.fail(out, &error),
        }
    }

    /// Writes as much as the kernel takes. Events that have waited until this node may not tell them any more, because the kernel
    /// took nothing or the process stood still, are an error: their client comes back, and gets what is its own by then.
    fn write_some(&self, out: &mut Out) -> io::Result<Written> {
        if out.tells && !self.shared.lease.is_fresh() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        out.write()
    }

    /// Writes what TLS has made ready.
    pub(super) fn write_held(self: &Arc<Self>) {
        let mut out = self.out();
        if !out.blocked {
            self.write(&mut out);
        }
    }

    /// Writes until nothing is left, or the kernel has taken nothing for too long.
    async fn write_on(self: Arc<Self>) {
        let stall = self.shared.stall;
        let mut deadline = instant() + stall;
        loop {
            let Some(pipe) = self.out().pipe.clone() else { return };
            match tokio::time::timeout_at(deadline, pipe.tcp.writable()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.fail(&mut self.out(), &error),
                Err(_) => return self.abort(),
            }
            drop(pipe);
            let waiters: SmallVec<[_; 2]> = {
                let mut out = self.out();
                let before = out.waiting();
                let written = match self.write_some(&mut out) {
                    Ok(written) => written,
                    Err(error) => return self.fail(&mut out, &error),
                };
                if out.own.is_none() {
                    self.write_waker.wake();
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
                out.waiters.iter().filter_map(Weak::upgrade).collect()
            };
            for waiter in waiters {
                waiter.has_room();
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use clap::Parser;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::pipe::Pipe;
    use super::*;
    use crate::base::metrics::{Metrics, Words};
    use crate::cli::Cli;
    use crate::cluster::fresh::RightsLease;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// What a client gets of these frames, which are queued before the round is over.
    async fn client_gets(lease: RightsLease, frames: &[(&'static str, Urgency)]) -> String {
        let listener = TcpListener::bind((HOME, 0)).await.expect("a port");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("its address")).await.expect("connected");
        let (_read, tcp) = listener.accept().await.expect("accepted").0.into_split();
        let limits = Cli::try_parse_from(["ordercast"]).expect("defaults").serve.limits;
        let shared = super::super::Shared::new(&limits, Metrics::new(Words::default()), lease);
        let room = shared.gate().room(HOME.into(), 1).await.expect("room");
        let writer = ConnectionWriter::new(Pipe { tcp, tls: None }, Arc::clone(&shared), HOME, room);
        writer.out().open = true;
        for (frame, urgency) in frames {
            assert_eq!(writer.push(Bytes::from_static(frame.as_bytes()), *urgency), Handed::Taken);
        }
        let flushes = tokio::spawn(Arc::clone(&shared).flush());
        writer.finish(Bytes::new());
        let mut got = String::new();
        client.read_to_string(&mut got).await.expect("text");
        shared.stop_flushing();
        flushes.await.expect("flushed");
        got
    }

    fn ended() -> RightsLease {
        let lease = RightsLease::new(Duration::ZERO);
        lease.others(true, instant());
        lease
    }

    #[tokio::test]
    async fn an_event_that_waits_when_the_lease_has_ended_is_not_written() {
        // The first one is alone, and is written at once.
        let frames = [("one ", Urgency::Durable), ("two ", Urgency::Durable), ("three", Urgency::Live)];
        assert_eq!(client_gets(RightsLease::always(), &frames).await, "one two three");
        assert_eq!(client_gets(ended(), &frames).await, "one ");
    }

    #[tokio::test]
    async fn an_answer_is_written_whether_the_lease_has_ended_or_not() {
        let frames = [("one ", Urgency::Reply), ("two", Urgency::Reply)];
        assert_eq!(client_gets(ended(), &frames).await, "one two");
    }
}
