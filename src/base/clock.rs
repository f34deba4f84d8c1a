//! Time and chance, handed in: the one place that asks the machine for either.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use rand::distr::{Alphanumeric, Distribution, SampleString, StandardUniform};
use rand::seq::SliceRandom;
use tokio::time::Instant;
use uuid::Uuid;

/// A moment, UTC, whole milliseconds.
pub type Time = DateTime<Utc>;

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's own clock.
    System,
    /// Milliseconds since 1970 that a test moves by hand.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Time) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.timestamp_millis())))
    }

    /// Now, in whole milliseconds: what both databases keep exactly.
    #[must_use]
    pub fn now(&self) -> Time {
        #[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
        let millis = match self {
            Self::System => Utc::now().timestamp_millis(),
            Self::Manual(at) => at.load(Ordering::Acquire),
        };
        from_millis(millis)
    }

    /// Moves a manual clock forwards; the system's clock cannot be moved.
    pub fn advance(&self, by: chrono::TimeDelta) {
        if let Self::Manual(at) = self {
            at.fetch_add(by.num_milliseconds(), Ordering::AcqRel);
        }
    }

    /// Random bytes, fit for secrets.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N]
    where
        StandardUniform: Distribution<[u8; N]>,
    {
        random()
    }

    /// So many random characters of base62, fit for secrets.
    #[must_use]
    pub fn alphanumeric(&self, length: usize) -> String {
        Alphanumeric.sample_string(&mut rng(), length)
    }

    /// A random part of a whole, from 0 up to, not including, 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        random()
    }

    /// Puts things into a random order.
    pub fn shuffle<T>(&self, things: &mut [T]) {
        things.shuffle(&mut rng());
    }

    /// A new `UUIDv7`: sortable by the time it was made, by this clock.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let millis = u64::try_from(self.now().timestamp_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.random::<10>()).into_uuid()
    }
}

/// A point on the machine's steady clock, for measuring how long something takes and for deadlines of timers. It has no
/// date, so nothing that is stored or told depends on it.
#[must_use]
pub fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rand::random()
}

#[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
fn rng() -> rand::rngs::ThreadRng {
    rand::rng()
}

/// The moment so many milliseconds after 1970; out of chrono's range, 1970 itself.
#[must_use]
pub fn from_millis(millis: i64) -> Time {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// The time as it is on the wire: RFC 3339, UTC, milliseconds, `Z`.
#[must_use]
pub fn rfc3339(at: Time) -> String {
    let year = at.year();
    if !(0..=9999).contains(&year) {
        return at.to_rfc3339_opts(SecondsFormat::Millis, true);
    }
    // By hand: it is said several times in every position report.
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

/// `#[serde(with = "clock::wire")]` and `clock::wire_option`: times as [`rfc3339`].
pub mod wire {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Time, from_millis, rfc3339};

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(*at))
    }

    /// # Errors
    /// When the text is not RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        Ok(from_millis(Time::deserialize(deserializer)?.timestamp_millis()))
    }
}

/// As [`wire`], for a time that may be missing.
pub mod wire_option {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Time, from_millis, wire};

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
        Ok(Option::<Time>::deserialize(deserializer)?.map(|at| from_millis(at.timestamp_millis())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_is_what_chrono_says() {
        for millis in
            [0, 1, 999, 951_782_400_123, 1_795_230_000_045, 253_402_300_799_999, -1, 253_402_300_800_000]
        {
            let at = from_millis(millis);
            assert_eq!(rfc3339(at), at.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
    }
}
