//! `/realtime` for strangers who have a link to one order: its status, its ETA and, if the link says so, where the driver is. No
//! name, no phone, no address is written here.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::canonical::{StatusWord, age_ms, message};
use super::message::{ForPublic, LiveAudience, Message, Outgoing, Telling, Topic};
use super::names::RealtimeEvent;
use super::place::Place;
use super::{Answer, Request, realtime};
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::base::json_text::{Json, Object};
use crate::model::order::time_of;
use crate::model::{
    Command, Eta, EventKind, FailureReason, LiveEvent, Location, OrderEvent, OrderStatus, Overview, Party,
};

/// A durable event, as strangers may know it.
#[skip_serializing_none]
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SharedStatusUpdate)]
pub struct Update<'a> {
    order_id: &'a str,
    order_number: &'a str,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    #[schema(value_type = StatusWord)]
    previous_status: &'static str,
    seq: i64,
    position: i64,
    #[schema(format = DateTime)]
    timestamp: String,
    eta_minutes: Option<i64>,
    #[schema(format = DateTime)]
    estimated_delivery_time: Option<String>,
    /// Never what somebody wrote.
    message: &'static str,
    replayed: Option<bool>,
    snapshot: Option<bool>,
}

/// A status update for a session that catches up.
#[must_use]
pub fn catch_up(event: &OrderEvent, eta: Option<Eta>, telling: Telling) -> Message {
    let order = &event.order;
    let update = Update {
        order_id: order.id.as_str(),
        order_number: &order.order_number,
        status: order.status.as_str(),
        previous_status: event.previous_status.as_str(),
        seq: order.seq,
        position: event.position,
        timestamp: rfc3339(event.at),
        eta_minutes: eta.map(|eta| eta.minutes),
        estimated_delivery_time: eta.map(|eta| rfc3339(eta.at)),
        message: message(order.status),
        replayed: (telling == Telling::Replayed).then_some(true),
        snapshot: (telling == Telling::Snapshot).then_some(true),
    };
    Message::new(Cow::Borrowed(RealtimeEvent::StatusUpdate.as_str()), Json::of(&update))
}

/// Every durable event after the creation is one status update.
#[must_use]
pub fn render(event: &OrderEvent, eta: Option<Eta>, telling: Telling) -> SmallVec<[Outgoing; 3]> {
    if event.kind == EventKind::Created {
        return SmallVec::new();
    }
    let message = catch_up(event, eta, telling).at(Place::after(event.position));
    smallvec![Outgoing {
        to: smallvec![Topic::Order(event.order.id.clone())],
        message: Arc::new(message),
        for_public: ForPublic::Same,
    }]
}

/// Where the driver is, and when they arrive.
#[must_use]
pub fn live_audience(event: &LiveEvent) -> Option<LiveAudience> {
    let order = match event {
        LiveEvent::Location(location) => &location.about.order.id,
        LiveEvent::Eta(change) => &change.order,
        LiveEvent::Told(_) | LiveEvent::Announcement(_) => return None,
    };
    Some(LiveAudience { topics: smallvec![Topic::Order(order.clone())], ..realtime::live_audience(event) })
}

/// A live event.
#[must_use]
pub fn render_live(event: &LiveEvent) -> Option<Message> {
    match event {
        LiveEvent::Location(location) => Some(location_update(location)),
        LiveEvent::Eta(_) => Some(realtime::render_live(event)),
        LiveEvent::Told(_) | LiveEvent::Announcement(_) => None,
    }
}

/// The driver moved: what `location_update` writes.
#[derive(ToSchema)]
#[schema(as = SharedLocationUpdate, rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document only")]
pub struct LocationUpdate {
    order_id: String,
    latitude: f64,
    longitude: f64,
    /// Degrees clockwise from north
    heading: Option<f64>,
    /// Metres per second
    speed: Option<f64>,
    /// When the phone measured it
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(format = DateTime)]
    received_at: String,
    /// How old it was when it arrived
    age_ms: i64,
    /// How many older positions it stands for, for a slow reader
    conflated: u32,
}

fn location_update(location: &Location) -> Message {
    let fix = &location.fix;
    let payload = Object::with_capacity(256)
        .word("orderId", location.about.order.id.as_str())
        .number("latitude", fix.place.lat())
        .number("longitude", fix.place.lon())
        .number_if("heading", fix.heading)
        .number_if("speed", fix.speed)
        .time("timestamp", fix.recorded_at)
        .time("receivedAt", fix.received_at)
        .whole("ageMs", age_ms(fix.recorded_at, fix.received_at))
        .whole("conflated", 0);
    Message::new(Cow::Borrowed(RealtimeEvent::LocationUpdate.as_str()), payload.end())
}

/// Parses what a client sends. Who has a link may look, and nothing else.
#[must_use]
pub fn parse(text: &str) -> Request {
    let Request { event, command } = realtime::parse(text, 0);
    let command = command.and_then(|command| match command {
        Command::Subscribe { .. }
        | Command::Unsubscribe { .. }
        | Command::Tracking { .. }
        | Command::Ping { .. } => Ok(command),
        _ => Err(Refusal::Forbidden("who has a link may only look".to_owned())),
    });
    Request { event, command }
}

/// The answer to `subscribe:order`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SharedSubscribed)]
pub struct Subscribed<'a> {
    ok: bool,
    order_id: &'a str,
    seq: i64,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    tracking: SharedView<'a>,
}

/// The answer to `order:tracking`.
#[derive(Serialize)]
struct Tracking<'a> {
    ok: bool,
    #[serde(flatten)]
    tracking: SharedView<'a>,
}

/// The answer to a request that succeeded.
#[must_use]
pub fn answer(answer: &Answer<'_>) -> Json {
    match answer {
        Answer::Subscribed { tracking, eta } => {
            let order = &tracking.order;
            Json::of(&Subscribed {
                ok: true,
                order_id: order.id.as_str(),
                seq: order.seq,
                status: order.status.as_str(),
                tracking: SharedView::new(tracking, *eta),
            })
        }
        Answer::Tracking { tracking, eta } => {
            Json::of(&Tracking { ok: true, tracking: SharedView::new(tracking, *eta) })
        }
        other => realtime::answer(other),
    }
}

/// An order as strangers with a link see it.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SharedOrder)]
pub struct SharedView<'a> {
    order_id: &'a str,
    order_number: &'a str,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    /// What the status means
    message: &'static str,
    seq: i64,
    eta_minutes: Option<i64>,
    #[schema(format = DateTime)]
    estimated_delivery_time: Option<String>,
    #[schema(format = DateTime)]
    eta_low: Option<String>,
    #[schema(format = DateTime)]
    eta_high: Option<String>,
    stale: Option<bool>,
    driver_latitude: Option<f64>,
    driver_longitude: Option<f64>,
    #[schema(format = DateTime)]
    last_location_update: Option<String>,
    /// Why it could not be delivered
    failure_reason: Option<FailureReason>,
    status_history: Vec<SharedPast>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    delivered_at: Option<String>,
}

/// A status that the order has had.
#[derive(Debug, Serialize, ToSchema)]
pub struct SharedPast {
    #[schema(value_type = StatusWord)]
    status: &'static str,
    #[schema(format = DateTime)]
    timestamp: String,
}

impl<'a> SharedView<'a> {
    #[must_use]
    pub fn new(tracking: &'a Overview, eta: Option<Eta>) -> Self {
        let order = &tracking.order;
        let position = tracking.seen_by(Party::Anonymous);
        let past = |past: &crate::model::PastStatus| SharedPast {
            status: past.status.as_str(),
            timestamp: rfc3339(past.at),
        };
        Self {
            order_id: order.id.as_str(),
            order_number: &order.order_number,
            status: order.status.as_str(),
            message: message(order.status),
            seq: order.seq,
            eta_minutes: eta.map(|eta| eta.minutes),
            estimated_delivery_time: eta.map(|eta| rfc3339(eta.at)),
            eta_low: eta.map(|eta| rfc3339(eta.low)),
            eta_high: eta.map(|eta| rfc3339(eta.high)),
            stale: eta.and_then(|eta| eta.stale.then_some(true)),
            driver_latitude: position.map(|(place, _)| place.lat()),
            driver_longitude: position.map(|(place, _)| place.lon()),
            last_location_update: position.map(|(_, at)| rfc3339(at)),
            failure_reason: order.details.failure,
            status_history: tracking.history.iter().map(past).collect(),
            created_at: rfc3339(order.created_at),
            delivered_at: time_of(&tracking.history, OrderStatus::Delivered).map(rfc3339),
        }
    }
}
