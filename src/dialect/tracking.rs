//! Tracking sessions: raw WebSocket `/ws/tracking/{id}` and its REST calls (`003_63c82b99cdd90de3.txt`):
//! `snake_case`, Unix seconds, four statuses, and an ETA of its own.

use crate::base::json_text::Json;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::Request;
use super::message::{LiveAudience, LiveKey, LiveKind, Message, Outgoing, Topic};
use super::names::{RawMessage, RealtimeRequest, TrackingMessage, TrackingRequest};
use super::text::{read_typed, to_followers};
use super::words::TrackingStatus;
use crate::base::clock::Time;
use crate::base::json::read_json;
use crate::model::eta::eta_seconds;
use crate::model::tracking::Moved;
use crate::model::{
    Command, Forecast, Latitude, LiveEvent, Longitude, Order, OrderEvent, OrderId, OrderStatus, Party, Point,
    TrackingSession, WholeNumber,
};

/// A status in this surface's words. A tracking session has a driver, so the order is at least assigned.
#[must_use]
pub const fn word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::PickedUp => "PICKED_UP",
        OrderStatus::InTransit | OrderStatus::Failed => "IN_TRANSIT",
        OrderStatus::Delivered => "DELIVERED",
        // An order that is cancelled or returned has no tracking session.
        OrderStatus::Pending
        | OrderStatus::PaymentConfirmed
        | OrderStatus::Accepted
        | OrderStatus::Preparing
        | OrderStatus::ReadyForPickup
        | OrderStatus::AssignedToDriver
        | OrderStatus::Returned
        | OrderStatus::Cancelled => "ASSIGNED",
    }
}

/// The words, in order.
pub const WORDS: [&str; 4] = ["ASSIGNED", "PICKED_UP", "IN_TRANSIT", "DELIVERED"];

/// A status that a rider may set, in any case.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Word(pub OrderStatus);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Ok(Self(match word.to_ascii_uppercase().as_str() {
            "ASSIGNED" => OrderStatus::AssignedToDriver,
            "PICKED_UP" => OrderStatus::PickedUp,
            "IN_TRANSIT" => OrderStatus::InTransit,
            "DELIVERED" => OrderStatus::Delivered,
            _ => return Err(format!("must be one of {}", WORDS.join(", "))),
        }))
    }
}

/// A rider's position, and perhaps a new status.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = TrackingUpdate)]
pub struct Update {
    #[schema(value_type = f64, format = "latitude")]
    pub lat: Latitude,
    #[schema(value_type = f64, format = "longitude")]
    pub lng: Longitude,
    /// Forwards only
    #[schema(value_type = Option<String>, format = "tracking_status")]
    pub status: Option<Word>,
    /// Refuse the status if the order is not at this seq
    #[serde(alias = "expectedSeq")]
    #[schema(value_type = Option<i64>)]
    pub expected_seq: Option<WholeNumber>,
}

impl Update {
    /// The rider's update in the words of the domain.
    #[must_use]
    pub fn moved(self) -> Moved {
        let place = Point { latitude: self.lat, longitude: self.lng };
        let expected_seq = self.expected_seq.map(|WholeNumber(seq)| seq);
        Moved { place, status: self.status.map(|Word(status)| status), expected_seq }
    }
}

/// A place.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = TrackingPlace)]
pub struct PlaceView {
    lat: f64,
    lng: f64,
}

impl PlaceView {
    #[must_use]
    pub const fn new(point: Point) -> Self {
        Self { lat: point.lat(), lng: point.lon() }
    }
}

/// Where the rider was, and when.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = TrackingLocation)]
pub struct LocationView {
    lat: f64,
    lng: f64,
    /// Unix seconds
    timestamp: i64,
}

impl LocationView {
    fn new((place, at): (Point, Time)) -> Self {
        Self { lat: place.lat(), lng: place.lon(), timestamp: at.timestamp() }
    }
}

/// A tracking session. Its members depend on the caller and the call.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackingSession)]
pub struct View<'a> {
    pub tracking_id: &'a str,
    pub order_id: Option<&'a str>,
    pub rider_id: Option<&'a str>,
    pub status: &'static str,
    #[serialize_always]
    #[schema(required = true)]
    pub current_location: Option<LocationView>,
    pub dropoff: Option<PlaceView>,
    /// To the dropoff at 30 km/h, at least 60
    #[serialize_always]
    #[schema(required = true)]
    pub eta_seconds: Option<i64>,
    /// Unix seconds
    pub updated_at: i64,
}

impl<'a> View<'a> {
    /// The whole session as `party` may see it.
    #[must_use]
    pub fn new(session: &'a TrackingSession, order: &Order, forecast: Forecast, party: Party) -> Self {
        let position = seen(order, forecast, party);
        let moved = position.map_or(order.updated_at, |(_, at)| at.max(order.updated_at));
        Self {
            tracking_id: session.id.as_str(),
            order_id: Some(session.order.as_str()),
            rider_id: Some(session.rider.as_str()),
            status: word(order.status),
            current_location: position.map(LocationView::new),
            dropoff: Some(PlaceView::new(session.dropoff)),
            eta_seconds: eta(position, session).or_else(|| eta_unseen(order, forecast, party)),
            updated_at: moved.timestamp(),
        }
    }
}

/// The seconds from the rider's position to the dropoff, if both are known.
fn eta(position: Option<(Point, Time)>, session: &TrackingSession) -> Option<i64> {
    let (from, _) = position.filter(|_| !session.dropoff.is_erased())?;
    Some(eta_seconds(from, session.dropoff))
}

/// The rider's position, if the party may see it and the order is still on its way.
fn seen(order: &Order, forecast: Forecast, party: Party) -> Option<(Point, Time)> {
    forecast.seen_by(order.status, party)
}

/// The seconds to the dropoff for who may not see the rider yet, because other stops come first: there is no place to compute them
/// from, and they would tell how far away it is.
fn eta_unseen(order: &Order, forecast: Forecast, party: Party) -> Option<i64> {
    forecast.position.filter(|position| position.is_too_far(order.status, party))?;
    forecast.eta.map(|eta| eta.minutes * 60)
}

/// An order's message to a tracking session. Each session adds its own members: see [`text`].
#[derive(Clone, Debug)]
pub struct SessionMessage {
    r#type: TrackingMessage,
    order: OrderId,
    status: OrderStatus,
    position: Option<(Point, Time)>,
    eta_unseen: Option<i64>,
    at: Time,
    /// How many older messages it replaces, if any.
    conflated: Option<u32>,
}

impl SessionMessage {
    /// The same message, with the count of older ones that it replaces.
    pub(super) fn conflated(&self, skipped: u32) -> Self {
        Self { conflated: Some(skipped), ..self.clone() }
    }
}

fn message(
    r#type: TrackingMessage,
    order: &Order,
    (position, eta_unseen): (Option<(Point, Time)>, Option<i64>),
    at: Time,
) -> Message {
    let (order, status) = (order.id.clone(), order.status);
    Message::of_session(SessionMessage { r#type, order, status, position, eta_unseen, at, conflated: None })
}

/// A message of a tracking session.
#[derive(Serialize, ToSchema)]
#[schema(as = TrackingMessage)]
pub struct Envelope<'a> {
    r#type: &'static str,
    data: Data<'a>,
    /// How many older messages it stands for, for a slow reader
    #[serde(skip_serializing_if = "Option::is_none")]
    conflated: Option<u32>,
}

/// How a tracking session stands.
#[derive(Serialize, ToSchema)]
#[schema(as = TrackingState)]
pub struct Data<'a> {
    tracking_id: &'a str,
    rider_id: &'a str,
    dropoff: PlaceView,
    /// To the dropoff at 30 km/h, at least 60
    #[schema(required = true)]
    eta_seconds: Option<i64>,
    order_id: &'a str,
    #[schema(value_type = TrackingStatus)]
    status: &'static str,
    #[schema(required = true)]
    current_location: Option<LocationView>,
    /// Unix seconds
    updated_at: i64,
}

/// A message in the words of one tracking session, with its id, rider, destination and distance.
#[must_use]
pub fn text(message: &SessionMessage, session: &TrackingSession) -> Json {
    let SessionMessage { r#type, order, status, position, eta_unseen, at, conflated } = message;
    let data = Data {
        tracking_id: session.id.as_str(),
        rider_id: session.rider.as_str(),
        dropoff: PlaceView::new(session.dropoff),
        eta_seconds: eta(*position, session).or(*eta_unseen),
        order_id: order.as_str(),
        status: word(*status),
        current_location: position.map(LocationView::new),
        updated_at: at.timestamp(),
    };
    Json::of(&Envelope { r#type: r#type.as_str(), data, conflated: *conflated })
}

/// The current state of a session, for a new socket.
#[must_use]
pub fn catch_up(event: &OrderEvent, forecast: Forecast, party: Party) -> Message {
    let position = seen(&event.order, forecast, party);
    let at = position.map_or(event.at, |(_, at)| at.max(event.at));
    let unseen = eta_unseen(&event.order, forecast, party);
    message(TrackingMessage::InitialState, &event.order, (position, unseen), at)
}

/// A status change is sent as two messages: the one of the first version, and the one named after the status.
#[must_use]
pub fn render(event: &OrderEvent, forecast: Forecast) -> SmallVec<[Outgoing; 3]> {
    let order = &event.order;
    if order.status == event.previous_status {
        return SmallVec::new();
    }
    let known = |party| (seen(order, forecast, party), eta_unseen(order, forecast, party));
    let of = |r#type, party| message(r#type, order, known(party), event.at);
    let hides = forecast.hides_place(order.status);
    let both =
        |r#type| to_followers(event, of(r#type, Party::Staff), hides.then(|| of(r#type, Party::Anonymous)));
    let mut all = both(TrackingMessage::LocationUpdate);
    all.extend(both(TrackingMessage::StatusChange));
    all
}

/// A rider's position goes to everybody who watches.
#[must_use]
pub fn live_audience(event: &LiveEvent) -> Option<LiveAudience> {
    let LiveEvent::Location(location) = event else { return None };
    let order = &location.about.order;
    Some(LiveAudience {
        topics: smallvec![Topic::Order(order.id.clone())],
        key: Some(LiveKey { order: order.id.clone(), kind: LiveKind::Location }),
        public_too: location.is_for_public(),
    })
}

/// A rider's position.
#[must_use]
pub fn render_live(event: &LiveEvent) -> Option<Message> {
    let LiveEvent::Location(location) = event else { return None };
    let place = location.fix.place;
    let position = Some((place, location.fix.recorded_at));
    let order = &location.about.order;
    let at = location.fix.received_at;
    Some(message(TrackingMessage::LocationUpdate, order, (position, None), at).as_of(order.seq))
}

/// The session has ended. The socket is closed after this message.
#[must_use]
pub fn expired() -> Message {
    Message::raw(super::text::text(RawMessage::Error.as_str(), "Tracking session expired"))
}

/// Where the rider is.
#[derive(Deserialize, ToSchema)]
#[schema(as = TrackingLocationUpdate)]
pub struct LocationUpdate {
    location: Update,
}

/// Parses what a client sends.
#[must_use]
pub fn parse(text: &str) -> Request {
    read_typed(text, |kind| {
        Some(match TrackingRequest::parse(kind)? {
            TrackingRequest::LocationUpdate => (
                RealtimeRequest::Location,
                read_json(text, "message")
                    .map(|LocationUpdate { location }| Command::TrackingUpdate(location.moved())),
            ),
        })
    })
}
