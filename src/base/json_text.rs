//! JSON that is sent as it is: ready text, and a writer of the objects that are sent most often.

use std::borrow::Cow;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::clock::{Time, write_rfc3339};

/// A value as JSON text.
#[derive(Clone, Debug)]
pub struct Json(Cow<'static, str>);

impl Json {
    /// `null`
    pub const NULL: Self = Self(Cow::Borrowed("null"));

    /// The JSON of an answer or an event. Our own types always serialize; should one fail, clients get `null`.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => Self(Cow::Owned(text)),
            Err(error) => {
                tracing::error!(%error, "a payload could not be written as JSON");
                Self::NULL
            }
        }
    }

    /// JSON of a client.
    #[must_use]
    pub fn raw(value: &RawValue) -> Self {
        Self(Cow::Owned(value.get().to_owned()))
    }

    /// JSON that was put together elsewhere.
    #[must_use]
    pub const fn written(text: String) -> Self {
        Self(Cow::Owned(text))
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }

    /// The same object with one more member at its end, in place of `without` if it ends so.
    #[must_use]
    pub fn ending_in(&self, without: &str, member: &str) -> Self {
        let Some(members) = self.0.strip_suffix('}') else { return self.clone() };
        let members = members.strip_suffix(without).unwrap_or(members);
        Self(Cow::Owned([members, member, "}"].concat()))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// Writes an object, member by member. Several times as fast as serde, for what is sent with every position. Keys are
/// written as they are.
#[derive(Debug)]
pub struct Object(String);

#[expect(
    clippy::inline_always,
    reason = "a key that is known where it is written costs a few moves, and no call"
)]
impl Object {
    /// An object that will have about so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    #[inline(always)]
    fn key(&mut self, key: &'static str) -> &mut String {
        let Self(text) = self;
        text.push_str(if text.is_empty() { "{\"" } else { ",\"" });
        text.push_str(key);
        text.push_str("\":");
        text
    }

    #[must_use]
    #[inline(always)]
    pub fn text(mut self, key: &'static str, value: &str) -> Self {
        quote(self.key(key), &inside_quotes(value));
        self
    }

    /// A word that is the same in JSON: one of ours, or an id.
    #[must_use]
    #[inline(always)]
    pub fn word(mut self, key: &'static str, value: &str) -> Self {
        quote(self.key(key), value);
        self
    }

    /// A list of such words.
    #[must_use]
    #[inline(always)]
    pub fn words<'a>(mut self, key: &'static str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let text = self.key(key);
        text.push('[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            quote(text, value);
        }
        text.push(']');
        self
    }

    /// A finite number. Others are `null`, as JSON has none.
    #[must_use]
    #[inline(always)]
    pub fn number(mut self, key: &'static str, value: f64) -> Self {
        let text = self.key(key);
        if value.is_finite() {
            text.push_str(zmij::Buffer::new().format_finite(value));
        } else {
            text.push_str("null");
        }
        self
    }

    #[must_use]
    #[inline(always)]
    pub fn number_if(self, key: &'static str, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.number(key, value),
            None => self,
        }
    }

    #[must_use]
    #[inline(always)]
    pub fn whole(mut self, key: &'static str, value: i64) -> Self {
        self.key(key).push_str(itoa::Buffer::new().format(value));
        self
    }

    #[must_use]
    #[inline(always)]
    pub fn flag(mut self, key: &'static str, value: bool) -> Self {
        self.key(key).push_str(if value { "true" } else { "false" });
        self
    }

    /// The flag, if it is set.
    #[must_use]
    #[inline(always)]
    pub fn flag_if(self, key: &'static str, value: bool) -> Self {
        if value { self.flag(key, true) } else { self }
    }

    #[must_use]
    #[inline(always)]
    pub fn time(mut self, key: &'static str, at: Time) -> Self {
        let text = self.key(key);
        text.push('"');
        write_rfc3339(at, text);
        text.push('"');
        self
    }

    #[must_use]
    pub fn end(mut self) -> Json {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        Json(Cow::Owned(self.0))
    }
}

/// Writes a word in quotes.
fn quote(to: &mut String, word: &str) {
    to.push('"');
    to.push_str(word);
    to.push('"');
}

/// What stands for a text between quotes.
#[must_use]
pub fn inside_quotes(value: &str) -> Cow<'_, str> {
    if is_plain(value) {
        return Cow::Borrowed(value);
    }
    let quoted = Json::of(&value);
    let inside = quoted.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Cow::Owned(inside.unwrap_or_default().to_owned())
}

/// Whether a text is the same in JSON.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without a branch for each byte the compiler looks at many at once"
)]
fn is_plain(value: &str) -> bool {
    !value.bytes().fold(false, |escapes, byte| escapes | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::base::clock::{from_millis, rfc3339};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn objects_are_written_as_serde_writes_them(
            text in any::<String>(),
            number in any::<f64>(),
            whole in any::<i64>(),
            millis in 0_i64..253_402_300_800_000,
        ) {
            let at = from_millis(millis);
            let ours = Object::with_capacity(10)
                .flag("a", true)
                .text("b", &text)
                .number("c", number)
                .number_if("d", None)
                .whole("e", whole)
                .time("f", at)
                .words("g", ["x", ""])
                .words("h", [])
                .word("i", "x-y")
                .end();
            let number = if number.is_finite() { json!(number) } else { json!(null) };
            let theirs = json!({"a": true, "b": text, "c": number, "e": whole, "f": rfc3339(at), "g": ["x", ""], "h": [], "i": "x-y"});
            prop_assert_eq!(ours.get(), theirs.to_string());
            prop_assert_eq!(serde_json::to_string(&ours).expect("JSON"), ours.get());
        }
    }

    #[test]
    fn a_member_is_put_at_the_end() {
        let object = Object::with_capacity(0).text("a", "x").whole("n", 0).end();
        assert_eq!(object.ending_in(",\"n\":0", ",\"n\":7").get(), r#"{"a":"x","n":7}"#);
        assert_eq!(object.ending_in(",\"m\":0", ",\"m\":7").get(), r#"{"a":"x","n":0,"m":7}"#);
        assert_eq!(Object::with_capacity(0).end().get(), "{}");
        assert_eq!(Json::NULL.ending_in("", ",\"n\":7").get(), "null");
    }
}
