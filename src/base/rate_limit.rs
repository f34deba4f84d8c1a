//! Token buckets: allow a burst, then a steady rate per second. [`Bucket`] refuses what is too much. [`Pace`] slows it down
//! first.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::clock::Time;

/// A steady rate per second, and how much may come at once. A rate of 0 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub per_second: f64,
    pub burst: f64,
}

/// A token bucket that may be overdrawn: whoever overdraws it waits until it is level again.
#[derive(Debug)]
pub struct Pace(Mutex<(f64, Instant)>);

impl Pace {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self(Mutex::new((rate.burst, now)))
    }

    /// Takes `cost` tokens. Returns how long to wait before going on: nothing as long as the burst lasts, and `patience` at
    /// the most.
    ///
    /// # Errors
    /// The time until which it makes no sense to try again, if that is longer than `patience`. Nothing is taken then.
    pub fn take(
        &self,
        cost: f64,
        rate: Rate,
        patience: Duration,
        now: Instant,
    ) -> Result<Duration, Duration> {
        if rate.per_second <= 0.0 {
            return Ok(Duration::ZERO);
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, updated_at) = *state;
        let elapsed = now.saturating_duration_since(updated_at).as_secs_f64();
        let filled = elapsed.mul_add(rate.per_second, tokens).min(rate.burst);
        let left = filled - cost;
        let wait = Duration::try_from_secs_f64(-left / rate.per_second).unwrap_or(Duration::ZERO);
        let result = if wait > patience { Err(wait) } else { Ok(wait) };
        *state = (if result.is_ok() { left } else { filled }, now);
        result
    }

    /// Whether nothing was taken lately, so that a new bucket would be the same.
    #[must_use]
    pub fn is_full(&self, rate: Rate, now: Instant) -> bool {
        let (tokens, updated_at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(updated_at).as_secs_f64();
        rate.per_second <= 0.0 || elapsed.mul_add(rate.per_second, tokens) >= rate.burst
    }
}

/// The fill level of a token bucket. The caller passes size and rate with each call, so that a bucket costs only 16
/// bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    updated_at: Time,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(burst: u32, now: Time) -> Self {
        Self { tokens: f64::from(burst), updated_at: now }
    }

    /// Takes one token. `rate` is in tokens per second; 0 means no limit.
    ///
    /// # Errors
    /// The time in milliseconds until the next token.
    pub fn take(&mut self, rate: f64, burst: u32, now: Time) -> Result<(), u64> {
        if rate <= 0.0 {
            return Ok(());
        }
        self.refill(rate, burst, now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
        Err(((1.0 - self.tokens) / rate * 1_000.0).ceil() as u64)
    }

    /// Takes tokens for what was allowed elsewhere. That may overdraw the bucket by as much as it holds.
    pub fn spend(&mut self, count: u64, rate: f64, burst: u32, now: Time) {
        self.refill(rate, burst, now);
        let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.tokens = (self.tokens - count).max(-f64::from(burst));
    }

    /// How many tokens are missing.
    #[must_use]
    pub fn spent(mut self, rate: f64, burst: u32, now: Time) -> u64 {
        self.refill(rate, burst, now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
        let spent = (f64::from(burst) - self.tokens).max(0.0) as u64;
        spent
    }

    fn refill(&mut self, rate: f64, burst: u32, now: Time) {
        #[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds")]
        let seconds = (now - self.updated_at).num_milliseconds().max(0) as f64 / 1_000.0;
        self.tokens = seconds.mul_add(rate, self.tokens).min(f64::from(burst));
        self.updated_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{from_millis, instant};

    #[test]
    fn a_pace_slows_down_before_it_refuses() {
        let (now, second) = (instant(), Duration::from_secs(1));
        let rate = Rate { per_second: 2.0, burst: 3.0 };
        let pace = Pace::full(rate, now);
        let take = |after: Duration| pace.take(1.0, rate, second, now + after);
        for _ in 0..3 {
            assert_eq!(take(Duration::ZERO), Ok(Duration::ZERO));
        }
        assert_eq!(take(Duration::ZERO), Ok(second / 2));
        assert_eq!(take(Duration::ZERO), Ok(second));
        assert_eq!(take(Duration::ZERO), Err(second * 3 / 2), "refused");
        assert_eq!(take(Duration::ZERO), Err(second * 3 / 2), "a refusal costs nothing");
        assert_eq!(take(second), Ok(second / 2), "two places are free again");
        assert_eq!(pace.take(9.0, Rate { per_second: 0.0, burst: 0.0 }, second, now), Ok(Duration::ZERO));
    }

    #[test]
    fn what_was_allowed_elsewhere_counts_here() {
        let mut bucket = Bucket::full(3, from_millis(0));
        let at = |millis| from_millis(millis);
        assert_eq!(bucket.take(1.0, 3, at(0)), Ok(()));
        assert_eq!(bucket.spent(1.0, 3, at(0)), 1);
        bucket.spend(2, 1.0, 3, at(0));
        assert_eq!(bucket.take(1.0, 3, at(0)), Err(1_000));
        bucket.spend(100, 1.0, 3, at(0));
        assert_eq!(bucket.take(1.0, 3, at(0)), Err(4_000), "overdrawn by three at the most");
        assert_eq!(bucket.take(1.0, 3, at(4_000)), Ok(()));
        assert_eq!(bucket.spent(1.0, 3, at(9_000)), 0);
    }

    #[test]
    fn a_bucket_allows_a_burst_and_then_the_rate() {
        let mut bucket = Bucket::full(10, from_millis(0));
        for _ in 0..10 {
            assert_eq!(bucket.take(2.0, 10, from_millis(0)), Ok(()));
        }
        assert_eq!(bucket.take(2.0, 10, from_millis(0)), Err(500));
        assert_eq!(bucket.take(2.0, 10, from_millis(400)), Err(100));
        assert_eq!(bucket.take(2.0, 10, from_millis(500)), Ok(()));
        assert_eq!(bucket.take(0.0, 10, from_millis(500)), Ok(()));
    }
}
