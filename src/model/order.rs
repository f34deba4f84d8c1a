//! An order: its parties, its items, its addresses and its state.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::{OrderId, OrderStatus, PaymentStatus, Point, Quantity, UserId};
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
    /// The place of delivery; `None` if it was erased.
    #[must_use]
    pub fn known_destination(&self) -> Option<Point> {
        Some(self.destination()).filter(|place| !place.is_erased())
    }

    /// The place of delivery.
    #[must_use]
    pub const fn destination(&self) -> Point {
        Point::stored(self.delivery.latitude, self.delivery.longitude)
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    pub address: String,
    #[schema(format = "latitude")]
    pub latitude: f64,
    #[schema(format = "longitude")]
    pub longitude: f64,
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

fn stored_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
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
}

impl Serialize for PastStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.seq, self.status, rfc3339(self.at), &self.changed_by).serialize(serializer)
    }
}

impl PastStatus {
    /// The order's present status.
    pub(crate) fn of(order: &Order, by: &UserId, at: Time) -> Self {
        Self { seq: order.seq, status: order.status, at, changed_by: Some(by.to_string()) }
    }
}
