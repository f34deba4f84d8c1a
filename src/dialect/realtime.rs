//! Socket.IO, namespace `/realtime`: the main door's words, both ways.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};

use super::canonical::{OrderView, StatusUpdate, Telling, TrackingView, age_ms};
use crate::auth::Role;
use crate::clock::{Time, rfc3339};
use crate::command::{Command, LocationReport, Paragraph, StatusWord};
use crate::driver::eta::Eta;
use crate::error::Refusal;
use crate::event::{Announcement, Audience, EtaChange, Kind, LiveEvent, Location, OrderEvent};
use crate::fanout::{ForCustomers, Frame, Lane, Outgoing, Topic};
use crate::id::OrderId;
use crate::order::access::{Party, driver_visible_to_customer};
use crate::order::read::Tracking;
use crate::order::{Order, OrderStatus};

/// The namespace.
pub const NAMESPACE: &str = "/realtime";

/// Names that announcements may not use: the protocol's own, and those that mean something here.
const RESERVED: [&str; 24] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "error",
    "newListener",
    "removeListener",
    "connected",
    "order:new",
    "order:available",
    "order:status_update",
    "order:eta_update",
    "order:tracking",
    "driver:new_assignment",
    "driver:unassigned",
    "driver:location",
    "driver:location_batch",
    "driver:location_update",
    "driver:location_acknowledged",
    "token:expiring",
    "token:expired",
    "token:refresh",
    "resync",
    "ping:latency",
];

/// Whether an announcement may carry this name.
///
/// # Errors
/// Why it may not.
pub fn check_event_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err("must have 1 to 128 characters, none of them a control character");
    }
    if RESERVED.contains(&name) || name == "subscribe:order" || name == "unsubscribe:order" {
        return Err("is a reserved event name");
    }
    Ok(())
}

// ---- what clients ask ----

/// A request as it came: which event, for metrics and errors, and the command, or why there is none.
pub struct Request {
    pub event: &'static str,
    pub command: Result<Command, Refusal>,
}

/// Reads the JSON array of a Socket.IO event, `["name", payload]`.
#[must_use]
pub fn parse(json: &str, batch_max: usize) -> Request {
    let (name, payload) = match serde_json::from_str::<Packet<'_>>(json) {
        Ok(Packet(name, payload)) => (name, payload),
        Err(_) => {
            return Request {
                event: "unreadable",
                command: Err(Refusal::Malformed("the event is not JSON".to_owned())),
            };
        }
    };
    let payload = payload.map_or("null", RawValue::get);
    let (event, command) = match &*name {
        "subscribe:order" => ("subscribe:order", read(payload).and_then(subscribe)),
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
        "ping:latency" => ("ping:latency", read_or_empty(payload).map(|Ping { t }| Command::Ping { t })),
        _ => ("unknown", Err(Refusal::invalid("event", "is not one that this server knows"))),
    };
    Request { event, command }
}

/// `["name", payload, …]`: what comes after the payload is ignored, as unknown members are.
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

/// A name that is borrowed unless it has escapes in it.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a payload; a refusal names the member at fault.
fn read<'de, T: Deserialize<'de>>(payload: &'de str) -> Result<T, Refusal> {
    if !payload.trim_start().starts_with('{') {
        return Err(Refusal::invalid("payload", "must be an object"));
    }
    crate::transport::read_json(payload.as_bytes())
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
    since: Option<i64>,
}

fn subscribe(Subscribe { order_id, since }: Subscribe) -> Result<Command, Refusal> {
    if since.is_some_and(i64::is_negative) {
        return Err(Refusal::invalid("since", "must not be negative"));
    }
    Ok(Command::Subscribe { order: order_id, since })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeStatus {
    order_id: OrderId,
    status: StatusWord,
    note: Option<Paragraph>,
    expected_seq: Option<i64>,
}

fn change_status(asked: ChangeStatus) -> Command {
    let ChangeStatus { order_id, status, note, expected_seq } = asked;
    Command::ChangeStatus { order: order_id, to: status.0, note, expected_seq }
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
    let one = |point: &&RawValue| read::<LocationReport>(point.get()).map_err(|refusal| refusal.to_string());
    Ok(Command::LocationBatch(batch.points.iter().map(one).collect()))
}

#[derive(Deserialize)]
struct Ping {
    t: Option<Box<RawValue>>,
}

// ---- what clients are answered ----

/// JSON for an answer or an event. Our own types always serialize; if one did not, clients would see `null`.
pub fn json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a payload could not be written as JSON");
        RawValue::NULL.to_owned()
    })
}

/// `{ok: true, …}` around an answer.
#[derive(Serialize)]
pub struct Success<T> {
    ok: bool,
    #[serde(flatten)]
    answer: T,
}

impl<T> Success<T> {
    pub const fn new(answer: T) -> Self {
        Self { ok: true, answer }
    }
}

/// Nothing but `{ok: true}`.
#[derive(Serialize)]
pub struct Nothing {}

/// `{ok: false, error: {…}}`.
#[derive(Serialize)]
pub struct Failure<'a> {
    ok: bool,
    error: Problem<'a>,
}

/// A refusal on the wire.
#[skip_serializing_none]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem<'a> {
    code: &'static str,
    message: String,
    member: Option<&'a str>,
    allowed: Option<Vec<&'static str>>,
    status: Option<&'static str>,
    seq: Option<i64>,
    retry_after_ms: Option<u64>,
    event: Option<&'a str>,
}

impl<'a> Problem<'a> {
    #[must_use]
    pub fn new(refusal: &'a Refusal, event: Option<&'a str>) -> Self {
        let mut problem = Self {
            // The one word for every kind of unreadable payload on this door.
            code: if matches!(refusal, Refusal::Malformed(_)) { "invalid_payload" } else { refusal.code() },
            message: refusal.to_string(),
            member: None,
            allowed: None,
            status: None,
            seq: None,
            retry_after_ms: None,
            event,
        };
        match refusal {
            Refusal::Invalid { member, .. } => problem.member = Some(member),
            Refusal::Illegal { status, allowed, .. } => {
                problem.status = Some(status.as_str());
                problem.allowed = Some(allowed.iter().map(|status| status.as_str()).collect());
            }
            Refusal::StaleSeq { seq, .. } => problem.seq = Some(*seq),
            Refusal::RateLimited { retry_after_ms } => problem.retry_after_ms = Some(*retry_after_ms),
            Refusal::Malformed(_)
            | Refusal::Unauthorized(_)
            | Refusal::TokenExpired
            | Refusal::Forbidden(_)
            | Refusal::NotFound(_)
            | Refusal::Taken(_)
            | Refusal::KeyReused
            | Refusal::ClockSkew { .. }
            | Refusal::TooMany { .. }
            | Refusal::Unavailable
            | Refusal::Internal(_) => {}
        }
        problem
    }
}

/// The answer to a request that was refused.
#[must_use]
pub fn failure(refusal: &Refusal) -> Box<RawValue> {
    json(&Failure { ok: false, error: Problem::new(refusal, None) })
}

/// The `error` event, for a request that was refused and has no ack callback.
#[must_use]
pub fn error_event(refusal: &Refusal, event: &str) -> Frame {
    frame("error", &Problem::new(refusal, Some(event)))
}

/// The answer to `subscribe:order`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed<'a> {
    pub order_id: &'a str,
    pub seq: i64,
    pub status: &'static str,
    pub tracking: TrackingView<'a>,
}

impl<'a> Subscribed<'a> {
    #[must_use]
    pub fn new(tracking: &'a Tracking, eta: Option<Eta>) -> Self {
        let order = &tracking.order;
        let (order_id, seq, status) = (order.id.as_str(), order.seq, order.status.as_str());
        Self { order_id, seq, status, tracking: TrackingView::new(tracking, eta) }
    }
}

/// The answer to `order:status_update`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed<'a> {
    pub order_id: &'a OrderId,
    pub status: OrderStatus,
    pub seq: i64,
}

/// The answer to `driver:location`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    pub received_at: String,
}

/// The answer to `driver:location_batch`.
#[derive(Serialize)]
pub struct BatchReceived {
    pub accepted: usize,
    pub rejected: Vec<RejectedPoint>,
}

/// A point that was not taken.
#[derive(Serialize)]
pub struct RejectedPoint {
    pub index: usize,
    pub code: &'static str,
}

/// The answer to `ping:latency`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pong<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t: Option<&'a RawValue>,
    pub server_time: String,
}

// ---- what clients hear ----

fn frame(name: &'static str, payload: &impl Serialize) -> Frame {
    Frame { name: Cow::Borrowed(name), json: json(payload) }
}

/// The greeting of a socket that has just come.
#[must_use]
pub fn connected(socket_id: &str, user: &str, role: Role, position: i64, now: Time) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Connected<'a> {
        socket_id: &'a str,
        user_id: &'a str,
        role: &'static str,
        recovered: bool,
        position: i64,
        server_time: String,
    }
    let (role, server_time) = (role.as_str(), rfc3339(now));
    frame("connected", &Connected { socket_id, user_id: user, role, recovered: false, position, server_time })
}

/// To the driver who sent a fix, beside the ack.
#[must_use]
pub fn location_acknowledged(orders: &[OrderId], received_at: &str) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Acknowledged<'a> {
        order_ids: &'a [OrderId],
        received_at: &'a str,
    }
    frame("driver:location_acknowledged", &Acknowledged { order_ids: orders, received_at })
}

/// A status update told to one session as it catches up.
#[must_use]
pub fn catch_up(event: &OrderEvent, eta: Option<Eta>, party: Party, telling: Telling) -> Frame {
    frame("order:status_update", &StatusUpdate::new(event, eta, party, telling))
}

/// A durable event: one message to the parties, and what else it means to somebody.
#[must_use]
pub fn render(event: &OrderEvent, eta: Option<Eta>) -> SmallVec<[Outgoing; 3]> {
    let order = &event.order;
    let durable = |to, frame: Frame| Outgoing {
        to,
        frame: Arc::new(frame),
        for_customers: ForCustomers::Nothing,
        lane: Lane::Durable(None),
    };
    if event.kind == Kind::Created {
        let to = smallvec![Topic::User(order.chef.id.clone()), Topic::Role(Role::Admin)];
        return smallvec![durable(to, frame("order:new", &OrderView::new(order, eta, Party::Staff)))];
    }
    let mut all = smallvec![status_update(event, eta)];
    if let (Kind::Assigned, Some(driver)) = (event.kind, &order.driver) {
        let to = smallvec![Topic::User(driver.id.clone())];
        all.push(durable(to, frame("driver:new_assignment", &OrderView::new(order, eta, Party::Driver))));
    }
    if let Some(former) = &event.former_driver {
        all.push(durable(smallvec![Topic::User(former.clone())], frame("driver:unassigned", &named(order))));
    }
    let became_ready = order.status == OrderStatus::ReadyForPickup && event.previous_status != order.status;
    if became_ready && order.driver.is_none() {
        all.push(durable(smallvec![Topic::Role(Role::Driver)], frame("order:available", &available(order))));
    }
    all
}

fn status_update(event: &OrderEvent, eta: Option<Eta>) -> Outgoing {
    let order = &event.order;
    let mut to: SmallVec<[Topic; 5]> = smallvec![
        Topic::Order(order.id.clone()),
        Topic::User(order.customer.id.clone()),
        Topic::User(order.chef.id.clone()),
        Topic::Role(Role::Admin),
    ];
    to.extend(order.driver.iter().map(|driver| Topic::User(driver.id.clone())));
    let full = catch_up(event, eta, Party::Staff, Telling::Live);
    let hides_phone = order.driver.as_ref().is_some_and(|driver| driver.phone.is_some())
        && !driver_visible_to_customer(order.status);
    let for_customers = if hides_phone {
        ForCustomers::Other(Arc::new(catch_up(event, eta, Party::Customer, Telling::Live)))
    } else {
        ForCustomers::Same
    };
    let lane = Lane::Durable(Some((order.id.clone(), order.seq)));
    Outgoing { to, frame: Arc::new(full), for_customers, lane }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    order_id: &'a OrderId,
    order_number: &'a str,
}

fn named(order: &Order) -> Named<'_> {
    Named { order_id: &order.id, order_number: &order.order_number }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Available<'a> {
    order_id: &'a OrderId,
    order_number: &'a str,
    pickup: Pickup<'a>,
}

#[derive(Serialize)]
struct Pickup<'a> {
    address: Option<&'a str>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

fn available(order: &Order) -> Available<'_> {
    let chef = &order.chef;
    let pickup =
        Pickup { address: chef.address.as_deref(), latitude: chef.latitude, longitude: chef.longitude };
    Available { order_id: &order.id, order_number: &order.order_number, pickup }
}

/// A live event.
#[must_use]
pub fn render_live(event: &LiveEvent) -> Option<Outgoing> {
    let (to, frame, for_customers, lane): (SmallVec<[Topic; 5]>, _, _, _) = match event {
        LiveEvent::Location(location) => {
            let who = if location.customer_may_see { ForCustomers::Same } else { ForCustomers::Nothing };
            (smallvec![Topic::Order(location.order.clone())], location_update(location), who, Lane::Live)
        }
        LiveEvent::Eta(change) => {
            let to = smallvec![Topic::Order(change.order.clone()), Topic::User(change.customer.clone())];
            (to, eta_update(change), ForCustomers::Same, Lane::Live)
        }
        // An announcement is not logged, but nothing supersedes it either.
        LiveEvent::Announcement(Announcement { audience, name, data }) => {
            let to = match audience {
                Audience::Role(role) => Topic::Role(*role),
                Audience::User(user) => Topic::User(user.clone()),
            };
            let frame = Frame { name: Cow::Owned(name.clone()), json: data.clone() };
            (smallvec![to], frame, ForCustomers::Same, Lane::Durable(None))
        }
    };
    Some(Outgoing { to, frame: Arc::new(frame), for_customers, lane })
}

fn location_update(location: &Location) -> Frame {
    #[skip_serializing_none]
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct LocationUpdate<'a> {
        order_id: &'a str,
        driver_id: &'a str,
        latitude: f64,
        longitude: f64,
        heading: Option<f64>,
        speed: Option<f64>,
        accuracy: Option<f64>,
        timestamp: String,
        received_at: String,
        age_ms: i64,
        conflated: u32,
    }
    frame(
        "driver:location_update",
        &LocationUpdate {
            order_id: location.order.as_str(),
            driver_id: location.driver.as_str(),
            latitude: location.latitude,
            longitude: location.longitude,
            heading: location.heading,
            speed: location.speed,
            accuracy: location.accuracy,
            timestamp: rfc3339(location.recorded_at),
            received_at: rfc3339(location.received_at),
            age_ms: age_ms(location.recorded_at, location.received_at),
            conflated: 0,
        },
    )
}

fn eta_update(change: &EtaChange) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct EtaUpdate<'a> {
        order_id: &'a str,
        eta_minutes: i64,
        estimated_delivery_time: String,
        eta_source: &'static str,
    }
    frame(
        "order:eta_update",
        &EtaUpdate {
            order_id: change.order.as_str(),
            eta_minutes: change.eta.minutes,
            estimated_delivery_time: rfc3339(change.eta.at),
            eta_source: change.eta.source.as_str(),
        },
    )
}
