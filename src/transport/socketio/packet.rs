//! Packets of Socket.IO as bytes: how to tell them apart, and how to write them.

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::Entry;
use crate::base::json_text::{Json, inside_quotes};
use crate::dialect::message::Message;
use crate::session::session::Session;
use crate::session::wire::AckNumber;
use crate::transport::conn::websocket;

/// The event name of the mark that is put into a socket's queue when it changes from polling to a WebSocket.
pub const MARK: &str = "~lane";
/// The event name of an ack whose number is too long for socketioxide: see [`write_acks`].
pub(super) const LONG_ACK: &str = "~ack";

/// Makes acks of the events that stand for them in what a client polls: `43/realtime,123[ …]` of
/// `42/realtime,["~ack","123",…]`. JSON may have spaces, so the lengths that version 3 puts before packets stay right.
pub(super) fn write_acks(body: &mut [u8]) {
    let begins = [b"[\"", LONG_ACK.as_bytes(), b"\",\""].concat();
    let mut from = 0;
    while let Some(at) =
        body[from..].windows(begins.len()).position(|piece| piece == begins).map(|at| from + at)
    {
        from = at + begins.len();
        let digits = body[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let kind = body[..at]
            .iter()
            .rposition(|byte| *byte == b'4')
            .filter(|kind| body.get(kind + 1) == Some(&b'2'));
        let Some(kind) = kind.filter(|_| body[from + digits..].starts_with(b"\",")) else { continue };
        body[kind + 1] = b'3';
        body.copy_within(from..from + digits, at);
        body[at + digits] = b'[';
        body[at + digits + 1..from + digits + 2].fill(b' ');
    }
}

/// The namespace of a packet of this kind, and the rest of the packet.
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

/// The session in a namespace.
pub(super) fn find(entries: &[Weak<Entry>], namespace: &[u8]) -> Option<Arc<Entry>> {
    entries.iter().filter_map(Weak::upgrade).find(|entry| entry.namespace.as_bytes() == namespace)
}

/// The namespace as a packet names it. The default namespace is left out.
pub(super) fn prefix(namespace: &str) -> [&str; 2] {
    if namespace == "/" { ["", ""] } else { [namespace, ","] }
}

/// A packet of this kind as a WebSocket frame.
pub(super) fn packet(kind: &str, namespace: &str, rest: &str) -> Bytes {
    let [namespace, comma] = prefix(namespace);
    websocket::text(&[kind.as_bytes(), namespace.as_bytes(), comma.as_bytes(), rest.as_bytes()])
}

/// The packet that ends a session for good, as a WebSocket frame.
#[must_use]
pub fn disconnect_frame(namespace: &str) -> Bytes {
    packet("41", namespace, "")
}

/// The reply to CONNECT as a WebSocket frame.
#[must_use]
pub fn connect_frame(namespace: &str, sid: &str, session: &Session) -> Bytes {
    let reply = serde_json::json!({ "sid": sid }).to_string();
    with_pid(reply.as_bytes(), session).unwrap_or_else(|| packet("40", namespace, &reply))
}

/// The reply to a refused CONNECT as a WebSocket frame.
#[must_use]
pub fn refusal_frame(namespace: &str, why: &str) -> Bytes {
    packet("44", namespace, &serde_json::json!({ "message": why }).to_string())
}

/// The reply to CONNECT with the session's id as a WebSocket frame. `None` for clients of Engine.IO 3, whose reply is empty.
pub(super) fn with_pid(reply: &[u8], session: &Session) -> Option<Bytes> {
    Some(websocket::text(&[connect_reply(reply, session)?.as_bytes()]))
}

/// `40/realtime,{"sid":"…","pid":"…"}`, or `40{…}` in the default namespace, from the reply of socketioxide.
pub(super) fn connect_reply(reply: &[u8], session: &Session) -> Option<String> {
    #[derive(Deserialize)]
    struct ConnectReply<'a> {
        #[serde(borrow)]
        sid: &'a RawValue,
    }
    let ConnectReply { sid } = serde_json::from_slice(reply).ok()?;
    let pid = session.pid()?;
    let [namespace, comma] = prefix(session.dialect().namespace()?);
    Some(format!(r#"40{namespace}{comma}{{"sid":{sid},"pid":"{pid}"}}"#))
}

/// The byte between two packets of a polling body.
pub(super) const SEPARATOR: u8 = b'\x1E';

/// How much of a packet that is too long is kept, to answer it: more than the longest namespace, ack number and event name.
pub(super) const BEGINNING: usize = 256;

/// An event as a WebSocket frame. `offset` is its last argument. It is made once for all clients that get it.
#[must_use]
pub fn event_frame(namespace: &str, message: &Message, offset: Option<&str>) -> Bytes {
    let name = match &message.name {
        // Our own names are the same in JSON.
        Cow::Borrowed(name) => Cow::Borrowed(*name),
        Cow::Owned(name) => inside_quotes(name),
    };
    let (json, beside) = (message.json.get(), offset.map_or(0, |offset| offset.len() + 3));
    let length = head_length(namespace) + name.len() + json.len() + beside + r#"["",]"#.len();
    let mut frame = begin_packet(*b"42", namespace, length);
    frame.extend_from_slice(b"[\"");
    frame.extend_from_slice(name.as_bytes());
    frame.extend_from_slice(b"\",");
    frame.extend_from_slice(json.as_bytes());
    if let Some(offset) = offset {
        frame.extend_from_slice(b",\"");
        frame.extend_from_slice(offset.as_bytes());
        frame.push(b'"');
    }
    frame.push(b']');
    frame.into()
}

/// The ack of a request as a WebSocket frame.
#[must_use]
pub fn ack_frame(namespace: &str, ack: AckNumber, json: &Json) -> Bytes {
    let mut number = itoa::Buffer::new();
    let (number, json) = (number.format(ack), json.get());
    let mut frame = begin_packet(*b"43", namespace, head_length(namespace) + number.len() + json.len() + 2);
    frame.extend_from_slice(number.as_bytes());
    frame.push(b'[');
    frame.extend_from_slice(json.as_bytes());
    frame.push(b']');
    frame.into()
}

/// The length of a packet's kind and namespace.
fn head_length(namespace: &str) -> usize {
    2 + if namespace == "/" { 0 } else { namespace.len() + 1 }
}

/// The beginning of a packet of so many bytes as a WebSocket frame: its kind and its namespace. These frames are the most
/// frequent ones, so they are written in place.
fn begin_packet(kind: [u8; 2], namespace: &str, length: usize) -> Vec<u8> {
    let mut frame = websocket::begin_text(length);
    frame.extend_from_slice(&kind);
    if namespace != "/" {
        frame.extend_from_slice(namespace.as_bytes());
        frame.push(b',');
    }
    frame
}

/// The namespace, the ack number and the JSON of an event after its `42`: `/namespace,12["name",…]`. The default namespace is
/// left out, and the number is missing where the client awaits no ack.
pub(super) fn event_in(packet: &str) -> Option<(&str, Option<AckNumber>, &str)> {
    let (namespace, rest) = split(packet);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (ack, json) = rest.split_at(digits);
    let json = json.trim_ascii_start();
    let ack = (!ack.is_empty()).then(|| ack.parse()).transpose().ok()?;
    json.starts_with('[').then_some((namespace, ack, json))
}

/// The namespace and the rest of a packet after its type. The default namespace is left out.
pub(super) fn split(packet: &str) -> (&str, &str) {
    match packet.split_once(',') {
        _ if !packet.starts_with('/') => ("/", packet),
        Some(parts) => parts,
        None => (packet, ""),
    }
}

/// A refusal as version 3 has it: `44/realtime,"unauthorized: …"`, where socketioxide writes an object with a message. Apps of
/// that version compare the text. `None` for other packets, and for a namespace that does not exist.
pub(super) fn refusal_of_version_3(packet: &str) -> Option<String> {
    let (_, json) = split(packet.strip_prefix("44")?);
    let message = json.strip_prefix(r#"{"message":"#)?.strip_suffix('}')?;
    let head = &packet[..packet.len() - json.len()];
    (message != r#""Invalid namespace""#).then(|| [head, message].concat())
}

/// Whether a packet is anything else than a ping, a pong, a change of transports, an event or an ack. Its first bytes are
/// enough.
pub(super) fn is_step(begins: impl IntoIterator<Item = u8>) -> bool {
    let mut begins = begins.into_iter();
    match begins.next() {
        Some(b'4') => !matches!(begins.next(), Some(b'2' | b'3')),
        Some(b'2' | b'3' | b'5' | b'6') => false,
        // Binary packets as well.
        _ => true,
    }
}

/// The read buffer of a WebSocket. Messages of clients are small.
pub(super) const READ_BUFFER: usize = 512;

/// Attachments of one packet. No event has any, but a packet with as many as Socket.IO's own server takes is no reason to
/// close.
pub(super) const MAX_ATTACHMENTS: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::text;

    const POLLING: &str = include_str!("../../../tests/it/corpus/polling.txt");

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// An event ends with its JSON, whatever stands before it.
        #[test]
        fn fuzz_events_are_found_or_not(packet in text(POLLING)) {
            let _ = (is_mark(packet.as_bytes()), is_step(packet.bytes()), in_namespace(packet.as_bytes(), b"42"));
            if let Some((namespace, _, json)) = event_in(&packet) {
                prop_assert!(json.starts_with('[') && packet.ends_with(json));
                prop_assert!(namespace.starts_with('/'));
            }
        }
    }
}
