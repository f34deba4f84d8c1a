//! Who is told what: from a durable event to notifications. Pure.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::base::clock::Time;
use crate::model::{EventKind, OrderEvent, OrderStatus, ProofKind, Role, UserId, status};

/// What somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    OrderNew,
    OrderAccepted,
    OrderOnTheWay,
    OrderArriving,
    OrderDelivered,
    OrderCancelled,
    DriverAssignment,
    DriverUnassigned,
    TrackingStarted,
    RatingPrompt,
    DeliveryPin,
    Announcement,
    /// The state of an order for Live Activities. It is shown, not told.
    OrderLive,
}

impl Kind {
    pub const ALL: [Self; 13] = [
        Self::OrderNew,
        Self::OrderAccepted,
        Self::OrderOnTheWay,
        Self::OrderArriving,
        Self::OrderDelivered,
        Self::OrderCancelled,
        Self::DriverAssignment,
        Self::DriverUnassigned,
        Self::TrackingStarted,
        Self::RatingPrompt,
        Self::DeliveryPin,
        Self::Announcement,
        Self::OrderLive,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrderNew => "order.new",
            Self::OrderAccepted => "order.accepted",
            Self::OrderOnTheWay => "order.on_the_way",
            Self::OrderArriving => "order.arriving",
            Self::OrderDelivered => "order.delivered",
            Self::OrderCancelled => "order.cancelled",
            Self::DriverAssignment => "driver.assignment",
            Self::DriverUnassigned => "driver.unassigned",
            Self::TrackingStarted => "tracking.started",
            Self::RatingPrompt => "rating.prompt",
            Self::DeliveryPin => "delivery.pin",
            Self::Announcement => "announcement",
            Self::OrderLive => "order.live",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// How long it is worth telling.
    #[must_use]
    pub const fn lives(self) -> TimeDelta {
        match self {
            Self::OrderNew | Self::TrackingStarted => TimeDelta::minutes(30),
            Self::OrderAccepted | Self::DeliveryPin => TimeDelta::hours(2),
            Self::OrderOnTheWay => TimeDelta::hours(1),
            Self::OrderArriving => TimeDelta::minutes(10),
            Self::OrderDelivered | Self::OrderCancelled => TimeDelta::hours(12),
            Self::DriverAssignment | Self::DriverUnassigned => TimeDelta::minutes(15),
            Self::RatingPrompt => TimeDelta::hours(24),
            Self::Announcement => TimeDelta::days(7),
            // After that the system ends an activity by itself.
            Self::OrderLive => TimeDelta::hours(8),
        }
    }

    /// Whether an SMS follows a push that nobody acknowledged, unless somebody wants it otherwise.
    #[must_use]
    pub const fn falls_back(self) -> bool {
        matches!(self, Self::OrderOnTheWay)
    }

    /// Whether an SMS says more than a push, and is sent at once, whoever watches and at any hour.
    #[must_use]
    pub const fn is_for_sms(self) -> bool {
        matches!(self, Self::DeliveryPin)
    }

    /// Whether a newer one about the same order takes its place, also on the screen.
    #[must_use]
    pub const fn is_status(self) -> bool {
        matches!(
            self,
            Self::OrderAccepted
                | Self::OrderOnTheWay
                | Self::OrderArriving
                | Self::OrderDelivered
                | Self::OrderCancelled
        )
    }

    /// Whether a notification of this kind takes the place of an older one about the same order.
    #[must_use]
    pub const fn replaces(self, older: Self) -> bool {
        match self {
            Self::OrderLive => matches!(older, Self::OrderLive),
            _ => self.is_status() && older.is_status(),
        }
    }

    /// Whether it comes after the last status and says so.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(self, Self::OrderDelivered | Self::OrderCancelled)
    }

    /// Whether it may wait for the morning.
    #[must_use]
    pub const fn is_quiet(self) -> bool {
        matches!(self, Self::RatingPrompt)
    }

    /// Whether users may choose how they are told.
    #[must_use]
    pub const fn is_chosen(self) -> bool {
        !matches!(self, Self::TrackingStarted | Self::Announcement | Self::OrderLive)
    }
}

/// What texts need to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Args {
    pub order_number: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Filled in when it is sent, and kept nowhere.
    #[serde(skip)]
    pub pin: Option<String>,
    /// In place of the text of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Of a Live Activity: when the order is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<Time>,
    /// It comes without a sound, because the recipient wants quiet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
}

/// Something that somebody is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub to: UserId,
    pub role: Role,
    pub kind: Kind,
    /// The earliest time.
    pub due_at: Time,
    pub expires_at: Time,
}

/// Who is told what of an event. `rating_after`: how long after a delivery people are asked how it was.
#[must_use]
pub fn planned(event: &OrderEvent, rating_after: TimeDelta) -> Vec<Planned> {
    let order = &event.order;
    let mut all = Vec::new();
    // A correction puts right what was told before.
    if order.details.silent || event.kind == EventKind::Corrected {
        return all;
    }
    let mut add = |to: &UserId, role: Role, kind: Kind| {
        // Nobody is told what they have done themselves.
        if event.changed_by.as_ref() != Some(to) {
            let (at, to) = (event.at, to.clone());
            all.push(Planned { to, role, kind, due_at: at, expires_at: at + kind.lives() });
        }
    };
    let (before, now) = (event.previous_status, order.status);
    let changed = before != now;
    match event.kind {
        EventKind::Created => {
            if !status::is_final(now) {
                add(&order.chef.id, Role::Chef, Kind::OrderNew);
            }
            return all;
        }
        EventKind::Assigned | EventKind::Unassigned => {
            if let Some(former) = &event.former_driver {
                add(former, Role::Driver, Kind::DriverUnassigned);
            }
            if let Some(driver) = order.driver.as_ref().filter(|_| event.kind == EventKind::Assigned) {
                add(&driver.id, Role::Driver, Kind::DriverAssignment);
            }
        }
        EventKind::Status
        | EventKind::Payment
        | EventKind::Updated
        | EventKind::Corrected
        | EventKind::Proof
        | EventKind::Newer => {}
    }
    if !changed {
        return all;
    }
    match now {
        OrderStatus::Accepted => add(&order.customer.id, Role::Customer, Kind::OrderAccepted),
        OrderStatus::PickedUp | OrderStatus::InTransit if before < OrderStatus::PickedUp => {
            add(&order.customer.id, Role::Customer, Kind::OrderOnTheWay);
            if order.details.missing().contains(&ProofKind::Pin) {
                add(&order.customer.id, Role::Customer, Kind::DeliveryPin);
            }
        }
        OrderStatus::Delivered => {
            add(&order.customer.id, Role::Customer, Kind::OrderDelivered);
            let at = event.at + rating_after;
            all.push(Planned {
                to: order.customer.id.clone(),
                role: Role::Customer,
                kind: Kind::RatingPrompt,
                due_at: at,
                expires_at: at + Kind::RatingPrompt.lives(),
            });
        }
        OrderStatus::Cancelled => {
            add(&order.customer.id, Role::Customer, Kind::OrderCancelled);
            add(&order.chef.id, Role::Chef, Kind::OrderCancelled);
            if let Some(driver) = &order.driver {
                add(&driver.id, Role::Driver, Kind::OrderCancelled);
            }
        }
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, before: &str, now: &str, by: Option<&str>, former: Option<&str>) -> OrderEvent {
        let at = "2026-11-28T12:00:00.000Z";
        serde_json::from_value(json!({
            "kind": kind, "previousStatus": before, "at": at, "changedBy": by, "formerDriver": former,
            "order": {
                "id": "o", "orderNumber": "1", "customer": {"id": "clara", "name": "Clara"},
                "chef": {"id": "chiara", "name": "Chiara"}, "driver": {"id": "david", "name": "David"},
                "delivery": {"address": "Linden Lane 12", "latitude": 47.0, "longitude": 9.5}, "items": [],
                "status": now, "paymentStatus": "pending", "seq": 2, "createdAt": at, "updatedAt": at,
            },
        }))
        .expect("an event")
    }

    fn told(event: &OrderEvent) -> Vec<(String, &'static str)> {
        planned(event, TimeDelta::minutes(30))
            .iter()
            .map(|one| (one.to.to_string(), one.kind.as_str()))
            .collect()
    }

    fn all(pairs: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        pairs.iter().map(|(to, kind)| ((*to).to_owned(), *kind)).collect()
    }

    #[test]
    fn who_is_told_what() {
        let of = |kind, before, now, by| told(&event(kind, before, now, by, None));
        assert_eq!(of("created", "pending", "pending", Some("clara")), all(&[("chiara", "order.new")]));
        assert_eq!(of("status", "pending", "accepted", Some("chiara")), all(&[("clara", "order.accepted")]));
        // Preparing and ready are nobody's business.
        assert_eq!(of("status", "accepted", "preparing", None), []);
        assert_eq!(of("status", "preparing", "ready_for_pickup", None), []);
        // On the way once, whichever of the two comes first.
        assert_eq!(
            of("status", "assigned_to_driver", "picked_up", Some("david")),
            all(&[("clara", "order.on_the_way")])
        );
        let mut asks = event("status", "assigned_to_driver", "picked_up", Some("david"), None);
        asks.order.details.proof_required = vec![ProofKind::Photo, ProofKind::Pin];
        assert_eq!(told(&asks), all(&[("clara", "order.on_the_way"), ("clara", "delivery.pin")]));
        asks.order.details.proof_required = vec![ProofKind::Photo];
        assert_eq!(told(&asks), all(&[("clara", "order.on_the_way")]));
        assert_eq!(of("status", "picked_up", "in_transit", Some("david")), []);
        assert_eq!(of("status", "accepted", "in_transit", None), all(&[("clara", "order.on_the_way")]));
        assert_eq!(
            of("status", "in_transit", "delivered", Some("david")),
            all(&[("clara", "order.delivered"), ("clara", "rating.prompt")])
        );
        // Not those who did it.
        assert_eq!(
            of("status", "accepted", "cancelled", Some("clara")),
            all(&[("chiara", "order.cancelled"), ("david", "order.cancelled")])
        );
        assert_eq!(of("payment", "accepted", "accepted", None), []);
    }

    #[test]
    fn only_its_own_kind_makes_room_for_what_is_shown() {
        assert!(Kind::OrderDelivered.replaces(Kind::OrderAccepted));
        assert!(Kind::OrderLive.replaces(Kind::OrderLive));
        assert!(!Kind::OrderLive.replaces(Kind::OrderAccepted));
        assert!(!Kind::OrderDelivered.replaces(Kind::OrderLive));
        assert!(!Kind::OrderNew.replaces(Kind::OrderNew));
    }

    #[test]
    fn drivers_hear_what_they_get_and_lose() {
        let changed =
            event("assigned", "ready_for_pickup", "assigned_to_driver", Some("admin"), Some("dora"));
        assert_eq!(told(&changed), all(&[("dora", "driver.unassigned"), ("david", "driver.assignment")]));
        let lost =
            event("unassigned", "assigned_to_driver", "ready_for_pickup", Some("admin"), Some("david"));
        assert_eq!(told(&lost), all(&[("david", "driver.unassigned")]));
    }
}
