//! Random input never makes a parser panic, and everything that a parser accepts is valid. This is a short run. For a
//! long one, use `PROPTEST_CASES=1000000 cargo test --release --test it fuzz`.

use std::sync::LazyLock;

use clap::Parser;
use ordercast::base::config::Limits;
use ordercast::cli::Cli;
use ordercast::dialect::place::{Offset, Place};
use ordercast::dialect::{Dialect, orders_track, tracking};
use ordercast::model::TrackingId;
use ordercast::model::{Command, LocationReport};
use ordercast::model::{OrderId, UserId};
use ordercast::transport::conn::websocket;
use ordercast::transport::socketio::query::rewrite_body;
use proptest::prelude::*;

/// Typical client messages, which the tests mutate.
const SAMPLES: [&str; 16] = [
    r#"["subscribe:order",{"orderId":"o1","since":3}]"#,
    r#"["driver:location",{"latitude":5.6,"longitude":-0.2,"heading":359.9,"recordedAt":"2026-11-21T09:00:00Z"}]"#,
    r#"["driver:location_batch",{"points":[{"latitude":5.6,"longitude":-0.2},7]}]"#,
    r#"["order:status_update",{"orderId":"o1","status":"picked_up","note":"x","expectedSeq":4.0}]"#,
    r#"["token:refresh",{"token":"a.b.c"}]"#,
    r#"["ping:latency",{"t":1}]"#,
    r#"["ping:latency"]"#,
    r#"{"type":"subscribe","order_id":"o1","since":9223372036854775807}"#,
    r#"{"type":"unsubscribe","order_id":"o1"}"#,
    r#"{"type":"subscribe","orderId":"o1"}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"location_update","location":{"lat":5.6,"lng":-0.2,"status":"IN_TRANSIT"}}"#,
    r#"{"order_id":"x","type":"subscribe","type":"ping"}"#,
    "TRK-0000000000000000000000",
    "41.0~7~2",
    "20:40/realtime?token=a,",
];

/// A mutated sample, or a random string.
fn random_text() -> impl Strategy<Value = String> {
    let mutated = (
        prop::sample::select(SAMPLES.to_vec()),
        prop::collection::vec(
            (any::<prop::sample::Index>(), "\\PC{0,3}|[{}\\[\\]\",:0-9e.-]{1,3}|null|1e999|-1", 0_usize..4),
            0..4,
        ),
    )
        .prop_map(|(sample, mutations)| {
            let mut chars: Vec<char> = sample.chars().collect();
            for (index, text, removed) in mutations {
                let at = index.index(chars.len() + 1);
                let end = (at + removed).min(chars.len());
                chars.splice(at..end, text.chars());
            }
            chars.into_iter().collect()
        });
    prop_oneof![4 => mutated, 1 => any::<String>()]
}

fn limits() -> &'static Limits {
    static LIMITS: LazyLock<Limits> =
        LazyLock::new(|| Cli::try_parse_from(["ordercast"]).expect("defaults").serve.limits);
    &LIMITS
}

fn check_fix(fix: &LocationReport) {
    assert!((-90.0..=90.0).contains(&fix.latitude.0) && (-180.0..=180.0).contains(&fix.longitude.0));
    assert!(fix.heading.is_none_or(|heading| (0.0..360.0).contains(&heading.0)));
    assert!(fix.order_id.as_ref().is_none_or(|id| OrderId::parse(id.as_str()).is_ok()));
}

fn check(command: &Command) {
    match command {
        Command::Subscribe { order, since } => {
            assert!(OrderId::parse(order.as_str()).is_ok() && since.is_none_or(|since| since >= 0));
        }
        Command::Unsubscribe { order }
        | Command::Tracking { order }
        | Command::ChangeStatus { order, .. } => {
            assert!(OrderId::parse(order.as_str()).is_ok());
        }
        Command::Location(fix) => check_fix(fix),
        Command::LocationBatch(points) => {
            assert!(points.len() <= limits().location_batch_max);
            points.iter().flatten().for_each(check_fix);
        }
        Command::TrackingUpdate(moved) => {
            assert!(
                (-90.0..=90.0).contains(&moved.place.lat()) && (-180.0..=180.0).contains(&moved.place.lon())
            );
        }
        Command::Refresh { .. } | Command::Ping { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn client_messages_are_parsed_or_refused(text in random_text()) {
        let limits = limits();
        for dialect in Dialect::ALL {
            match dialect.parse(&text, limits.location_batch_max).command {
                Ok(command) => check(&command),
                // Every dialect can express the refusal.
                Err(refusal) => {
                    let failure = dialect.failure(&refusal);
                    prop_assert!(serde_json::from_str::<serde_json::Value>(failure.get()).is_ok());
                }
            }
        }
    }

    #[test]
    fn words_and_ids_survive_a_round_trip(text in random_text()) {
        if let Some(status) = orders_track::status(&text) {
            prop_assert_eq!(orders_track::status(orders_track::word(status)).map(orders_track::word), Some(orders_track::word(status)));
        }
        let _ = tracking::Word::try_from(text.clone());
        prop_assert!(TrackingId::parse(&text).is_none_or(|id| id.as_str() == text));
        prop_assert!(UserId::parse(&text).is_err() || (1..=128).contains(&text.len()));
        if let Some(place) = Place::parse(&text) {
            prop_assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        if let Some(offset) = Offset::parse(&text) {
            prop_assert_eq!(Offset::parse(&offset.to_string()), Some(offset));
        }
    }

    #[test]
    fn random_bytes_cause_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Some((begin, end)) = websocket::first(&bytes) {
            prop_assert!(begin <= end);
        }
        let before = bytes.len();
        rewrite_body(&mut bytes);
        prop_assert_eq!(bytes.len(), before);
    }
}
