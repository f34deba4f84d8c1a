//! Time and randomness. Only this file asks the machine for either of them. All other code receives a [`Clock`], so
//! that tests can control the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use rand::distr::{Alphanumeric, Distribution, SampleString, StandardUniform};
use rand::seq::SliceRandom;
use tokio::time::Instant;
use uuid::Uuid;

/// A point in time: UTC, in whole milliseconds.
pub type Time = DateTime<Utc>;

/// The rule for times, in the words of a refusal.
const TIME_RULE: &str = "must be a time as RFC 3339 has it, such as 2026-11-21T09:00:00.000Z";

/// The source of the current time and of random values.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The clock of the machine.
    System,
    /// A clock that a test moves; in milliseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Makes a clock that stands still until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Time) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.timestamp_millis())))
    }

    /// The current time in whole milliseconds, which both databases store without loss.
    #[must_use]
    pub fn now(&self) -> Time {
        #[expect(clippy::disallowed_methods, reason = "only this file may ask the machine")]
        let millis = match self {
            Self::System => Utc::now().timestamp_millis(),
            Self::Manual(at) => at.load(Ordering::Acquire),
        };
        from_millis(millis)
    }

    /// Moves a manual clock forwards. Has no effect on the system clock.
    pub fn advance(&self, by: chrono::TimeDelta) {
        if let Self::Manual(at) = self {
            at.fetch_add(by.num_milliseconds(), Ordering::AcqRel);
        }
    }

    /// `N` random bytes from a cryptographically secure generator.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N]
    where
        StandardUniform: Distribution<[u8; N]>,
    {
        random()
    }

    /// `length` random base62 characters from a cryptographically secure generator.
    #[must_use]
    pub fn alphanumeric(&self, length: usize) -> String {
        Alphanumeric.sample_string(&mut rng(), length)
    }

    /// A random number in [0, 1).
    #[must_use]
    pub fn fraction(&self) -> f64 {
        random()
    }

    /// Shuffles a slice in place.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        items.shuffle(&mut rng());
    }

    /// A new `UUIDv7` with the time of this clock, so that ids sort by their creation time.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let millis = u64::try_from(self.now().timestamp_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.random::<10>()).into_uuid()
    }
}

/// The machine's monotonic clock, for durations and timer deadlines. It has no date, so nothing that is stored or sent
/// to a client depends on it.
#[must_use]
pub fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "only this file may ask the machine")]
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "only this file may ask the machine")]
fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rand::random()
}

#[expect(clippy::disallowed_methods, reason = "only this file may ask the machine")]
fn rng() -> rand::rngs::ThreadRng {
    rand::rng()
}

/// Converts milliseconds since the Unix epoch. A value outside chrono's range becomes the epoch itself.
#[must_use]
pub fn from_millis(millis: i64) -> Time {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// Formats a time for the wire: RFC 3339 in UTC with milliseconds, for example `2026-11-21T09:00:00.000Z`.
#[must_use]
pub fn rfc3339(at: Time) -> String {
    let year = at.year();
    if !(0..=9999).contains(&year) {
        return at.to_rfc3339_opts(SecondsFormat::Millis, true);
    }
    // Formatted by hand for speed: every position update contains several timestamps.
    let mut text = String::with_capacity(24);
    let mut digits = |mut value: u32, count: u32, after: char| {
        let mut unit = 10_u32.pow(count - 1);
        while unit > 0 {
            text.push(char::from(b'0' + u8::try_from(value / unit).unwrap_or(0)));
            value %= unit;
            unit /= 10;
        }
        text.push(after);
    };
    digits(year.unsigned_abs(), 4, '-');
    digits(at.month(), 2, '-');
    digits(at.day(), 2, 'T');
    digits(at.hour(), 2, ':');
    digits(at.minute(), 2, ':');
    digits(at.second(), 2, '.');
    digits(at.timestamp_subsec_millis().min(999), 3, 'Z');
    text
}

/// Serde format of a time as [`rfc3339`] text: `#[serde(with = "clock::wire")]`.
pub mod wire {
    use chrono::Datelike;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{TIME_RULE, Time, from_millis, rfc3339};

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(*at))
    }

    /// # Errors
    /// When the text is not RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        written(Time::deserialize(deserializer).map_err(|_| D::Error::custom(TIME_RULE))?)
    }

    /// chrono reads years that RFC 3339 cannot write, and that a database may not store.
    pub(super) fn written<E: Error>(at: Time) -> Result<Time, E> {
        let at = from_millis(at.timestamp_millis());
        if (0..=9_999).contains(&at.year()) {
            Ok(at)
        } else {
            Err(E::custom("is not a time of the years 0 to 9999"))
        }
    }
}

/// Like [`wire`], for `Option<Time>`.
pub mod wire_option {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{TIME_RULE, Time, wire};

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => wire::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// # Errors
    /// When the text is not RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
        let at = Option::<Time>::deserialize(deserializer).map_err(|_| D::Error::custom(TIME_RULE))?;
        at.map(wire::written).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_formats_like_chrono() {
        for millis in
            [0, 1, 999, 951_782_400_123, 1_795_230_000_045, 253_402_300_799_999, -1, 253_402_300_800_000]
        {
            let at = from_millis(millis);
            assert_eq!(rfc3339(at), at.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
    }
}
