//! What clients send, looked at and mended before socketioxide reads it.
//!
//! - The server's first ping is kept from clients (see [`super::greeting`]), so its answer is put in here.
//! - socket.io-client 2 says its query when it joins a namespace, `40/realtime?token=…,`, and socketioxide takes all of
//!   that for the namespace's name. Here one byte of such a packet is changed: `40/realtime,token=…,`, so that the query
//!   becomes what later versions send in its place, the auth payload.
//!
//! To be deleted when upstream does these.

use super::peers::Peer;
use crate::dialect::realtime::NAMESPACE;

/// `3`, a pong, as a client's WebSocket frame.
pub const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// What is looked for on one connection.
pub struct Incoming {
    frames: Frames,
    /// The frames of an Engine.IO 3 client are mended, for as long as it is there.
    eio3: bool,
    /// The answer to the first ping is still to come.
    pong: bool,
}

impl Incoming {
    /// For a WebSocket that begins; `peer` is the client that has been polling, if it was there before.
    #[must_use]
    pub fn new(eio3: bool, peer: Option<&Peer>) -> Self {
        let pong = !eio3 && peer.is_none_or(|peer| !peer.was_pinged());
        Self { frames: Frames::default(), eio3, pong }
    }

    /// Looks at what was read from a connection, and mends it.
    pub fn take(&mut self, bytes: &mut [u8]) {
        self.frames.take(bytes, self.eio3);
    }

    /// Whether the next byte begins a frame.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.frames.head_len == 0 && self.frames.payload.is_none()
    }

    /// The pong was put in.
    pub const fn ponged(&mut self) {
        self.pong = false;
    }

    /// Whether there is nothing more to look for.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        !self.eio3 && !self.pong
    }
}

/// How such a packet begins, up to the query.
const CONNECT: &str = "40";

/// Whether byte number `index` of a packet is what such a packet has there.
fn matches(index: usize, byte: u8) -> bool {
    let expected = CONNECT.bytes().chain(NAMESPACE.bytes()).chain([b'?']).nth(index);
    expected == Some(byte)
}

/// Index of the `?`.
const QUERY: usize = CONNECT.len() + NAMESPACE.len();

/// What one byte of a packet becomes.
struct Packet {
    index: usize,
    matching: bool,
}

impl Packet {
    const fn new() -> Self {
        Self { index: 0, matching: true }
    }

    const fn next(&mut self, byte: u8, matches_here: bool) -> u8 {
        let index = self.index;
        self.index += 1;
        if index <= QUERY {
            self.matching = self.matching && matches_here;
        }
        if self.matching && index == QUERY { b',' } else { byte }
    }
}

/// Rewrites a polling body, `<characters>:<packet>…`.
pub fn rewrite_body(body: &mut [u8]) {
    let mut at = 0;
    while let Some(colon) = body[at..].iter().position(|byte| *byte == b':').map(|offset| at + offset) {
        let length =
            std::str::from_utf8(&body[at..colon]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let Some(length) = length else { return };
        let mut packet = Packet::new();
        let mut characters = 0;
        at = colon + 1;
        while at < body.len() {
            // Lengths are in characters: a byte that continues one does not count.
            if body[at] & 0xC0 != 0x80 {
                if characters == length {
                    break;
                }
                characters += 1;
            }
            body[at] = packet.next(body[at], matches(packet.index, body[at]));
            at += 1;
        }
        if at >= body.len() {
            return;
        }
    }
}

/// A client's WebSocket frames as their bytes go by.
#[derive(Default)]
struct Frames {
    head: [u8; 14],
    head_len: usize,
    /// The payload that is going by; `None` while a head is.
    payload: Option<Payload>,
}

struct Payload {
    left: u64,
    mask: [u8; 4],
    offset: usize,
    packet: Packet,
    text: bool,
}

impl Frames {
    /// Takes what has just been read, and mends it if asked to.
    fn take(&mut self, bytes: &mut [u8], mend: bool) {
        for byte in bytes {
            match &mut self.payload {
                None => self.take_head(*byte),
                Some(payload) => {
                    if payload.text && mend {
                        let mask = payload.mask[payload.offset % 4];
                        let plain = *byte ^ mask;
                        let seen = matches(payload.packet.index, plain);
                        *byte = payload.packet.next(plain, seen) ^ mask;
                    }
                    payload.offset += 1;
                    payload.left -= 1;
                    if payload.left == 0 {
                        self.payload = None;
                    }
                }
            }
        }
    }

    fn take_head(&mut self, byte: u8) {
        self.head[self.head_len] = byte;
        self.head_len += 1;
        if self.head_len < 2 {
            return;
        }
        let extended = match self.head[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        if self.head_len < 2 + extended + masked {
            return;
        }
        let left = match extended {
            0 => u64::from(self.head[1] & 0x7F),
            _ => self.head[2..2 + extended].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
        };
        let mut mask = [0; 4];
        mask[..masked].copy_from_slice(&self.head[2 + extended..2 + extended + masked]);
        self.head_len = 0;
        if left > 0 {
            let text = self.head[0] == 0x81;
            let packet = Packet::new();
            self.payload = Some(Payload { left, mask, offset: 0, packet, text });
        }
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

    #[test]
    fn frames_however_they_are_cut() {
        let long = format!("40/realtime?token={}", "x".repeat(200));
        let mended = format!("40/realtime,token={}", "x".repeat(200));
        let before = [
            frame(0x89, "40/realtime?"),
            frame(0x81, ""),
            frame(0x81, "40/realtime?token=a,"),
            frame(0x81, &long),
            frame(0x81, "42/realtime,[\"a?b\"]"),
            frame(0x81, "40/real?x"),
        ]
        .concat();
        let after = [
            frame(0x89, "40/realtime?"),
            frame(0x81, ""),
            frame(0x81, "40/realtime,token=a,"),
            frame(0x81, &mended),
            frame(0x81, "42/realtime,[\"a?b\"]"),
            frame(0x81, "40/real?x"),
        ]
        .concat();
        for size in [1, 2, 3, 7, before.len()] {
            let mut frames = Frames::default();
            let mut bytes = before.clone();
            for chunk in bytes.chunks_mut(size) {
                frames.take(chunk, true);
            }
            assert_eq!(bytes, after, "in pieces of {size}");
        }
    }

    #[test]
    fn bodies() {
        for (before, after) in [
            ("20:40/realtime?token=a,", "20:40/realtime,token=a,"),
            ("1:220:40/realtime?token=a,7:42[\"é\"]", "1:220:40/realtime,token=a,7:42[\"é\"]"),
            ("6:42[\"é\"20:40/realtime?token=a,", "6:42[\"é\"20:40/realtime,token=a,"),
            ("x:40/realtime?a", "x:40/realtime?a"),
            ("99:40/realtime?a", "99:40/realtime,a"),
            ("", ""),
        ] {
            let mut body = before.as_bytes().to_vec();
            rewrite_body(&mut body);
            assert_eq!(String::from_utf8(body).expect("UTF-8"), after, "{before}");
        }
    }
}
