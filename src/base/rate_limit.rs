//! A token bucket: so many at once, so many per second after that.

use super::clock::Time;

/// How much of a bucket is left. The bucket's size and rate are the caller's, so that it costs 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    at: Time,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(burst: u32, now: Time) -> Self {
        Self { tokens: f64::from(burst), at: now }
    }

    /// Takes one token; a rate of 0 means no limit.
    ///
    /// # Errors
    /// In how many milliseconds there will be one.
    pub fn take(&mut self, rate: f64, burst: u32, now: Time) -> Result<(), u64> {
        if rate <= 0.0 {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds")]
        let elapsed = (now - self.at).num_milliseconds().max(0) as f64 / 1_000.0;
        self.tokens = elapsed.mul_add(rate, self.tokens).min(f64::from(burst));
        self.at = now;
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
    fn burst_then_rate() {
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
