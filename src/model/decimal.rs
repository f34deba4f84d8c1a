//! Decimal numbers that are kept exactly: money and quantities.
//!
//! They are `f64`. A decimal of up to 15 digits is the same after it was read into an `f64` and written again, in JSON and
//! in both databases, so longer ones are refused or rounded.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The range of an [`Amount`].
pub const MAX_AMOUNT: f64 = 1_000_000_000_000.0;
/// An amount as text, as a regular expression, for documents. It has 15 digits or fewer.
pub const AMOUNT_PATTERN: &str = r"^([0-9]{1,12}(\.[0-9]{1,3})?|[0-9]{1,9}\.[0-9]{4,6})$";
/// A quantity as text, as a regular expression, for documents.
pub const QUANTITY_PATTERN: &str =
    r"^([1-9][0-9]{0,4}(\.[0-9]{1,3})?|0\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9]))$";
/// The range of a [`Quantity`].
pub const MAX_QUANTITY: f64 = 100_000.0;

/// An amount of money in the order's currency: a number, or a decimal string such as `"12.50"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Amount(pub f64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Clone, Copy)]
        struct AmountVisitor;
        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an amount from 0 to 1000000000000: a number, or a decimal such as \"12.50\" of up to 15 digits",
                )
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Amount, E> {
                // What JavaScript adds up has more digits than it means: 0.1 + 0.2 is 0.30000000000000004.
                let value: f64 = format!("{value:.14e}").parse().map_err(|_| wrong(&self, value))?;
                if (0.0..=MAX_AMOUNT).contains(&value) {
                    Ok(Amount(value.abs()))
                } else {
                    Err(wrong(&self, value))
                }
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Amount, E> {
                #[expect(clippy::cast_precision_loss, reason = "what is larger than 2^53 is out of range")]
                self.visit_f64(value as f64)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Amount, E> {
                #[expect(clippy::cast_precision_loss, reason = "negative numbers are out of range")]
                self.visit_f64(value as f64)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
                let value = decimal(text, 12, 3).or_else(|| decimal(text, 9, 6));
                value.map(Amount).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(AmountVisitor)
    }
}

fn wrong<E: Error>(visitor: &impl serde::de::Expected, value: f64) -> E {
    E::invalid_value(serde::de::Unexpected::Float(value), visitor)
}

/// How many of an item: 0.001 to 100,000, with up to three decimals; a number, or a decimal string such as `"0.75"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct Quantity(f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Quantity {
    /// A quantity that was checked when it was stored.
    #[must_use]
    pub const fn stored(value: f64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<NumberOrText> for Quantity {
    type Error = &'static str;

    fn try_from(value: NumberOrText) -> Result<Self, Self::Error> {
        let value = match value {
            NumberOrText::Number(value) => Some(value),
            NumberOrText::Text(text) => decimal(&text, 6, 3),
            NumberOrText::Other(_) => None,
        };
        let exact = |value: f64| (value * 1_000.0).round() / 1_000.0;
        value
            .filter(|value| (exact(*value) - value).abs() < 1e-9)
            .map(exact)
            .filter(|value| (0.001..=MAX_QUANTITY).contains(value))
            .map(Self)
            .ok_or("must be a number from 0.001 to 100000 with up to three decimals")
    }
}

/// Reads a decimal of up to so many digits before and after its point.
fn decimal(text: &str, before: usize, after: usize) -> Option<f64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits(whole, before) && digits(part, after) { text.parse().ok() } else { None }
}

impl Serialize for Quantity {
    /// Whole quantities have no decimals on the wire, because clients in typed languages read them as integers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "no more than 100,000")]
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_kept_exactly() {
        let read = |json: &str| serde_json::from_str::<Amount>(json).map(|amount| amount.0);
        for (sent, kept) in [
            ("\"12.50\"", "12.5"),
            ("12.50", "12.5"),
            ("0.30000000000000004", "0.3"),
            ("\"0.1\"", "0.1"),
            ("\"999999999999.99\"", "999999999999.99"),
            ("999999999999.999", "999999999999.999"),
            ("\"123456789.123456\"", "123456789.123456"),
            ("\"007\"", "7"),
            ("1000000000000", "1000000000000"),
            ("-0.0", "0"),
        ] {
            assert_eq!(read(sent).expect(sent).to_string(), kept, "{sent}");
        }
        for bad in [
            "-1",
            "\"-1\"",
            "\"\"",
            "\"1,50\"",
            "\"1.\"",
            "\".5\"",
            "\"1e3\"",
            "\" 1\"",
            "\"+1\"",
            "\"NaN\"",
            "null",
            "1e13",
            "\"1000000000000\"",
            "\"1.1234567\"",
            "\"1234567890.1234\"",
            "true",
            "[]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quantities_have_up_to_three_decimals() {
        for (sent, written) in [
            ("2", "2"),
            ("2.0", "2"),
            ("0.75", "0.75"),
            ("0.001", "0.001"),
            ("1e5", "100000"),
            ("\"2\"", "2"),
            ("\"0.75\"", "0.75"),
        ] {
            let quantity: Quantity = serde_json::from_str(sent).expect(sent);
            assert_eq!(serde_json::to_string(&quantity).expect("written"), written);
        }
        for bad in [
            "0",
            "-1",
            "0.0004",
            "0.0015",
            "100000.001",
            "\"0\"",
            "\"1e3\"",
            "\"1,5\"",
            "\"0.0015\"",
            "null",
            "true",
            "[]",
        ] {
            assert!(serde_json::from_str::<Quantity>(bad).is_err(), "{bad}");
        }
    }
}
