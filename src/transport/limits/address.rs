//! What one address may have at a time, and how fast it may ask.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::table::Idle;
use super::{BURST_SECONDS, permits};
use crate::base::clock::instant;
use crate::base::config::Limits;
use crate::base::rate_limit::{Pace, Rate};

/// The share of the unauthenticated memory, and of forwarded requests, that one address gets: one in this many.
const SHARE: usize = 4;
/// Requests of one address that are forwarded to other nodes at a time.
const FORWARDS: usize = super::FORWARDS / SHARE;

/// The limits of each address.
#[derive(Clone, Copy)]
pub(super) struct AddressRates {
    connections: usize,
    handshakes: usize,
    /// KiB of unauthenticated memory.
    room: usize,
    pub unauthenticated: Rate,
    pub requests: Rate,
    pub logins: Rate,
}

impl AddressRates {
    pub fn new(limits: &Limits) -> Self {
        let per_second =
            |rate: u32| Rate { per_second: f64::from(rate), burst: f64::from(rate) * BURST_SECONDS };
        let logins = f64::from(limits.logins_per_minute);
        Self {
            connections: permits(limits.max_connections_per_address),
            handshakes: permits(limits.max_handshakes_per_address),
            room: limits.unauthenticated_bytes / 1024 / SHARE,
            unauthenticated: per_second(limits.unauthenticated_requests_per_second),
            requests: per_second(limits.address_requests_per_second),
            logins: Rate { per_second: logins / 60.0, burst: logins },
        }
    }
}

/// One address.
pub(super) struct AddressLimits {
    rates: AddressRates,
    pub connections: Arc<Semaphore>,
    pub handshakes: Arc<Semaphore>,
    pub room: Arc<Semaphore>,
    pub forwards: Arc<Semaphore>,
    pub unauthenticated: Pace,
    pub requests: Pace,
    pub logins: Pace,
}

impl AddressLimits {
    pub fn new(rates: AddressRates) -> Self {
        let now = instant();
        Self {
            rates,
            connections: Arc::new(Semaphore::new(rates.connections)),
            handshakes: Arc::new(Semaphore::new(rates.handshakes)),
            room: Arc::new(Semaphore::new(rates.room)),
            forwards: Arc::new(Semaphore::new(FORWARDS)),
            unauthenticated: Pace::full(rates.unauthenticated, now),
            requests: Pace::full(rates.requests, now),
            logins: Pace::full(rates.logins, now),
        }
    }
}

impl Idle for AddressLimits {
    fn is_idle(&self, now: Instant) -> bool {
        self.connections.available_permits() == self.rates.connections
            && self.handshakes.available_permits() == self.rates.handshakes
            && self.room.available_permits() == self.rates.room
            && self.forwards.available_permits() == FORWARDS
            && self.unauthenticated.is_full(self.rates.unauthenticated, now)
            && self.requests.is_full(self.rates.requests, now)
            && self.logins.is_full(self.rates.logins, now)
    }
}
