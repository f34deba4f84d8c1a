//! What clients send over a WebSocket is looked at frame by frame before its reader gets it. The reader is socketioxide, or
//! `established` after the take-over.
//!
//! - Events of a session that has come in go straight to its inbox: in order, on the same task, and at a third of the cost of
//!   the way through all layers. The reader gets everything else as it came.
//! - When a client needs socketioxide no longer, its connection is taken over: see `established`.
//! - The first ping is kept from clients (see [`super::greeting`]), so its answer is put in here. The packet with which
//!   socket.io-client 2 joins is changed here (see [`super::query`]). To be deleted when upstream does these two.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;
use tokio::io::ReadBuf;

use super::decode::{Meaning, REFUSED, meaning};
use super::entry::Entry;
use super::established::{Arrival, Establishing};
use super::packet::{BEGINNING, event_in, is_step};
use super::polling::PollingClient;
use super::query;
use crate::transport::conn::tap::{IncomingTap, News, TakeOver};
use crate::transport::conn::websocket::{Head, unmask};

/// A longer message ends the connection. One that is too long and shorter is answered, and its bytes are thrown away.
const LONGEST_REFUSED: u64 = 16 * 1024 * 1024;

/// A pong, `3`, as a client's WebSocket frame.
const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// What is looked for on one WebSocket.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
pub(super) struct Incoming {
    /// The client speaks Engine.IO 3.
    eio3: bool,
    /// The client was polling, and has not changed to this WebSocket yet.
    upgrades: bool,
    /// Packets are read as Socket.IO's own server reads them. Not so in front of a server that is not Ordercast.
    decides: bool,
    /// The answer to the first ping is still to be put in.
    pong: bool,
    /// The sessions that have come in, the newest first.
    entries: SmallVec<[Weak<Entry>; 1]>,
    /// The longest message that is put together here, in bytes. From the usual length on, most are too long.
    longest: usize,
    usual: usize,
    /// Bytes that are still to come of a message that is too long, and was answered.
    refused: u64,
    /// The beginning of a frame, and how many bytes of the frame are needed to go on.
    partial: Vec<u8>,
    needed: usize,
    /// Bytes that are still to come of a frame that is passed on in pieces.
    passing: u64,
    /// A message in several frames is under way.
    fragmented: bool,
    /// Bytes for the reader that it had no room for.
    ready: Vec<u8>,
    /// A session's inbox wants nothing more for now. What was read beyond that is kept.
    hold: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    kept: Vec<u8>,
    /// The reader may not have dealt with everything that was passed on. What follows goes the same way, to stay in order.
    ahead: bool,
    /// How many packets other than events and acks were passed on. A client that has done nothing but come in has one.
    steps: usize,
    /// How the client came, until its connection is taken over.
    arrival: Option<Box<Arrival>>,
}

impl Incoming {
    /// For a new WebSocket, which `decides` about packets for Ordercast's own sessions. `client` was polling before. The longest message that is put together, and the longest of most
    /// kinds, are in bytes.
    pub(super) fn new(
        eio3: bool,
        client: Option<&PollingClient>,
        [longest, usual]: [usize; 2],
        arrival: Option<Arrival>,
        decides: bool,
    ) -> Self {
        let pong = !eio3 && client.is_none_or(|client| !client.was_pinged());
        Self {
            eio3,
            upgrades: client.is_some(),
            decides,
            pong,
            entries: SmallVec::new(),
            longest,
            usual,
            refused: 0,
            partial: Vec::new(),
            needed: 0,
            passing: 0,
            fragmented: false,
            ready: Vec::new(),
            hold: None,
            kept: Vec::new(),
            ahead: false,
            steps: 0,
            arrival: arrival.map(Box::new),
        }
    }

    /// Decides whether socketioxide has nothing left to do: the client has come into one namespace and done nothing else,
    /// and nothing of it is under way. Clients of Engine.IO 3 stay with socketioxide. Returns `Some` once.
    fn establishes(&mut self) -> Option<Establishing> {
        let busy = self.ahead || self.fragmented || self.eio3;
        let arrival = self.arrival.as_ref().filter(|_| !busy)?;
        // The first ping may have been answered while the client was still polling.
        if self.pong && arrival.client.as_ref().is_none_or(|client| !client.was_pinged()) {
            return None;
        }
        let steps = self.steps + arrival.client.as_ref().map_or(0, |client| client.steps());
        let [entry] = &self.entries[..] else { return None };
        let entry = entry.upgrade().filter(|entry| steps == 1 && entry.take_over())?;
        Some(Establishing { arrival: self.arrival.take()?, entry })
    }

    fn frames(&mut self, mut bytes: &mut [u8], to: &mut ReadBuf<'_>) {
        while !bytes.is_empty() {
            if self.hold.is_some() {
                return self.kept.extend_from_slice(bytes);
            }
            if self.passing > 0 {
                let count = usize::try_from(self.passing).unwrap_or(usize::MAX).min(bytes.len());
                let (passed, rest) = bytes.split_at_mut(count);
                self.pass(passed, to);
                self.passing -= count as u64;
                bytes = rest;
                continue;
            }
            if self.refused > 0 {
                let count = usize::try_from(self.refused).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &mut bytes[count..];
                self.refused -= count as u64;
                continue;
            }
            let head = match Head::read(bytes) {
                Ok(head) => head,
                Err(needed) => return self.keep(bytes, needed),
            };
            let is_long = (self.usual as u64 + 1..LONGEST_REFUSED).contains(&head.payload);
            if is_long && head.is_text() && !self.fragmented {
                let begins = head.length + BEGINNING;
                if bytes.len() < begins {
                    return self.keep(bytes, begins);
                }
                if self.refuses(&bytes[head.length..begins], &head) {
                    self.refused = head.payload.saturating_add(head.length as u64);
                    continue;
                }
            }
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
            let left_out = self.hear(&mut frame[head.length..], head.mask)
                || self.leaves_out(&mut frame[head.length..], head.mask);
            if !left_out {
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
        // What waits goes first.
        let count = if self.ready.is_empty() { bytes.len().min(to.remaining()) } else { 0 };
        to.put_slice(&bytes[..count]);
        self.ready.extend_from_slice(&bytes[count..]);
    }

    /// Answers an event that is too long. Returns `false` if it is none, or is for no session.
    fn refuses(&mut self, begins: &[u8], head: &Head) -> bool {
        let Ok(length) = usize::try_from(head.payload) else { return false };
        let mut begins = begins.to_vec();
        unmask(&mut begins, head.mask);
        // The beginning may end within a character.
        let begins = String::from_utf8_lossy(&begins);
        let Some((namespace, ack, json)) = begins.strip_prefix("42").and_then(event_in) else { return false };
        let mut entries = self.entries.iter().filter_map(Weak::upgrade);
        let Some(entry) = entries.find(|entry| entry.namespace == namespace) else { return false };
        let length = length - (begins.len() - json.len()).min(length);
        if entry.inbox.fits(json, length).is_ok() {
            return false;
        }
        entry.inbox.too_large(json, length, ack);
        self.hold_for(&entry);
        true
    }

    /// Gives an event to its session's inbox. Returns `false` and leaves the payload as it was if it is for none.
    fn hear(&mut self, payload: &mut [u8], mask: [u8; 4]) -> bool {
        let is_event = payload.len() > 2 && payload[0] ^ mask[0] == b'4' && payload[1] ^ mask[1] == b'2';
        if !is_event || self.ahead || self.entries.is_empty() {
            return false;
        }
        unmask(payload, mask);
        let heard = std::str::from_utf8(&payload[2..]).is_ok_and(|packet| self.event(packet));
        if !heard {
            unmask(payload, mask);
        }
        heard
    }

    /// Decides about a packet that no session has taken. Returns whether nobody gets it. One that breaks the protocol is
    /// replaced by one that the reader refuses too.
    fn leaves_out(&mut self, payload: &mut [u8], mask: [u8; 4]) -> bool {
        if self.upgrades {
            // The packets of a try have a meaning.
            self.upgrades = payload.len() != 1 || payload[0] ^ mask[0] != b'5';
            return false;
        }
        if !self.decides {
            return false;
        }
        unmask(payload, mask);
        let meaning =
            std::str::from_utf8(payload).map_or(Meaning::Plain, |packet| meaning(packet, self.eio3));
        let left_out = match meaning {
            Meaning::Nothing => true,
            Meaning::NothingIn(namespace) => {
                self.entries.iter().filter_map(Weak::upgrade).any(|entry| entry.namespace == namespace)
            }
            Meaning::Plain | Meaning::Broken => false,
        };
        if meaning == Meaning::Broken
            && let Some(first) = payload.first_mut()
        {
            *first = REFUSED;
        }
        unmask(payload, mask);
        left_out
    }

    fn event(&mut self, packet: &str) -> bool {
        let Some((namespace, ack, json)) = event_in(packet) else { return false };
        let mut entries = self.entries.iter().filter_map(Weak::upgrade);
        let entry = entries.find(|entry| entry.namespace == namespace);
        entry.is_some_and(|entry| {
            let heard = entry.inbox.event(json, ack);
            self.hold_for(&entry);
            heard
        })
    }

    /// Reads nothing more as long as the session's inbox wants that.
    fn hold_for(&mut self, entry: &Entry) {
        if self.hold.is_none() && entry.inbox.is_held() {
            let inbox = Arc::clone(&entry.inbox);
            self.hold = Some(Box::pin(async move { inbox.until_ready().await }));
        }
    }
}

impl IncomingTap for Incoming {
    /// The session of an [`Entry`] has come in: its events go to its inbox.
    fn tell(&mut self, news: News) {
        if let Ok(entry) = news.downcast::<Weak<Entry>>() {
            self.entries.retain(|known| known.strong_count() > 0);
            self.entries.insert(0, *entry);
        }
    }

    fn asked(&mut self) -> Option<TakeOver> {
        if self.ahead {
            // The reader may have given events to an inbox.
            let held = self.entries.iter().filter_map(Weak::upgrade).find(|entry| entry.inbox.is_held());
            if let Some(entry) = held {
                self.hold_for(&entry);
            }
        }
        self.ahead = !self.ready.is_empty() || self.passing > 0;
        let establishing = self.establishes()?;
        Some(Box::new(move |conn, writer| establishing.go_on(conn, writer)))
    }

    fn give(&mut self, to: &mut ReadBuf<'_>) -> bool {
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

    fn pong(&mut self, to: &mut ReadBuf<'_>) -> bool {
        let can = self.pong && self.passing == 0 && self.ready.is_empty() && to.remaining() >= PONG.len();
        if can {
            to.put_slice(&PONG);
            self.pong = false;
        }
        can
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<()> {
        while let Some(hold) = &mut self.hold {
            ready!(hold.as_mut().poll(cx));
            self.hold = None;
            let mut kept = std::mem::take(&mut self.kept);
            self.take(&mut kept, to);
        }
        Poll::Ready(())
    }

    fn take(&mut self, mut bytes: &mut [u8], to: &mut ReadBuf<'_>) {
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
}

#[cfg(test)]
mod tests;
