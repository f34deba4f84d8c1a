//! Answers to clients: ack payloads and the `error` event.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::message;
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::base::json_text::{Json, Object};
use crate::dialect::Answer;
use crate::dialect::canonical::{StatusWord, TrackingView};
use crate::dialect::message::Message;
use crate::dialect::names::RealtimeEvent;
use crate::dialect::words::VerdictWord;
use crate::model::{Eta, OrderId, OrderStatus, Overview, ProofKind, Verdict};

/// The ack of a request that succeeded.
#[must_use]
pub fn answer(answer: &Answer<'_>) -> Json {
    match *answer {
        Answer::Subscribed { tracking, eta } => success(Subscribed::new(tracking, eta)),
        Answer::Unsubscribed { .. } | Answer::Updated => success(Nothing {}),
        Answer::Changed(order) => {
            success(Changed { order_id: &order.id, status: order.status, seq: order.seq })
        }
        Answer::Tracking { tracking, eta } => success(TrackingView::new(tracking, eta)),
        Answer::Received { at, verdict } => {
            let shown = verdict == Verdict::Shown;
            let received = Object::with_capacity(128)
                .flag("ok", true)
                .time("receivedAt", at)
                .flag("shown", shown)
                .word("verdict", verdict.as_str());
            // Why it is not shown.
            if shown { received.end() } else { received.word("reason", verdict.as_str()).end() }
        }
        Answer::BatchReceived { accepted, rejected } => {
            let rejected = rejected
                .iter()
                .map(|(index, refusal)| {
                    let mut why = Problem::new(refusal, None);
                    // The only thing that a point names.
                    why.member = why.member.or(matches!(refusal, Refusal::NotFound(_)).then_some("orderId"));
                    RejectedPoint { index: *index, why }
                })
                .collect();
            success(BatchReceived { accepted, rejected })
        }
        Answer::Playing { order, fixes, seconds, incomplete } => {
            success(Playing { order_id: order, fixes, seconds, incomplete: incomplete.then_some(true) })
        }
        Answer::Refreshed { expires_at } => success(Refreshed { expires_at: rfc3339(expires_at) }),
        Answer::Pong { t, now } => success(Pong { t, server_time: rfc3339(now) }),
    }
}

fn success(answer: impl Serialize) -> Json {
    Json::of(&Success { ok: true, answer })
}

/// `{ok: true, …}` around an answer.
#[derive(Serialize)]
struct Success<T> {
    ok: bool,
    #[serde(flatten)]
    answer: T,
}

/// Nothing but `{ok: true}`.
#[derive(Serialize, ToSchema)]
#[schema(as = Done)]
pub struct Nothing {}

/// `{ok: false, error: {…}}`.
#[derive(Serialize, ToSchema)]
pub struct Failure<'a> {
    ok: bool,
    error: Problem<'a>,
}

/// A refusal on the wire.
#[skip_serializing_none]
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Refusal)]
pub struct Problem<'a> {
    /// A stable word for programs
    code: &'static str,
    /// For people
    message: String,
    /// What of the payload is at fault
    member: Option<&'a str>,
    /// What the order may become instead, by this caller
    #[schema(value_type = Option<Vec<StatusWord>>)]
    allowed: Option<Vec<&'static str>>,
    /// What the order is
    #[schema(value_type = Option<StatusWord>)]
    status: Option<&'static str>,
    /// The order's seq
    seq: Option<i64>,
    retry_after_ms: Option<u64>,
    /// The most that is allowed
    limit: Option<usize>,
    /// The request, where there is no ack
    event: Option<&'a str>,
    /// The proofs that the order still needs
    #[schema(value_type = Option<Vec<ProofKind>>)]
    missing: Option<&'a [&'static str]>,
}

impl<'a> Problem<'a> {
    #[must_use]
    pub fn new(refusal: &'a Refusal, event: Option<&'a str>) -> Self {
        let mut problem = Self {
            // Every unreadable payload has this one code in this dialect.
            code: if matches!(refusal, Refusal::Malformed(_)) { "invalid_payload" } else { refusal.code() },
            message: refusal.to_string(),
            member: None,
            allowed: None,
            status: None,
            seq: None,
            retry_after_ms: None,
            limit: None,
            event,
            missing: None,
        };
        match refusal {
            Refusal::Invalid { member, .. } => problem.member = Some(member),
            Refusal::UnknownEvent(name) => {
                problem.member = Some("event");
                problem.event = event.and(Some(name));
            }
            Refusal::Illegal { status, allowed, .. } => {
                problem.status = Some(status.as_str());
                problem.allowed = Some(allowed.iter().map(|status| status.as_str()).collect());
            }
            Refusal::StaleSeq { seq, .. } => problem.seq = Some(*seq),
            Refusal::ProofRequired { missing } => problem.missing = Some(missing),
            Refusal::ClockSkew { .. } => problem.member = Some("recordedAt"),
            Refusal::RateLimited { retry_after_ms } => problem.retry_after_ms = Some(*retry_after_ms),
            Refusal::TooLarge { limit } => problem.limit = Some(*limit),
            Refusal::Malformed(_)
            | Refusal::Unauthorized(_)
            | Refusal::TokenExpired
            | Refusal::Forbidden(_)
            | Refusal::NotFound(_)
            | Refusal::Gone(_)
            | Refusal::Taken(_)
            | Refusal::KeyReused
            | Refusal::QueueFull
            | Refusal::OfferTaken
            | Refusal::PinLocked
            | Refusal::WrongPin { .. }
            | Refusal::TooMany { .. }
            | Refusal::Unavailable
            | Refusal::Conflict(_)
            | Refusal::Internal(_) => {}
        }
        problem
    }
}

/// The ack of a request that was refused.
#[must_use]
pub fn failure(refusal: &Refusal) -> Json {
    Json::of(&Failure { ok: false, error: Problem::new(refusal, None) })
}

/// The `error` event, for a refused request without an ack callback.
#[must_use]
pub fn error_event(refusal: &Refusal, event: &str) -> Message {
    message(RealtimeEvent::Error, &Problem::new(refusal, Some(event)))
}

/// The answer to `subscribe:order`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed<'a> {
    order_id: &'a str,
    seq: i64,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    tracking: TrackingView<'a>,
}

impl<'a> Subscribed<'a> {
    fn new(tracking: &'a Overview, eta: Option<Eta>) -> Self {
        let order = &tracking.order;
        let (order_id, seq, status) = (order.id.as_str(), order.seq, order.status.as_str());
        Self { order_id, seq, status, tracking: TrackingView::new(tracking, eta) }
    }
}

/// The answer to `order:status_update`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changed<'a> {
    #[schema(value_type = String)]
    order_id: &'a OrderId,
    #[schema(value_type = StatusWord)]
    status: OrderStatus,
    seq: i64,
}

/// The answer to `driver:location`, as `answer` writes it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document only")]
pub struct Taken {
    #[schema(format = DateTime)]
    received_at: String,
    /// Whether clients see it
    shown: bool,
    #[schema(value_type = VerdictWord)]
    verdict: Verdict,
    /// The same, if it is not shown
    #[schema(value_type = Option<VerdictWord>)]
    reason: Option<Verdict>,
}

/// The answer to `driver:location_batch`.
#[derive(Serialize, ToSchema)]
pub struct BatchReceived<'a> {
    accepted: usize,
    rejected: Vec<RejectedPoint<'a>>,
}

/// A point that was not taken.
#[derive(Serialize, ToSchema)]
pub struct RejectedPoint<'a> {
    /// Which of the points
    index: usize,
    #[serde(flatten)]
    why: Problem<'a>,
}

/// The answer to `replay:order`.
#[skip_serializing_none]
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReplayBegun)]
pub struct Playing<'a> {
    #[schema(value_type = String)]
    order_id: &'a OrderId,
    /// How many positions are played
    fixes: usize,
    /// How long it takes
    seconds: u64,
    /// True if the trail has holes or begins in the middle, or there is more than is played
    incomplete: Option<bool>,
}

/// The answer to `token:refresh`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refreshed {
    #[schema(format = DateTime)]
    expires_at: String,
}

/// The answer to `ping:latency`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pong<'a> {
    /// As it was sent
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    t: Option<&'a RawValue>,
    #[schema(format = DateTime)]
    server_time: String,
}
