//! Packets of Socket.IO as bytes: telling them apart, and writing them.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::session::session::Session;
use crate::transport::conn::websocket;

/// The name of the mark that is put into a socket's queue when it moves from polling to a WebSocket.
pub const MARK: &str = "~lane";

/// Which namespace a packet of this kind is in, and what it says there.
pub(super) fn in_namespace<'a>(packet: &'a [u8], kind: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = packet.strip_prefix(kind)?;
    if rest.first() != Some(&b'/') {
        return Some((b"/", rest));
    }
    let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    Some((&rest[..end], rest.get(end + 1..).unwrap_or_default()))
}

pub(super) fn is_mark(packet: &[u8]) -> bool {
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
pub(super) fn prefix(namespace: &str) -> [&str; 2] {
    if namespace == "/" { ["", ""] } else { [namespace, ","] }
}

/// A packet of this kind in a namespace, with what it says, as a WebSocket frame.
pub(super) fn packet(kind: &str, namespace: &str, says: &str) -> Bytes {
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
pub(super) fn with_pid(reply: &[u8], session: &Session) -> Option<Bytes> {
    Some(websocket::text(&[connect_reply(reply, session)?.as_bytes()]))
}

/// `40/realtime,{"sid":"…","pid":"…"}`, or `40{…}` in the default namespace, from what socketioxide says in it.
pub(super) fn connect_reply(reply: &[u8], session: &Session) -> Option<String> {
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

/// What is between two packets of a polling body.
pub(super) const SEPARATOR: u8 = b'\x1E';

/// An event as a WebSocket frame, made once for all who get it.
#[must_use]
pub fn event_frame(namespace: &str, frame: &crate::dialect::message::Message) -> Bytes {
    let name = crate::dialect::text::json(&frame.name);
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

/// Whether a packet, given by how it begins, is more than a sign of life, a change of transports, an event or an answer to
/// one.
pub(super) fn is_step(begins: impl IntoIterator<Item = u8>) -> bool {
    let mut begins = begins.into_iter();
    match begins.next() {
        Some(b'4') => !matches!(begins.next(), Some(b'2' | b'3')),
        Some(b'2' | b'3' | b'5' | b'6') => false,
        // Also what is binary.
        _ => true,
    }
}

/// Read buffer of a WebSocket; our clients' messages are small.
pub(super) const READ_BUFFER: usize = 512;

/// Engine.IO packets of protocol 3 carry no limits of their own; attachments have no use here.
pub(super) const MAX_ATTACHMENTS: usize = 4;
