//! Splits what a polling client posts into packets, as it arrives. Of a packet that is too long only the beginning is kept, so
//! a body of any size needs little memory.

use bytes::{Buf, Bytes, BytesMut};

use super::packet::{BEGINNING, SEPARATOR};

/// The most digits of a length, and the colon.
const LENGTH: usize = 11;

/// A part of a polling body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Packet(Bytes),
    /// The beginning of a packet that is too long, and its length in bytes.
    Long(Bytes, usize),
    /// Neither a packet nor the beginning of one. Nothing follows.
    Broken,
}

/// Splits one body. Engine.IO 4 has a separator between packets. Version 3 has the length before each, in UTF-16 code units.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; no two exclude each other")]
pub(super) struct Splitter {
    eio3: bool,
    /// The longest packet in bytes.
    longest: usize,
    buffer: BytesMut,
    /// How much of the buffer was looked at.
    at: usize,
    /// Version 3: the code units of the packet that are still to come; `None` before its length.
    units: Option<usize>,
    /// The beginning of a packet that is too long, and how much of it has gone by.
    long: Option<(Bytes, usize)>,
    ended: bool,
    /// Version 4: the last byte taken was a separator, so a packet follows, if only an empty one.
    follows: bool,
    broken: bool,
}

impl Splitter {
    pub(super) fn new(eio3: bool, longest: usize) -> Self {
        Self {
            eio3,
            longest,
            buffer: BytesMut::new(),
            at: 0,
            units: None,
            long: None,
            ended: false,
            follows: false,
            broken: false,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The body has ended.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The next packet that has arrived.
    pub(super) fn next(&mut self) -> Option<Piece> {
        if self.broken {
            return None;
        }
        if self.eio3 { self.counted() } else { self.separated() }
    }

    fn separated(&mut self) -> Option<Piece> {
        let end = self.buffer[self.at..].iter().position(|byte| *byte == SEPARATOR);
        match end {
            Some(end) => {
                let packet = self.whole(self.at + end);
                self.buffer.advance(1);
                self.follows = true;
                Some(packet)
            }
            None if self.ended && (!self.buffer.is_empty() || self.long.is_some()) => {
                self.follows = false;
                Some(self.whole(self.buffer.len()))
            }
            None if self.ended && std::mem::take(&mut self.follows) => Some(Piece::Packet(Bytes::new())),
            None => {
                self.at = self.buffer.len();
                self.shorten();
                None
            }
        }
    }

    fn counted(&mut self) -> Option<Piece> {
        let mut units = if let Some(units) = self.units {
            units
        } else {
            if self.buffer.is_empty() {
                return None;
            }
            let colon = self.buffer.iter().take(LENGTH).position(|byte| *byte == b':');
            let Some(colon) = colon else {
                return (self.ended || self.buffer.len() >= LENGTH).then(|| self.broken());
            };
            let digits = self.buffer.split_to(colon + 1);
            let digits = std::str::from_utf8(&digits[..colon]).ok();
            let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse().ok()) {
                Some(units) => units,
                None => return Some(self.broken()),
            }
        };
        while let Some(byte) = self.buffer.get(self.at) {
            // A byte that continues a character does not count. A character of four bytes is two code units.
            if byte & 0xC0 != 0x80 {
                if units == 0 {
                    break;
                }
                let Some(left) = usize::checked_sub(units, if *byte >= 0xF0 { 2 } else { 1 }) else {
                    return Some(self.broken());
                };
                units = left;
            }
            self.at += 1;
        }
        if units == 0 && (self.ended || self.at < self.buffer.len()) {
            self.units = None;
            return Some(self.whole(self.at));
        }
        if self.ended {
            return Some(self.broken());
        }
        self.units = Some(units);
        self.shorten();
        None
    }

    /// Takes the packet that ends here.
    fn whole(&mut self, end: usize) -> Piece {
        let packet = self.buffer.split_to(end).freeze();
        self.at = 0;
        match self.long.take() {
            Some((begins, gone)) => Piece::Long(begins, gone + packet.len()),
            None if packet.len() > self.longest => {
                Piece::Long(Bytes::copy_from_slice(&packet[..BEGINNING]), packet.len())
            }
            None => Piece::Packet(packet),
        }
    }

    /// Forgets what was looked at of a packet that is too long.
    fn shorten(&mut self) {
        if self.long.is_none() && self.at <= self.longest {
            return;
        }
        let (_, gone) = self
            .long
            .get_or_insert_with(|| (Bytes::copy_from_slice(&self.buffer[..BEGINNING.min(self.at)]), 0));
        *gone += self.at;
        self.buffer.advance(self.at);
        self.at = 0;
    }

    fn broken(&mut self) -> Piece {
        self.broken = true;
        self.buffer.clear();
        self.at = 0;
        Piece::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(body: &str, eio3: bool, size: usize) -> Vec<Piece> {
        let mut splitter = Splitter::new(eio3, 300);
        let mut pieces = Vec::new();
        for part in body.as_bytes().chunks(size) {
            splitter.push(part);
            pieces.extend(std::iter::from_fn(|| splitter.next()));
            assert!(splitter.buffer.len() <= 300 + size, "little is kept");
        }
        splitter.end();
        pieces.extend(std::iter::from_fn(|| splitter.next()));
        pieces
    }

    fn packet(text: &str) -> Piece {
        Piece::Packet(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn long(text: &str) -> Piece {
        Piece::Long(Bytes::copy_from_slice(&text.as_bytes()[..BEGINNING]), text.len())
    }

    #[test]
    fn packets_however_they_arrive() {
        let huge = format!("42[\"{}\"]", "é".repeat(1_000));
        let units = huge.encode_utf16().count();
        for size in [1, 2, 3, 7, 299, 10_000] {
            assert_eq!(pieces("", false, size), []);
            assert_eq!(pieces("2\u{1e}4é\u{1e}3", false, size), [packet("2"), packet("4é"), packet("3")]);
            assert_eq!(pieces("3\u{1e}", false, size), [packet("3"), packet("")]);
            assert_eq!(pieces("2\u{1e}\u{1e}3", false, size), [packet("2"), packet(""), packet("3")]);
            let body = format!("2\u{1e}{huge}\u{1e}3\u{1e}{huge}");
            assert_eq!(pieces(&body, false, size), [packet("2"), long(&huge), packet("3"), long(&huge)]);
            assert_eq!(pieces("1:24:4é😀1:3", true, size), [packet("2"), packet("4é😀"), packet("3")]);
            let body = format!("1:2{units}:{huge}1:3{units}:{huge}");
            assert_eq!(pieces(&body, true, size), [packet("2"), long(&huge), packet("3"), long(&huge)]);
            for broken in ["x:2", "12", "2:2", ":2", "+1:2", "1:😀", "123456789012:2"] {
                assert_eq!(pieces(broken, true, size), [Piece::Broken], "{broken}");
            }
        }
    }
}
