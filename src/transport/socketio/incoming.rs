//! What clients send over a WebSocket, looked at frame by frame before its reader has it: socketioxide, or `established`.
//!
//! - The events of a session that is in go straight to its inbox: in order, on the same task, and at a third of the cost of
//!   the way through all layers. What is not plainly one of them, the reader gets to see as it came.
//! - When a client needs socketioxide no longer, its connection is taken over: see `established`.
//! - The server's first ping is kept from clients (see [`super::greeting`]), so its answer is put in here. So is what
//!   socket.io-client 2 joins with, mended (see [`super::query`]). To be deleted when upstream does these two.

use std::sync::{Arc, Weak};

use smallvec::SmallVec;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::door::Door;
use super::packet::is_step;
use super::peers::Peer;
use super::query;
use crate::session::inbox::Inbox;
use crate::transport::conn::Lane;
use crate::transport::conn::websocket::Head;

/// `3`, a pong, as a client's WebSocket frame.
const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// What is looked for on one connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
pub struct Incoming {
    /// The packets of an Engine.IO 3 client are mended.
    eio3: bool,
    /// The answer to the first ping is still to come.
    pong: bool,
    /// The sessions that are in.
    inboxes: SmallVec<[Weak<Inbox>; 1]>,
    /// The longest message that is put together here, in bytes.
    longest: usize,
    /// A frame that has not come whole, and how many bytes it needs to tell more.
    partial: Vec<u8>,
    needed: usize,
    /// Bytes to come of a frame that is passed on as it comes.
    passing: u64,
    /// A message in several frames is under way.
    fragmented: bool,
    /// What is passed on, and the reader had no room for.
    ready: Vec<u8>,
    /// Something was passed on that the reader may not have dealt with. What comes after it goes the same way.
    ahead: bool,
    /// Packets other than events and their answers that were passed on: as many as it takes to come in, and no others, as
    /// long as the client can do without socketioxide.
    steps: usize,
    /// How the client came, until it does without socketioxide.
    arrival: Option<Box<Arrival>>,
}

/// How a client came.
pub struct Arrival {
    pub(super) door: Arc<Door>,
    /// When its session was opened.
    pub(super) came: Instant,
    /// The token that it came with.
    pub(super) token: Option<String>,
    /// Who has been polling, if it was there before.
    pub(super) peer: Option<Arc<Peer>>,
}

/// A client that can do without socketioxide from now on.
pub struct Establishing {
    pub(super) arrival: Box<Arrival>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) lane: Arc<Lane>,
}

impl Incoming {
    /// For a WebSocket that begins; `peer` is the client that has been polling, if it was there before.
    #[must_use]
    pub fn new(eio3: bool, peer: Option<&Peer>, longest: usize, arrival: Option<Arrival>) -> Self {
        let pong = !eio3 && peer.is_none_or(|peer| !peer.was_pinged());
        Self {
            eio3,
            pong,
            inboxes: SmallVec::new(),
            longest,
            partial: Vec::new(),
            needed: 0,
            passing: 0,
            fragmented: false,
            ready: Vec::new(),
            ahead: false,
            steps: 0,
            arrival: arrival.map(Box::new),
        }
    }

    /// Whether nothing is left for socketioxide to do: the client is in, in one namespace, it has done nothing else, and
    /// nothing of it is on its way through. Protocol 3 is left where it is. Says so once.
    pub fn establishes(&mut self) -> Option<Establishing> {
        let busy = self.ahead || self.fragmented || self.eio3;
        let arrival = self.arrival.as_ref().filter(|_| !busy)?;
        // The first ping may have come while it was still polling.
        if self.pong && arrival.peer.as_ref().is_none_or(|peer| !peer.was_pinged()) {
            return None;
        }
        let steps = self.steps + arrival.peer.as_ref().map_or(0, |peer| peer.steps());
        let [inbox] = &self.inboxes[..] else { return None };
        let inbox = inbox.upgrade().filter(|_| steps == 1)?;
        let lane = inbox.session().lane().filter(|_| inbox.session().establish())?;
        Some(Establishing { arrival: self.arrival.take()?, inbox, lane })
    }

    /// A session is in: its events go to its inbox from here on.
    pub fn hears(&mut self, inbox: Weak<Inbox>) {
        self.inboxes.retain(|known| known.strong_count() > 0);
        self.inboxes.insert(0, inbox);
    }

    /// Takes what was read; what is for socketioxide goes on to its reader.
    pub fn take(&mut self, mut bytes: &mut [u8], to: &mut ReadBuf<'_>) {
        while !self.partial.is_empty() {
            let missing = (self.needed - self.partial.len()).min(bytes.len());
            let (more, rest) = bytes.split_at_mut(missing);
            self.partial.extend_from_slice(more);
            bytes = rest;
            if self.partial.len() < self.needed {
                return;
            }
            let mut frame = std::mem::take(&mut self.partial);
            self.frames(&mut frame, to);
        }
        self.frames(bytes, to);
    }

    /// The reader asks for more: it has dealt with every message that it was given whole.
    pub fn asked(&mut self) {
        self.ahead = !self.ready.is_empty() || self.passing > 0;
    }

    /// Gives the reader what it had no room for. Says whether that was anything.
    pub fn give(&mut self, to: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let count = self.ready.len().min(to.remaining());
        to.put_slice(&self.ready[..count]);
        self.ready.drain(..count);
        if self.ready.is_empty() {
            self.ready = Vec::new();
        }
        true
    }

    /// Answers the server's first ping, which the client was not shown, unless that has to wait for the end of a frame.
    pub fn pong(&mut self, to: &mut ReadBuf<'_>) -> bool {
        let can = self.pong && self.passing == 0 && self.ready.is_empty() && to.remaining() >= PONG.len();
        if can {
            to.put_slice(&PONG);
            self.pong = false;
        }
        can
    }

    fn frames(&mut self, mut bytes: &mut [u8], to: &mut ReadBuf<'_>) {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let count = usize::try_from(self.passing).unwrap_or(usize::MAX).min(bytes.len());
                let (passed, rest) = bytes.split_at_mut(count);
                self.pass(passed, to);
                self.passing -= count as u64;
                bytes = rest;
                continue;
            }
            let head = match Head::read(bytes) {
                Ok(head) => head,
                Err(needed) => return self.keep(bytes, needed),
            };
            if !head.is_text() || self.fragmented || head.payload > self.longest as u64 {
                if head.is_data() {
                    self.fragmented = !head.is_final();
                    self.steps += 1;
                }
                self.passing = head.payload.saturating_add(head.length as u64);
                continue;
            }
            let whole = head.length + usize::try_from(head.payload).unwrap_or(usize::MAX);
            if bytes.len() < whole {
                return self.keep(bytes, whole);
            }
            let (frame, rest) = bytes.split_at_mut(whole);
            if !self.hear(&mut frame[head.length..], head.mask) {
                self.steps += usize::from(is_step(
                    frame[head.length..].iter().zip(head.mask).map(|(byte, mask)| byte ^ mask),
                ));
                if self.eio3 {
                    query::mend(&mut frame[head.length..], head.mask);
                }
                self.pass(frame, to);
            }
            bytes = rest;
        }
    }

    fn keep(&mut self, bytes: &[u8], needed: usize) {
        self.partial = bytes.to_vec();
        self.needed = needed;
    }

    fn pass(&mut self, bytes: &[u8], to: &mut ReadBuf<'_>) {
        self.ahead = true;
        // In order: what waits goes first.
        let count = if self.ready.is_empty() { bytes.len().min(to.remaining()) } else { 0 };
        to.put_slice(&bytes[..count]);
        self.ready.extend_from_slice(&bytes[count..]);
    }

    /// Gives an event to the inbox that it is for. If it is for none, the payload is left as it was.
    fn hear(&self, payload: &mut [u8], mask: [u8; 4]) -> bool {
        let is_event = payload.len() > 2 && payload[0] ^ mask[0] == b'4' && payload[1] ^ mask[1] == b'2';
        if !is_event || self.ahead || self.inboxes.is_empty() {
            return false;
        }
        unmask(payload, mask);
        let heard = std::str::from_utf8(&payload[2..]).is_ok_and(|packet| self.event(packet));
        if !heard {
            unmask(payload, mask);
        }
        heard
    }

    /// `/namespace,12["name",…]`; the default namespace is not said, and the number is missing where no answer is awaited.
    fn event(&self, packet: &str) -> bool {
        let (namespace, rest) = match packet.split_once(',') {
            Some((namespace, rest)) if namespace.starts_with('/') => (namespace, rest),
            _ => ("/", packet),
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (ack, json) = rest.split_at(digits);
        let Ok(ack) = (!ack.is_empty()).then(|| ack.parse()).transpose() else { return false };
        let mut inboxes = self.inboxes.iter().filter_map(Weak::upgrade);
        json.starts_with('[')
            && inboxes
                .find(|inbox| inbox.namespace() == Some(namespace))
                .is_some_and(|inbox| inbox.event(json, ack))
    }
}

/// Takes the mask off, or puts it on.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, text: &str) -> Vec<u8> {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let mut frame = vec![first];
        if let Ok(short @ 0..=125) = u8::try_from(text.len()) {
            frame.push(0x80 + short);
        } else {
            frame.push(0x80 + 126);
            frame.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        }
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// What the reader gets of these bytes, cut into pieces of a size, with room for `room` bytes at a time.
    fn passed(bytes: &[u8], size: usize, room: usize) -> Vec<u8> {
        let mut incoming = Incoming::new(true, None, 400, None);
        let mut bytes = bytes.to_vec();
        let mut got = Vec::new();
        let mut space = vec![0; room];
        for piece in bytes.chunks_mut(size) {
            let mut to = ReadBuf::new(&mut space);
            incoming.take(piece, &mut to);
            got.extend_from_slice(to.filled());
            loop {
                let mut to = ReadBuf::new(&mut space);
                if !incoming.give(&mut to) {
                    break;
                }
                got.extend_from_slice(to.filled());
            }
        }
        got
    }

    #[test]
    fn frames_however_they_are_cut() {
        let long = format!("40/realtime?token={}", "x".repeat(200));
        let mended = format!("40/realtime,token={}", "x".repeat(200));
        let too_long = "y".repeat(500);
        let packets = |joins: [&str; 2]| {
            [
                frame(0x89, "40/realtime?"),
                frame(0x81, ""),
                frame(0x81, joins[0]),
                frame(0x81, joins[1]),
                frame(0x81, &too_long),
                frame(0x81, "42/realtime,[\"a?b\"]"),
                frame(0x81, "40/real?x"),
                // In several frames, which nobody does to join.
                frame(0x01, "40/realtime"),
                frame(0x89, "ping"),
                frame(0x80, "?token=a,"),
                vec![0x81, 0x02, b'4', b'0'],
            ]
            .concat()
        };
        let before = packets(["40/realtime?token=a,", &long]);
        let after = packets(["40/realtime,token=a,", &mended]);
        for size in [1, 2, 3, 7, 300, before.len()] {
            for room in [1, 10, 10_000] {
                assert_eq!(passed(&before, size, room), after, "in pieces of {size}, {room} at a time");
            }
        }
    }
}
