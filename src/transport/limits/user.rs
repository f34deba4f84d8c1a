//! What one user may ask over HTTP, with whatever token and from wherever.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::table::Idle;
use super::{BURST_SECONDS, permits};
use crate::base::clock::instant;
use crate::base::config::Limits;
use crate::base::rate_limit::{Pace, Rate};
use crate::model::UserId;

/// How much more admins and services may have under way and send: a back end speaks for all its customers.
const STAFF_SHARE: usize = 16;
/// Seconds' worth of bytes that may come at once, and the factor of staff: a phone that was offline for long sends its
/// largest batches one after the other.
const BYTES_BURST: f64 = 32.0;
/// Lists that are read at a time: they take the most memory of all answers.
const LISTS: usize = 2;

/// The limits of each user.
#[derive(Clone, Copy)]
pub(super) struct UserRates {
    under_way: usize,
    lists: usize,
    pub requests: Rate,
    pub bytes: Rate,
}

impl UserRates {
    pub fn new(limits: &Limits, staff: bool) -> Self {
        let share = if staff { STAFF_SHARE } else { 1 };
        let requests = f64::from(if staff { 0 } else { limits.user_requests_per_second });
        let bytes = f64::from(limits.user_bytes_per_second) * if staff { BYTES_BURST } else { 1.0 };
        Self {
            under_way: permits(limits.user_requests_under_way.saturating_mul(share)),
            lists: LISTS * if staff { 4 } else { 1 },
            requests: Rate { per_second: requests, burst: requests * BURST_SECONDS },
            bytes: Rate { per_second: bytes, burst: bytes * BYTES_BURST },
        }
    }
}

/// A user, and whether the token was one of staff: a token of a lower role must not take from what staff may do.
pub(super) type UserKey = (UserId, bool);

/// One user.
pub(super) struct UserLimits {
    rates: UserRates,
    pub under_way: Arc<Semaphore>,
    pub lists: Arc<Semaphore>,
    pub requests: Pace,
    pub bytes: Pace,
}

impl UserLimits {
    pub fn new(rates: UserRates) -> Self {
        let now = instant();
        Self {
            rates,
            under_way: Arc::new(Semaphore::new(rates.under_way)),
            lists: Arc::new(Semaphore::new(rates.lists)),
            requests: Pace::full(rates.requests, now),
            bytes: Pace::full(rates.bytes, now),
        }
    }
}

impl Idle for UserLimits {
    fn is_idle(&self, now: Instant) -> bool {
        self.under_way.available_permits() == self.rates.under_way
            && self.lists.available_permits() == self.rates.lists
            && self.requests.is_full(self.rates.requests, now)
            && self.bytes.is_full(self.rates.bytes, now)
    }
}
