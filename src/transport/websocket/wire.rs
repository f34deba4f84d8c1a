//! The way to a raw WebSocket.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::dialect::close::CloseReason;
use crate::dialect::message::Message;
use crate::dialect::{Dialect, tracking};
use crate::model::TrackingSession;
use crate::session::wire::{Handed, Urgency};
use crate::transport::conn::{Lane, websocket};

/// A WebSocket that the session writes to.
pub struct Raw {
    pub lane: Arc<Lane>,
    pub dialect: Dialect,
    /// Whose members go into messages that leave room for them.
    pub watched: Option<Arc<TrackingSession>>,
}

impl Raw {
    #[must_use]
    pub fn hand(&self, frame: &Message, urgency: Urgency) -> Handed {
        let bytes = match (&frame.of_session, &self.watched) {
            (Some(message), Some(watched)) => {
                websocket::text(&[tracking::text(message, watched).get().as_bytes()])
            }
            _ => frame.bytes(|frame| websocket::text(&[frame.json.get().as_bytes()])),
        };
        self.lane.push(bytes, urgency)
    }

    #[must_use]
    pub fn answer(&self, json: &RawValue) -> Handed {
        self.lane.push(websocket::text(&[json.get().as_bytes()]), Urgency::Reply)
    }

    pub fn close(&self, reason: CloseReason) {
        let (code, text) = self.dialect.close_code(reason);
        self.lane.finish(websocket::close(code, text));
    }
}
