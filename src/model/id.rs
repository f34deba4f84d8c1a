//! Ids. They come from other systems, so they are opaque text, valid by construction.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// The most characters of an id.
pub const MAX_ID: usize = 128;
/// [`OrderId`]s as a regular expression, for documents.
pub const ORDER_ID_PATTERN: &str = "^[A-Za-z0-9._:|@-]*[A-Za-z0-9_:|@-][A-Za-z0-9._:|@-]*$";
/// [`UserId`]s as a regular expression, for documents.
pub const USER_ID_PATTERN: &str =
    r"^[^\u0000-\u001f\u007f-\u009f]*[^.\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";

/// An order id is part of addresses, also of the order service's. `.` and `..` would lead to another address.
fn order_id_rule(text: &str) -> Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-|@".contains(&byte);
    if (1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_plain) && !is_path_step(text) {
        return Ok(());
    }
    Err("must be 1–128 characters of A–Z a–z 0–9 . _ : - | @, and neither . nor ..")
}

/// A user id is the subject of a token, so it is whatever the issuer makes: it may hold `+`, `/`, spaces, any alphabet.
fn user_id_rule(text: &str) -> Result<(), &'static str> {
    let length = text.chars().take(MAX_ID + 1).count();
    if (1..=MAX_ID).contains(&length) && !text.chars().any(char::is_control) && !is_path_step(text) {
        return Ok(());
    }
    Err("must be 1–128 printable characters, and neither . nor ..")
}

fn is_path_step(text: &str) -> bool {
    matches!(text, "." | "..")
}

/// UUIDs mean the same in capitals, and some systems write them so: here they are in lower case.
fn without_case(text: &str) -> Cow<'_, str> {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid && text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Reads a value from text, or from a whole number, which is taken as its digits.
pub(super) struct TextOrNumber<T, R>(pub fn(&str) -> Result<T, R>);

impl<T, R: fmt::Display> serde::de::Visitor<'_> for TextOrNumber<T, R> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a whole number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $rule:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// The rule that the text breaks.
            pub fn parse(text: &str) -> Result<Self, &'static str> {
                $rule(text).map(|()| Self((*without_case(text)).into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// An id that was checked when it was stored.
            #[must_use]
            pub fn stored(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber(Self::parse))
            }
        }
    };
}

id!(
    /// An order's id, ours (a `UUIDv7`) or another system's.
    OrderId, order_id_rule
);
id!(
    /// The id of a customer, chef, driver, admin or service.
    UserId, user_id_rule
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ids_keep_to_their_alphabet() {
        for good in ["a", "order:1", "auth0|5f", "x@y.z", "...", &"a".repeat(128)] {
            assert!(OrderId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "é", "a/b", "a'b", ".", "..", &"a".repeat(129)] {
            assert!(OrderId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn user_ids_are_any_printable_text() {
        for good in ["a", "google+1/2 3", "žćš-用户", "a\u{301}", "auth0|5f", &"é".repeat(128)] {
            assert_eq!(UserId::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "a\nb", "a\0", "\u{7f}", "\u{85}", ".", "..", &"é".repeat(129)] {
            assert!(UserId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_uuid_is_the_same_in_capitals() {
        let lower = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [lower, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9C0B-4ef8-BB6D-6bb9bd380a11"] {
            assert_eq!(OrderId::parse(text).expect(text).as_str(), lower);
            assert_eq!(UserId::parse(text).expect(text).as_str(), lower);
        }
        // What is not a UUID keeps its case.
        for text in ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A1", "G0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "ABC"] {
            assert_eq!(OrderId::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn a_number_is_taken_as_its_digits() {
        for (json, id) in [("1001", "1001"), ("0", "0"), ("18446744073709551615", "18446744073709551615")] {
            assert_eq!(serde_json::from_str::<OrderId>(json).expect(json).as_str(), id);
            assert_eq!(serde_json::from_str::<UserId>(json).expect(json).as_str(), id);
        }
        for bad in ["1.5", "-1", "1e3", "18446744073709551616", "true", "null", "[1]", "{}"] {
            assert!(serde_json::from_str::<OrderId>(bad).is_err(), "{bad}");
        }
    }
}
