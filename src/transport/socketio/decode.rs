//! What a packet of a client means, as Socket.IO's own server reads it. socketioxide ends a session over packets that Node
//! ignores, and ignores some that end it there. `docs/node.md` has the differences that are left.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::packet::split;
use crate::dialect::Dialect;

/// What a packet means to Socket.IO's own server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// The library reads it as Node does.
    Plain,
    /// It has no meaning here and does no harm: it is left out.
    Nothing,
    /// The same, if the client is in this namespace. Else the library decides.
    NothingIn(&'a str),
    /// The protocol is broken: the connection ends.
    Broken,
}

/// A packet that every version of the protocol refuses, to be put in the place of one that only the library accepts.
pub(super) const REFUSED: u8 = b'x';

/// The meaning of an Engine.IO packet in a text frame or a polling body.
pub(super) fn meaning(packet: &str, eio3: bool) -> Meaning<'_> {
    let rest = packet.get(1..).unwrap_or_default();
    match packet.as_bytes().first() {
        Some(b'4') => message(rest),
        // A pong, or a ping of version 3. Only a probe has more, and that is for a WebSocket that is tried.
        Some(b'3') if !eio3 && rest == "probe" => Meaning::Nothing,
        Some(b'2') if eio3 && rest == "probe" => Meaning::Nothing,
        // A server opens, upgrades and fills empty polls. From a client these packets mean nothing.
        Some(b'0' | b'5' | b'6') => Meaning::Nothing,
        None => Meaning::Broken,
        Some(_) => Meaning::Plain,
    }
}

/// The meaning of a Socket.IO packet.
fn message(packet: &str) -> Meaning<'_> {
    let Some(kind) = packet.as_bytes().first() else { return Meaning::Broken };
    let Some(rest) = packet.get(1..) else { return Meaning::Plain };
    let (namespace, rest) = split(rest);
    let json = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    match kind {
        // Only the server has these.
        b'1'..=b'4' if !is_ours(namespace) => Meaning::Broken,
        b'2' => event(namespace, json),
        b'3' if json.is_empty() || is_list(json) => Meaning::NothingIn(namespace),
        b'3' | b'4' => Meaning::Broken,
        b'1' if !rest.is_empty() => Meaning::Broken,
        _ => Meaning::Plain,
    }
}

fn is_ours(namespace: &str) -> bool {
    Dialect::of_namespace(namespace).is_some()
}

fn is_list(json: &str) -> bool {
    serde_json::from_str::<Vec<IgnoredAny>>(json).is_ok()
}

/// Whether nobody can hear of an event with this JSON: see [`event`].
pub(super) fn is_nameless(json: &str) -> bool {
    event("", json) == Meaning::NothingIn("")
}

/// The meaning of an event's JSON. Node calls the handlers of the name, and there is none for a number, or for no name at all.
fn event<'a>(namespace: &'a str, json: &str) -> Meaning<'a> {
    if json.is_empty() {
        return Meaning::NothingIn(namespace);
    }
    let arguments: Result<Vec<&RawValue>, _> = serde_json::from_str(json);
    let name = arguments.ok().and_then(|arguments| arguments.first()?.get().bytes().next());
    match name {
        Some(b'"') => Meaning::Plain,
        Some(b'-' | b'0'..=b'9') => Meaning::NothingIn(namespace),
        _ => Meaning::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        use Meaning::{Broken, Nothing, NothingIn, Plain};
        let here = NothingIn("/realtime");
        for (packet, expected) in [
            ("", Broken),
            ("0{}", Nothing),
            ("1", Plain),
            ("2", Plain),
            ("3", Plain),
            ("3probe", Nothing),
            ("5", Nothing),
            ("6", Nothing),
            ("é", Plain),
            ("4", Broken),
            ("4é", Plain),
            ("40/realtime,{}", Plain),
            ("40/nowhere,", Plain),
            ("41/realtime,", Plain),
            ("41/realtime", Plain),
            ("41/realtime,x", Broken),
            ("41/nowhere,", Broken),
            ("42/realtime,[\"a\",{}]", Plain),
            ("42/realtime,12[\"a\",{}]", Plain),
            ("42[\"a\"]", Plain),
            ("42[7]", NothingIn("/")),
            ("42/realtime,[7,{}]", here),
            ("42/realtime,1[7,{}]", here),
            ("42/realtime,[-1.5e3]", here),
            ("42/realtime,", here),
            ("42/realtime,12", here),
            ("42/realtime", here),
            ("42/realtime,[]", Broken),
            ("42/realtime,[null]", Broken),
            ("42/realtime,{}", Broken),
            ("42/realtime,[\"a\",NaN]", Broken),
            ("42/realtime,[\"a\"]x", Broken),
            ("42/realtime,[7]x", Broken),
            ("42/nowhere,[\"a\"]", Broken),
            ("43/realtime,1[]", here),
            ("43/realtime,[1]", here),
            ("43/realtime,1{}", Broken),
            ("44/realtime,{}", Broken),
            ("451-/realtime,[\"a\"]", Plain),
        ] {
            assert_eq!(meaning(packet, false), expected, "{packet}");
        }
        assert_eq!(meaning("2probe", true), Nothing);
        assert_eq!(meaning("3probe", true), Plain);
    }
}
