//! Time and randomness. Only this file asks the machine for either of them. All other code receives a [`Clock`], so
//! that tests can control the time.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};
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
    /// The clock that all processes on one database share: the machine's, corrected by so many milliseconds.
    Shared(Arc<AtomicI64>),
    /// A clock that a test moves; in milliseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Makes a clock that stands still until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Time) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.timestamp_millis())))
    }

    /// Makes a clock that goes as the machine's until it is corrected.
    #[must_use]
    pub fn shared() -> Self {
        Self::Shared(Arc::default())
    }

    /// Corrects a shared clock: it is so many milliseconds ahead of the machine's. Has no effect on others.
    pub fn correct(&self, millis: i64) {
        if let Self::Shared(offset) = self {
            offset.store(millis, Ordering::Release);
        }
    }

    /// The current time in whole milliseconds, which both databases store without loss.
    #[must_use]
    pub fn now(&self) -> Time {
        #[expect(clippy::disallowed_methods, reason = "only this file may ask the machine")]
        let millis = match self {
            Self::System => Utc::now().timestamp_millis(),
            Self::Shared(offset) => Utc::now().timestamp_millis() + offset.load(Ordering::Acquire),
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
    let mut text = String::with_capacity(RFC3339);
    write_rfc3339(at, &mut text);
    text
}

/// The length of a time of the years 0 to 9999.
const RFC3339: usize = "2026-11-21T09:00:00.000Z".len();

/// Appends a time to a text, as [`rfc3339`] has it. By hand, and with the last one kept, because every position has several
/// times, and most of them are the same.
pub fn write_rfc3339(at: Time, text: &mut String) {
    thread_local! {
        static LAST: RefCell<(Time, String)> = const { RefCell::new((Time::MIN_UTC, String::new())) };
    }
    LAST.with_borrow_mut(|(last, written)| {
        if *last != at || written.is_empty() {
            written.clear();
            format_rfc3339(at, written);
            *last = at;
        }
        text.push_str(written);
    });
}

fn format_rfc3339(at: Time, text: &mut String) {
    const DAY: i64 = 86_400_000;
    let millis = at.timestamp_millis();
    let (year, month, day) = date(millis.div_euclid(DAY));
    let Ok(year @ 0..=9_999) = u32::try_from(year) else {
        return text.push_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true));
    };
    // Less than a day.
    let of_day = u32::try_from(millis.rem_euclid(DAY)).unwrap_or_default();
    let (second, minute) = (of_day / 1_000, of_day / 60_000);
    let mut written = *b"0000-00-00T00:00:00.000Z";
    for (at, value) in [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, minute / 60),
        (14, minute % 60),
        (17, second % 60),
        // The last digit of the three goes over the next place, and is written again.
        (20, of_day % 1_000 / 10),
    ] {
        let [tens, ones] = digits(value);
        (written[at], written[at + 1]) = (tens, ones);
    }
    written[22] = digits(of_day % 10)[1];
    text.push_str(std::str::from_utf8(&written).unwrap_or_default());
}

/// The two digits of a number below 100.
const fn digits(value: u32) -> [u8; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "below 100")]
    let value = value as u8;
    [b'0' + value / 10, b'0' + value % 10]
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Counted in years that begin in March, so that the
/// leap day is the last one (the method of Howard Hinnant's `civil_from_days`).
fn date(day: i64) -> (i64, u32, u32) {
    /// From 0000-03-01 to 1970-01-01, and the days of 400 years.
    const EPOCH: i64 = 719_468;
    const ERA: i64 = 146_097;
    let day = day + EPOCH;
    let (era, of_era) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let (month, day) = ((march + 2) % 12 + 1, of_year - (153 * march + 2) / 5 + 1);
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or_default(), u32::try_from(day).unwrap_or_default())
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
        // Days of the years -1 to 10001, of all months and leap years, at some time of each.
        for day in (-719_900_i64..2_933_000).step_by(17) {
            let at = from_millis(day * 86_400_000 + day.rem_euclid(86_399_999));
            assert_eq!(rfc3339(at), at.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
    }
}
