//! WebSocket frames as bytes (RFC 6455 §5.2): how to make them and how to tell them apart.

use bytes::{BufMut, Bytes, BytesMut};

/// The first byte of a text frame that is a whole message.
pub const TEXT: u8 = 0x81;
/// The first byte of a close frame.
pub const CLOSE: u8 = 0x88;
/// A close frame of the server: 1001, going away.
pub const GOING_AWAY: Bytes = Bytes::from_static(&[CLOSE, 2, 0x03, 0xE9]);

/// A ping of the server without a payload.
pub const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// A close frame of the server. The reason is cut to 123 bytes, because a control frame holds 125.
#[must_use]
pub fn close(code: u16, reason: &str) -> Bytes {
    let reason = reason.as_bytes().get(..123).unwrap_or(reason.as_bytes());
    let mut frame = BytesMut::with_capacity(4 + reason.len());
    frame.put_u8(CLOSE);
    frame.put_u8(u8::try_from(2 + reason.len()).unwrap_or(2));
    frame.put_u16(code);
    frame.put_slice(reason);
    frame.freeze()
}

/// A text frame of the server with these parts as its payload.
#[must_use]
pub fn text(parts: &[&[u8]]) -> Bytes {
    let mut frame = begin_text(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame.into()
}

/// The head of a text frame of the server. Its payload of so many bytes is still to be appended. With the exact capacity the
/// frame is never copied again.
#[must_use]
pub fn begin_text(length: usize) -> Vec<u8> {
    let mut frame;
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => {
            frame = Vec::with_capacity(2 + length);
            frame.extend_from_slice(&[TEXT, short]);
        }
        (_, Ok(medium)) => {
            frame = Vec::with_capacity(4 + length);
            let [high, low] = medium.to_be_bytes();
            frame.extend_from_slice(&[TEXT, 126, high, low]);
        }
        _ => {
            frame = Vec::with_capacity(10 + length);
            frame.extend_from_slice(&[TEXT, 127]);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame
}

/// Where the payload of the first frame that a server writes begins and ends. `None` while its head is incomplete.
#[must_use]
pub fn first(bytes: &[u8]) -> Option<(usize, usize)> {
    let (head, length) = match bytes.get(1)? & 0x7F {
        126 => (4, bytes.get(2..4)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))),
        127 => (10, bytes.get(2..10)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))),
        short => (2, usize::from(short)),
    };
    Some((head, head.checked_add(length)?))
}

/// The head of a frame that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    first: u8,
    masked: bool,
    pub mask: [u8; 4],
    /// The length of the head in bytes.
    pub length: usize,
    /// The length of the payload in bytes.
    pub payload: u64,
}

impl Head {
    /// Reads the head at the beginning of the bytes.
    ///
    /// # Errors
    /// How many bytes are needed to read further, if the head is incomplete.
    pub fn read(bytes: &[u8]) -> Result<Self, usize> {
        let [first, second, ..] = *bytes else { return Err(2) };
        let masked = second & 0x80 != 0;
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = 2 + extended + if masked { 4 } else { 0 };
        let head = bytes.get(2..length).ok_or(length)?;
        let (size, key) = head.split_at(extended);
        let payload = match extended {
            0 => u64::from(second & 0x7F),
            _ => size.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
        };
        Ok(Self { first, masked, mask: key.try_into().unwrap_or_default(), length, payload })
    }

    /// Whether the frame is a whole text message and masked.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        self.first == TEXT && self.masked
    }

    /// Whether the frame is a message or a part of one, not a control frame.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        self.first & 0x08 == 0
    }

    /// Whether a message ends with this frame.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }
}

/// Removes the mask from a payload, or puts it on.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_and_found_again() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; length];
            let frame = text(&[&payload[..length / 2], &payload[length / 2..]]);
            let (begin, end) = first(&frame).expect("a frame");
            assert_eq!((frame[0], &frame[begin..end], end), (TEXT, payload.as_slice(), frame.len()));
            for cut in 0..begin {
                assert_eq!(first(&frame[..cut]), None, "a head cut at {cut} of a frame with {length} bytes");
            }
        }
    }

    #[test]
    fn heads_of_clients() {
        for (bytes, payload, is_text) in [
            (&[0x81, 0x85, 1, 2, 3, 4][..], 5, true),
            (&[0x81, 0xFE, 1, 2, 1, 2, 3, 4], 258, true),
            (&[0x81, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4], 0xFF00_0000_0000_0007, true),
            (&[0x81, 5], 5, false),
            (&[0x01, 0x85, 1, 2, 3, 4], 5, false),
            (&[0x89, 0x85, 1, 2, 3, 4], 5, false),
            (&[0xC1, 0x85, 1, 2, 3, 4], 5, false),
        ] {
            let head = Head::read(bytes).expect("a head");
            assert_eq!(
                (head.length, head.payload, head.is_text()),
                (bytes.len(), payload, is_text),
                "{bytes:?}"
            );
            for cut in 0..bytes.len() {
                // Reading as many bytes as it asks for leads to the end and not beyond.
                let needed = Head::read(&bytes[..cut]).expect_err("cut");
                assert!(needed > cut && needed <= bytes.len(), "{bytes:?} cut at {cut} needs {needed}");
            }
        }
    }
}
