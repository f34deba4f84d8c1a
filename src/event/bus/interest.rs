//! What this node wants to hear from others: the orders that somebody here listens to. A wish lasts for a while and is renewed
//! as long as somebody listens, so it cannot be forgotten, and a client that comes and goes costs nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use chrono::TimeDelta;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use crate::base::clock::Time;

/// How long an order is heard after the last one here has stopped listening.
const LINGER: TimeDelta = TimeDelta::seconds(60);
/// Orders that are wanted at a time. Beyond that a node hears all.
const MOST: usize = 1_000_000;

/// The wishes for one shard of Redis.
pub(super) struct Interest {
    wanted: Mutex<Wanted>,
    /// Notified when something new is wanted.
    pub changed: Notify,
    gauge: Gauge,
}

#[derive(Default)]
struct Wanted {
    orders: AHashMap<u64, Wish>,
    added: Vec<u64>,
    /// Until when everything is wanted.
    all: Option<Time>,
}

struct Wish {
    until: Time,
    /// Redis has confirmed the subscription.
    confirmed: bool,
}

impl Interest {
    pub fn new(gauge: Gauge) -> Self {
        Self { wanted: Mutex::default(), changed: Notify::new(), gauge }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody here listens to the order with this hash.
    pub fn want(&self, order: u64, now: Time) {
        let mut wanted = self.wanted();
        let until = now + LINGER;
        if let Some(wish) = wanted.orders.get_mut(&order) {
            wish.until = until;
            return;
        }
        if wanted.orders.len() >= MOST {
            drop(wanted);
            return self.want_all(now);
        }
        wanted.orders.insert(order, Wish { until, confirmed: false });
        wanted.added.push(order);
        drop(wanted);
        self.gauge.inc();
        self.changed.notify_one();
    }

    /// Somebody here listens to all orders.
    pub fn want_all(&self, now: Time) {
        if self.wanted().all.replace(now + LINGER).is_none() {
            self.changed.notify_one();
        }
    }

    /// Whether everything is wanted.
    pub fn wants_all(&self, now: Time) -> bool {
        let mut wanted = self.wanted();
        wanted.all = wanted.all.filter(|until| *until > now);
        wanted.all.is_some()
    }

    /// Whether frames of the order arrive here.
    pub fn is_heard(&self, order: u64) -> bool {
        self.wanted().orders.get(&order).is_some_and(|wish| wish.confirmed)
    }

    /// What has been added since the last call.
    pub fn added(&self) -> Vec<u64> {
        std::mem::take(&mut self.wanted().added)
    }

    /// Everything that is wanted. Nothing counts as confirmed from now on.
    pub fn begin_again(&self) -> Vec<u64> {
        let mut wanted = self.wanted();
        wanted.added = Vec::new();
        wanted.orders.values_mut().for_each(|wish| wish.confirmed = false);
        wanted.orders.keys().copied().collect()
    }

    /// Redis has confirmed these subscriptions.
    pub fn confirm(&self, orders: &[u64]) {
        let mut wanted = self.wanted();
        for order in orders {
            if let Some(wish) = wanted.orders.get_mut(order) {
                wish.confirmed = true;
            }
        }
    }

    /// Removes and returns what nobody wants any more.
    pub fn ended(&self, now: Time) -> Vec<u64> {
        let mut wanted = self.wanted();
        let Wanted { orders, added, .. } = &mut *wanted;
        let ended: Vec<u64> =
            orders.iter().filter(|(_, wish)| wish.until <= now).map(|(order, _)| *order).collect();
        for order in &ended {
            orders.remove(order);
        }
        added.retain(|order| orders.contains_key(order));
        drop(wanted);
        self.gauge.dec_by(i64::try_from(ended.len()).unwrap_or(i64::MAX));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    #[test]
    fn a_wish_lasts_as_long_as_it_is_renewed_and_a_minute() {
        let interest = Interest::new(Gauge::default());
        let at = |seconds: i64| from_millis(seconds * 1_000);
        interest.want(1, at(0));
        interest.want(2, at(0));
        assert_eq!(interest.added(), [1, 2]);
        interest.confirm(&[1, 2, 3]);
        assert!(interest.is_heard(1) && interest.is_heard(2) && !interest.is_heard(3));
        interest.want(1, at(30));
        assert!(interest.ended(at(59)).is_empty());
        assert_eq!(interest.ended(at(60)), [2]);
        assert!(!interest.is_heard(2));
        assert!(interest.added().is_empty(), "a renewed wish is not new");
        // After a reconnection everything is asked for again.
        assert_eq!(interest.begin_again(), [1]);
        assert!(!interest.is_heard(1));
        assert_eq!(interest.ended(at(90)), [1]);
        assert_eq!(interest.gauge.get(), 0);
    }

    #[test]
    fn a_wish_for_everything_ends_too() {
        let interest = Interest::new(Gauge::default());
        interest.want_all(from_millis(0));
        assert!(interest.wants_all(from_millis(59_999)));
        assert!(!interest.wants_all(from_millis(60_000)));
    }
}
