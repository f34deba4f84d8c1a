//! The canonical JSON of an order, of its tracking view and of its events. REST and `/realtime` share it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::message::Telling;
use super::words::{self, EtaSourceWord, MilestoneWord, PaymentWord, RiskWord};
use crate::base::clock::{Time, rfc3339};
use crate::model::access::driver_visible_to_customer;
use crate::model::order::time_of;
use crate::model::{
    Delivery, Eta, EventKind, FailureReason, Fulfilment, Item, Order, OrderEvent, OrderStatus, Overview,
    Party, PastMilestone, ProofKind, StopKind, WindowText,
};

/// An order as clients see it.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Order)]
pub struct OrderView<'a> {
    pub id: &'a str,
    pub order_number: &'a str,
    pub tracking_number: Option<&'a str>,
    pub customer: PersonView<'a>,
    pub chef: ChefView<'a>,
    /// Absent for an order that is fetched
    pub delivery: Option<&'a Delivery>,
    pub fulfilment: Fulfilment,
    /// When it is wanted
    pub scheduled_for: Option<WindowText>,
    /// What the driver has to show before the order is delivered
    pub proof_required: Option<&'a [ProofKind]>,
    /// Why it could not be delivered
    pub failure_reason: Option<FailureReason>,
    pub items: &'a [Item],
    pub total: Option<f64>,
    pub currency: Option<&'a str>,
    pub notes: Option<&'a str>,
    #[schema(value_type = StatusWord)]
    pub status: &'static str,
    #[schema(value_type = PaymentWord)]
    pub payment_status: &'static str,
    /// Null while no driver is assigned.
    #[serialize_always]
    #[schema(required = true)]
    pub driver: Option<PersonView<'a>>,
    /// Rises by exactly one with every durable event of the order.
    pub seq: i64,
    /// Null while nothing is known.
    #[serialize_always]
    #[schema(required = true, format = DateTime)]
    pub estimated_delivery_time: Option<String>,
    /// Null while nothing is known.
    #[serialize_always]
    #[schema(required = true)]
    pub eta_minutes: Option<i64>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A customer or driver.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Person)]
pub struct PersonView<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub phone: Option<&'a str>,
}

/// Who cooks.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Chef)]
pub struct ChefView<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub business_name: Option<&'a str>,
    pub address: Option<&'a str>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
}

/// The driver as this party may see them. A customer sees the phone number only while the order is on the way.
fn driver_for(order: &Order, party: Party) -> Option<PersonView<'_>> {
    order.driver.as_ref().map(|driver| {
        let phone = if shows_phone(order.status, party) { driver.phone.as_deref() } else { None };
        PersonView { id: driver.id.as_str(), name: &driver.name, phone }
    })
}

/// Whether this party may see the driver's phone number now.
#[must_use]
pub fn shows_phone(status: OrderStatus, party: Party) -> bool {
    !party.is_public() || driver_visible_to_customer(status)
}

impl<'a> OrderView<'a> {
    /// The order as `party` may see it.
    #[must_use]
    pub fn new(order: &'a Order, eta: Option<Eta>, party: Party) -> Self {
        Self {
            id: order.id.as_str(),
            order_number: &order.order_number,
            tracking_number: order.tracking_number.as_deref(),
            customer: PersonView {
                id: order.customer.id.as_str(),
                name: &order.customer.name,
                phone: order.customer.phone.as_deref(),
            },
            chef: ChefView {
                id: order.chef.id.as_str(),
                name: &order.chef.name,
                business_name: order.chef.business_name.as_deref(),
                address: order.chef.address.as_deref(),
                latitude: order.chef.latitude,
                longitude: order.chef.longitude,
            },
            delivery: (!order.is_fetched() || !order.delivery.address.is_empty()).then_some(&order.delivery),
            fulfilment: order.details.fulfilment,
            scheduled_for: order.details.scheduled_for.map(WindowText::from),
            proof_required: Some(&*order.details.proof_required).filter(|kinds| !kinds.is_empty()),
            failure_reason: order.details.failure,
            items: &order.items,
            total: order.total,
            currency: order.currency.as_deref(),
            notes: order.notes.as_deref(),
            status: order.status.as_str(),
            payment_status: order.payment_status.as_str(),
            driver: driver_for(order, party),
            seq: order.seq,
            estimated_delivery_time: eta.map(|eta| rfc3339(eta.at)),
            eta_minutes: eta.map(|eta| eta.minutes),
            created_at: rfc3339(order.created_at),
            updated_at: rfc3339(order.updated_at),
        }
    }
}

/// Everything about one order's way, past and present.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tracking)]
pub struct TrackingView<'a> {
    pub order_id: &'a str,
    pub order_number: &'a str,
    pub tracking_number: Option<&'a str>,
    #[schema(value_type = StatusWord)]
    pub status: &'static str,
    #[schema(value_type = PaymentWord)]
    pub payment_status: &'static str,
    pub seq: i64,
    pub customer_name: &'a str,
    pub delivery_address: &'a str,
    /// Null while it is not known.
    #[serialize_always]
    #[schema(required = true)]
    pub delivery_latitude: Option<f64>,
    /// Null while it is not known.
    #[serialize_always]
    #[schema(required = true)]
    pub delivery_longitude: Option<f64>,
    /// Absent for an order that a driver brings
    pub fulfilment: Option<Fulfilment>,
    /// When it is wanted
    pub scheduled_for: Option<WindowText>,
    /// Why it could not be delivered
    pub failure_reason: Option<FailureReason>,
    pub chef_name: &'a str,
    #[serialize_always]
    #[schema(required = true)]
    pub chef_business_name: Option<&'a str>,
    #[serialize_always]
    #[schema(required = true)]
    pub chef_address: Option<&'a str>,
    #[serialize_always]
    #[schema(required = true)]
    pub chef_latitude: Option<f64>,
    #[serialize_always]
    #[schema(required = true)]
    pub chef_longitude: Option<f64>,
    pub driver_assigned: bool,
    pub driver_name: Option<&'a str>,
    pub driver_phone: Option<&'a str>,
    pub driver_latitude: Option<f64>,
    pub driver_longitude: Option<f64>,
    #[schema(format = DateTime)]
    pub last_location_update: Option<String>,
    #[schema(format = DateTime)]
    pub estimated_delivery_time: Option<String>,
    pub eta_minutes: Option<i64>,
    /// The earliest and the latest time to reckon with.
    #[schema(format = DateTime)]
    pub eta_low: Option<String>,
    #[schema(format = DateTime)]
    pub eta_high: Option<String>,
    /// What the ETA is made of: `network` (roads), `geodesic` (the straight line), `override` (set by hand), or a router.
    #[schema(value_type = Option<EtaSourceWord>)]
    pub eta_source: Option<&'static str>,
    /// The way that is left, if it is by road.
    pub remaining_meters: Option<u32>,
    /// How many places the driver goes to before.
    pub stops_before: Option<u16>,
    /// True when the ETA is an estimate, and the driver has sent no position for over a minute.
    pub stale: Option<bool>,
    /// What has happened at its stops.
    pub milestones: Vec<MilestoneView<'a>>,
    /// `on_time`, `at_risk` or `delayed`, once something was promised.
    #[schema(value_type = Option<RiskWord>)]
    pub risk: Option<&'static str>,
    pub status_history: Vec<PastView<'a>>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub payment_confirmed_at: Option<String>,
    #[schema(format = DateTime)]
    pub accepted_at: Option<String>,
    #[schema(format = DateTime)]
    pub ready_at: Option<String>,
    #[schema(format = DateTime)]
    pub assigned_at: Option<String>,
    #[schema(format = DateTime)]
    pub picked_up_at: Option<String>,
    #[schema(format = DateTime)]
    pub delivered_at: Option<String>,
    #[schema(format = DateTime)]
    pub cancelled_at: Option<String>,
    #[schema(format = DateTime)]
    pub failed_at: Option<String>,
    #[schema(format = DateTime)]
    pub returned_at: Option<String>,
}

/// The driver came to a stop, was there, or left it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Milestone)]
pub struct MilestoneView<'a> {
    #[schema(value_type = StopKind)]
    pub stop: &'a str,
    #[schema(value_type = MilestoneWord)]
    pub milestone: &'a str,
    #[schema(format = DateTime)]
    pub at: String,
    /// From the stop
    pub distance_meters: f64,
    /// What showed it
    pub evidence: &'a str,
}

impl<'a> MilestoneView<'a> {
    fn new(past: &'a PastMilestone) -> Self {
        Self {
            stop: &past.stop,
            milestone: &past.milestone,
            at: rfc3339(past.at),
            distance_meters: past.distance.round(),
            evidence: &past.evidence,
        }
    }
}

/// A status the order has had.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StatusHistoryEntry)]
pub struct PastView<'a> {
    #[schema(value_type = StatusWord)]
    pub status: &'static str,
    #[schema(format = DateTime)]
    pub timestamp: String,
    pub changed_by: Option<&'a str>,
    /// It was set because the status before was wrong.
    pub corrected: Option<bool>,
}

impl<'a> TrackingView<'a> {
    /// The tracking view as `party` may see it.
    #[must_use]
    pub fn new(tracking: &'a Overview, eta: Option<Eta>) -> Self {
        let order = &tracking.order;
        let at = |status: OrderStatus| time_of(&tracking.history, status).map(rfc3339);
        let position = tracking.seen_by(tracking.party);
        let driver = driver_for(order, tracking.party);
        Self {
            order_id: order.id.as_str(),
            order_number: &order.order_number,
            tracking_number: order.tracking_number.as_deref(),
            status: order.status.as_str(),
            payment_status: order.payment_status.as_str(),
            seq: order.seq,
            customer_name: &order.customer.name,
            delivery_address: &order.delivery.address,
            delivery_latitude: order.delivery.latitude,
            delivery_longitude: order.delivery.longitude,
            fulfilment: order.is_fetched().then_some(Fulfilment::Collection),
            scheduled_for: order.details.scheduled_for.map(WindowText::from),
            failure_reason: order.details.failure,
            chef_name: &order.chef.name,
            chef_business_name: order.chef.business_name.as_deref(),
            chef_address: order.chef.address.as_deref(),
            chef_latitude: order.chef.latitude,
            chef_longitude: order.chef.longitude,
            driver_assigned: order.driver.is_some(),
            driver_name: driver.as_ref().map(|driver| driver.name),
            driver_phone: driver.as_ref().and_then(|driver| driver.phone),
            driver_latitude: position.map(|(place, _)| place.lat()),
            driver_longitude: position.map(|(place, _)| place.lon()),
            last_location_update: position.map(|(_, at)| rfc3339(at)),
            estimated_delivery_time: eta.map(|eta| rfc3339(eta.at)),
            eta_minutes: eta.map(|eta| eta.minutes),
            eta_low: eta.map(|eta| rfc3339(eta.low)),
            eta_high: eta.map(|eta| rfc3339(eta.high)),
            eta_source: eta.map(|eta| eta.source.as_str()),
            remaining_meters: eta.and_then(|eta| eta.metres),
            stops_before: eta.and_then(|eta| eta.stops_before),
            stale: eta.and_then(|eta| eta.stale.then_some(true)),
            milestones: tracking.milestones.iter().map(MilestoneView::new).collect(),
            risk: tracking.risk,
            status_history: tracking
                .history
                .iter()
                .map(|past| PastView {
                    status: past.status.as_str(),
                    timestamp: rfc3339(past.at),
                    changed_by: past.changed_by.as_deref(),
                    corrected: past.corrected.then_some(true),
                })
                .collect(),
            created_at: rfc3339(order.created_at),
            payment_confirmed_at: order.payment_confirmed_at.map(rfc3339),
            accepted_at: at(OrderStatus::Accepted),
            ready_at: at(OrderStatus::ReadyForPickup),
            assigned_at: (order.driver.is_some() || order.status == OrderStatus::AssignedToDriver)
                .then(|| at(OrderStatus::AssignedToDriver))
                .flatten(),
            picked_up_at: at(OrderStatus::PickedUp),
            delivered_at: at(OrderStatus::Delivered),
            cancelled_at: at(OrderStatus::Cancelled),
            failed_at: at(OrderStatus::Failed),
            returned_at: at(OrderStatus::Returned),
        }
    }
}

/// A durable event after the creation: what `order:status_update` and `GET /orders/{id}/events` say.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusUpdate<'a> {
    pub order_id: &'a str,
    pub order_number: &'a str,
    #[schema(value_type = StatusWord)]
    pub status: &'static str,
    #[schema(value_type = StatusWord)]
    pub previous_status: &'static str,
    pub seq: i64,
    pub position: i64,
    #[schema(format = DateTime)]
    pub timestamp: String,
    pub changed_by: Option<&'a str>,
    pub driver: Option<PersonView<'a>>,
    #[schema(value_type = PaymentWord)]
    pub payment_status: &'static str,
    pub eta_minutes: Option<i64>,
    #[schema(format = DateTime)]
    pub estimated_delivery_time: Option<String>,
    pub message: &'a str,
    /// Why it could not be delivered
    pub reason: Option<&'a str>,
    /// Which members of the order are new
    pub changed: Option<&'a [Cow<'static, str>]>,
    /// It was set because the status before was wrong.
    pub corrected: Option<bool>,
    pub replayed: Option<bool>,
    pub snapshot: Option<bool>,
}

impl<'a> StatusUpdate<'a> {
    /// The event as `party` may see it.
    #[must_use]
    pub fn new(event: &'a OrderEvent, eta: Option<Eta>, party: Party, telling: Telling) -> Self {
        let order = &event.order;
        Self {
            order_id: order.id.as_str(),
            order_number: &order.order_number,
            status: order.status.as_str(),
            previous_status: event.previous_status.as_str(),
            seq: order.seq,
            position: event.position,
            timestamp: rfc3339(event.at),
            changed_by: event.changed_by.as_ref().map(crate::model::UserId::as_str),
            driver: driver_for(order, party),
            payment_status: order.payment_status.as_str(),
            eta_minutes: eta.map(|eta| eta.minutes),
            estimated_delivery_time: eta.map(|eta| rfc3339(eta.at)),
            message: event.note.as_deref().unwrap_or_else(|| message(order.status)),
            // Why a driver does not want an order is not for everybody.
            reason: event.reason.as_deref().filter(|_| event.kind == EventKind::Status),
            changed: Some(&*event.changed).filter(|changed| !changed.is_empty()),
            corrected: (event.kind == EventKind::Corrected).then_some(true),
            replayed: (telling == Telling::Replayed).then_some(true),
            snapshot: (telling == Telling::Snapshot).then_some(true),
        }
    }
}

/// The age of a measurement, in milliseconds; 0 if its time is in the future.
#[must_use]
pub fn age_ms(then: Time, now: Time) -> i64 {
    (now - then).num_milliseconds().max(0)
}

/// A status in any of the accepted spellings.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct StatusWord(pub OrderStatus);

impl TryFrom<String> for StatusWord {
    type Error = String;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        crate::model::status::parse(&word).map(Self).ok_or_else(|| {
            let words: Vec<_> = OrderStatus::ALL.iter().map(|status| status.as_str()).collect();
            format!("must be one of {}", words.join(", "))
        })
    }
}

impl PartialSchema for StatusWord {
    fn schema() -> RefOr<Schema> {
        words::one_of(OrderStatus::ALL.map(OrderStatus::as_str))
    }
}

impl ToSchema for StatusWord {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("OrderStatus")
    }
}

/// The sentence that explains a status to a person who waits for the order.
#[must_use]
pub const fn message(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "Your order has been received",
        OrderStatus::PaymentConfirmed => "Your payment has been confirmed",
        OrderStatus::Accepted => "Your order has been confirmed",
        OrderStatus::Preparing => "Your order is being prepared",
        OrderStatus::ReadyForPickup => "Your order is ready for pickup/delivery",
        OrderStatus::AssignedToDriver => "A driver has been assigned to your order",
        OrderStatus::PickedUp => "Your order has been picked up",
        OrderStatus::InTransit => "Your order is on its way",
        OrderStatus::Failed => "Your order could not be delivered",
        OrderStatus::Delivered => "Your order has been delivered",
        OrderStatus::Returned => "Your order has been returned",
        OrderStatus::Cancelled => "Your order has been cancelled",
    }
}
