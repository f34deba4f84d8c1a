//! Small values that are valid by construction.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::id::TextOrNumber;

/// Text without control characters except line breaks and tabs, as a regular expression, for documents: see [`Text`].
pub const TEXT_PATTERN: &str = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$";

/// A point on the globe: decimal degrees, WGS 84.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub latitude: Latitude,
    pub longitude: Longitude,
}

impl Point {
    /// A point that was checked when it was stored.
    #[must_use]
    pub const fn stored(latitude: f64, longitude: f64) -> Self {
        Self { latitude: Latitude(latitude), longitude: Longitude(longitude) }
    }

    /// Whether it stands for a place that was erased: nobody lives at 0, 0.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.lat() == 0.0 && self.lon() == 0.0
    }

    /// Latitude in degrees.
    #[must_use]
    pub const fn lat(&self) -> f64 {
        self.latitude.0
    }

    /// Longitude in degrees.
    #[must_use]
    pub const fn lon(&self) -> f64 {
        self.longitude.0
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $range:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = f64::deserialize(deserializer)?;
                // NaN is in no range, so it is refused too.
                if $range.contains(&value) { Ok(Self(value)) } else { Err(serde::de::Error::custom($rule)) }
            }
        }
    };
}

number!(
    /// Degrees north, −90…90.
    Latitude, (-90.0..=90.0), "must be a number from -90 to 90"
);
number!(
    /// Degrees east, −180…180.
    Longitude, (-180.0..=180.0), "must be a number from -180 to 180"
);

/// A whole number. JSON has no integers: `5.0` is as whole as `5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WholeNumber(pub i64);

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = WholeNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<WholeNumber, E> {
                Ok(WholeNumber(value))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<WholeNumber, E> {
                // Larger than any seq: the largest does the same.
                Ok(WholeNumber(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<WholeNumber, E> {
                if value.fract() == 0.0 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "saturates, which is what is wanted"
                    )]
                    return Ok(WholeNumber(value as i64));
                }
                Err(E::invalid_type(serde::de::Unexpected::Float(value), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Text of `MIN` to `MAX` characters, without control characters except line breaks and tabs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text<const MIN: usize, const MAX: usize>(pub String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The fewest characters.
    pub const MIN: usize = MIN;
    /// The most characters.
    pub const MAX: usize = MAX;
}

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    fn check(text: &str) -> Result<(), String> {
        if !(MIN..=MAX).contains(&text.chars().count()) {
            return Err(format!("must have {MIN} to {MAX} characters"));
        }
        // PostgreSQL cannot store NUL, and no name needs an escape sequence.
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err("must not contain control characters".to_owned());
        }
        Ok(())
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::check(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(text))
    }
}

/// A line of text for a person to read.
pub type Line = Text<1, 255>;

/// A paragraph of text for a person to read.
pub type Paragraph = Text<0, 2_000>;

/// A short text that other systems also send as a number, which is taken as its digits: an order number, a telephone number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Code(pub String);

impl Code {
    /// The most characters.
    pub const MAX: usize = 64;
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber(|text| {
            Text::<1, { Self::MAX }>::check(text).map(|()| Self(text.to_owned()))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_their_range() {
        assert!(serde_json::from_str::<Latitude>("90").is_ok());
        for bad in ["90.0001", "-91", "\"1\"", "null", "1e999"] {
            assert!(serde_json::from_str::<Latitude>(bad).is_err(), "{bad}");
        }
    }
}
