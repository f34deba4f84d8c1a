//! Finds the token of a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header;
use http::request::Parts;

/// The token of a request: from the `Authorization: Bearer` header, or else from the `token` query parameter.
#[must_use]
pub fn token_of(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| {
        let (scheme, token) = value.trim_start().split_once([' ', '\t'])?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    // Some programs on phones know only names and passwords.
    let password = || header.filter(|_| parts.uri.path().starts_with("/ingest/")).and_then(password_in);
    bearer.or_else(password).or_else(|| token_in(parts.uri.query()?))
}

/// The password of `Authorization: Basic`.
fn password_in(header: &str) -> Option<String> {
    let (scheme, encoded) = header.trim_start().split_once([' ', '\t'])?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// The `token` of a query string. It is decoded, because some apps send `Bearer ` before it there too.
#[must_use]
pub fn token_in(query: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == "token").then(|| value.into_owned()))
}
