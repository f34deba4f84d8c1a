use proptest::prelude::*;

use super::fields::AHEAD_MS;
use super::*;
use crate::base::clock::from_millis;
use crate::model::{EtaSource, Point, Provenance, Source, Spread};

const CHANNEL: &str = "ordercast1:l:0123456789abcdef";

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"the key of the cluster")
}

fn at(millis: i64) -> Time {
    from_millis(1_800_000_000_000 + millis)
}

fn moved() -> Moved {
    let fix = Fix {
        place: Point::stored(47.146, -9.5),
        heading: Some(90.0),
        speed: None,
        accuracy: Some(4.5),
        recorded_at: at(-3_000),
        received_at: at(-1),
        mocked: false,
    };
    let eta = Eta::new(at(720_000), EtaSource::Geodesic, at(0));
    Moved {
        order: OrderId::stored("o-1"),
        driver: UserId::stored("dražen"),
        fix,
        provenance: Provenance { source: Source::Snapped, uncertainty: Some(3.5), reanchored: true },
        eta: Some(eta),
        accepted: 7,
        node: 258,
    }
}

fn frames() -> Vec<(&'static str, Body)> {
    let bare = Moved { eta: None, ..moved() };
    let provenance = Provenance::raw(None);
    let bare = Moved {
        provenance,
        fix: Fix { heading: None, speed: Some(8.25), accuracy: None, ..bare.fix },
        ..bare
    };
    let eta = Eta::new(at(60_000), EtaSource::Override, at(0));
    let expected =
        Expected { order: OrderId::stored("o-1"), customer: UserId::stored("c"), driver: None, eta };
    let road = Eta::after(600.0, Some((EtaSource::Valhalla, 4_321.0)), 2, Spread::ASSUMED, at(0));
    let carried = Expected { driver: Some(UserId::stored("d")), ..expected.clone() };
    let ask = |question| Body::Ask { id: 0x0102_0304_0506_0708, question };
    vec![
        ("moved", Body::Live(Remote::Moved(moved()))),
        ("moved, with little known", Body::Live(Remote::Moved(bare))),
        ("expected", Body::Live(Remote::Expected(expected.clone()))),
        ("expected, by road", Body::Live(Remote::Expected(Expected { eta: road, ..expected.clone() }))),
        ("expected, with a driver", Body::Live(Remote::Expected(carried))),
        ("log", Body::Log(41)),
        ("control", Body::Control(i64::MAX)),
        ("beat", Body::Beat(2_500)),
        ("presence", ask(Question::Presence(UserId::stored("u")))),
        ("revoked", ask(Question::Revoked(UserId::stored("u")))),
        ("reports", ask(Question::Reports(UserId::stored("t")))),
        ("watching", ask(Question::Watching(UserId::stored("u")))),
        ("answer", Body::Answer { id: 7, count: 3 }),
        ("heads", Body::Heads(Heads { at: at(-2), events: 41, control: Some(3), is_fresh: true })),
        (
            "heads, with something unread",
            Body::Heads(Heads { at: at(0), events: 0, control: None, is_fresh: false }),
        ),
    ]
}

fn written(body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&Frame { node: 258, sent: at(0), body }, CHANNEL, &key(), &mut bytes);
    bytes
}

/// The bytes are what nodes of all versions write and read: a change here needs a new version of the format.
#[test]
fn frames_are_these_bytes_and_mean_the_same_when_they_are_read() {
    let mut text = String::new();
    for (name, body) in frames() {
        let bytes = written(body.clone());
        text.extend([name, ": ", &hex::encode(&bytes), "\n"]);
        let (frame, rest) = read(&bytes, CHANNEL, &key()).expect(name);
        assert_eq!((frame, rest), (Some(Frame { node: 258, sent: at(0), body }), &[][..]), "{name}");
    }
    assert_eq!(text, include_str!("golden.txt"), "{text}");
}

#[test]
fn hashes_are_the_same_on_every_node() {
    let hashes = ["o-1", "0194a7f0-0000-7000-8000-000000000000"].map(|id| hash(&OrderId::stored(id)));
    assert_eq!(hashes.map(|hash| format!("{hash:016x}")), ["cb4d78b3490a2d4d", "686e3aa3915a3f22"]);
}

#[test]
fn what_a_newer_version_says_is_passed_over() {
    let signed = |mut bytes: Vec<u8>, more: &[u8]| {
        bytes.truncate(bytes.len() - TAG);
        bytes.extend_from_slice(more);
        let length = u16::try_from(bytes.len() - HEADER).expect("short");
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let tag = tag(CHANNEL, &bytes, &key());
        bytes.extend_from_slice(&tag);
        bytes
    };
    // A new field behind the known ones.
    let longer = signed(written(Body::Log(41)), b"more");
    assert_eq!(read(&longer, CHANNEL, &key()).expect("read").0.expect("known").body, Body::Log(41));
    // A new kind, and a known one behind it in the same message.
    let mut newer = written(Body::Log(41));
    newer[1] = 200;
    let mut both = signed(newer, b"");
    both.extend(written(Body::Log(42)));
    let (frame, rest) = read(&both, CHANNEL, &key()).expect("read");
    assert_eq!(frame, None);
    assert_eq!(read(rest, CHANNEL, &key()).expect("read").0.expect("known").body, Body::Log(42));
}

#[test]
fn only_a_node_of_this_cluster_writes_frames_and_only_for_one_channel() {
    for (name, body) in frames() {
        let good = written(body);
        for index in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[index / 8] ^= 1 << (index % 8);
            assert_eq!(read(&bad, CHANNEL, &key()), Err(Forged), "{name}, bit {index}");
        }
        assert_eq!(read(&good, "ordercast1:l:0123456789abcdee", &key()), Err(Forged));
        assert_eq!(read(&good, CHANNEL, &hmac::Key::new(hmac::HMAC_SHA256, b"another")), Err(Forged));
        assert_eq!(read(&good[..good.len() - 1], CHANNEL, &key()), Err(Forged));
    }
}

/// Even a node of this cluster, of whatever version, cannot put a driver into the future or off the earth.
#[test]
fn what_cannot_be_is_refused() {
    let with = |change: &dyn Fn(&mut Fix)| {
        let mut moved = moved();
        change(&mut moved.fix);
        read(&written(Body::Live(Remote::Moved(moved))), CHANNEL, &key()).map(|_| ())
    };
    assert!(with(&|_| ()).is_ok());
    assert_eq!(with(&|fix| fix.received_at = at(AHEAD_MS + 1)), Err(Forged));
    assert_eq!(
        with(&|fix| fix.recorded_at = fix.received_at + chrono::TimeDelta::milliseconds(1)),
        Err(Forged)
    );
    for place in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
        assert_eq!(with(&|fix| fix.place = Point::stored(place.0, place.1)), Err(Forged), "{place:?}");
    }
    let bad = Moved { order: OrderId::stored("a/b"), ..moved() };
    assert_eq!(read(&written(Body::Live(Remote::Moved(bad))), CHANNEL, &key()), Err(Forged));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fuzz_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read(&bytes, CHANNEL, &key()), Err(Forged));
    }

    /// Behind a right tag, fields may be anything.
    #[test]
    fn fuzz_signed_fields_are_read_or_refused(
        kind in 0_u8..12, flags: u16, fields in proptest::collection::vec(any::<u8>(), 0..120), zeros in 0_usize..8,
    ) {
        let mut bytes = vec![VERSION, kind, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0];
        // Texts begin with their lengths, which are mostly short.
        bytes.extend(std::iter::repeat_n(0, zeros));
        bytes.extend(fields);
        let length = u16::try_from(bytes.len() - HEADER).expect("short");
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        let tag = tag(CHANNEL, &bytes, &key());
        bytes.extend_from_slice(&tag);
        if let Ok((Some(frame), rest)) = read(&bytes, CHANNEL, &key()) {
            prop_assert!(rest.is_empty());
            // What was read can be said again, and means the same.
            let mut again = Vec::new();
            write(&frame, CHANNEL, &key(), &mut again);
            prop_assert_eq!(read(&again, CHANNEL, &key()), Ok((Some(frame), &[][..])));
        }
    }
}
