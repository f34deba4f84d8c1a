//! socket.io-client 2 puts its query into the packet with which it joins a namespace, `40/realtime?token=…,`. socketioxide takes
//! all of that for the name of the namespace. Here one byte is changed, `40/realtime,token=…,`, so that the query becomes the
//! auth payload that later versions send. To be deleted when upstream does this.

use crate::dialect::realtime::NAMESPACE;

/// Changes the packet with which a client of version 2 joins a namespace.
pub(super) fn mend(payload: &mut [u8], mask: [u8; 4]) {
    let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    if plain.enumerate().take(QUERY + 1).filter(|(index, byte)| matches(*index, *byte)).count() > QUERY {
        payload[QUERY] = b',' ^ mask[QUERY % 4];
    }
}

/// The packet type of CONNECT.
const CONNECT: &str = "40";

/// Whether such a packet has this byte at `index`.
fn matches(index: usize, byte: u8) -> bool {
    let expected = CONNECT.bytes().chain(NAMESPACE.bytes()).chain([b'?']).nth(index);
    expected == Some(byte)
}

/// The index of the `?`.
const QUERY: usize = CONNECT.len() + NAMESPACE.len();

/// Changes a packet byte by byte.
struct PacketRewriter {
    index: usize,
    matching: bool,
}

impl PacketRewriter {
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

/// Changes a polling body of Engine.IO 3, `<characters>:<packet>…`.
pub fn rewrite_body(body: &mut [u8]) {
    let mut at = 0;
    while let Some(colon) = body[at..].iter().position(|byte| *byte == b':').map(|offset| at + offset) {
        let length =
            std::str::from_utf8(&body[at..colon]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let Some(length) = length else { return };
        let mut packet = PacketRewriter::new();
        let mut characters = 0;
        at = colon + 1;
        while at < body.len() {
            // Lengths are in UTF-16 code units, so a byte that continues a character does not count.
            if body[at] & 0xC0 != 0x80 {
                if characters == length {
                    break;
                }
                // A character of four bytes is two code units in UTF-16, which is what lengths count.
                characters += if body[at] >= 0xF0 { 2 } else { 1 };
            }
            body[at] = packet.next(body[at], matches(packet.index, body[at]));
            at += 1;
        }
        if at >= body.len() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        for (before, after) in [
            ("20:40/realtime?token=a,", "20:40/realtime,token=a,"),
            ("1:220:40/realtime?token=a,7:42[\"é\"]", "1:220:40/realtime,token=a,7:42[\"é\"]"),
            ("6:42[\"é\"20:40/realtime?token=a,", "6:42[\"é\"20:40/realtime,token=a,"),
            ("7:42[\"😀\"20:40/realtime?token=a,", "7:42[\"😀\"20:40/realtime,token=a,"),
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
