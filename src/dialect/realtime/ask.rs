//! Requests of clients: from the JSON of an event to a command.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::error::Refusal;
use crate::base::json::{ObjectOf, optional};
use crate::dialect::Request;
use crate::dialect::canonical::StatusWord;
use crate::model::{
    Bounds, Command, LocationReport, NotificationState, OrderId, Paragraph, ReasonWord, Secret, WholeNumber,
};

/// How the most frequent event begins, as clients write it.
const LOCATION: &str = "[\"driver:location\",";

/// The report in `{…}]`, read once. Whatever else it is goes the usual way, which also tells what is wrong.
fn only_payload(json: &str) -> Option<LocationReport> {
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<ObjectOf<LocationReport>>();
    let ObjectOf(report) = values.next()?.ok()?;
    (json.get(values.byte_offset()..)? == "]").then_some(report)
}

/// How many characters of an unknown event's name the answer repeats.
const NAME: usize = 128;

/// Parses the JSON array of a Socket.IO event, `["name", payload]`.
#[must_use]
pub fn parse(json: &str, batch_max: usize) -> Request {
    if let Some(report) = json.strip_prefix(LOCATION).and_then(only_payload) {
        return Request { event: "driver:location", command: Ok(Command::Location(report)) };
    }
    let Ok(Packet(name, payload)) = serde_json::from_str::<Packet<'_>>(json) else {
        let command = Err(Refusal::Malformed("the event is not JSON".to_owned()));
        return Request { event: "unreadable", command };
    };
    let payload = payload.map_or("null", RawValue::get);
    let (event, command) = match &*name {
        "subscribe:order" => (
            "subscribe:order",
            read(payload).and_then(|Subscribe { order_id, since }| Command::subscribe(order_id, since)),
        ),
        "unsubscribe:order" => (
            "unsubscribe:order",
            read(payload).map(|OrderOnly { order_id }| Command::Unsubscribe { order: order_id }),
        ),
        "driver:location" => ("driver:location", read(payload).map(Command::Location)),
        "driver:location_batch" => {
            ("driver:location_batch", read(payload).and_then(|batch| points(&batch, batch_max)))
        }
        "order:status_update" => ("order:status_update", read(payload).map(change_status)),
        "order:tracking" => (
            "order:tracking",
            read(payload).map(|OrderOnly { order_id }| Command::Tracking { order: order_id }),
        ),
        "token:refresh" => {
            ("token:refresh", read(payload).map(|Refresh { token }| Command::Refresh { token }))
        }
        "ping:latency" => ("ping:latency", read_or_empty(payload).map(|Ping { t }| Command::Ping { t })),
        "subscribe:fleet" => (
            "subscribe:fleet",
            read_or_empty(payload).map(|WatchFleet { bbox }| Command::WatchFleet { bounds: bbox }),
        ),
        "unsubscribe:fleet" => ("unsubscribe:fleet", Ok(Command::UnwatchFleet)),
        "app:state" => ("app:state", read(payload).map(|asked| app_state(&asked))),
        "order:seen" => ("order:seen", read(payload).and_then(|Seen { order_id, seq }| seen(order_id, seq))),
        "notification:ack" => (
            "notification:ack",
            read(payload).map(|Acknowledge { id, state }| Command::Acknowledge { id, state }),
        ),
        other => ("unknown", Err(Refusal::UnknownEvent(other.chars().take(NAME).collect()))),
    };
    Request { event, command }
}

/// The event of which this is the beginning, as [`parse`] names it.
#[must_use]
pub fn event_of(begins: &str) -> &'static str {
    let name = begins.trim_start().strip_prefix('[').map(str::trim_start).and_then(|rest| {
        let quoted = rest.strip_prefix('"')?;
        let end = quoted.find('"')?;
        rest.get(..end + 2)
    });
    name.map_or("unreadable", |name| parse(&format!("[{name}]"), 0).event)
}

/// `["name", payload, …]`. Further arguments are ignored, as unknown members are.
struct Packet<'a>(Cow<'a, str>, Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Packet<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Packet<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array beginning with the event's name")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let name = seq
                    .next_element::<Name<'de>>()?
                    .ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                let payload = seq.next_element::<&'de RawValue>()?;
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Packet(name.0, payload))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// A name. It is borrowed from the packet unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Parses a payload. A refusal names the member at fault.
fn read<'de, T: Deserialize<'de>>(payload: &'de str) -> Result<T, Refusal> {
    if !payload.trim_start().starts_with('{') {
        return Err(Refusal::invalid("payload", "must be an object"));
    }
    crate::base::json::read_json(payload, "payload")
}

fn read_or_empty<'de, T: Deserialize<'de>>(payload: &'de str) -> Result<T, Refusal> {
    if payload == "null" { read("{}") } else { read(payload) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderOnly {
    order_id: OrderId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscribe {
    order_id: OrderId,
    since: Option<WholeNumber>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchFleet {
    bbox: Option<Bounds>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeStatus {
    order_id: OrderId,
    status: StatusWord,
    #[serde(default, deserialize_with = "optional")]
    note: Option<Paragraph>,
    reason: Option<ReasonWord>,
    expected_seq: Option<WholeNumber>,
}

fn change_status(asked: ChangeStatus) -> Command {
    let ChangeStatus { order_id, status, note, reason, expected_seq } = asked;
    let reason = reason.and_then(|word| word.0);
    let expected_seq = expected_seq.map(|WholeNumber(seq)| seq);
    Command::ChangeStatus { order: order_id, to: status.0, note, reason, expected_seq }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    points: Vec<&'a RawValue>,
}

fn points(batch: &Batch<'_>, max: usize) -> Result<Command, Refusal> {
    if batch.points.len() > max {
        return Err(Refusal::invalid("points", format!("must have at most {max} points")));
    }
    let one = |point: &&RawValue| read::<LocationReport>(point.get());
    Ok(Command::LocationBatch(batch.points.iter().map(one).collect()))
}

#[derive(Deserialize)]
struct AppState {
    state: AppStateWord,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AppStateWord {
    Foreground,
    /// So React Native says.
    Active,
    Background,
    Inactive,
}

fn app_state(asked: &AppState) -> Command {
    let foreground = matches!(asked.state, AppStateWord::Foreground | AppStateWord::Active);
    Command::AppState { foreground }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    order_id: OrderId,
    seq: WholeNumber,
}

fn seen(order: OrderId, WholeNumber(seq): WholeNumber) -> Result<Command, Refusal> {
    if seq < 1 {
        return Err(Refusal::invalid("seq", "must be at least 1"));
    }
    Ok(Command::Seen { order, seq })
}

#[derive(Deserialize)]
struct Acknowledge {
    id: String,
    state: NotificationState,
}

#[derive(Deserialize)]
struct Refresh {
    token: Secret,
}

#[derive(Deserialize)]
struct Ping {
    t: Option<Box<RawValue>>,
}
