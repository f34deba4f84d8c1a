//! What clients are answered: ack payloads and the `error` event.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_with::skip_serializing_none;

use super::frame;
use crate::dialect::canonical::TrackingView;
use crate::driver::eta::Eta;
use crate::error::Refusal;
use crate::fanout::Frame;
use crate::id::OrderId;
use crate::order::OrderStatus;
use crate::order::read::Tracking;

/// JSON for an answer or an event. Our own types always serialize; if one did not, clients would see `null`.
pub fn json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a payload could not be written as JSON");
        RawValue::NULL.to_owned()
    })
}

/// `{ok: true, …}` around an answer.
#[derive(Serialize)]
pub struct Success<T> {
    ok: bool,
    #[serde(flatten)]
    answer: T,
}

impl<T> Success<T> {
    pub const fn new(answer: T) -> Self {
        Self { ok: true, answer }
    }
}

/// Nothing but `{ok: true}`.
#[derive(Serialize)]
pub struct Nothing {}

/// `{ok: false, error: {…}}`.
#[derive(Serialize)]
pub struct Failure<'a> {
    ok: bool,
    error: Problem<'a>,
}

/// A refusal on the wire.
#[skip_serializing_none]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem<'a> {
    code: &'static str,
    message: String,
    member: Option<&'a str>,
    allowed: Option<Vec<&'static str>>,
    status: Option<&'static str>,
    seq: Option<i64>,
    retry_after_ms: Option<u64>,
    event: Option<&'a str>,
}

impl<'a> Problem<'a> {
    #[must_use]
    pub fn new(refusal: &'a Refusal, event: Option<&'a str>) -> Self {
        let mut problem = Self {
            // The one word for every kind of unreadable payload on this door.
            code: if matches!(refusal, Refusal::Malformed(_)) { "invalid_payload" } else { refusal.code() },
            message: refusal.to_string(),
            member: None,
            allowed: None,
            status: None,
            seq: None,
            retry_after_ms: None,
            event,
        };
        match refusal {
            Refusal::Invalid { member, .. } => problem.member = Some(member),
            Refusal::Illegal { status, allowed, .. } => {
                problem.status = Some(status.as_str());
                problem.allowed = Some(allowed.iter().map(|status| status.as_str()).collect());
            }
            Refusal::StaleSeq { seq, .. } => problem.seq = Some(*seq),
            Refusal::RateLimited { retry_after_ms } => problem.retry_after_ms = Some(*retry_after_ms),
            Refusal::Malformed(_)
            | Refusal::Unauthorized(_)
            | Refusal::TokenExpired
            | Refusal::Forbidden(_)
            | Refusal::NotFound(_)
            | Refusal::Taken(_)
            | Refusal::KeyReused
            | Refusal::ClockSkew { .. }
            | Refusal::TooMany { .. }
            | Refusal::Unavailable
            | Refusal::Internal(_) => {}
        }
        problem
    }
}

/// The answer to a request that was refused.
#[must_use]
pub fn failure(refusal: &Refusal) -> Box<RawValue> {
    json(&Failure { ok: false, error: Problem::new(refusal, None) })
}

/// The `error` event, for a request that was refused and has no ack callback.
#[must_use]
pub fn error_event(refusal: &Refusal, event: &str) -> Frame {
    frame("error", &Problem::new(refusal, Some(event)))
}

/// The answer to `subscribe:order`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed<'a> {
    pub order_id: &'a str,
    pub seq: i64,
    pub status: &'static str,
    pub tracking: TrackingView<'a>,
}

impl<'a> Subscribed<'a> {
    #[must_use]
    pub fn new(tracking: &'a Tracking, eta: Option<Eta>) -> Self {
        let order = &tracking.order;
        let (order_id, seq, status) = (order.id.as_str(), order.seq, order.status.as_str());
        Self { order_id, seq, status, tracking: TrackingView::new(tracking, eta) }
    }
}

/// The answer to `order:status_update`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed<'a> {
    pub order_id: &'a OrderId,
    pub status: OrderStatus,
    pub seq: i64,
}

/// The answer to `driver:location`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    pub received_at: String,
}

/// The answer to `driver:location_batch`.
#[derive(Serialize)]
pub struct BatchReceived {
    pub accepted: usize,
    pub rejected: Vec<RejectedPoint>,
}

/// A point that was not taken.
#[derive(Serialize)]
pub struct RejectedPoint {
    pub index: usize,
    pub code: &'static str,
}

/// The answer to `token:refresh`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refreshed {
    pub expires_at: String,
}

/// The answer to `ping:latency`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pong<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t: Option<&'a RawValue>,
    pub server_time: String,
}
