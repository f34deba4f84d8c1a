//! What socketioxide writes while a socket begins, looked at and mended: the connection state recovery that it does not
//! have, and the moment from which a session writes to the connection itself. To be deleted when upstream does these.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use smallvec::SmallVec;

use super::packet::{self, SEPARATOR, connect_reply, in_namespace, is_mark, with_pid};
use super::peers::Peer;
use crate::session::session::Session;

/// What is looked for on one connection, until the session writes to it.
pub struct Greeting {
    /// The first ping is still to come. Engine.IO's servers ping after an interval; socketioxide does so at once.
    ping: bool,
    /// The client's probe was answered.
    probed: bool,
    /// Who moves here from polling.
    peer: Option<Arc<Peer>>,
    /// Who is being let in here, one for each namespace.
    sessions: SmallVec<[Weak<Session>; 1]>,
}

/// What a packet of socketioxide's turned out to be.
pub enum Seen {
    /// Nothing of ours.
    Pass,
    /// It is dropped.
    Nothing,
    /// It goes out like this.
    Instead(Bytes),
    /// The first ping: it is dropped, and answered in the client's place.
    Ping,
    /// The reply to CONNECT, and what it goes out as: from here on the session writes.
    Open(Option<Bytes>, Weak<Session>),
    /// The mark: it is dropped, and this session writes here from now on.
    Moved(Arc<Session>),
}

impl Greeting {
    /// For a WebSocket that begins; `peer` is the client that has been polling, if it was there before.
    #[must_use]
    pub fn new(eio3: bool, peer: Option<Arc<Peer>>) -> Self {
        let ping = !eio3 && peer.as_ref().is_none_or(|peer| !peer.was_pinged());
        Self { ping, probed: false, peer, sessions: SmallVec::new() }
    }

    /// For a client that joins the namespace again.
    #[must_use]
    pub fn again() -> Self {
        Self { ping: false, probed: false, peer: None, sessions: SmallVec::new() }
    }

    /// The session writes here once the reply to its CONNECT has passed.
    pub fn expect(&mut self, session: &Arc<Session>) {
        self.sessions.push(Arc::downgrade(session));
    }

    /// Whether there is nothing more to look for once the session writes. The first ping may come after that; and from who
    /// moved here, a mark for each namespace.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        !self.ping && self.peer.is_none()
    }

    /// Who moves here from polling.
    #[must_use]
    pub const fn peer(&self) -> Option<&Arc<Peer>> {
        self.peer.as_ref()
    }

    /// Looks at the text of a packet.
    pub fn see(&mut self, packet: &[u8]) -> Seen {
        if packet == b"2" {
            let ours = std::mem::take(&mut self.ping) && self.peer.as_ref().is_none_or(|peer| peer.ping());
            return if ours { Seen::Ping } else { Seen::Pass };
        }
        // The first is ours, the second socketioxide's: see `probe`.
        if packet == b"3probe" && std::mem::replace(&mut self.probed, true) {
            return Seen::Nothing;
        }
        if let Some((namespace, rest)) = in_namespace(packet, b"40") {
            let here = packet::find(&self.sessions, namespace);
            let moving = self.peer.as_ref().and_then(|peer| peer.session(namespace));
            let reply = here.as_ref().or(moving.as_ref()).and_then(|session| with_pid(rest, session));
            return match (here, reply) {
                (Some(session), reply) => Seen::Open(reply, Arc::downgrade(&session)),
                (None, Some(reply)) => Seen::Instead(reply),
                (None, None) => Seen::Pass,
            };
        }
        if let Some((namespace, _)) = in_namespace(packet, b"42")
            && is_mark(packet)
        {
            // Who has left meanwhile has left its mark behind.
            let session = self.peer.as_ref().and_then(|peer| peer.session(namespace));
            return session.map_or(Seen::Nothing, Seen::Moved);
        }
        Seen::Pass
    }
}

/// Mends what a client of Engine.IO 4 gets as it polls: the same as on a WebSocket, packet by packet. `None` when nothing
/// is left of it.
pub fn mend_polled(body: &str, peer: &Peer, answer_ping: &mut bool) -> Option<String> {
    let mut packets: Vec<String> = Vec::new();
    for packet in body.split(char::from(SEPARATOR)) {
        if is_mark(packet.as_bytes()) {
            // Who polls on after it said that it would not.
            continue;
        }
        if packet == "2" && peer.ping() {
            *answer_ping = true;
            continue;
        }
        let connect = in_namespace(packet.as_bytes(), b"40");
        let connect = connect.and_then(|(namespace, reply)| connect_reply(reply, &*peer.session(namespace)?));
        match connect {
            Some(reply) => {
                packets.push(reply);
                peer.settle();
            }
            None => packets.push(packet.to_owned()),
        }
    }
    (!packets.is_empty()).then(|| packets.join(&char::from(SEPARATOR).to_string()))
}
