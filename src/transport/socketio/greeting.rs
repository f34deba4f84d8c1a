//! What socketioxide writes while a socket begins, looked at and mended: the connection state recovery that it does not
//! have, and the moment from which a session writes to the connection itself. To be deleted when upstream does these.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::peers::Peer;
use crate::fanout::session::Session;
use crate::transport::conn::websocket;
use smallvec::SmallVec;

/// The name of the mark that is put into a socket's queue when it moves from polling to a WebSocket.
pub const MARK: &str = "~lane";

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
            let here = find(&self.sessions, namespace);
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

/// Which namespace a packet of this kind is in, and what it says there.
fn in_namespace<'a>(packet: &'a [u8], kind: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = packet.strip_prefix(kind)?;
    if rest.first() != Some(&b'/') {
        return Some((b"/", rest));
    }
    let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    Some((&rest[..end], rest.get(end + 1..).unwrap_or_default()))
}

fn is_mark(packet: &[u8]) -> bool {
    in_namespace(packet, b"42")
        .and_then(|(_, rest)| rest.strip_prefix(b"[\""))
        .is_some_and(|rest| rest.starts_with(MARK.as_bytes()))
}

/// The session that speaks in a namespace.
pub(super) fn find(sessions: &[Weak<Session>], namespace: &[u8]) -> Option<Arc<Session>> {
    sessions
        .iter()
        .filter_map(Weak::upgrade)
        .find(|session| session.dialect().namespace().is_some_and(|name| name.as_bytes() == namespace))
}

/// How a packet begins that is in a namespace.
fn prefix(namespace: &str) -> [&str; 2] {
    if namespace == "/" { ["", ""] } else { [namespace, ","] }
}

/// A packet of this kind in a namespace, with what it says, as a WebSocket frame.
fn packet(kind: &str, namespace: &str, says: &str) -> Bytes {
    let [namespace, comma] = prefix(namespace);
    websocket::text(&[kind.as_bytes(), namespace.as_bytes(), comma.as_bytes(), says.as_bytes()])
}

/// The packet that ends a session for good.
#[must_use]
pub fn disconnect_frame(namespace: &str) -> Bytes {
    packet("41", namespace, "")
}

/// The reply to CONNECT.
#[must_use]
pub fn connect_frame(namespace: &str, sid: &str, session: &Session) -> Bytes {
    let reply = serde_json::json!({ "sid": sid }).to_string();
    with_pid(reply.as_bytes(), session).unwrap_or_else(|| packet("40", namespace, &reply))
}

/// The reply to a CONNECT that is refused.
#[must_use]
pub fn refusal_frame(namespace: &str, why: &str) -> Bytes {
    packet("44", namespace, &serde_json::json!({ "message": why }).to_string())
}

/// The reply to CONNECT with the session's id in it; `None` for clients of Engine.IO 3, whose reply says nothing.
fn with_pid(reply: &[u8], session: &Session) -> Option<Bytes> {
    Some(websocket::text(&[connect_reply(reply, session)?.as_bytes()]))
}

/// `40/realtime,{"sid":"…","pid":"…"}`, or `40{…}` in the default namespace, from what socketioxide says in it.
fn connect_reply(reply: &[u8], session: &Session) -> Option<String> {
    #[derive(Deserialize)]
    struct Reply<'a> {
        #[serde(borrow)]
        sid: &'a RawValue,
    }
    let Reply { sid } = serde_json::from_slice(reply).ok()?;
    let pid = session.pid()?;
    let [namespace, comma] = prefix(session.dialect().namespace()?);
    Some(format!(r#"40{namespace}{comma}{{"sid":{sid},"pid":"{pid}"}}"#))
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

/// What is between two packets of a polling body.
pub(super) const SEPARATOR: u8 = b'\x1E';

/// An event as a WebSocket frame, made once for all who get it.
#[must_use]
pub fn event_frame(namespace: &str, frame: &crate::fanout::Frame) -> Bytes {
    let name = crate::dialect::json(&frame.name);
    let [namespace, comma] = prefix(namespace);
    let head = ["42", namespace, comma, "[", name.get(), ",", frame.json.get()].concat();
    match &frame.offset {
        Some(offset) => websocket::text(&[head.as_bytes(), b",\"", offset.as_bytes(), b"\"]"]),
        None => websocket::text(&[head.as_bytes(), b"]"]),
    }
}

/// The answer to a request as a WebSocket frame.
#[must_use]
pub fn ack_frame(namespace: &str, ack: i64, json: &RawValue) -> Bytes {
    let [namespace, comma] = prefix(namespace);
    let head = format!("43{namespace}{comma}{ack}[");
    websocket::text(&[head.as_bytes(), json.get().as_bytes(), b"]"])
}
