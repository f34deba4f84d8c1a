//! A token bucket: allows a burst, then a steady rate per second.

use super::clock::Time;

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
        #[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds")]
        let seconds = (now - self.updated_at).num_milliseconds().max(0) as f64 / 1_000.0;
        self.tokens = seconds.mul_add(rate, self.tokens).min(f64::from(burst));
        self.updated_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
        Err(((1.0 - self.tokens) / rate * 1_000.0).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

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
