//! Frames cut and held back in every way.

use proptest::prelude::*;

use super::*;
use crate::mutate::bytes;

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

/// What the reader gets of these bytes in pieces of `size`, with room for `room` bytes at a time.
fn passed(bytes: &[u8], size: usize, room: usize) -> Vec<u8> {
    let mut incoming = Incoming::new(true, None, [400, 400], None, false);
    let mut bytes = bytes.to_vec();
    let mut got = Vec::new();
    let mut space = vec![0; room];
    for piece in bytes.chunks_mut(size) {
        let mut to = ReadBuf::new(&mut space);
        incoming.take(piece, &mut to);
        got.extend_from_slice(to.filled());
        loop {
            let mut to = ReadBuf::new(&mut space);
            if !incoming.give(&mut to) {
                break;
            }
            got.extend_from_slice(to.filled());
        }
    }
    got
}

#[test]
fn frames_however_they_are_cut() {
    let long = format!("40/realtime?token={}", "x".repeat(200));
    let mended = format!("40/realtime,token={}", "x".repeat(200));
    let too_long = "y".repeat(500);
    let packets = |joins: [&str; 2]| {
        [
            frame(0x89, "40/realtime?"),
            frame(0x81, ""),
            frame(0x81, joins[0]),
            frame(0x81, joins[1]),
            frame(0x81, &too_long),
            frame(0x81, "42/realtime,[\"a?b\"]"),
            frame(0x81, "40/real?x"),
            // No client joins a namespace in several frames.
            frame(0x01, "40/realtime"),
            frame(0x89, "ping"),
            frame(0x80, "?token=a,"),
            vec![0x81, 0x02, b'4', b'0'],
        ]
        .concat()
    };
    let before = packets(["40/realtime?token=a,", &long]);
    let after = packets(["40/realtime,token=a,", &mended]);
    for size in [1, 2, 3, 7, 300, before.len()] {
        for room in [1, 10, 10_000] {
            assert_eq!(passed(&before, size, room), after, "in pieces of {size}, {room} at a time");
        }
    }
}

const FRAMES: &str = include_str!("../../../../tests/it/corpus/frames.txt");

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However the network cuts the bytes, and however much room there is, the reader gets the same.
    #[test]
    fn fuzz_frames_however_they_are_cut(bytes in bytes(FRAMES), size in 1_usize..40, room in 1_usize..40) {
        let whole = passed(&bytes, bytes.len().max(1), 10_000);
        let pieces = passed(&bytes, size, room);
        // The beginning of a frame whose end does not come is not passed on at all.
        prop_assert_eq!(&pieces[..], &whole[..pieces.len()]);
        prop_assert_eq!(pieces.len(), whole.len());
    }
}
