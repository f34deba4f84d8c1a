//! Socket.IO, namespace `/realtime`: the canonical dialect.

mod answer;
mod ask;
mod hear;

pub use answer::{answer, error_event, failure};
pub use ask::{event_of, parse};
pub use hear::{
    catch_up, connected, live_audience, location_acknowledged, queued, render, render_live, resync,
    token_event,
};

use std::borrow::Cow;

use serde::Serialize;

use crate::base::json_text::Json;
use crate::dialect::message::Message;

/// The namespace.
pub const NAMESPACE: &str = "/realtime";

/// The events that clients may send, and a last one that stands for all other names.
pub const REQUESTS: [&str; 15] = [
    "driver:location",
    "subscribe:order",
    "unsubscribe:order",
    "driver:location_batch",
    "order:status_update",
    "order:tracking",
    "token:refresh",
    "ping:latency",
    "subscribe:fleet",
    "unsubscribe:fleet",
    "app:state",
    "order:seen",
    "notification:ack",
    "unknown",
    "unreadable",
];

/// Names that announcements may not use: the protocol's own, and those with a meaning in this namespace.
const RESERVED: [&str; 36] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "error",
    "newListener",
    "removeListener",
    "connected",
    "order:new",
    "order:available",
    "order:withdrawn",
    "subscribe:fleet",
    "unsubscribe:fleet",
    "fleet:positions",
    "order:status_update",
    "order:eta_update",
    "order:signal",
    "order:milestone",
    "order:risk",
    "driver:plan_update",
    "order:tracking",
    "driver:new_assignment",
    "driver:unassigned",
    "driver:location",
    "driver:location_batch",
    "driver:location_update",
    "driver:location_acknowledged",
    "token:expiring",
    "token:expired",
    "token:refresh",
    "resync",
    "ping:latency",
    "app:state",
    "order:seen",
    "order:receipt",
    "notification:ack",
];

/// Whether an announcement may have this name.
///
/// # Errors
/// The reason why it may not.
pub fn check_event_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err("must have 1 to 128 characters, none of them a control character");
    }
    // Names that begin with `~` are internal to the server.
    let ours = name.starts_with('~') || name == "subscribe:order" || name == "unsubscribe:order";
    if RESERVED.contains(&name) || ours {
        return Err("is a reserved event name");
    }
    Ok(())
}

fn message(name: &'static str, payload: &impl Serialize) -> Message {
    Message::new(Cow::Borrowed(name), Json::of(payload))
}
