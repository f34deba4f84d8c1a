//! Ids of Engine.IO sessions that name their node: `<id>.<number of the node in base 36>`. So any node knows whose a session is,
//! and a proxy may route by it.

use super::posts::{lengths, with_length};

/// The longest id without its node. Those of socketioxide have 16 characters.
const LONGEST: usize = 64;
const BASE: u16 = 36;

/// The id as clients know it.
pub(super) fn with_node(sid: &str, node: u16) -> String {
    let (mut digits, mut rest) = (Vec::new(), node);
    while rest > 0 || digits.is_empty() {
        digits.push(char::from_digit(u32::from(rest % BASE), u32::from(BASE)).unwrap_or('0'));
        rest /= BASE;
    }
    digits.into_iter().rev().fold(format!("{sid}."), |id, digit| {
        let mut id = id;
        id.push(digit);
        id
    })
}

/// The id within its node, and the node. `None` if no node has given such an id out.
pub(super) fn split(id: &str) -> Option<(&str, u16)> {
    let (sid, digits) = id.rsplit_once('.')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(1..=LONGEST).contains(&sid.len()) || !sid.bytes().all(plain) {
        return None;
    }
    let node = u16::from_str_radix(digits, u32::from(BASE)).ok().filter(|node| *node > 0)?;
    // Each session has one id only: `+1`, `01` and capitals are refused.
    (with_node(sid, node) == id).then_some((sid, node))
}

/// The body that opens a session, with `id` in the place of `sid`. Version 3 has the length of each packet before it.
pub(super) fn open_with(body: &str, eio3: bool, sid: &str, id: &str) -> Option<String> {
    let [from, to] = [sid, id].map(|id| format!(r#""sid":"{id}""#));
    if !eio3 {
        return Some(body.replacen(&from, &to, 1));
    }
    let packets = lengths(body)?.into_iter();
    Some(packets.fold(String::new(), |body, packet| with_length(body, &packet.replacen(&from, &to, 1))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_name_their_node() {
        for (node, id) in [(1, "a-_9.1"), (35, "a-_9.z"), (36, "a-_9.10"), (4095, "a-_9.35r")] {
            assert_eq!(with_node("a-_9", node), id);
            assert_eq!(split(id), Some(("a-_9", node)));
        }
        for wrong in [
            "", "a", "a.", ".1", "a.0", "a.01", "a.+1", "a.Z", "a.-1", "a.1 ", "a b.1", "a&x=1.1", "a.b.1",
            "a.zzzz",
        ] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert_eq!(split(&format!("{}.1", "a".repeat(LONGEST + 1))), None);
    }

    #[test]
    fn the_packet_that_opens_a_session_gets_the_id() {
        let packet = r#"0{"sid":"abc","upgrades":["websocket"]}"#;
        let named = r#"0{"sid":"abc.z","upgrades":["websocket"]}"#;
        assert_eq!(open_with(packet, false, "abc", "abc.z").as_deref(), Some(named));
        let (packet, named) = (format!("39:{packet}2:40"), format!("41:{named}2:40"));
        assert_eq!(open_with(&packet, true, "abc", "abc.z"), Some(named));
        assert_eq!(open_with("x", true, "abc", "abc.z"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fuzz_ids_are_split_or_refused(id in r"[a-zA-Z0-9._+\-&%\u{80}-\u{ff}]{0,12}") {
            if let Some((sid, node)) = split(&id) {
                prop_assert_eq!(with_node(sid, node), id);
            }
        }
    }
}
