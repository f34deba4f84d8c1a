//! The two protocols of the servers: Socket.IO in `/realtime`, or JSON over a raw WebSocket.
//!
//! The generator must cost less CPU than any server that it measures, so it does not parse JSON. The fields that it
//! needs are at the beginning or at the end of a packet.

use std::{io::Write, ops::Range};

use anyhow::{Context, Result, bail};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// The protocol between clients and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wire {
    /// Engine.IO 4 at `/socket.io/`, namespace `/realtime`
    Socketio,
    /// `/ws`: `{"id", "event", "data"}` is answered with `{"id", "data"}`; events are `{"event", "data"}`
    Ws,
}

/// A packet from a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The answer to the request with this id.
    Answer {
        id: u64,
        body: &'a [u8],
    },
    /// An event. With Socket.IO, `data` is the list of its arguments, separated by commas.
    Event {
        name: &'a [u8],
        data: &'a [u8],
    },
    Other,
}

impl Wire {
    pub const fn path(self) -> &'static str {
        match self {
            Self::Socketio => "/socket.io/?EIO=4&transport=websocket",
            Self::Ws => "/ws",
        }
    }

    /// Appends a request to `out`. The payload is given in pieces, so that callers can reuse prepared ones.
    pub fn request(self, out: &mut Vec<u8>, id: u64, event: &str, data: &[&str]) {
        // Writing to a Vec cannot fail.
        let _ = match self {
            Self::Socketio => write!(out, "42/realtime,{id}[\"{event}\","),
            Self::Ws => write!(out, "{{\"id\":{id},\"event\":\"{event}\",\"data\":"),
        };
        for piece in data {
            out.extend_from_slice(piece.as_bytes());
        }
        out.push(if self == Self::Socketio { b']' } else { b'}' });
    }

    /// Decodes a text frame.
    pub fn packet(self, text: &[u8]) -> Packet<'_> {
        self.answer(text).or_else(|| self.event(text)).unwrap_or(Packet::Other)
    }

    fn answer(self, text: &[u8]) -> Option<Packet<'_>> {
        let text = text.strip_prefix(match self {
            Self::Socketio => b"43/realtime,".as_slice(),
            Self::Ws => b"{\"id\":",
        })?;
        let (id, body) = number(text)?;
        Some(Packet::Answer { id, body })
    }

    fn event(self, text: &[u8]) -> Option<Packet<'_>> {
        let (before, after) = match self {
            Self::Socketio => (b"42/realtime,[".as_slice(), b"]".as_slice()),
            Self::Ws => (b"{\"event\":".as_slice(), b"}".as_slice()),
        };
        let text = text.strip_prefix(before)?.strip_suffix(after)?.trim_ascii_start().strip_prefix(b"\"")?;
        let quote = text.iter().position(|byte| *byte == b'"')?;
        let (name, data) = (&text[..quote], text[quote + 1..].trim_ascii_start());
        let data = if self == Self::Socketio {
            data.strip_prefix(b",").unwrap_or_default()
        } else {
            &data[data.iter().position(|byte| *byte == b':')? + 1..]
        };
        Some(Packet::Event { name, data: data.trim_ascii_start() })
    }
}

/// Whether an answer contains `"ok": true`.
pub fn is_ok(body: &[u8]) -> bool {
    after(body, b"\"ok\":").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"true"))
}

/// The number of older events that this event replaces: its member `conflated`, which is the last one.
pub fn conflated(data: &[u8]) -> u64 {
    let tail = &data[data.len().saturating_sub(32)..];
    after(tail, b"\"conflated\":").and_then(number).map_or(0, |(count, _)| count)
}

/// A WebSocket frame in the bytes from a server.
pub struct Frame {
    kind: u8,
    pub payload: Range<usize>,
}

/// Decodes the frame at the beginning of `bytes`; `None` if it is incomplete.
pub fn frame(bytes: &[u8]) -> Result<Option<Frame>> {
    let (header, length) = match *bytes {
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 127, ..] => bail!("a frame over 64 KB"),
        [_, length @ ..=125, ..] => (2, usize::from(length)),
        _ => return Ok(None),
    };
    let payload = header..header + length;
    Ok((bytes.len() >= payload.end).then(|| Frame { kind: bytes[0], payload }))
}

/// The text of a frame. For a ping, returns `None` and appends the frame that answers it to `pong`.
pub fn text<'a>(frame: &Frame, bytes: &'a [u8], pong: &mut Vec<u8>) -> Result<Option<&'a [u8]>> {
    let payload = &bytes[frame.payload.clone()];
    match (frame.kind, payload) {
        (TEXT, b"2") => push(pong, TEXT, b"3")?,
        (PING, payload) => push(pong, PONG, payload)?,
        (TEXT, payload) => return Ok(Some(payload)),
        (kind, _) => bail!("unexpected frame type {kind:#x}"),
    }
    Ok(None)
}

/// Appends a text frame to `out`.
pub fn push_text(out: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    push(out, TEXT, text)
}

/// Appends a frame to `out`. The mask is zero, so the payload stays unchanged, but the server still does all the work
/// of unmasking.
fn push(out: &mut Vec<u8>, kind: u8, payload: &[u8]) -> Result<()> {
    let length = u16::try_from(payload.len()).context("a frame over 64 KB")?;
    out.push(kind);
    match length.to_be_bytes() {
        [0, short @ ..=125] => out.push(0x80 | short),
        long => {
            out.push(0xFE);
            out.extend(long);
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(payload);
    Ok(())
}

fn after<'a>(bytes: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(what.len()).position(|window| window == what)?;
    Some(&bytes[at + what.len()..])
}

/// The number at the beginning of `bytes`, and the bytes after it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let bytes = bytes.trim_ascii_start();
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?, &bytes[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_protocols_are_decoded() {
        for (wire, text) in [
            (Wire::Socketio, r#"43/realtime,17[{"ok":true,"receivedAt":"t"}]"#),
            (Wire::Ws, r#"{"id":17,"data":{"ok":true}}"#),
            (Wire::Ws, r#"{"id": 17, "data": {"ok": true}}"#),
        ] {
            let Packet::Answer { id: 17, body } = wire.packet(text.as_bytes()) else { panic!("{text}") };
            assert!(is_ok(body), "{text}");
        }
        assert!(!is_ok(br#"[{"ok":false,"error":{}}]"#));
        for (wire, text, data) in [
            (Wire::Socketio, r#"42/realtime,["e",{"a":1,"conflated":3}]"#, r#"{"a":1,"conflated":3}"#),
            (Wire::Socketio, r#"42/realtime,["e",{"conflated":3},"o"]"#, r#"{"conflated":3},"o""#),
            (Wire::Ws, r#"{"event":"e","data":{"a":1,"conflated":3}}"#, r#"{"a":1,"conflated":3}"#),
            (Wire::Ws, r#"{"event": "e", "data": {"conflated": 3}}"#, r#"{"conflated": 3}"#),
        ] {
            let data = data.as_bytes();
            assert_eq!(wire.packet(text.as_bytes()), Packet::Event { name: b"e", data }, "{text}");
            assert_eq!(conflated(data), 3, "{text}");
        }
        assert_eq!(conflated(br#"{"a":1}"#), 0);
        assert_eq!(Wire::Ws.packet(b"hello"), Packet::Other);
    }

    #[test]
    fn only_complete_frames_are_decoded() -> Result<()> {
        for length in [0, 1, 125, 126, 127, 300, 65_535] {
            let text = vec![b'x'; length];
            let mut masked = Vec::new();
            push_text(&mut masked, &text)?;
            // A server sends the same bytes without mask bit and mask.
            let header = masked.len() - length - 4;
            let mut bytes = masked[..header].to_vec();
            bytes[1] &= 0x7F;
            bytes.extend(&text);
            assert!(frame(&bytes[..bytes.len() - 1])?.is_none(), "{length}");
            bytes.extend(b"\x81\x01z");
            let found = frame(&bytes)?.expect("whole");
            assert_eq!(found.payload.len(), length);
            assert_eq!(super::text(&found, &bytes, &mut Vec::new())?, Some(text.as_slice()));
        }
        let mut answer = Vec::new();
        let ping = b"\x81\x012";
        assert_eq!(text(&frame(ping)?.expect("whole"), ping, &mut answer)?, None);
        assert_eq!(answer, b"\x81\x81\0\0\0\x003");
        Ok(())
    }
}
