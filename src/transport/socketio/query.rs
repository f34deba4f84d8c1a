//! socket.io-client 2 says its query when it joins a namespace, `40/realtime?token=…,`, and socketioxide takes all of that for
//! the namespace's name. Here one byte of such a packet is changed: `40/realtime,token=…,`, so that the query becomes what
//! later versions send in its place, the auth payload. To be deleted when upstream does this.

use crate::dialect::realtime::NAMESPACE;

/// Mends a packet with which a client of version 2 joins a namespace.
pub(super) fn mend(payload: &mut [u8], mask: [u8; 4]) {
    let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    if plain.enumerate().take(QUERY + 1).filter(|(index, byte)| matches(*index, *byte)).count() > QUERY {
        payload[QUERY] = b',' ^ mask[QUERY % 4];
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

#[cfg(test)]
mod tests {
    use super::*;

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
