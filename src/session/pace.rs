//! How fast one sender may be: a limit that slows down what comes too fast, and tells how long it has been coming too fast.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::clock::{Time, instant};
use crate::base::rate_limit::Bucket;
use crate::model::UserId;

/// A sender that was within its limit for this long begins anew.
const CALM: Duration = Duration::from_secs(1);
/// The longest time for which a sender is held up. Its heartbeat waits behind its requests.
const LONGEST: Duration = Duration::from_secs(5);
/// The map of users looks for entries that are needed no longer when it has this many, and then each time it has doubled.
const SWEEP: usize = 1_024;

/// The limit of one socket, or of all sockets of one user. A limit of 0 is none.
#[derive(Debug)]
pub(super) struct Pace {
    bucket: Bucket,
    /// The sender is held up until then, or was.
    until: Option<Instant>,
    /// The sender has been over its limit since then.
    since: Option<Instant>,
}

/// A request over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub retry_after_ms: u64,
    /// When the next request may be read.
    pub until: Instant,
    /// How long the sender has been over its limit.
    pub lasts: Duration,
}

impl Pace {
    pub fn new(limit: u32, now: Time) -> Self {
        Self { bucket: Bucket::full(limit, now), until: None, since: None }
    }

    /// Counts a request. `limit` is in requests per second, and that many may come at once. Requests over the limit may be
    /// `faster` times as fast.
    ///
    /// # Errors
    /// How much it is over the limit.
    pub fn take(&mut self, limit: u32, faster: f64, now: Time) -> Result<(), Excess> {
        let Err(retry_after_ms) = self.bucket.take(f64::from(limit), limit, now) else { return Ok(()) };
        let now = instant();
        let until = self.until.filter(|until| *until + CALM >= now);
        if until.is_none() {
            self.since = Some(now);
        }
        let step = Duration::from_secs_f64(1.0 / (f64::from(limit) * faster));
        let until = (until.map_or(now, |until| until.max(now)) + step).min(now + LONGEST);
        self.until = Some(until);
        let lasts = self.since.map_or(Duration::ZERO, |since| now - since);
        Err(Excess { retry_after_ms, until, lasts })
    }
}

/// The limits of the users who are connected. It has an entry for each of them, and for some who left lately.
#[derive(Debug)]
pub(super) struct UserPaces(Mutex<Users>);

#[derive(Debug)]
struct Users {
    paces: HashMap<UserId, Arc<Mutex<Pace>>>,
    /// With so many entries, those that are needed no longer are removed.
    sweep_at: usize,
}

impl Default for UserPaces {
    fn default() -> Self {
        Self(Mutex::new(Users { paces: HashMap::new(), sweep_at: SWEEP }))
    }
}

impl UserPaces {
    /// The limit that all sockets of a user share. A user who leaves and comes back at once finds it as it was.
    pub fn of(&self, user: &UserId, limit: u32, now: Time) -> Arc<Mutex<Pace>> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Users { paces, sweep_at } = &mut *users;
        if let Some(pace) = paces.get(user) {
            return Arc::clone(pace);
        }
        if paces.len() >= *sweep_at {
            let recent = instant() - CALM;
            paces.retain(|_, pace| {
                Arc::strong_count(pace) > 1 || lock(pace).until.is_some_and(|until| until > recent)
            });
            *sweep_at = SWEEP.max(2 * paces.len());
        }
        let pace = Arc::new(Mutex::new(Pace::new(limit, now)));
        paces.insert(user.clone(), Arc::clone(&pace));
        pace
    }
}

pub(super) fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    #[test]
    fn what_is_over_the_limit_is_spread() {
        let mut pace = Pace::new(10, from_millis(0));
        for _ in 0..10 {
            assert_eq!(pace.take(10, 2.0, from_millis(0)), Ok(()));
        }
        let first = pace.take(10, 2.0, from_millis(0)).expect_err("over the limit");
        let second = pace.take(10, 2.0, from_millis(0)).expect_err("over the limit");
        assert_eq!((first.retry_after_ms, first.lasts), (100, Duration::ZERO));
        assert_eq!(second.until - first.until, Duration::from_millis(50));
        for _ in 0..1_000 {
            let excess = pace.take(10, 2.0, from_millis(0)).expect_err("over the limit");
            assert!(excess.until <= instant() + LONGEST);
        }
        assert_eq!(pace.take(0, 2.0, from_millis(0)), Ok(()), "no limit");
    }

    #[test]
    fn users_who_left_are_forgotten() {
        let paces = UserPaces::default();
        let here = paces.of(&UserId::stored("here"), 1, from_millis(0));
        for number in 0..10 * SWEEP {
            let _ = paces.of(&UserId::stored(&format!("u{number}")), 1, from_millis(0));
        }
        assert!(paces.0.lock().expect("a lock").paces.len() <= SWEEP);
        assert!(Arc::ptr_eq(&here, &paces.of(&UserId::stored("here"), 1, from_millis(0))));
    }
}
