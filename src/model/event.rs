//! Events of orders: durable ones, which are logged, and live ones, which are not.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};

use super::order::stored_user_option;
use super::told::Told;
use super::{Eta, Fix, Order, OrderId, OrderStatus, Party, PastStatus, Provenance, Role, UserId, access};
use crate::base::clock::{Time, wire};

/// What kind of change a durable event records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Created,
    Status,
    Assigned,
    Unassigned,
    Payment,
    /// Somebody changed what the order says.
    Updated,
    /// Somebody set a status because the one before was wrong.
    Corrected,
    /// The driver showed that the order was handed over.
    Proof,
    /// Written by a newer version, which knows what it is. Here it is a durable event like any other.
    #[serde(other)]
    Newer,
}

/// A durable event: the change, and the whole order right after it. Rendering needs nothing else.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderEvent {
    /// Position in the log of all orders, given when it is appended.
    #[serde(skip)]
    pub position: i64,
    pub kind: EventKind,
    pub order: Order,
    pub previous_status: OrderStatus,
    #[serde(default, deserialize_with = "stored_user_option")]
    pub changed_by: Option<UserId>,
    pub note: Option<String>,
    /// Why the delivery failed, or why the driver did not want the order.
    pub reason: Option<String>,
    /// Which members of the order are new, of an event of the kind `updated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<Cow<'static, str>>,
    /// The driver who had the order before, if this event takes it from them.
    #[serde(default, deserialize_with = "stored_user_option")]
    pub former_driver: Option<UserId>,
    /// The order's statuses so far, with this one last. Empty for events from before this was logged.
    #[serde(default)]
    pub history: Vec<PastStatus>,
    #[serde(with = "wire")]
    pub at: Time,
}

impl OrderEvent {
    /// Whether drivers learn from it of an order that they may take.
    #[must_use]
    pub fn became_available(&self) -> bool {
        self.order.is_available() && self.previous_status != self.order.status
    }

    /// Why drivers can no longer take an order that was offered: `taken` or `cancelled`.
    #[must_use]
    pub fn withdrawn(&self) -> Option<&'static str> {
        let order = &self.order;
        let nobody_had_it =
            self.former_driver.is_none() && (order.driver.is_none() || self.kind == EventKind::Assigned);
        let was_available =
            self.previous_status == OrderStatus::ReadyForPickup && nobody_had_it && !order.is_fetched();
        let is_over = was_available && !order.is_available();
        is_over.then_some(if order.status == OrderStatus::Cancelled { "cancelled" } else { "taken" })
    }

    /// The event as a party may see it, given the order's state now. What a customer sees of a driver only on the way is not
    /// in past events either, once the order has arrived or is with another driver.
    #[must_use]
    pub fn as_of<'a>(&'a self, now: &Order, party: Party) -> Cow<'a, Self> {
        let phone = self.order.driver.as_ref().is_some_and(|driver| driver.phone.is_some());
        if phone && party.is_public() && !access::driver_still_visible(&self.order, now) {
            Cow::Owned(self.without_phone())
        } else {
            Cow::Borrowed(self)
        }
    }

    /// The same event without the driver's phone number.
    #[must_use]
    pub fn without_phone(&self) -> Self {
        let mut event = self.clone();
        if let Some(driver) = &mut event.order.driver {
            driver.phone = None;
        }
        event
    }

    /// The recipients beside staff, who see everything.
    #[must_use]
    pub fn audience(&self) -> SmallVec<[Audience; 4]> {
        let order = &self.order;
        let mut all = smallvec![
            Audience::Party(Role::Chef, order.chef.id.clone()),
            Audience::Party(Role::Customer, order.customer.id.clone())
        ];
        if self.kind != EventKind::Created {
            let drivers = order.driver.iter().map(|driver| &driver.id).chain(&self.former_driver);
            all.extend(drivers.cloned().map(|driver| Audience::Party(Role::Driver, driver)));
            if self.became_available() || self.withdrawn().is_some() {
                all.push(Audience::Role(Role::Driver));
            }
        }
        all
    }
}

/// A live event. Only the newest of its kind matters, and it is never logged.
#[derive(Clone, Debug)]
pub enum LiveEvent {
    Location(Location),
    Eta(EtaChange),
    Announcement(Announcement),
    Told(Told),
}

/// A driver moved while carrying an order.
#[derive(Clone, Debug)]
pub struct Location {
    pub about: Arc<About>,
    pub driver: UserId,
    /// The fix, at the place that is shown.
    pub fix: Fix,
    pub provenance: Provenance,
    /// Whether the driver has so few stops before the order that its customer may see this.
    pub is_near: bool,
    /// The expected arrival from there, as last estimated: see [`Location::eta`].
    pub last_eta: Option<Eta>,
    /// How many reports of the driver this node has accepted so far.
    pub accepted: u32,
}

impl Location {
    /// Whether customers and clients without a token may see it.
    #[must_use]
    pub fn is_for_public(&self) -> bool {
        access::may_see_place(self.about.order.status, self.is_near, Party::Customer)
    }

    /// The expected arrival from there.
    #[must_use]
    pub fn eta(&self) -> Option<Eta> {
        let fix = &self.fix;
        self.last_eta.map(|eta| eta.as_of(fix.received_at, Some(fix.recorded_at)))
    }
}

/// The order that a driver carries, as recipients of the driver's position know it.
#[derive(Debug)]
pub struct About {
    pub order: Order,
    pub history: Vec<PastStatus>,
}

/// An order's ETA changed by a minute or more, or was set by hand.
#[derive(Clone, Debug)]
pub struct EtaChange {
    pub order: OrderId,
    pub customer: UserId,
    /// Who carries it.
    pub driver: Option<UserId>,
    pub eta: Eta,
}

/// A custom event for a role or for one user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announcement {
    pub audience: Audience,
    pub name: String,
    pub data: Box<RawValue>,
}

/// The recipients of an event or an announcement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    Role(Role),
    /// A user, whatever their role.
    User(UserId),
    /// A user in one role. A driver and a customer with the same id may be two people.
    Party(Role, UserId),
}

impl Audience {
    /// The text that the database keeps.
    #[must_use]
    pub fn stored(&self) -> String {
        match self {
            Self::Role(role) => format!("role:{}", role.as_str()),
            // The index is by user only. A reader of another role finds the event there and is not told of it.
            Self::User(user) | Self::Party(_, user) => format!("user:{user}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn events_of_older_versions_are_read() {
        let at = "2026-11-21T12:00:00.000Z";
        let mut event = json!({
            "kind": "created", "previousStatus": "pending", "at": at, "changedBy": null, "note": null,
            "order": {
                "id": "o", "orderNumber": "1", "customer": {"id": "c", "name": "Clara", "phone": null},
                "chef": {"id": "d", "name": "Chiara"}, "driver": null, "paymentConfirmedAt": null,
                "delivery": {"address": "Linden Lane 12", "latitude": 47.15, "longitude": 9.53}, "items": [],
                "status": "pending", "paymentStatus": "pending", "seq": 1, "createdAt": at, "updatedAt": at,
            },
            "history": [{"seq": 1, "status": "pending", "at": at, "changedBy": null}],
        });
        let read: OrderEvent = serde_json::from_value(event.clone()).expect("an event");
        let written = serde_json::to_value(&read).expect("written");
        event["history"] = json!([[1, "pending", at, null]]);
        assert_eq!(written, without_nulls(event));
        let again: OrderEvent = serde_json::from_value(written.clone()).expect("read again");
        assert_eq!(serde_json::to_value(&again).expect("written"), written);
    }

    /// Removes members that are null.
    fn without_nulls(mut value: Value) -> Value {
        if let Value::Object(members) = &mut value {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(|member| *member = without_nulls(member.take()));
        }
        value
    }
}
