//! socket.io-client 2 puts its query into the packet with which it joins a namespace, `40/realtime?token=…,`. socketioxide takes
//! all of that for the name of the namespace. Here one byte is changed, `40/realtime,token=…,`, so that the query becomes the
//! auth payload that later versions send. To be deleted when upstream does this.

use crate::dialect::realtime::NAMESPACE;

/// Changes the packet with which a client of version 2 joins a namespace.
pub fn mend(payload: &mut [u8], mask: [u8; 4]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        for (before, after) in [
            ("40/realtime?token=a,", "40/realtime,token=a,"),
            ("40/realtime?a", "40/realtime,a"),
            ("40/realtime", "40/realtime"),
            ("40/real?token=a", "40/real?token=a"),
            ("42[\"/realtime?\"]", "42[\"/realtime?\"]"),
            ("", ""),
        ] {
            let mut packet = before.as_bytes().to_vec();
            mend(&mut packet, [0; 4]);
            assert_eq!(String::from_utf8(packet).expect("UTF-8"), after, "{before}");
        }
    }
}
