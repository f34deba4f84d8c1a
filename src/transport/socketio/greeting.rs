//! What socketioxide writes to a client that comes in is changed here: the CONNECT reply gets the session's id for connection
//! state recovery, the first ping is left out, and sessions begin to write. To be deleted when upstream does these.

use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::entry::Entry;
use super::packet::{self, SEPARATOR, connect_reply, in_namespace, is_mark, refusal_of_version_3, with_pid};
use super::polling::PollingClient;
use crate::transport::conn::tap::{Fate, News, OutgoingTap, Verdict};
use crate::transport::conn::websocket;

/// The packet that closes an Engine.IO session. socketioxide sends it after errors, Node does not: python-socketio takes it
/// for a goodbye and stays away. So clients only see that their connection ends, and all of them come back.
const CLOSE: &[u8] = b"1";

/// What is looked for on one WebSocket as long as socketioxide writes there.
pub(super) struct Greeting {
    /// The first ping is still to come. Engine.IO's servers ping after an interval, but socketioxide pings at once.
    ping: bool,
    /// The client's probe was answered.
    probed: bool,
    /// The client, if it was polling before.
    client: Option<Arc<PollingClient>>,
    /// The client speaks Engine.IO 3.
    eio3: bool,
    /// Sessions whose CONNECT is still to be answered here: one for each namespace.
    entries: SmallVec<[Weak<Entry>; 1]>,
}

impl Greeting {
    /// For a new WebSocket. `client` was polling before.
    pub(super) fn new(eio3: bool, client: Option<Arc<PollingClient>>) -> Self {
        let ping = !eio3 && client.as_ref().is_none_or(|client| !client.was_pinged());
        Self { ping, probed: false, client, eio3, entries: SmallVec::new() }
    }

    /// For a WebSocket on which a session has written already, and the client joins a namespace.
    pub(super) fn again() -> Self {
        Self { ping: false, probed: false, client: None, eio3: false, entries: SmallVec::new() }
    }

    fn text(&mut self, packet: &[u8]) -> Verdict {
        if packet == CLOSE {
            return Fate::Drop.into();
        }
        if packet == b"2" {
            let first = std::mem::take(&mut self.ping)
                && self.client.as_ref().is_none_or(|client| client.claim_ping());
            return if first { Fate::AnswerPing.into() } else { self.pass() };
        }
        // We have answered the probe first (see `probe`), and socketioxide answers it again.
        if packet == b"3probe" && std::mem::replace(&mut self.probed, true) {
            return Fate::Drop.into();
        }
        if let Some((namespace, rest)) = in_namespace(packet, b"40") {
            return self.connected(namespace, rest);
        }
        if let Some((namespace, _)) = in_namespace(packet, b"42")
            && is_mark(packet)
        {
            // A session that has left meanwhile has left its mark behind.
            let entry = self.client.as_ref().and_then(|client| client.entry(namespace));
            return match entry {
                None => Fate::Drop.into(),
                Some(entry) => Verdict {
                    fate: Fate::Drop,
                    opens: self.entries.is_empty(),
                    then: Some(Box::new(move |writer| entry.moved(writer))),
                },
            };
        }
        let refusal = std::str::from_utf8(packet).ok().filter(|_| self.eio3).and_then(refusal_of_version_3);
        match refusal {
            Some(refusal) => Fate::Replace(websocket::text(&[refusal.as_bytes()])).into(),
            None => self.pass(),
        }
    }

    /// The reply to CONNECT. A session that was expected here writes after it, but sessions of one connection have one queue: it opens
    /// when all of them have their reply. A client of Engine.IO 3 is let into the default namespace and may already ask for another.
    fn connected(&mut self, namespace: &[u8], reply: &[u8]) -> Verdict {
        let here = packet::find(&self.entries, namespace);
        self.entries
            .retain(|entry| entry.upgrade().is_some_and(|entry| entry.namespace.as_bytes() != namespace));
        let moving = self.client.as_ref().and_then(|client| client.entry(namespace));
        let reply = here.as_ref().or(moving.as_ref()).and_then(|entry| with_pid(reply, &entry.session));
        match (here, reply) {
            (Some(entry), reply) => Verdict {
                fate: reply.map_or(Fate::Pass, Fate::Replace),
                opens: self.entries.is_empty(),
                then: Some(Box::new(move |writer| {
                    entry.hears_on(writer);
                    entry.session.pump();
                })),
            },
            (None, Some(reply)) => Fate::Replace(reply).into(),
            (None, None) => self.pass(),
        }
    }

    /// Passes a frame on. A client that is changing to this WebSocket may not have its marks yet.
    fn pass(&self) -> Verdict {
        let then = self.client.clone().map(|client| Box::new(move |_: &_| client.mark()) as _);
        Verdict { fate: Fate::Pass, opens: false, then }
    }
}

impl OutgoingTap for Greeting {
    /// Expects the session of an [`Entry`]: it writes here after the reply to its CONNECT.
    fn tell(&mut self, news: News) {
        if let Ok(entry) = news.downcast::<Weak<Entry>>() {
            self.entries.push(*entry);
        }
    }

    fn see(&mut self, text: Option<&[u8]>) -> Verdict {
        match text {
            Some(packet) => self.text(packet),
            None => self.pass(),
        }
    }
}

/// What a client polls, without the packet that closes the session: see [`CLOSE`]. `None` if nothing is left.
pub(super) fn without_close(body: &[u8], eio3: bool) -> Option<&[u8]> {
    let last: &[u8] = if eio3 { b"1:1" } else { b"\x1E1" };
    let rest = body.strip_suffix(last).unwrap_or(if body == CLOSE { &[] } else { body });
    (!rest.is_empty()).then_some(rest)
}

/// Changes what a client of Engine.IO 4 polls, packet by packet, as [`Greeting`] does on a WebSocket. `None` if nothing is
/// left. Sets `answer_ping` if the first ping has to be answered.
pub(super) fn mend_polled(body: &str, client: &PollingClient, answer_ping: &mut bool) -> Option<String> {
    let mut packets: Vec<String> = Vec::new();
    for packet in body.split(char::from(SEPARATOR)) {
        if is_mark(packet.as_bytes()) {
            // The client has said that it stops polling, and polls nevertheless.
            continue;
        }
        if packet == "2" && client.claim_ping() {
            *answer_ping = true;
            continue;
        }
        let connect = in_namespace(packet.as_bytes(), b"40");
        let connect =
            connect.and_then(|(namespace, reply)| connect_reply(reply, &client.entry(namespace)?.session));
        match connect {
            Some(reply) => {
                packets.push(reply);
                client.settle();
            }
            None => packets.push(packet.to_owned()),
        }
    }
    (!packets.is_empty()).then(|| packets.join(&char::from(SEPARATOR).to_string()))
}
