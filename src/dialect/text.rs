//! JSON text that the raw WebSocket dialects share.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::answer::{Answer, Request};
use super::message::{ForPublic, Message, Outgoing, Topic};
use super::names::{RawMessage, RawRequest, RealtimeRequest, UNKNOWN, UNREADABLE};
use crate::base::error::Refusal;
use crate::base::json_text::Json;
use crate::model::{Command, OrderEvent};

/// A message of nothing but its type.
#[derive(Serialize, ToSchema)]
pub struct Bare {
    r#type: &'static str,
}

/// A message with a text.
#[derive(Serialize, ToSchema)]
pub struct Text {
    r#type: &'static str,
    message: &'static str,
}

/// A raw WebSocket message with a type and a text.
pub(super) fn text(r#type: &'static str, message: &'static str) -> Json {
    Json::of(&Text { r#type, message })
}

/// The `type` of a raw WebSocket's message.
#[derive(Deserialize)]
pub(super) struct Typed<'a> {
    #[serde(borrow)]
    r#type: Option<std::borrow::Cow<'a, str>>,
}

/// Parses a raw WebSocket message by its `type`.
pub(super) fn read_typed(
    text: &str,
    read: impl FnOnce(&str) -> Option<(RealtimeRequest, Result<Command, Refusal>)>,
) -> Request {
    let unreadable = |refusal| Request { event: UNREADABLE, command: Err(refusal) };
    if !text.trim_start().starts_with('{') {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        return unreadable(if is_json {
            Refusal::invalid("message", "must be an object")
        } else {
            Refusal::Malformed("the message is not JSON".to_owned())
        });
    }
    let kind = match crate::base::json::read_json::<Typed<'_>>(text, "message") {
        Ok(Typed { r#type: Some(kind) }) => kind,
        Ok(Typed { r#type: None }) => return unreadable(Refusal::invalid("type", "is required")),
        Err(refusal) => return unreadable(refusal),
    };
    if let Some(RawRequest::Ping) = RawRequest::parse(&kind) {
        return Request { event: RealtimeRequest::Ping.as_str(), command: Ok(Command::Ping { t: None }) };
    }
    match read(&kind) {
        Some((request, command)) => Request { event: request.as_str(), command },
        None => Request {
            event: UNKNOWN,
            command: Err(Refusal::invalid("type", "is not one that is known here")),
        },
    }
}

/// One message for the order's subscribers.
pub(super) fn to_followers(
    event: &OrderEvent,
    message: Message,
    for_public: Option<Message>,
) -> SmallVec<[Outgoing; 3]> {
    smallvec![Outgoing {
        to: smallvec![Topic::Order(event.order.id.clone())],
        message: Arc::new(message),
        for_public: for_public.map_or(ForPublic::Same, |message| ForPublic::Other(Arc::new(message))),
    }]
}

/// A refusal as raw WebSockets send it.
#[skip_serializing_none]
#[derive(Serialize, ToSchema)]
#[schema(as = RawError)]
pub struct Error<'a> {
    r#type: &'static str,
    code: &'static str,
    message: String,
    /// What of the message is at fault
    member: Option<&'a str>,
    /// In bytes
    limit: Option<usize>,
    #[serde(rename = "retryAfterMs")]
    retry_after_ms: Option<u64>,
}

/// A refusal as raw WebSockets send it.
#[must_use]
pub fn error_message(refusal: &Refusal) -> Json {
    let (code, message) = (refusal.code(), refusal.to_string());
    let r#type = RawMessage::Error.as_str();
    let mut error = Error { r#type, code, message, member: None, limit: None, retry_after_ms: None };
    match refusal {
        Refusal::Invalid { member, .. } => error.member = Some(member),
        Refusal::TooLarge { limit } => error.limit = Some(*limit),
        Refusal::RateLimited { retry_after_ms } => error.retry_after_ms = Some(*retry_after_ms),
        _ => {}
    }
    Json::of(&error)
}

/// The answer to `ping`.
pub(super) fn pong_message() -> Json {
    Json::of(&Bare { r#type: RawMessage::Pong.as_str() })
}

/// The answer to `ping`, the only request that these dialects answer.
#[must_use]
pub fn pong(answer: &Answer<'_>) -> Option<Json> {
    match answer {
        Answer::Pong { .. } => Some(pong_message()),
        Answer::Subscribed { .. }
        | Answer::Unsubscribed { .. }
        | Answer::Changed(_)
        | Answer::Tracking { .. }
        | Answer::Received { .. }
        | Answer::BatchReceived { .. }
        | Answer::Playing { .. }
        | Answer::Refreshed { .. }
        | Answer::Updated => None,
    }
}
