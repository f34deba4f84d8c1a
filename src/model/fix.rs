//! One fix of a phone's GPS.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{Latitude, Longitude, OrderId, Point};
use crate::base::clock::{Time, wire_option};
use crate::base::json::optional;

/// A fix as a driver's phone sends it.
///
/// Phones have many words for a heading, speed or accuracy that they do not know: `-1` (iOS), `null` (JavaScript's NaN),
/// `"NaN"`. They cost that member, never the fix.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocationReport {
    #[schema(value_type = f64, format = "latitude")]
    pub latitude: Latitude,
    #[schema(value_type = f64, format = "longitude")]
    pub longitude: Longitude,
    /// Without it the fix counts for all the driver's active orders.
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "order_id")]
    pub order_id: Option<OrderId>,
    /// Degrees clockwise from north, [0, 360).
    #[serde(default, deserialize_with = "heading")]
    pub heading: Option<f64>,
    /// Metres per second.
    #[serde(default, deserialize_with = "speed")]
    pub speed: Option<f64>,
    /// Metres.
    #[serde(default, deserialize_with = "accuracy")]
    pub accuracy: Option<f64>,
    /// When the phone took the fix. If absent, the time of receipt counts.
    #[serde(default, with = "wire_option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub recorded_at: Option<Time>,
    /// Whether an app invented it: what Android says of a mock location. Anything but `true` is no.
    #[serde(default, deserialize_with = "is_true")]
    pub mocked: bool,
}

fn is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)? == serde_json::Value::Bool(true))
}

fn heading<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    // Some sensors count from 0 to 360, both included.
    Ok(measured(deserializer, 0.0..=360.0)?.map(|heading| if heading < 360.0 { heading } else { 0.0 }))
}

fn speed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    measured(deserializer, 0.0..=1_000.0)
}

fn accuracy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    // No fix is exact, so 0 is a word for *unknown* as well.
    measured(deserializer, f64::MIN_POSITIVE..=f64::MAX)
}

/// A number in a range. Any other number means that the phone does not know it.
fn measured<'de, D: Deserializer<'de>>(
    deserializer: D,
    range: RangeInclusive<f64>,
) -> Result<Option<f64>, D::Error> {
    struct Measured(RangeInclusive<f64>);
    impl Visitor<'_> for Measured {
        type Value = Option<f64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Option<f64>, E> {
            // The absolute value of -0.0 is 0.0.
            Ok(self.0.contains(&value).then(|| value.abs()))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Option<f64>, E> {
            #[expect(
                clippy::cast_precision_loss,
                reason = "what is that large is out of range, or need not be exact"
            )]
            self.visit_f64(value as f64)
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Option<f64>, E> {
            #[expect(
                clippy::cast_precision_loss,
                reason = "what is that large is out of range, or need not be exact"
            )]
            self.visit_f64(value as f64)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<f64>, E> {
            Ok(None)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<f64>, E> {
            match text {
                "" | "NaN" | "Infinity" | "-Infinity" => Ok(None),
                _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }
    deserializer.deserialize_any(Measured(range))
}

/// A fix that is less exact, in metres, says nothing of a street.
const MAX_ACCURACY: f64 = 200.0;

/// A word of the wire for each variant, and the number that the database keeps.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $number:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The number in the database.
            #[must_use]
            pub const fn stored(self) -> i16 {
                match self {
                    $(Self::$variant => $number,)*
                }
            }

            /// What a number in the database stands for.
            #[must_use]
            pub fn of_stored(number: i16) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.stored() == number)
            }
        }
    };
}

words! {
    /// What becomes of a fix. Every accepted fix goes to the trail.
    Verdict {
        Shown = 0 "shown",
        /// A newer one is shown already.
        Late = 1 "late",
        /// The same one again.
        Duplicate = 2 "duplicate",
        /// Latitude and longitude are 0: what a phone sends that has no fix.
        NullIsland = 3 "null_island",
        /// Off by more than 200 m, or by far more than the one before.
        Inaccurate = 4 "inaccurate",
        /// Invented by an app.
        Mocked = 5 "mocked",
        /// Nobody is that fast.
        Teleport = 6 "teleport",
        /// The same, and with another sign it would fit.
        SignFlip = 7 "sign_flip",
        /// The same, and with latitude and longitude exchanged it would fit.
        Swapped = 8 "swapped",
        /// It does not fit to the speed and heading before.
        Inconsistent = 9 "inconsistent",
        /// The first one after a long time waits for one that agrees.
        Held = 10 "held",
    }
}

words! {
    /// Where a place that is shown comes from.
    Source {
        /// As the phone sent it.
        Raw = 0 "raw",
        /// Estimated from this fix and those before.
        Filtered = 1 "filtered",
        /// Moved from there to the route or road.
        Snapped = 2 "snapped",
    }
}

/// How a place came about that is shown for a fix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Provenance {
    pub source: Source,
    /// Metres: the driver is closer than that to the place in two of three cases.
    pub uncertainty: Option<f64>,
    /// Whether the dot jumps, because what was shown before was wrong.
    pub reanchored: bool,
}

impl Provenance {
    /// As it was sent, by a phone that is so exact.
    #[must_use]
    pub const fn raw(accuracy: Option<f64>) -> Self {
        Self { source: Source::Raw, uncertainty: accuracy, reanchored: false }
    }
}

impl LocationReport {
    /// A place without anything else.
    #[must_use]
    pub const fn bare(place: Point, order_id: Option<OrderId>) -> Self {
        let Point { latitude, longitude } = place;
        let (heading, speed, accuracy) = (None, None, None);
        Self { latitude, longitude, order_id, heading, speed, accuracy, recorded_at: None, mocked: false }
    }

    /// The fix with both its times.
    #[must_use]
    pub fn fix(&self, recorded_at: Time, received_at: Time) -> Fix {
        let &Self { latitude, longitude, heading, speed, accuracy, mocked, .. } = self;
        let place = Point { latitude, longitude };
        Fix { place, heading, speed, accuracy, recorded_at, received_at, mocked }
    }
}

/// A checked fix, as it is shown and kept in the trail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fix {
    pub place: Point,
    /// Degrees clockwise from north.
    pub heading: Option<f64>,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Metres.
    pub accuracy: Option<f64>,
    /// When the phone took it.
    pub recorded_at: Time,
    /// When the server received it.
    pub received_at: Time,
    /// Whether an app invented it.
    pub mocked: bool,
}

impl Fix {
    /// Whether latitude and longitude are 0.
    #[must_use]
    pub fn is_null_island(&self) -> bool {
        self.place.lat().abs() < 1e-6 && self.place.lon().abs() < 1e-6
    }

    /// Why the fix itself is not credible, if it is not.
    #[must_use]
    pub fn doubt(&self) -> Option<Verdict> {
        if self.is_null_island() {
            return Some(Verdict::NullIsland);
        }
        self.accuracy.is_some_and(|accuracy| accuracy > MAX_ACCURACY).then_some(Verdict::Inaccurate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phone_does_not_know_costs_only_that_member() {
        let read = |json: &str| {
            let fix: LocationReport = serde_json::from_str(json).expect(json);
            [fix.heading, fix.speed, fix.accuracy]
        };
        for (members, expected) in [
            (r#""heading":-1,"speed":-1,"accuracy":-1"#, [None; 3]),
            (r#""heading":null,"speed":null,"accuracy":null"#, [None; 3]),
            (r#""heading":"NaN","speed":"","accuracy":"Infinity""#, [None; 3]),
            (r#""heading":-0.0001,"speed":-1.5e9,"accuracy":0"#, [None; 3]),
            (r#""heading":720,"speed":5000,"accuracy":-0.0"#, [None; 3]),
            (r#""heading":360,"speed":-0.0,"accuracy":50000"#, [Some(0.0), Some(0.0), Some(50_000.0)]),
            (r#""heading":360.0,"speed":0,"accuracy":0.5"#, [Some(0.0), Some(0.0), Some(0.5)]),
            (r#""heading":359.9,"speed":8,"accuracy":5"#, [Some(359.9), Some(8.0), Some(5.0)]),
        ] {
            assert_eq!(
                read(&format!(r#"{{"latitude":47.146,"longitude":9.525,{members}}}"#)),
                expected,
                "{members}"
            );
        }
        for bad in [r#""heading":"north""#, r#""speed":true"#, r#""accuracy":[5]"#, r#""latitude":null"#] {
            let json = format!(r#"{{"longitude":9.525,{bad}}}"#);
            assert!(serde_json::from_str::<LocationReport>(&json).is_err(), "{bad}");
        }
    }
}
