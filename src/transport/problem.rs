//! Refusals as HTTP responses.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use crate::base::error::Refusal;
use crate::model::OrderStatus;

/// Seconds after which a client should try again when we are not available.
const RETRY_AFTER: u64 = 2;

/// `application/problem+json` (RFC 9457), with the members that older clients read.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Names the kind of problem.
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// A stable word for programs.
    pub code: String,
    /// Same as `detail`.
    pub message: String,
    /// Same as `title`.
    pub error: String,
    /// Same as `status`.
    pub status_code: u16,
    /// The member of the input that is at fault.
    pub member: Option<String>,
    /// What the order's status may become instead, by this caller.
    pub allowed: Option<Vec<String>>,
    /// The order's seq.
    pub seq: Option<i64>,
    /// The proofs that the order still needs.
    pub missing: Option<Vec<String>>,
    /// How often a PIN may still be tried.
    pub attempts_left: Option<u32>,
}

/// The status of each refusal.
const fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::Unauthorized(_) | Refusal::TokenExpired => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Gone(_) => StatusCode::GONE,
        Refusal::Illegal { .. }
        | Refusal::StaleSeq { .. }
        | Refusal::Taken(_)
        | Refusal::QueueFull
        | Refusal::OfferTaken
        | Refusal::ProofRequired { .. }
        | Refusal::PinLocked => StatusCode::CONFLICT,
        Refusal::Invalid { .. }
        | Refusal::WrongPin { .. }
        | Refusal::UnknownEvent(_)
        | Refusal::KeyReused
        | Refusal::ClockSkew { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::RateLimited { .. } | Refusal::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Conflict(_) | Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The refusal as a response.
#[must_use]
pub fn respond(refusal: &Refusal) -> Response {
    respond_in(refusal, OrderStatus::as_str)
}

/// The refusal as a response. `word` says order statuses in the words of the API that was called.
pub fn respond_in(refusal: &Refusal, word: impl Fn(OrderStatus) -> &'static str) -> Response {
    refusal.log_fault("http");
    let mut body = problem(status(refusal), refusal.code(), refusal.to_string());
    match refusal {
        Refusal::Invalid { member, .. } => body.member = Some(member.clone()),
        Refusal::Illegal { allowed, .. } => {
            // Who has no word for it cannot ask for it.
            let has_word = |status: &&OrderStatus| {
                !matches!(status, OrderStatus::Failed | OrderStatus::Returned)
                    || word(**status) == status.as_str()
            };
            let mut words: Vec<_> =
                allowed.iter().filter(has_word).map(|status| word(*status).to_owned()).collect();
            // Statuses with the same word follow each other, so `dedup` finds them.
            words.dedup();
            body.allowed = Some(words);
        }
        Refusal::StaleSeq { seq, .. } => body.seq = Some(*seq),
        Refusal::ProofRequired { missing } => {
            body.missing = Some(missing.iter().map(|&kind| kind.to_owned()).collect());
        }
        Refusal::WrongPin { attempts_left } => body.attempts_left = Some(*attempts_left),
        _ => {}
    }
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let retry_after = match refusal {
        Refusal::Unavailable => Some(RETRY_AFTER),
        Refusal::RateLimited { retry_after_ms } => Some(retry_after_ms.div_ceil(1_000)),
        Refusal::TooMany { .. } => Some(1),
        _ => None,
    };
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(refusal, Refusal::Unauthorized(_) | Refusal::TokenExpired) {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A problem that has no [`Refusal`], because only HTTP has it.
#[must_use]
pub fn plain(status: StatusCode, code: &str, detail: &str) -> Response {
    problem(status, code, detail.to_owned()).into_response()
}

fn problem(status: StatusCode, code: &str, detail: String) -> Problem {
    let title = status.canonical_reason().unwrap_or("Error").to_owned();
    Problem {
        r#type: format!("urn:ordercast:problem:{code}"),
        title: title.clone(),
        status: status.as_u16(),
        message: detail.clone(),
        detail,
        code: code.to_owned(),
        error: title,
        status_code: status.as_u16(),
        member: None,
        allowed: None,
        seq: None,
        missing: None,
        attempts_left: None,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        respond(&self)
    }
}
