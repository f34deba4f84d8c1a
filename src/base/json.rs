//! Parsing of JSON from the network.

use serde::Deserialize;

use super::error::Refusal;
use super::strict::Strict;

/// Parses JSON from the network.
///
/// # Errors
/// [`Refusal::Malformed`] if the body is not JSON; [`Refusal::Invalid`], with the path of the wrong member, if it has
/// not the expected shape.
pub fn read_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Refusal> {
    // Some programs begin a file or a body with a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    // Tracking the path costs time, so only an input that fails is parsed a second time with it.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    if let Ok(value) = T::deserialize(Strict(&mut deserializer))
        && deserializer.end().is_ok()
    {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value =
        serde_path_to_error::deserialize(Strict(&mut deserializer)).map_err(|error| refuse(&error))?;
    deserializer.end().map_err(|error| Refusal::Malformed(format!("not JSON: {error}")))?;
    Ok(value)
}

fn refuse(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    use serde_json::error::Category;
    let inner = error.inner();
    // serde_json appends " at line … column …". The path of the member is more useful to a client.
    let text = inner.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    // The names of our structs mean nothing to clients.
    let reason = match reason.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => reason.to_owned(),
    };
    match inner.classify() {
        Category::Syntax | Category::Eof | Category::Io => Refusal::Malformed(format!("not JSON: {text}")),
        Category::Data => {
            let path = error.path().to_string();
            // The path of "missing field `x`" is that of the object without it.
            match reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
                Some(field) if path == "." => Refusal::invalid(field, "is required"),
                Some(field) => Refusal::invalid(format!("{path}.{field}"), "is required"),
                None => Refusal::invalid(if path == "." { "body".to_owned() } else { path }, reason),
            }
        }
    }
}
