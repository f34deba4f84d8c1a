//! An order: who, what, where, and how it stands.

use serde::{Deserialize, Serialize, Serializer};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::{OrderId, OrderStatus, PaymentStatus, Point, UserId};
use crate::base::clock::{Time, rfc3339, wire, wire_option};

/// An order as it is at one `seq`: what the database holds, what an event carries.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
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
    /// Set when somebody overrode the computed ETA.
    #[serde(with = "wire_option", default)]
    pub estimated_delivery_time: Option<Time>,
    #[serde(with = "wire")]
    pub created_at: Time,
    #[serde(with = "wire")]
    pub updated_at: Time,
}

impl Order {
    /// Where the order goes.
    #[must_use]
    pub const fn destination(&self) -> Point {
        Point::stored(self.delivery.latitude, self.delivery.longitude)
    }
}

/// Who ordered.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    pub id: UserId,
    pub name: String,
    pub phone: Option<String>,
}

/// Who cooks or packs.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chef {
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
    pub id: UserId,
    pub name: String,
    pub phone: Option<String>,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub name: String,
    pub quantity: i32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit_price: Option<f64>,
}

/// A status an order has had. In the log, where every event has all of them, it is a list of these in this order; events from
/// before that have an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastStatus {
    /// Of the event that made it so.
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
    /// The status that an order has now.
    pub(crate) fn of(order: &Order, by: &UserId, at: Time) -> Self {
        Self { seq: order.seq, status: order.status, at, changed_by: Some(by.to_string()) }
    }
}
