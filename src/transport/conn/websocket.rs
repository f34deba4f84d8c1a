//! WebSocket frames as bytes (RFC 6455 §5.2): only what is needed to make them and to tell them apart.

use bytes::{BufMut, Bytes, BytesMut};

/// First byte of a text frame that is a whole message.
pub const TEXT: u8 = 0x81;
/// First byte of a close frame.
pub const CLOSE: u8 = 0x88;
/// A close frame of the server: 1001, going away.
pub const GOING_AWAY: Bytes = Bytes::from_static(&[CLOSE, 2, 0x03, 0xE9]);

/// A ping of the server, with nothing in it.
pub const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// A close frame of the server. The reason has to be short: a control frame holds 125 bytes.
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
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = BytesMut::with_capacity(length + 10);
    frame.put_u8(TEXT);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..=125), _) => frame.put_u8(length),
        (_, Ok(length)) => {
            frame.put_u8(126);
            frame.put_u16(length);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    for part in parts {
        frame.put_slice(part);
    }
    frame.freeze()
}

/// The first frame in what a server writes: where its payload begins and where it ends. `None` while its head is not
/// all there.
#[must_use]
pub fn first(bytes: &[u8]) -> Option<(usize, usize)> {
    let (head, length) = match bytes.get(1)? & 0x7F {
        126 => (4, bytes.get(2..4)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))),
        127 => (10, bytes.get(2..10)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))),
        short => (2, usize::from(short)),
    };
    Some((head, head.checked_add(length)?))
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
}
