//! Random input for parsers: lines of a corpus, changed in a few places. The corpus is in `tests/it/corpus`, one file for
//! each kind of input and one sample a line. `\xNN` is a byte. A sample that broke something is added to its file.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

/// What parsers stumble over: structure, numbers at their limits, words that mean something, text that is none.
const FRAGMENTS: &[&[u8]] = &[
    b"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"\\",
    b"\x1e",
    b"b",
    b"0",
    b"-1",
    b"1e999",
    b"-0.0",
    b"1e-400",
    b"9007199254740993",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"NaN",
    b"null",
    b"true",
    b"\"\"",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b"\\ud83c",
    b"\\u0000",
    b"\xF0\x9F\x98\x80",
    b"\xED\xA0\x80",
    b"\xFF",
    b"\0",
    b"\xEF\xBB\xBF",
    b"40",
    b"42",
    b"43",
    b"451-",
    b"4",
    b"6",
    b"/realtime,",
    b"/,",
    b"?",
    b"=",
    b"&",
    b"%00",
    b"Bearer ",
    b"T24:00:00Z",
    b"-9999-01-01T00:00:00Z",
    b"+262142-12-31T23:59:60Z",
    b"\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
];

/// The samples of a file.
pub fn samples(file: &str) -> Vec<Vec<u8>> {
    file.lines().filter(|line| !line.is_empty()).map(unescape).collect()
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        let byte = escape.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.expect("two hexadecimal digits after \\x"));
        rest = &escape[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A change of a sample.
#[derive(Clone, Debug)]
enum Change {
    /// Replaces up to this many bytes.
    Splice(Index, u8, Vec<u8>),
    /// Inserts a piece of another sample.
    Cross(Index, Index, Index),
    /// Repeats what stands there.
    Repeat(Index, u8, u8),
    Cut(Index),
    Flip(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let piece = prop_oneof![
        3 => prop::sample::select(FRAGMENTS).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop_oneof![
        4 => (any::<Index>(), 0_u8..6, piece).prop_map(|(at, removed, piece)| Change::Splice(at, removed, piece)),
        1 => (any::<Index>(), any::<Index>(), any::<Index>()).prop_map(|(at, other, from)| Change::Cross(at, other, from)),
        1 => (any::<Index>(), 1_u8..16, 1_u8..40).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change, samples: &[Vec<u8>]) {
    let place = |at: &Index, length: usize| at.index(length + 1);
    match change {
        Change::Splice(at, removed, piece) => {
            let at = place(at, bytes.len());
            let end = (at + usize::from(*removed)).min(bytes.len());
            bytes.splice(at..end, piece.iter().copied());
        }
        Change::Cross(at, other, from) => {
            let other = &samples[other.index(samples.len())];
            let piece = other[place(from, other.len())..].to_vec();
            let at = place(at, bytes.len());
            bytes.splice(at..at, piece);
        }
        Change::Repeat(at, length, times) => {
            let at = place(at, bytes.len());
            let end = (at + usize::from(*length)).min(bytes.len());
            let piece = bytes[at..end].repeat(usize::from(*times));
            bytes.splice(at..at, piece);
        }
        Change::Cut(at) => bytes.truncate(place(at, bytes.len())),
        Change::Flip(at, bits) => {
            let at = place(at, bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
    }
}

/// A sample as it is, a changed one, or random bytes.
pub fn bytes(file: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let samples = Arc::new(samples(file));
    let changed =
        (any::<Index>(), prop::collection::vec(change(), 0..5)).prop_map(move |(sample, changes)| {
            let mut bytes = samples[sample.index(samples.len())].clone();
            for change in &changes {
                apply(&mut bytes, change, &samples);
            }
            bytes
        });
    prop_oneof![9 => changed, 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

/// The same as text. What is not UTF-8 is replaced.
pub fn text(file: &str) -> impl Strategy<Value = String> + use<> {
    bytes(file).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
