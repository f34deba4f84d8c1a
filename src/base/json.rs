//! JSON from the network.

use serde::Deserialize;

use super::error::Refusal;
use super::strict::Strict;

/// Reads JSON from the network; a refusal names the member at fault.
///
/// # Errors
/// [`Refusal::Malformed`] for what is not JSON, [`Refusal::Invalid`] for what is not as it should be.
pub fn read_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Refusal> {
    // Keeping track of the path costs something: only what is refused is read again with it.
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
    // serde_json adds where in the text it happened, which the member's name says better.
    let text = inner.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    // What it calls a struct is known by another name outside.
    let reason = match reason.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => reason.to_owned(),
    };
    match inner.classify() {
        Category::Syntax | Category::Eof | Category::Io => Refusal::Malformed(format!("not JSON: {text}")),
        Category::Data => {
            let path = error.path().to_string();
            // "missing field `x`" is reported at the object that lacks it.
            match reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
                Some(field) if path == "." => Refusal::invalid(field, "is required"),
                Some(field) => Refusal::invalid(format!("{path}.{field}"), "is required"),
                None => Refusal::invalid(if path == "." { "body".to_owned() } else { path }, reason),
            }
        }
    }
}
