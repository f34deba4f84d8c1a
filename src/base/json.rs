//! Parsing of JSON from the network.

use std::borrow::Cow;

use memchr::memchr;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::Refusal;
use super::strict::Strict;

/// Parses JSON from the network. `whole` is what clients call it: the body, the payload, the message.
///
/// # Errors
/// [`Refusal::Malformed`] if it is not JSON; [`Refusal::Invalid`], with the path of the wrong member, if it has not the
/// expected shape.
pub fn read_json<'de, T: Deserialize<'de>>(body: &'de str, whole: &'static str) -> Result<T, Refusal> {
    // Tracking the path costs time, so only an input that fails is parsed a second time with it.
    let mut deserializer = serde_json::Deserializer::from_str(body);
    if let Ok(value) = T::deserialize(Strict(&mut deserializer))
        && deserializer.end().is_ok()
    {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let value =
        serde_path_to_error::deserialize(Strict(&mut deserializer)).map_err(|error| refuse(&error, whole))?;
    deserializer.end().map_err(|error| Refusal::Malformed(format!("not JSON: {error}")))?;
    Ok(value)
}

/// A value that is read from an object only, as [`read_json`] reads it.
pub struct ObjectOf<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ObjectOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Strict(deserializer)).map(Self)
    }
}

fn refuse(error: &serde_path_to_error::Error<serde_json::Error>, whole: &'static str) -> Refusal {
    use serde_json::error::Category;
    let inner = error.inner();
    // serde_json appends " at line … column …". The path of the member is more useful to a client.
    let text = inner.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    match inner.classify() {
        Category::Syntax | Category::Eof | Category::Io => Refusal::Malformed(format!("not JSON: {text}")),
        Category::Data => {
            let path = error.path().to_string();
            // The path of "missing field `x`" is that of the object without it.
            match reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
                Some(field) if path == "." => Refusal::invalid(field, "is required"),
                Some(field) => Refusal::invalid(format!("{path}.{field}"), "is required"),
                None => Refusal::invalid(if path == "." { whole.to_owned() } else { path }, in_words(reason)),
            }
        }
    }
}

/// What a parser says is wrong, in words for people: `must be a number` instead of `expected f64`.
#[must_use]
pub fn in_words(reason: &str) -> String {
    if reason.starts_with("duplicate field") {
        return "is given twice".to_owned();
    }
    if reason.contains("invalid digit") || reason.contains("number too") || reason.contains("parse integer") {
        return "must be a whole number".to_owned();
    }
    let Some((_, expected)) = reason.rsplit_once(", expected ").filter(|_| reason.starts_with("invalid "))
    else {
        return reason.to_owned();
    };
    let expected = match expected {
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a borrowed string" => "a string",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("must be {expected}")
}

/// JSON text as clients send it, made readable: without a byte order mark, and with U+FFFD for halves of surrogate pairs,
/// which apps make when they cut a text in the middle of an emoji. Such an escape is JSON, but no Unicode text.
#[must_use]
pub fn well_formed(text: &str) -> Cow<'_, str> {
    const ESCAPE: usize = "\\uD83C".len();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let unit = |at: usize| {
        let digits = text.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let next = |from: usize| memchr(b'\\', text.as_bytes().get(from..)?);
    let (mut mended, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = next(at) {
        let escape = at + found;
        at = escape + ESCAPE;
        match unit(escape) {
            Some(0xD800..=0xDBFF) if matches!(unit(at), Some(0xDC00..=0xDFFF)) => at += ESCAPE,
            Some(0xD800..=0xDFFF) => {
                mended.push_str(&text[copied..escape]);
                mended.push_str("\\ufffd");
                copied = at;
            }
            Some(_) => {}
            // `\\` or `\"`: the second byte begins no escape.
            None => at = escape + 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[copied..]);
    Cow::Owned(mended)
}

/// A member that is left as it is when it is missing, and taken away by `null` or empty text:
/// `#[serde(default, deserialize_with = "given")]`.
///
/// # Errors
/// Those of the type.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    optional(deserializer).map(Some)
}

/// A member that may be missing: `#[serde(default, deserialize_with = "optional")]`. `null` and empty text mean that it is,
/// because forms send `""` for what nobody filled in.
///
/// # Errors
/// Those of the type.
pub fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Optional<T>(std::marker::PhantomData<T>);

    macro_rules! visit {
        ($($method:ident($type:ty))*) => {
            $(fn $method<E: serde::de::Error>(self, value: $type) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(Some)
            })*
        };
    }

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Optional<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a value")
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            if text.is_empty() { Ok(None) } else { T::deserialize(text.into_deserializer()).map(Some) }
        }

        visit! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            T::deserialize(SeqAccessDeserializer::new(seq)).map(Some)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_any(Optional(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        for (sent, read) in [
            (r#""thank you \ud83c""#, "thank you \u{fffd}"),
            (r#""\ud83c\ud83c\udf55\udf55""#, "\u{fffd}🍕\u{fffd}"),
            (r#""\uDF55\ud83c""#, "\u{fffd}\u{fffd}"),
            // An escaped backslash is not the beginning of an escape.
            (r#""\\ud83c \\\ud83c \"""#, "\\ud83c \\\u{fffd} \""),
            (r#""é\u00e9\n\ud83cé""#, "éé\n\u{fffd}é"),
            ("\u{feff}\"a\"", "a"),
        ] {
            let text = well_formed(sent);
            assert_eq!(serde_json::from_str::<String>(&text).expect(sent), read, "{sent}");
        }
        for same in ["", "\\", "\\u", "\\ud83", "{\"a\":\"\\u0041\"}", "\\ud83é"] {
            assert!(matches!(well_formed(same), Cow::Borrowed(text) if text == same), "{same}");
        }
    }

    #[test]
    fn refusals_are_in_words() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "it is never read")]
        struct Shape {
            number: f64,
            whole: Option<u32>,
            list: Option<Vec<String>>,
            #[serde(default, deserialize_with = "optional")]
            inner: Option<Box<Shape>>,
        }
        for (sent, refusal) in [
            (r#"{"number": "x, expected y"}"#, "number: must be a number"),
            (r#"{"number": 1, "whole": 1.5}"#, "whole: must be a whole number"),
            (r#"{"number": 1, "whole": -1}"#, "whole: must be a whole number"),
            (r#"{"number": 1, "list": {}}"#, "list: must be a list"),
            (r#"{"number": 1, "list": [1]}"#, "list[0]: must be a string"),
            (r#"{"number": 1, "number": 2}"#, "body: is given twice"),
            (r#"{"number": 1, "inner": 7}"#, "inner: must be an object"),
            (r#"{"number": 1, "inner": {}}"#, "inner.number: is required"),
            ("[1]", "body: must be an object"),
        ] {
            let refused = read_json::<Shape>(sent, "body").expect_err(sent);
            assert_eq!(refused.to_string(), refusal, "{sent}");
        }
        let empty = read_json::<Shape>(r#"{"number": 1, "inner": ""}"#, "body").expect("read");
        assert!(empty.inner.is_none());
    }
}
