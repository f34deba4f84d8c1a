//! Random input never makes a parser panic, and everything that a parser accepts is valid. This is a short run. For a
//! long one, use `PROPTEST_CASES=1000000 cargo test --release fuzz`: it runs the targets beside the private parsers in
//! `src` too.

use std::sync::LazyLock;

use clap::Parser;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ordercast::auth::Auth;
use ordercast::base::address::Networks;
use ordercast::base::clock::{Clock, rfc3339};
use ordercast::base::config::{KeySource, Limits, Origins};
use ordercast::base::json::read_json;
use ordercast::cli::Cli;
use ordercast::dialect::place::{Offset, Place};
use ordercast::dialect::{Dialect, orders_track, tracking};
use ordercast::model::new_order::NewOrder;
use ordercast::model::{Command, LocationReport, OrderId, Role, TrackingId, UserId};
use ordercast::transport::conn::websocket::{Head, first, unmask};
use ordercast::transport::socketio::query::mend;
use proptest::prelude::*;

use crate::harness::SECRET;
use crate::mutate::{bytes, samples, text};

const MESSAGES: &str = include_str!("corpus/messages.txt");
const VALUES: &str = include_str!("corpus/values.txt");
const ORDERS: &str = include_str!("corpus/orders.txt");
const POLLING: &str = include_str!("corpus/polling.txt");
const FRAMES: &str = include_str!("corpus/frames.txt");
const CLAIMS: &str = include_str!("corpus/claims.txt");

fn limits() -> &'static Limits {
    static LIMITS: LazyLock<Limits> =
        LazyLock::new(|| Cli::try_parse_from(["ordercast"]).expect("defaults").serve.limits);
    &LIMITS
}

fn check_fix(fix: &LocationReport) {
    assert!((-90.0..=90.0).contains(&fix.latitude.0) && (-180.0..=180.0).contains(&fix.longitude.0));
    assert!(fix.heading.is_none_or(|heading| (0.0..360.0).contains(&heading)));
    assert!(fix.order_id.as_ref().is_none_or(|id| OrderId::parse(id.as_str()).is_ok()));
    if let Some(at) = fix.recorded_at {
        let text = rfc3339(at);
        assert_eq!(chrono::DateTime::parse_from_rfc3339(&text).map(|read| read.to_utc()), Ok(at), "{text}");
    }
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
        Command::Seen { order, seq } => {
            assert!(OrderId::parse(order.as_str()).is_ok() && *seq > 0);
        }
        Command::Play { order, speed, .. } => {
            assert!(OrderId::parse(order.as_str()).is_ok() && (1..=600).contains(speed));
        }
        Command::WatchFleet { bounds } => {
            assert!(bounds.is_none_or(|bounds| bounds.south <= bounds.north && bounds.north <= 90.0));
        }
        Command::Refresh { .. }
        | Command::UnwatchFleet
        | Command::StopPlaying
        | Command::Ping { .. }
        | Command::AppState { .. }
        | Command::Acknowledge { .. } => {}
    }
}

/// Parses a message in every dialect. Every dialect can say what it refuses.
fn parse_in_every_dialect(message: &str) {
    for dialect in Dialect::ALL {
        match dialect.parse(message, limits().location_batch_max).command {
            Ok(command) => check(&command),
            Err(refusal) => {
                let failure = dialect.failure(&refusal);
                assert!(serde_json::from_str::<serde_json::Value>(failure.get()).is_ok());
            }
        }
    }
}

/// A token that was signed for these claims, which may be anything.
fn signed(claims: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let claims: serde_json::Value = serde_json::from_str(claims).unwrap_or_default();
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token")
}

fn verify(token: &str) -> Result<ordercast::model::Principal, ordercast::base::error::Refusal> {
    static AUTH: LazyLock<std::sync::Arc<Auth>> = LazyLock::new(|| {
        let source = KeySource { secret: Some(SECRET.to_owned()), ..KeySource::default() };
        Auth::new(source, Clock::System).expect("a key")
    });
    AUTH.verify(token).now_or_never().expect("a secret needs no waiting")
}

/// A good token, and tokens that look like one.
fn tokens() -> String {
    let now = Clock::System.now();
    let good =
        ordercast::auth::mint(SECRET, "u1", Role::Admin, None, now, std::time::Duration::from_secs(86_400));
    let good = good.expect("a token");
    let (_, rest) = good.split_once('.').expect("a header");
    let none = format!("eyJhbGciOiJub25lIn0.{rest}");
    let critical = format!("eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYjY0Il0sImI2NCI6ZmFsc2V9.{rest}");
    format!("{good}\nBearer {good}\n{none}\n{critical}\neyJhbGciOiJIUzUxMiJ9.{rest}\na.b.c\n..\n")
}

fn good_token() -> &'static [String; 2] {
    static TOKENS: LazyLock<[String; 2]> = LazyLock::new(|| {
        let all = tokens();
        let good = all.lines().next().expect("the first").to_owned();
        [all, good]
    });
    &TOKENS
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn client_messages_are_parsed_or_refused(message in text(MESSAGES)) {
        parse_in_every_dialect(&message);
    }

    #[test]
    fn values_are_read_or_refused(value in text(VALUES), quoted in any::<bool>(), member in 0_usize..6) {
        let value = if quoted { serde_json::Value::from(value).to_string() } else { value };
        let mut values = [r#""2026-11-21T09:00:00Z""#, "1", "1", "0", "0", r#""o1""#];
        values[member] = &value;
        let [at, latitude, longitude, speed, heading, order] = values;
        parse_in_every_dialect(&format!(
            r#"["driver:location",{{"recordedAt":{at},"latitude":{latitude},"longitude":{longitude},"speed":{speed},"heading":{heading},"orderId":{order}}}]"#
        ));
        parse_in_every_dialect(&format!(r#"["driver:location_batch",{{"points":[{{"latitude":{latitude},"longitude":{longitude},"recordedAt":{at}}}]}}]"#));
        parse_in_every_dialect(&format!(r#"["order:status_update",{{"orderId":{order},"status":{at},"expectedSeq":{speed}}}]"#));
        parse_in_every_dialect(&format!(r#"{{"type":"location_update","location":{{"lat":{latitude},"lng":{longitude},"status":{order}}}}}"#));
        parse_in_every_dialect(&format!(r#"{{"type":"subscribe","order_id":{order},"orderId":{order},"since":{speed}}}"#));
    }

    #[test]
    fn words_ids_and_settings_are_read_or_refused(text in text(VALUES)) {
        if let Some(status) = orders_track::status(&text) {
            prop_assert_eq!(orders_track::status(orders_track::word(status)).map(orders_track::word), Some(orders_track::word(status)));
        }
        let _ = tracking::Word::try_from(text.clone());
        prop_assert!(TrackingId::parse(&text).is_none_or(|id| id.as_str() == text));
        prop_assert!(UserId::parse(&text).is_err() || (1..=128).contains(&text.chars().count()));
        if let Some(place) = Place::parse(&text) {
            prop_assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        if let Some(offset) = Offset::parse(&text) {
            prop_assert_eq!(Offset::parse(&offset.to_string()), Some(offset));
        }
        let _ = text.parse::<Networks>();
        if let Ok(origins) = Origins::parse(&text) {
            let _ = origins.allows(&text, Some(&text));
        }
    }

    #[test]
    fn orders_are_read_or_refused(body in bytes(ORDERS)) {
        if let Ok(order) = read_json::<NewOrder>(&String::from_utf8_lossy(&body), "body") {
            prop_assert!(order.delivery.and_then(|delivery| delivery.latitude).is_none_or(|latitude| (-90.0..=90.0).contains(&latitude.0)));
            prop_assert!(order.id.is_none_or(|id| OrderId::parse(id.as_str()).is_ok()));
        }
    }

    #[test]
    fn polling_bodies_keep_their_length(mut body in bytes(POLLING)) {
        let before = body.clone();
        mend(&mut body, [0; 4]);
        prop_assert_eq!(body.len(), before.len());
        let changed = body.iter().zip(&before).filter(|(new, old)| new != old);
        prop_assert!(changed.into_iter().all(|change| change == (&b',', &b'?')));
    }

    #[test]
    fn heads_of_frames_are_found_however_they_are_cut(mut bytes in bytes(FRAMES)) {
        if let Some((begin, end)) = first(&bytes) {
            prop_assert!(begin <= end);
        }
        let head = Head::read(&bytes);
        for cut in 0..bytes.len().min(16) {
            match Head::read(&bytes[..cut]) {
                Ok(early) => prop_assert_eq!(head, Ok(early)),
                Err(needed) => prop_assert!(needed > cut && needed <= 14),
            }
        }
        if let Ok(head) = head {
            let before = bytes.clone();
            unmask(&mut bytes, head.mask);
            unmask(&mut bytes, head.mask);
            prop_assert_eq!(bytes, before);
        }
    }

    /// Nobody gets in with a token that was changed.
    #[test]
    fn changed_tokens_are_refused(token in text(&good_token()[0])) {
        if verify(&token).is_ok() {
            let unchanged = token.trim().rsplit(char::is_whitespace).next();
            prop_assert_eq!(unchanged, Some(&*good_token()[1]));
        }
    }

    #[test]
    fn claims_are_read_or_refused(claims in text(CLAIMS)) {
        if let Ok(who) = verify(&signed(&claims)) {
            prop_assert!(UserId::parse(who.id.as_str()).is_ok(), "{}", who.id);
            prop_assert!(who.expires_at > Clock::System.now());
        }
    }
}

#[test]
fn every_sample_of_the_corpus_is_read_or_refused() {
    for message in samples(MESSAGES) {
        parse_in_every_dialect(&String::from_utf8_lossy(&message));
    }
    for mut body in samples(POLLING) {
        mend(&mut body, [0; 4]);
    }
    assert!(verify(&good_token()[1]).is_ok());
    let accepted = samples(CLAIMS)
        .iter()
        .filter(|claims| verify(&signed(&String::from_utf8_lossy(claims))).is_ok())
        .count();
    assert!(accepted >= 3, "the samples of claims are of use: {accepted}");
    let accepted = samples(ORDERS)
        .iter()
        .filter(|body| read_json::<NewOrder>(&String::from_utf8_lossy(body), "body").is_ok())
        .count();
    assert!(accepted >= 2, "the samples of orders are of use: {accepted}");
}
