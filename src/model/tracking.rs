//! A tracking session: a rider's trip with one order. Anybody who knows its id may watch.

use chrono::TimeDelta;

use super::{Order, OrderId, OrderStatus, PastStatus, Point, UserId};
use crate::base::clock::Time;

/// Characters of an id after `TRK-`: 22 of base62 are 131 bits.
pub const ID_LENGTH: usize = 22;

/// One session.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackingSession {
    pub id: TrackingId,
    pub order: OrderId,
    pub rider: UserId,
    pub dropoff: Point,
    pub started_at: Time,
}

/// The id of a tracking session. It is a secret that lets its holder watch, so it cannot be guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackingId(Box<str>);

impl TrackingId {
    /// An id of these random characters: [`ID_LENGTH`] of base62.
    #[must_use]
    pub fn from_random(characters: &str) -> Self {
        Self(format!("TRK-{characters}").into())
    }

    /// An id that was checked when it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// Parses an id. `None` for text that cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.strip_prefix("TRK-")?;
        let plain = random.len() == ID_LENGTH && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plain.then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TrackingSession {
    /// Whether the order's state still belongs to the session: the same order, with its rider, and not cancelled.
    #[must_use]
    pub fn shows(&self, order: &Order) -> bool {
        let theirs = order.driver.as_ref().is_some_and(|driver| driver.id == self.rider);
        let is_over = matches!(order.status, OrderStatus::Cancelled | OrderStatus::Returned);
        theirs && order.id == self.order && !is_over
    }

    /// When the session ends, given its order's state: some time after its start, sooner after delivery, and at once
    /// when the order is cancelled or leaves this rider.
    #[must_use]
    pub fn ends_at(&self, order: &Order, history: &[PastStatus], lifetimes: Lifetimes) -> Time {
        let last = self.started_at + lifetimes.from_start;
        if !self.shows(order) {
            return order.updated_at.min(last);
        }
        if order.status == OrderStatus::Delivered {
            // The order may have changed since its delivery: it may be paid late.
            let delivered = history.iter().rfind(|past| past.status == OrderStatus::Delivered);
            return (delivered.map_or(order.updated_at, |past| past.at) + lifetimes.from_delivery).min(last);
        }
        last
    }
}

/// How long a session lasts.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    pub from_start: TimeDelta,
    /// The lifetime after delivery; it is shorter.
    pub from_delivery: TimeDelta,
}

/// A rider's position, and the status that they set, if any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    pub place: Point,
    pub status: Option<OrderStatus>,
    /// Refuses the status if the order has changed since this seq.
    pub expected_seq: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_ours_are_read() {
        let id = TrackingId::from_random(&"a1B2".repeat(6)[..ID_LENGTH]);
        assert_eq!(TrackingId::parse(id.as_str()), Some(id));
        for text in ["", "TRK-", "TRK-001", "TRK-aaaaaaaaaaaaaaaaaaaaa!", "trk-aaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(TrackingId::parse(text), None, "{text}");
        }
    }
}
