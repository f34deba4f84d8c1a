//! Finds the token of a request.

use http::header;
use http::request::Parts;

/// The token of a request: from the `Authorization: Bearer` header, or else from the `token` query parameter.
#[must_use]
pub fn token_of(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    bearer.or_else(|| token_in(parts.uri.query()?))
}

/// The `token` of a query string. A JWT has only base64url and dots, so it needs no decoding.
#[must_use]
pub fn token_in(query: &str) -> Option<String> {
    query.split('&').find_map(|pair| pair.strip_prefix("token=")).map(ToOwned::to_owned)
}
