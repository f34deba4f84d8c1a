//! An order: its parties, its items, its addresses and its state.

use chrono::TimeDelta;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::{Details, Fulfilment, OrderId, OrderStatus, PaymentStatus, Point, Quantity, UserId, status};
use crate::base::clock::{Time, rfc3339, wire, wire_option};

/// An order at one `seq`, as the database holds it and as events carry it.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    #[serde(deserialize_with = "stored_order")]
    pub id: OrderId,
    pub order_number: String,
    pub tracking_number: Option<String>,
    pub customer: Customer,
    pub chef: Chef,
    pub delivery: Delivery,
    pub items: Vec<Item>,
    pub total: Option<f64>,
    pub currency: Option<String>,
    pub notes: Option<String>,
    pub status: OrderStatus,
    pub payment_status: PaymentStatus,
    #[serde(with = "wire_option", default)]
    pub payment_confirmed_at: Option<Time>,
    pub driver: Option<Driver>,
    pub seq: i64,
    /// Set when somebody replaced the computed ETA.
    #[serde(with = "wire_option", default)]
    pub estimated_delivery_time: Option<Time>,
    /// When the kitchen says that it is ready.
    #[serde(with = "wire_option", default)]
    pub kitchen_ready_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Details::is_plain")]
    pub details: Details,
    #[serde(with = "wire")]
    pub created_at: Time,
    #[serde(with = "wire")]
    pub updated_at: Time,
}

/// What is done at a stop of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopKind {
    /// At the chef's.
    Pickup,
    /// At the customer's door.
    Dropoff,
}

impl StopKind {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pickup => "pickup",
            Self::Dropoff => "dropoff",
        }
    }
}

impl Order {
    /// The place of delivery, if it is known.
    #[must_use]
    pub fn destination(&self) -> Option<Point> {
        let place = self.delivery.latitude.zip(self.delivery.longitude);
        place
            .map(|(latitude, longitude)| Point::stored(latitude, longitude))
            .filter(|place| !place.is_erased())
    }

    /// Whether drivers may take it: it is ready, nobody has it, and its customer does not fetch it.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.status == OrderStatus::ReadyForPickup && self.driver.is_none() && !self.is_fetched()
    }

    /// Whether its customer fetches it.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.details.fulfilment == Fulfilment::Collection
    }

    /// About how many bytes it takes, in memory and as JSON.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let chef = self.chef.name.len() + of(&self.chef.business_name) + of(&self.chef.address);
        let customer = self.customer.name.len() + of(&self.customer.phone);
        let driver = self.driver.as_ref().map_or(0, |driver| driver.name.len() + of(&driver.phone));
        let items: usize = self.items.iter().map(|item| item.name.len() + size_of::<Item>()).sum();
        let texts = self.delivery.address.len() + of(&self.notes) + chef + customer + driver;
        size_of::<Self>() + texts + items
    }
}

/// Who ordered.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    #[serde(deserialize_with = "stored_user")]
    pub id: UserId,
    pub name: String,
    pub phone: Option<String>,
}

/// Who cooks or packs.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chef {
    #[serde(deserialize_with = "stored_user")]
    pub id: UserId,
    pub name: String,
    pub business_name: Option<String>,
    pub address: Option<String>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
}

/// Where it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    pub address: String,
    /// Absent while it is not known
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(format = "latitude")]
    pub latitude: Option<f64>,
    /// Absent while it is not known
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(format = "longitude")]
    pub longitude: Option<f64>,
}

impl Delivery {
    /// As the database has it: 0, 0 stands for a place that is not known.
    #[must_use]
    pub fn stored(address: String, latitude: f64, longitude: f64) -> Self {
        let place = Some((latitude, longitude)).filter(|place| *place != (0.0, 0.0));
        let (latitude, longitude) = place.unzip();
        Self { address, latitude, longitude }
    }

    /// For the database.
    #[must_use]
    pub fn columns(&self) -> (f64, f64) {
        self.latitude.zip(self.longitude).unwrap_or_default()
    }
}

/// Who brings it.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    #[serde(deserialize_with = "stored_user")]
    pub id: UserId,
    pub name: String,
    pub phone: Option<String>,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub name: String,
    #[schema(value_type = f64, format = "quantity")]
    pub quantity: Quantity,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit_price: Option<f64>,
}

// Ids in the database were checked by the rules of their day.

fn stored_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OrderId, D::Error> {
    String::deserialize(deserializer).map(|id| OrderId::stored(&id))
}

pub(super) fn stored_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
    String::deserialize(deserializer).map(|id| UserId::stored(&id))
}

/// The same for a member that may be missing.
pub(super) fn stored_user_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<UserId>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|id| id.map(|id| UserId::stored(&id)))
}

/// A past or present status of an order. Each logged event has the list of all of them, in this order. Old events
/// have an object instead.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastStatus {
    /// The seq of the event that set it.
    pub seq: i64,
    pub status: OrderStatus,
    #[serde(with = "wire")]
    pub at: Time,
    pub changed_by: Option<String>,
    /// Somebody set it because the one before was wrong.
    #[serde(default)]
    pub corrected: bool,
}

impl Serialize for PastStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { seq, status, at, changed_by, corrected } = self;
        if *corrected {
            return (seq, status, rfc3339(*at), changed_by, corrected).serialize(serializer);
        }
        (seq, status, rfc3339(*at), changed_by).serialize(serializer)
    }
}

/// When an order was in a status for the last time: it may become ready twice. What a correction has undone did not happen.
#[must_use]
pub fn time_of(history: &[PastStatus], wanted: OrderStatus) -> Option<Time> {
    let mut found = None;
    for past in history {
        match past {
            // What was right before the mistake keeps its time.
            _ if past.status == wanted => found = found.filter(|_| past.corrected).or(Some(past.at)),
            _ if past.corrected && undoes(past.status, wanted) => found = None,
            _ => {}
        }
    }
    found
}

/// How long after its end an order can be followed by a link.
pub const LINK_AFTER_END: TimeDelta = TimeDelta::hours(1);

/// When links to an order end because of an event; `None` while it is not finished.
#[must_use]
pub fn link_ends_at(event: &super::OrderEvent) -> Option<Time> {
    let is_end = status::is_final(event.order.status) && event.previous_status != event.order.status;
    is_end.then(|| event.at + LINK_AFTER_END)
}

/// Whether an order that is set to `to` by a correction was never in `status`.
fn undoes(to: OrderStatus, status: OrderStatus) -> bool {
    status > to || (status::is_final(status) && to != status)
}

impl PastStatus {
    /// The order's present status.
    pub(crate) fn of(order: &Order, by: &UserId, at: Time) -> Self {
        Self { seq: order.seq, status: order.status, at, changed_by: Some(by.to_string()), corrected: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;
    use OrderStatus::{Cancelled, Delivered, Failed, InTransit, PickedUp, Preparing, ReadyForPickup};

    #[test]
    fn what_a_correction_has_undone_has_no_time() {
        let past = |(seq, (status, corrected)): (i64, (OrderStatus, bool))| PastStatus {
            seq,
            status,
            at: from_millis(seq),
            changed_by: None,
            corrected,
        };
        let history: Vec<_> = (1..)
            .zip([
                (Preparing, false),
                (ReadyForPickup, false),
                (PickedUp, false),
                (InTransit, false),
                (Failed, false),
                (InTransit, false),
                (Delivered, false),
                (InTransit, true),
            ])
            .map(past)
            .collect();
        let times = |history: &[PastStatus]| {
            [ReadyForPickup, PickedUp, InTransit, Failed, Delivered, Cancelled]
                .map(|status| time_of(history, status).map_or(0, |at| at.timestamp_millis()))
        };
        assert_eq!(times(&history[..7]), [2, 3, 6, 5, 7, 0]);
        assert_eq!(times(&history), [2, 3, 6, 0, 0, 0]);
        let text = serde_json::to_string(&history).expect("JSON");
        let read: Vec<PastStatus> = serde_json::from_str(&text).expect(&text);
        assert_eq!(times(&read), times(&history));
        // Forwards nothing is undone, and a cancellation by mistake is.
        let wrong: Vec<_> = (1..)
            .zip([(Preparing, false), (Cancelled, false), (Preparing, true), (PickedUp, true)])
            .map(past)
            .collect();
        assert_eq!(time_of(&wrong, Preparing), Some(from_millis(1)));
        assert_eq!((time_of(&wrong, Cancelled), time_of(&wrong, PickedUp)), (None, Some(from_millis(4))));
    }
}
