//! Requests of clients: from the JSON of an event to a command.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::base::error::Refusal;
use crate::base::json::{ObjectOf, optional};
use crate::dialect::Request;
use crate::dialect::canonical::StatusWord;
use crate::dialect::names::{RealtimeRequest, UNKNOWN, UNREADABLE};
use crate::model::{
    Bounds, Command, FailureReason, LocationReport, NotificationState, OrderId, Paragraph, ReasonWord,
    Secret, WholeNumber,
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
        return Request { event: RealtimeRequest::Location.as_str(), command: Ok(Command::Location(report)) };
    }
    let Ok(Packet(name, payload)) = serde_json::from_str::<Packet<'_>>(json) else {
        let command = Err(Refusal::Malformed("the event is not JSON".to_owned()));
        return Request { event: UNREADABLE, command };
    };
    let payload = payload.map_or("null", RawValue::get);
    let Some(request) = RealtimeRequest::parse(&name) else {
        let command = Err(Refusal::UnknownEvent(name.chars().take(NAME).collect()));
        return Request { event: UNKNOWN, command };
    };
    let command = match request {
        RealtimeRequest::Subscribe => {
            read(payload).and_then(|SubscribeOrder { order_id, since }| Command::subscribe(order_id, since))
        }
        RealtimeRequest::Unsubscribe => {
            read(payload).map(|OrderOnly { order_id }| Command::Unsubscribe { order: order_id })
        }
        RealtimeRequest::Location => read(payload).map(Command::Location),
        RealtimeRequest::LocationBatch => read(payload).and_then(|batch| points(&batch, batch_max)),
        RealtimeRequest::StatusUpdate => read(payload).map(change_status),
        RealtimeRequest::Tracking => {
            read(payload).map(|OrderOnly { order_id }| Command::Tracking { order: order_id })
        }
        RealtimeRequest::TokenRefresh => {
            read(payload).map(|RefreshToken { token }| Command::Refresh { token })
        }
        RealtimeRequest::Ping => read_or_empty(payload).map(|Ping { t }| Command::Ping { t }),
        RealtimeRequest::SubscribeFleet => {
            read_or_empty(payload).map(|SubscribeFleet { bbox }| Command::WatchFleet { bounds: bbox })
        }
        RealtimeRequest::UnsubscribeFleet => Ok(Command::UnwatchFleet),
        RealtimeRequest::ReplayOrder => read(payload).and_then(play),
        RealtimeRequest::ReplayStop => Ok(Command::StopPlaying),
        RealtimeRequest::AppState => read(payload).map(|asked| app_state(&asked)),
        RealtimeRequest::OrderSeen => {
            read(payload).and_then(|OrderSeen { order_id, seq }| seen(order_id, seq))
        }
        RealtimeRequest::NotificationAck => {
            read(payload).map(|NotificationAck { id, state }| Command::Acknowledge { id, state })
        }
    };
    Request { event: request.as_str(), command }
}

/// The event of which this is the beginning, as [`parse`] names it.
#[must_use]
pub fn event_of(begins: &str) -> &'static str {
    let name = begins.trim_start().strip_prefix('[').map(str::trim_start).and_then(|rest| {
        let quoted = rest.strip_prefix('"')?;
        let end = quoted.find('"')?;
        rest.get(..end + 2)
    });
    name.map_or(UNREADABLE, |name| parse(&format!("[{name}]"), 0).event)
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

/// Which order.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderOnly {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
}

/// Follow an order.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscribeOrder {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
    /// Tell each update after this seq, in place of the present state
    #[schema(value_type = Option<i64>, minimum = 0)]
    since: Option<WholeNumber>,
}

/// Hear where all drivers are.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscribeFleet {
    /// Only those between west, south, east and north, in degrees
    #[schema(value_type = Option<Bounds>)]
    bbox: Option<Bounds>,
}

/// Give an order another status.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStatus {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
    status: StatusWord,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "paragraph")]
    note: Option<Paragraph>,
    /// Why it could not be delivered, for `failed`
    #[schema(value_type = Option<FailureReason>)]
    reason: Option<ReasonWord>,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

fn change_status(asked: UpdateStatus) -> Command {
    let UpdateStatus { order_id, status, note, reason, expected_seq } = asked;
    let reason = reason.and_then(|word| word.0);
    let expected_seq = expected_seq.map(|WholeNumber(seq)| seq);
    Command::ChangeStatus { order: order_id, to: status.0, note, reason, expected_seq }
}

/// Positions that were collected.
#[derive(Deserialize, ToSchema)]
#[schema(as = LocationBatch)]
pub struct BatchOf<'a> {
    #[serde(borrow)]
    #[schema(value_type = Vec<LocationReport>)]
    points: Vec<&'a RawValue>,
}

fn points(batch: &BatchOf<'_>, max: usize) -> Result<Command, Refusal> {
    if batch.points.len() > max {
        return Err(Refusal::invalid("points", format!("must have at most {max} points")));
    }
    let one = |point: &&RawValue| read::<LocationReport>(point.get());
    Ok(Command::LocationBatch(batch.points.iter().map(one).collect()))
}

/// Play a delivery again, into this socket.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayOrder {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
    /// How many times as fast as it was [default: 10]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 600)]
    speed: Option<WholeNumber>,
    /// What is to be different: see `POST /orders/{id}/replay`
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    set: Option<BTreeMap<String, Value>>,
}

/// How many times as fast as it was a delivery may be played, and how fast it is if nobody says.
pub const FASTEST: u32 = 600;
const USUAL: u32 = 10;

fn play(asked: ReplayOrder) -> Result<Command, Refusal> {
    let ReplayOrder { order_id, speed, set } = asked;
    let speed =
        match speed {
            None => USUAL,
            Some(WholeNumber(speed)) => u32::try_from(speed)
                .ok()
                .filter(|speed| (1..=FASTEST).contains(speed))
                .ok_or_else(|| Refusal::invalid("speed", format!("must be from 1 to {FASTEST}")))?,
        };
    Ok(Command::Play { order: order_id, speed, set: set.unwrap_or_default() })
}

/// Whether somebody looks at the app.
#[derive(Deserialize, ToSchema)]
pub struct AppState {
    state: AppStateWord,
}

/// `active` and `inactive` are what React Native says.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AppStateName)]
enum AppStateWord {
    Foreground,
    Active,
    Background,
    Inactive,
}

fn app_state(asked: &AppState) -> Command {
    let foreground = matches!(asked.state, AppStateWord::Foreground | AppStateWord::Active);
    Command::AppState { foreground }
}

/// The user has seen an order.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderSeen {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
    #[schema(value_type = i64, minimum = 1)]
    seq: WholeNumber,
}

fn seen(order: OrderId, WholeNumber(seq): WholeNumber) -> Result<Command, Refusal> {
    if seq < 1 {
        return Err(Refusal::invalid("seq", "must be at least 1"));
    }
    Ok(Command::Seen { order, seq })
}

/// A notification is there, or was opened.
#[derive(Deserialize, ToSchema)]
pub struct NotificationAck {
    id: String,
    state: NotificationState,
}

/// A newer token for the same user in the same role.
#[derive(Deserialize, ToSchema)]
pub struct RefreshToken {
    #[schema(value_type = String)]
    token: Secret,
}

/// How long does it take?
#[derive(Deserialize, ToSchema)]
pub struct Ping {
    /// Anything; it is returned
    #[schema(value_type = Option<serde_json::Value>)]
    t: Option<Box<RawValue>>,
}
