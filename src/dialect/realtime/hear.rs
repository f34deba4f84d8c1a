//! Messages to clients: rendered events.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::message;
use crate::base::clock::{Time, rfc3339};
use crate::base::json_text::{Json, Object};
use crate::dialect::canonical::{OrderView, StatusUpdate, age_ms};
use crate::dialect::message::{
    ForPublic, LiveAudience, LiveKey, LiveKind, Message, Outgoing, Telling, Topic,
};
use crate::dialect::names::RealtimeEvent;
use crate::dialect::place::Place;
use crate::dialect::words::{EtaSourceWord, RoleWord, SourceWord};
use crate::dialect::{Greeting, TokenEvent};
use crate::model::access::driver_visible_to_customer;
use crate::model::{
    Announcement, Eta, EtaChange, EventKind, Fix, LiveEvent, Location, Order, OrderEvent, OrderId, Party,
    Provenance, Role, Source, UserId,
};

/// The greeting of a new socket.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connected<'a> {
    socket_id: &'a str,
    user_id: &'a str,
    #[schema(value_type = RoleWord)]
    role: &'static str,
    /// Whether the session goes on where it was
    recovered: bool,
    /// Place in the log of all orders up to which the client has everything
    position: i64,
    #[schema(format = DateTime)]
    server_time: String,
}

/// The greeting of a new socket.
#[must_use]
pub fn connected(greeting: &Greeting<'_>) -> Message {
    let payload = Connected {
        socket_id: greeting.socket_id,
        user_id: greeting.user.as_str(),
        role: greeting.role.as_str(),
        recovered: greeting.recovered,
        position: greeting.position,
        server_time: rfc3339(greeting.now),
    };
    message(RealtimeEvent::Connected, &payload)
}

/// When the socket's token ends.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenEnd {
    #[schema(format = DateTime)]
    expires_at: String,
}

/// The socket's token is about to end, or has ended.
#[must_use]
pub fn token_event(event: TokenEvent, expires_at: Time) -> Message {
    let name = match event {
        TokenEvent::Expiring => RealtimeEvent::TokenExpiring,
        TokenEvent::Expired => RealtimeEvent::TokenExpired,
    };
    message(name, &TokenEnd { expires_at: rfc3339(expires_at) })
}

/// Why not everything that was missed can be told.
#[derive(Serialize, ToSchema)]
pub struct Resync {
    /// `too_many_events`, `unknown_position` or `too_old`
    reason: &'static str,
}

/// The client missed more than can be replayed.
#[must_use]
pub fn resync(reason: &'static str) -> Message {
    message(RealtimeEvent::Resync, &Resync { reason })
}

/// A position was taken: what `location_acknowledged` writes.
#[derive(ToSchema)]
#[schema(as = LocationAcknowledged, rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document only")]
pub struct Acknowledged {
    /// The orders that it is for
    order_ids: Vec<String>,
    #[schema(format = DateTime)]
    received_at: String,
}

/// To the driver who sent a fix, beside the ack.
#[must_use]
pub fn location_acknowledged(orders: &[OrderId], received_at: Time) -> Message {
    let payload = Object::with_capacity(64 + 48 * orders.len())
        .words("orderIds", orders.iter().map(OrderId::as_str))
        .time("receivedAt", received_at);
    Message::new(Cow::Borrowed(RealtimeEvent::LocationAcknowledged.as_str()), payload.end())
}

/// A status update for one session that catches up.
#[must_use]
pub fn catch_up(event: &OrderEvent, eta: Option<Eta>, party: Party, telling: Telling) -> Message {
    message(RealtimeEvent::StatusUpdate, &StatusUpdate::new(event, eta, party, telling))
}

/// Recipients, message, and the customers' version if it differs.
type Addressed = (SmallVec<[Topic; 5]>, Message, Option<Message>);

/// A durable event: first the messages for single parties, then one message for all parties. Each has the client's
/// offset. The last has the place after the whole event, because it names the event's position.
#[must_use]
pub fn render(event: &OrderEvent, eta: Option<Eta>, telling: Telling) -> SmallVec<[Outgoing; 3]> {
    let order = &event.order;
    let mut all: SmallVec<[Addressed; 3]> = SmallVec::new();
    if event.kind == EventKind::Created {
        let to = smallvec![Topic::User(Role::Chef, order.chef.id.clone()), Topic::Role(Role::Admin)];
        all.push((to, message(RealtimeEvent::OrderNew, &OrderView::new(order, eta, Party::Staff)), None));
    } else {
        if let (EventKind::Assigned, Some(driver)) = (event.kind, &order.driver) {
            let to = smallvec![Topic::User(Role::Driver, driver.id.clone())];
            all.push((
                to,
                message(RealtimeEvent::NewAssignment, &OrderView::new(order, eta, Party::Driver)),
                None,
            ));
        }
        if let Some(former) = &event.former_driver {
            let to = smallvec![Topic::User(Role::Driver, former.clone())];
            all.push((to, message(RealtimeEvent::Unassigned, &named(order)), None));
        }
        if event.became_available() {
            let to = smallvec![Topic::Role(Role::Driver)];
            all.push((to, message(RealtimeEvent::OrderAvailable, &available(order)), None));
        }
        if let Some(reason) = event.withdrawn() {
            let to = smallvec![Topic::Role(Role::Driver)];
            all.push((
                to,
                message(RealtimeEvent::OrderWithdrawn, &Withdrawn { order_id: &order.id, reason }),
                None,
            ));
        }
        all.push(status_update(event, eta, telling));
    }
    let count = all.len();
    let place = |index| Place::within(event.position, index, count);
    all.into_iter()
        .enumerate()
        .map(|(index, (to, message, for_public))| Outgoing {
            to,
            message: Arc::new(message.at(place(index))),
            for_public: match for_public {
                Some(other) => ForPublic::Other(Arc::new(other.at(place(index)))),
                None if index + 1 == count && event.kind != EventKind::Created => ForPublic::Same,
                None => ForPublic::Nothing,
            },
        })
        .collect()
}

fn status_update(event: &OrderEvent, eta: Option<Eta>, telling: Telling) -> Addressed {
    let order = &event.order;
    let mut to: SmallVec<[Topic; 5]> = smallvec![
        Topic::Order(order.id.clone()),
        Topic::User(Role::Customer, order.customer.id.clone()),
        Topic::User(Role::Chef, order.chef.id.clone()),
        Topic::Role(Role::Admin),
    ];
    to.extend(order.driver.iter().map(|driver| Topic::User(Role::Driver, driver.id.clone())));
    let hides_phone = order.driver.as_ref().is_some_and(|driver| driver.phone.is_some())
        && !driver_visible_to_customer(order.status);
    let for_public = hides_phone.then(|| catch_up(event, eta, Party::Customer, telling));
    (to, catch_up(event, eta, Party::Staff, telling), for_public)
}

/// The order was taken from the driver.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OrderUnassigned)]
pub struct Named<'a> {
    #[schema(value_type = String)]
    order_id: &'a OrderId,
    order_number: &'a str,
}

/// An order that was available is not any more.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OrderWithdrawn)]
pub struct Withdrawn<'a> {
    #[schema(value_type = String)]
    order_id: &'a OrderId,
    /// `taken` or `cancelled`
    reason: &'static str,
}

fn named(order: &Order) -> Named<'_> {
    Named { order_id: &order.id, order_number: &order.order_number }
}

/// An order is ready and has no driver.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OrderAvailable)]
pub struct Available<'a> {
    #[schema(value_type = String)]
    order_id: &'a OrderId,
    order_number: &'a str,
    pickup: Pickup<'a>,
}

/// Where the order is fetched.
#[derive(Serialize, ToSchema)]
#[schema(as = PickupPlace)]
pub struct Pickup<'a> {
    #[schema(required = true)]
    address: Option<&'a str>,
    #[schema(required = true)]
    latitude: Option<f64>,
    #[schema(required = true)]
    longitude: Option<f64>,
}

fn available(order: &Order) -> Available<'_> {
    let chef = &order.chef;
    let pickup =
        Pickup { address: chef.address.as_deref(), latitude: chef.latitude, longitude: chef.longitude };
    Available { order_id: &order.id, order_number: &order.order_number, pickup }
}

/// An announcement that waited for the user. Its data says which notification it is; data that is no object is in `data`.
#[must_use]
pub fn queued(event: &str, data: &serde_json::value::RawValue, id: &str) -> Message {
    let mut object = match serde_json::from_str(data.get()) {
        Ok(serde_json::Value::Object(object)) => object,
        Ok(serde_json::Value::Null) | Err(_) => serde_json::Map::new(),
        Ok(other) => [("data".to_owned(), other)].into_iter().collect(),
    };
    object.insert("notificationId".to_owned(), id.into());
    Message::new(Cow::Owned(event.to_owned()), Json::of(&object))
}

/// The recipients of a live event.
#[must_use]
pub fn live_audience(event: &LiveEvent) -> LiveAudience {
    let newest = |order: &OrderId, kind| Some(LiveKey { order: order.clone(), kind });
    match event {
        LiveEvent::Location(location) => {
            let order = &location.about.order;
            LiveAudience {
                topics: smallvec![Topic::Order(order.id.clone())],
                key: newest(&order.id, LiveKind::Location),
                public_too: location.is_for_public(),
            }
        }
        LiveEvent::Eta(change) => LiveAudience {
            topics: smallvec![
                Topic::Order(change.order.clone()),
                Topic::User(Role::Customer, change.customer.clone())
            ],
            key: newest(&change.order, LiveKind::Eta),
            public_too: true,
        },
        LiveEvent::Told(told) => {
            let room = told.order.clone().filter(|_| told.in_room).map(Topic::Order);
            let topics = room.into_iter().chain(told.to.iter().cloned().flat_map(Topic::of)).collect();
            let key = told.order.as_ref().and_then(|order| newest(order, LiveKind::Told(told.what)));
            LiveAudience { topics, key, public_too: true }
        }
        LiveEvent::Announcement(announcement) => {
            let topics = Topic::of(announcement.audience.clone()).into_iter().collect();
            LiveAudience { topics, key: None, public_too: true }
        }
    }
}

/// A live event.
#[must_use]
pub fn render_live(event: &LiveEvent) -> Message {
    match event {
        LiveEvent::Location(location) => location_update(location),
        LiveEvent::Eta(change) => eta_update(change),
        LiveEvent::Told(told) => {
            let name = RealtimeEvent::from(told.what).as_str();
            Message::new(Cow::Borrowed(name), Json::raw(&told.data))
        }
        LiveEvent::Announcement(Announcement { name, data, .. }) => {
            Message::new(Cow::Owned(name.clone()), Json::raw(data))
        }
    }
}

/// The driver moved: what `location_update` writes.
#[derive(ToSchema)]
#[schema(as = LocationUpdate, rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document only")]
pub struct LocationUpdate {
    order_id: String,
    driver_id: String,
    latitude: f64,
    longitude: f64,
    /// Degrees clockwise from north
    heading: Option<f64>,
    /// Metres per second
    speed: Option<f64>,
    /// What the phone says of its error, in metres
    accuracy: Option<f64>,
    /// Where the place comes from
    #[schema(value_type = SourceWord)]
    source: Source,
    /// The driver is closer than that in two of three cases
    uncertainty_meters: Option<f64>,
    /// The dot jumps, because what was shown before was wrong
    reanchored: Option<bool>,
    /// When the phone measured it
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(format = DateTime)]
    received_at: String,
    /// How old it was when it arrived
    age_ms: i64,
    /// How many older positions it stands for, for a slow reader
    conflated: u32,
    /// It was so once, and is played again for this socket
    replayed: Option<bool>,
}

fn location_update(location: &Location) -> Message {
    moved(&location.about.order.id, &location.driver, &location.fix, location.provenance, false)
}

/// The driver of an order moved, when it was delivered: for the socket that plays it again.
#[must_use]
pub fn replayed_location(order: &OrderId, driver: &UserId, fix: &Fix, provenance: Provenance) -> Message {
    moved(order, driver, fix, provenance, true)
}

fn moved(order: &OrderId, driver: &UserId, fix: &Fix, provenance: Provenance, replayed: bool) -> Message {
    let payload = Object::with_capacity(416)
        .word("orderId", order.as_str())
        .text("driverId", driver.as_str())
        .number("latitude", fix.place.lat())
        .number("longitude", fix.place.lon())
        .number_if("heading", fix.heading)
        .number_if("speed", fix.speed)
        .number_if("accuracy", fix.accuracy)
        .word("source", provenance.source.as_str())
        .number_if("uncertaintyMeters", provenance.uncertainty.map(|metres| (metres * 10.0).round() / 10.0))
        .flag_if("reanchored", provenance.reanchored)
        .time("timestamp", fix.recorded_at)
        .time("receivedAt", fix.received_at)
        .whole("ageMs", age_ms(fix.recorded_at, fix.received_at))
        .flag_if("replayed", replayed)
        .whole("conflated", 0);
    Message::new(Cow::Borrowed(RealtimeEvent::LocationUpdate.as_str()), payload.end())
}

/// A delivery was played to its end.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReplayEnd)]
pub struct ReplayEnd<'a> {
    #[schema(value_type = String)]
    order_id: &'a OrderId,
    /// How many events that were, with those that `conflated` counts
    sent: usize,
}

/// A delivery was played to its end.
#[must_use]
pub fn replay_end(order: &OrderId, sent: usize) -> Message {
    message(RealtimeEvent::ReplayEnd, &ReplayEnd { order_id: order, sent })
}

/// The order arrives at another time.
#[serde_with::skip_serializing_none]
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtaUpdate<'a> {
    order_id: &'a str,
    eta_minutes: i64,
    #[schema(format = DateTime)]
    estimated_delivery_time: String,
    /// The earliest time to reckon with
    #[schema(format = DateTime)]
    eta_low: String,
    /// The latest time to reckon with
    #[schema(format = DateTime)]
    eta_high: String,
    #[schema(value_type = EtaSourceWord)]
    eta_source: &'static str,
    /// The way that is left, if it is by road
    remaining_meters: Option<u32>,
    /// How many places the driver goes to before
    stops_before: Option<u16>,
    /// The driver has sent no position for over a minute
    stale: Option<bool>,
}

fn eta_update(change: &EtaChange) -> Message {
    message(
        RealtimeEvent::EtaUpdate,
        &EtaUpdate {
            order_id: change.order.as_str(),
            eta_minutes: change.eta.minutes,
            estimated_delivery_time: rfc3339(change.eta.at),
            eta_low: rfc3339(change.eta.low),
            eta_high: rfc3339(change.eta.high),
            eta_source: change.eta.source.as_str(),
            remaining_meters: change.eta.metres,
            stops_before: change.eta.stops_before,
            stale: change.eta.stale.then_some(true),
        },
    )
}
