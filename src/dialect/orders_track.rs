//! Raw WebSocket `/orders/track` and its REST calls (`000_f33b149f406dd698.txt`): `snake_case`, seven statuses.

use crate::base::json_text::Json;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::message::{LiveAudience, LiveKey, LiveKind, Message, Outgoing, Topic};
use super::names::{FollowRequest, OrdersTrackMessage, RealtimeRequest};
use super::text::{pong_message, read_typed, text, to_followers};
use super::words::OrdersTrackStatus;
use super::{Answer, Request, canonical};
use crate::base::clock::rfc3339;
use crate::base::json::read_json;
use crate::model::{
    Command, EventKind, Forecast, Item, LiveEvent, Order, OrderEvent, OrderId, OrderStatus, Party, Quantity,
    WholeNumber,
};

/// A status in this surface's words.
#[must_use]
pub const fn word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending | OrderStatus::PaymentConfirmed => "pending",
        OrderStatus::Accepted => "confirmed",
        OrderStatus::Preparing => "preparing",
        OrderStatus::ReadyForPickup | OrderStatus::AssignedToDriver => "ready",
        OrderStatus::PickedUp | OrderStatus::InTransit | OrderStatus::Failed => "out_for_delivery",
        OrderStatus::Delivered => "delivered",
        OrderStatus::Returned | OrderStatus::Cancelled => "cancelled",
    }
}

/// The words that a client may ask for, each with the status that it asks for.
const WORDS: [(&str, OrderStatus); 7] = [
    ("pending", OrderStatus::Pending),
    ("confirmed", OrderStatus::Accepted),
    ("preparing", OrderStatus::Preparing),
    ("ready", OrderStatus::ReadyForPickup),
    ("out_for_delivery", OrderStatus::InTransit),
    ("delivered", OrderStatus::Delivered),
    ("cancelled", OrderStatus::Cancelled),
];

/// The other spelling of `cancelled`, which is accepted too.
pub const CANCELED: &str = "canceled";

/// The status for one of this surface's words, in any case.
#[must_use]
pub fn status(word: &str) -> Option<OrderStatus> {
    let word = if word.eq_ignore_ascii_case(CANCELED) { "cancelled" } else { word };
    WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, status)| *status)
}

/// The words, for refusals and for the `OpenAPI` document.
#[must_use]
pub fn words() -> Vec<&'static str> {
    WORDS.map(|(word, _)| word).to_vec()
}

/// The sentence for a status. It is that of the canonical status which this surface's word stands for. That a delivery failed
/// can only be told in this way.
fn message(status: OrderStatus) -> &'static str {
    let own = (status != OrderStatus::Failed).then(|| self::status(word(status))).flatten();
    canonical::message(own.unwrap_or(status))
}

/// The greeting.
#[must_use]
pub fn connected() -> Message {
    Message::raw(text(OrdersTrackMessage::Connected.as_str(), "Order tracking connected"))
}

/// A change, or the current state.
#[derive(Serialize, ToSchema)]
#[schema(as = OrdersTrackUpdate)]
pub struct OrderUpdate<'a> {
    r#type: &'static str,
    order_id: &'a str,
    order_number: &'a str,
    #[schema(value_type = OrdersTrackStatus)]
    status: &'static str,
    /// What the status means
    message: &'static str,
    #[schema(format = DateTime)]
    timestamp: String,
    seq: i64,
}

/// A change, or the current state.
#[must_use]
pub fn catch_up(event: &OrderEvent) -> Message {
    let order = &event.order;
    Message::raw(Json::of(&OrderUpdate {
        r#type: OrdersTrackMessage::OrderUpdate.as_str(),
        order_id: order.id.as_str(),
        order_number: &order.order_number,
        status: word(order.status),
        message: message(order.status),
        timestamp: rfc3339(event.at),
        seq: order.seq,
    }))
}

/// Every durable event after the creation is one `order_update`.
#[must_use]
pub fn render(event: &OrderEvent) -> SmallVec<[Outgoing; 3]> {
    if event.kind == EventKind::Created {
        return SmallVec::new();
    }
    to_followers(event, catch_up(event), None)
}

const fn is_out(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::PickedUp | OrderStatus::InTransit)
}

/// The driver's position, sent while the order is out for delivery.
#[must_use]
pub fn live_audience(event: &LiveEvent) -> Option<LiveAudience> {
    let LiveEvent::Location(location) = event else { return None };
    let order = &location.about.order;
    is_out(order.status).then(|| LiveAudience {
        topics: smallvec![Topic::Order(order.id.clone())],
        key: Some(LiveKey { order: order.id.clone(), kind: LiveKind::Location }),
        public_too: location.is_for_public(),
    })
}

/// The driver's position.
#[derive(Serialize, ToSchema)]
#[schema(as = OrdersTrackLocation)]
pub struct DriverLocation<'a> {
    r#type: &'static str,
    order_id: &'a str,
    lat: f64,
    lng: f64,
    #[schema(format = DateTime)]
    timestamp: String,
    /// Null while nothing is known
    #[schema(required = true)]
    eta_seconds: Option<i64>,
}

/// The driver's position.
#[must_use]
pub fn render_live(event: &LiveEvent) -> Option<Message> {
    let LiveEvent::Location(location) = event else { return None };
    Some(Message::raw(Json::of(&DriverLocation {
        r#type: OrdersTrackMessage::DriverLocation.as_str(),
        order_id: location.about.order.id.as_str(),
        lat: location.fix.place.lat(),
        lng: location.fix.place.lon(),
        timestamp: rfc3339(location.fix.recorded_at),
        eta_seconds: location.eta().map(|eta| (eta.at - location.fix.received_at).num_seconds().max(0)),
    })))
}

/// Follow an order.
#[derive(Deserialize, ToSchema)]
#[schema(as = OrdersTrackSubscribe)]
pub struct Subscribe {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
    /// Tell what came after this seq, in place of the present state
    #[schema(value_type = Option<i64>, minimum = 0)]
    since: Option<WholeNumber>,
}

/// Follow it no longer.
#[derive(Deserialize, ToSchema)]
#[schema(as = OrdersTrackUnsubscribe)]
pub struct Unsubscribe {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
}

/// Parses what a client sends.
#[must_use]
pub fn parse(text: &str) -> Request {
    read_typed(text, |kind| {
        Some(match FollowRequest::parse(kind)? {
            FollowRequest::Subscribe => (
                RealtimeRequest::Subscribe,
                read_json(text, "message")
                    .and_then(|Subscribe { order_id, since }| Command::subscribe(order_id, since)),
            ),
            FollowRequest::Unsubscribe => (
                RealtimeRequest::Unsubscribe,
                read_json(text, "message")
                    .map(|Unsubscribe { order_id }| Command::Unsubscribe { order: order_id }),
            ),
        })
    })
}

/// That an order is followed, or no longer.
#[derive(Serialize, ToSchema)]
#[schema(as = OrdersTrackAnswer)]
pub struct OfOrder<'a> {
    r#type: &'static str,
    order_id: &'a str,
}

/// The answer to a request that succeeded.
#[must_use]
pub fn answer(answer: &Answer<'_>) -> Option<Json> {
    let of = |r#type: OrdersTrackMessage, order: &OrderId| {
        Some(Json::of(&OfOrder { r#type: r#type.as_str(), order_id: order.as_str() }))
    };
    match answer {
        Answer::Subscribed { tracking, .. } => of(OrdersTrackMessage::Subscribed, &tracking.order.id),
        Answer::Unsubscribed { order } => of(OrdersTrackMessage::Unsubscribed, order),
        Answer::Pong { .. } => Some(pong_message()),
        Answer::Changed(_)
        | Answer::Tracking { .. }
        | Answer::Received { .. }
        | Answer::BatchReceived { .. }
        | Answer::Playing { .. }
        | Answer::Refreshed { .. }
        | Answer::Updated => None,
    }
}

/// An order as `GET /api/orders/{id}` shows it.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedOrder)]
pub struct OrderView<'a> {
    id: &'a str,
    order_number: &'a str,
    tracking_number: Option<&'a str>,
    status: &'static str,
    payment_status: &'static str,
    seq: i64,
    #[serde(flatten)]
    private: Option<PrivateView<'a>>,
    driver_location: Option<LocationView>,
    eta_minutes: Option<i64>,
    estimated_delivery_time: Option<String>,
    created_at: String,
    updated_at: String,
}

/// Where the driver is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedDriverLocation)]
struct LocationView {
    lat: f64,
    lng: f64,
    timestamp: String,
}

/// What only the parties of an order may see.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedOrderPrivate)]
struct PrivateView<'a> {
    customer: PersonView<'a>,
    store: StoreView<'a>,
    #[serialize_always]
    driver: Option<PersonView<'a>>,
    delivery_address: &'a str,
    delivery_latitude: Option<f64>,
    delivery_longitude: Option<f64>,
    items: Vec<ItemView<'a>>,
    total: Option<f64>,
    currency: Option<&'a str>,
    notes: Option<&'a str>,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedPerson)]
struct PersonView<'a> {
    id: &'a str,
    name: &'a str,
    phone: Option<&'a str>,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedStore)]
struct StoreView<'a> {
    id: &'a str,
    name: &'a str,
    business_name: Option<&'a str>,
    address: Option<&'a str>,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedItem)]
struct ItemView<'a> {
    name: &'a str,
    #[schema(value_type = f64, format = "quantity")]
    quantity: Quantity,
    unit_price: Option<f64>,
}

impl<'a> OrderView<'a> {
    /// The order as `party` may see it.
    #[must_use]
    pub fn new(order: &'a Order, forecast: Forecast, party: Party) -> Self {
        let shows_phone = canonical::shows_phone(order.status, party);
        let position = forecast.seen_by(order.status, party).filter(|_| order.driver.is_some());
        Self {
            id: order.id.as_str(),
            order_number: &order.order_number,
            tracking_number: order.tracking_number.as_deref(),
            status: word(order.status),
            payment_status: order.payment_status.as_str(),
            seq: order.seq,
            private: (party != Party::Anonymous).then(|| PrivateView::new(order, shows_phone)),
            driver_location: position.map(|(place, at)| LocationView {
                lat: place.lat(),
                lng: place.lon(),
                timestamp: rfc3339(at),
            }),
            eta_minutes: forecast.eta.map(|eta| eta.minutes),
            estimated_delivery_time: forecast.eta.map(|eta| rfc3339(eta.at)),
            created_at: rfc3339(order.created_at),
            updated_at: rfc3339(order.updated_at),
        }
    }
}

impl<'a> PrivateView<'a> {
    fn new(order: &'a Order, shows_phone: bool) -> Self {
        let (customer, chef) = (&order.customer, &order.chef);
        let item = |item: &'a Item| ItemView {
            name: &item.name,
            quantity: item.quantity,
            unit_price: item.unit_price,
        };
        Self {
            customer: PersonView {
                id: customer.id.as_str(),
                name: &customer.name,
                phone: customer.phone.as_deref(),
            },
            store: StoreView {
                id: chef.id.as_str(),
                name: &chef.name,
                business_name: chef.business_name.as_deref(),
                address: chef.address.as_deref(),
            },
            driver: order.driver.as_ref().map(|driver| PersonView {
                id: driver.id.as_str(),
                name: &driver.name,
                phone: driver.phone.as_deref().filter(|_| shows_phone),
            }),
            delivery_address: &order.delivery.address,
            delivery_latitude: order.delivery.latitude,
            delivery_longitude: order.delivery.longitude,
            items: order.items.iter().map(item).collect(),
            total: order.total,
            currency: order.currency.as_deref(),
            notes: order.notes.as_deref(),
        }
    }
}
