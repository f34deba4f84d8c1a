//! What a client posts while it polls, before socketioxide gets it: events go straight to their session, packets without a
//! meaning are left out, and packets that break the protocol are replaced by one that socketioxide refuses.

use super::decode::{Meaning, REFUSED, meaning};
use super::entry::Entry;
use super::packet::{SEPARATOR, event_in};
use super::polling::PollingClient;

/// Takes a body of a client. Returns what is left for socketioxide.
pub(super) fn take(client: &PollingClient, body: Vec<u8>) -> Vec<u8> {
    // Version 3 has a form for bytes, which socketioxide reads.
    let text = match String::from_utf8(body) {
        Ok(text) => text,
        Err(bytes) => return bytes.into_bytes(),
    };
    if text.is_empty() {
        return vec![REFUSED];
    }
    let eio3 = client.is_eio3();
    let Some(packets) =
        (if eio3 { lengths(&text) } else { Some(text.split(char::from(SEPARATOR)).collect()) })
    else {
        return text.into_bytes();
    };
    let mut left: Vec<&str> = Vec::new();
    // Once socketioxide has got a packet that changes something, it gets the others too, to keep them in order.
    // The same holds after a change of transports, when a post comes too late.
    let mut ahead = client.writer().is_some();
    for packet in packets {
        if eio3 && packet.is_empty() {
            continue;
        }
        if !ahead && hear(client, packet) {
            continue;
        }
        match meaning(packet, eio3) {
            Meaning::Nothing => {}
            Meaning::NothingIn(namespace) if client.entry(namespace.as_bytes()).is_some() => {}
            Meaning::Broken => {
                left.push("x");
                break;
            }
            Meaning::Plain | Meaning::NothingIn(_) => {
                ahead |= packet != "2" && packet != "3";
                left.push(packet);
            }
        }
    }
    if !eio3 {
        return left.join(&char::from(SEPARATOR).to_string()).into_bytes();
    }
    left.into_iter().fold(String::new(), with_length).into_bytes()
}

/// A body of version 3 with one more packet.
pub(super) fn with_length(body: String, packet: &str) -> String {
    body + &packet.encode_utf16().count().to_string() + ":" + packet
}

/// Gives an event to its session. Returns `false` if it is for none.
fn hear(client: &PollingClient, packet: &str) -> bool {
    let Some((namespace, ack, json)) = packet.strip_prefix("42").and_then(event_in) else { return false };
    let entry = client.entry(namespace.as_bytes()).filter(|entry| entry.session.is_in());
    // A packet that is too long takes the other way, on which its session is told so.
    let fits = |entry: &Entry| packet.len() <= entry.session.app().config.limits.max_message_bytes;
    entry.is_some_and(|entry| fits(&entry) && entry.inbox.event(json, ack))
}

/// The packets of a body of version 3, `<length>:<packet>…`, or `None` if it is not one. Lengths are in UTF-16 code units.
pub(super) fn lengths(body: &str) -> Option<Vec<&str>> {
    let (mut packets, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (length, after) = rest.split_once(':')?;
        let length: usize =
            length.parse().ok().filter(|_| length.bytes().all(|digit| digit.is_ascii_digit()))?;
        let mut units = 0;
        let end = after.char_indices().find(|(_, character)| {
            let ends = units == length;
            units += character.len_utf16();
            ends
        });
        let end = end.map_or(after.len(), |(end, _)| end);
        let (packet, next) = after.split_at(end);
        if packet.encode_utf16().count() != length {
            return None;
        }
        packets.push(packet);
        rest = next;
    }
    Some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_version_3() {
        assert_eq!(lengths("1:21:3"), Some(vec!["2", "3"]));
        assert_eq!(lengths("4:4é😀1:2"), Some(vec!["4é😀", "2"]));
        assert_eq!(lengths("0:1:2"), Some(vec!["", "2"]));
        for broken in ["1", "x:2", "2:2", "+1:2", "1:2x", ":2", "1:😀"] {
            assert_eq!(lengths(broken), None, "{broken}");
        }
    }
}
