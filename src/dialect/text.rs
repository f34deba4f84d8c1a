//! JSON text that the raw WebSocket dialects share.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use smallvec::{SmallVec, smallvec};

use super::answer::{Answer, Request};
use super::message::{ForPublic, Message, Outgoing, Topic};
use crate::base::error::Refusal;
use crate::base::json_text::Json;
use crate::model::{Command, OrderEvent};

/// A raw WebSocket message with a type and perhaps a text.
pub(super) fn typed(r#type: &str, message: Option<&str>) -> Json {
    #[derive(Serialize)]
    struct Plain<'a> {
        r#type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    }
    Json::of(&Plain { r#type, message })
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
    read: impl FnOnce(&str) -> Option<(&'static str, Result<Command, Refusal>)>,
) -> Request {
    let unreadable = |refusal| Request { event: "unreadable", command: Err(refusal) };
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
    let unknown = || ("unknown", Err(Refusal::invalid("type", "is not one that is known here")));
    let (event, command) = read(&kind).unwrap_or_else(unknown);
    Request { event, command }
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
#[must_use]
pub fn error_message(refusal: &Refusal) -> Json {
    #[skip_serializing_none]
    #[derive(Serialize)]
    struct Error<'a> {
        r#type: &'static str,
        code: &'static str,
        message: String,
        member: Option<&'a str>,
        limit: Option<usize>,
        #[serde(rename = "retryAfterMs")]
        retry_after_ms: Option<u64>,
    }
    let (code, message) = (refusal.code(), refusal.to_string());
    let mut error = Error { r#type: "error", code, message, member: None, limit: None, retry_after_ms: None };
    match refusal {
        Refusal::Invalid { member, .. } => error.member = Some(member),
        Refusal::TooLarge { limit } => error.limit = Some(*limit),
        Refusal::RateLimited { retry_after_ms } => error.retry_after_ms = Some(*retry_after_ms),
        _ => {}
    }
    Json::of(&error)
}

/// The answer to `ping`, the only request that these dialects answer.
#[must_use]
pub fn pong(answer: &Answer<'_>) -> Option<Json> {
    match answer {
        Answer::Pong { .. } => Some(typed("pong", None)),
        Answer::Subscribed { .. }
        | Answer::Unsubscribed { .. }
        | Answer::Changed(_)
        | Answer::Tracking { .. }
        | Answer::Received { .. }
        | Answer::BatchReceived { .. }
        | Answer::Refreshed { .. }
        | Answer::Updated => None,
    }
}
