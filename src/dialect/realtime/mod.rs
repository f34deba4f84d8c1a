//! Socket.IO, namespace `/realtime`: the canonical dialect.

pub mod answer;
pub mod ask;
pub mod hear;

pub use answer::{answer, error_event, failure};
pub use ask::{event_of, parse};
pub use hear::{
    catch_up, connected, live_audience, location_acknowledged, queued, render, render_live, replay_end,
    replayed_location, resync, token_event,
};

use std::borrow::Cow;

use serde::Serialize;

use crate::base::json_text::Json;
use crate::dialect::message::Message;
use crate::dialect::names::{RealtimeEvent, RealtimeRequest};

/// The namespace.
pub const NAMESPACE: &str = "/realtime";

/// Names with a meaning for clients of Socket.IO.
const OF_SOCKET_IO: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether an announcement may have this name: not one of the protocol's own.
///
/// # Errors
/// The reason why it may not.
pub fn check_event_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err("must have 1 to 128 characters, none of them a control character");
    }
    // Names that begin with `~` are internal to the server.
    let ours = name.starts_with('~')
        || RealtimeEvent::parse(name).is_some()
        || RealtimeRequest::parse(name).is_some();
    if OF_SOCKET_IO.contains(&name) || ours {
        return Err("is a reserved event name");
    }
    Ok(())
}

fn message(name: RealtimeEvent, payload: &impl Serialize) -> Message {
    Message::new(Cow::Borrowed(name.as_str()), Json::of(payload))
}
