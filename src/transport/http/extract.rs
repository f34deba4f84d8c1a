//! What handlers take from a request: the caller, and checked input.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;

use super::admission::Refused;
use crate::base::error::Refusal;
use crate::base::json::{in_words, read_json, well_formed};
use crate::model::{OrderId, Principal, UserId};
use crate::transport::site::Site;
use crate::transport::token::token_of;
use crate::transport::{body, problem};

/// A caller with a verified token.
pub struct Caller(pub Principal);

impl FromRequestParts<Site> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Refusal> {
        if let Some(known) = parts.extensions.get::<Principal>() {
            return Ok(Self(known.clone()));
        }
        let token = token_of(parts).ok_or(Refusal::Unauthorized("a Bearer token is required"))?;
        // A token that was refused on the way in is not verified again.
        let refused =
            parts.extensions.remove::<Refused>().and_then(|Refused(refusal)| Arc::into_inner(refusal));
        let verified = match refused {
            Some(refusal) => Err(refusal),
            None => site.app.auth.verify(&token).await,
        };
        let principal = verified.inspect_err(|refusal| site.app.metrics.rejected(refusal.code()))?;
        Ok(Self(principal))
    }
}

/// A caller with a verified token, or without one where that is allowed.
pub struct Reader(pub Principal);

impl FromRequestParts<Site> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Refusal> {
        if site.app.config.legacy_open && token_of(parts).is_none() {
            return Ok(Self(Principal::anonymous()));
        }
        let Caller(principal) = Caller::from_request_parts(parts, site).await?;
        Ok(Self(principal))
    }
}

/// The order id in the path. An invalid id is answered like an order that does not exist.
pub struct OrderPath(pub OrderId);

impl FromRequestParts<Site> for OrderPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Refusal> {
        let Path(id) =
            Path::<String>::from_request_parts(parts, site).await.map_err(|_| Refusal::NotFound("order"))?;
        OrderId::parse(&id).map(Self).map_err(|_| Refusal::NotFound("order"))
    }
}

/// The user id in the path.
pub struct UserPath(pub UserId);

impl FromRequestParts<Site> for UserPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Refusal> {
        let Path(id) =
            Path::<String>::from_request_parts(parts, site).await.map_err(|_| Refusal::NotFound("user"))?;
        UserId::parse(&id).map(Self).map_err(|_| Refusal::NotFound("user"))
    }
}

/// A JSON body, with its bytes as they arrived.
pub struct Body<T> {
    pub value: T,
    pub bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<Site> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, site: &Site) -> Result<Self, Self::Rejection> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // A body without a content type counts as JSON, because many shell scripts send none.
        let json = kind.is_none_or(|kind| {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
        });
        if !json {
            let detail = "the body must be application/json";
            return Err(problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        if let Some(refusal) = refuse_encoded(request.headers()) {
            return Err(refusal);
        }
        let bytes = body::read(request.into_body(), site.app.config.limits.max_message_bytes).await?;
        let value = read(&bytes).map_err(|refusal| problem::respond(&refusal))?;
        Ok(Self { value, bytes })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Malformed("not JSON: not UTF-8".to_owned()))?;
    let text = well_formed(text);
    // A body may be absent if all its members are optional.
    let json = if matches!(text.trim_ascii(), "" | "null") { "{}" } else { &*text };
    read_json(json, "body")
}

/// Refuses a compressed body: it is not decompressed here, because a few bytes can become gigabytes.
fn refuse_encoded(headers: &HeaderMap) -> Option<Response> {
    let is_plain = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').all(|coding| is_identity(coding.trim())))
    };
    if headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        return None;
    }
    let detail = "the body must not be encoded; send it without Content-Encoding";
    let mut response = problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail);
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Some(response)
}

fn is_identity(coding: &str) -> bool {
    coding.is_empty() || coding.eq_ignore_ascii_case("identity")
}

/// The query string, checked.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Site> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Site) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        let value = serde_path_to_error::deserialize(pairs).map_err(|error| {
            let path = error.path().to_string();
            let member = if path == "." { "query".to_owned() } else { path };
            Refusal::invalid(member, in_words(&error.inner().to_string()))
        })?;
        Ok(Self(value))
    }
}
