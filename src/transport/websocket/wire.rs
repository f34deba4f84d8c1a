//! The wire of a raw WebSocket.

use std::sync::Arc;

use crate::base::json_text::Json;

use crate::dialect::close::CloseReason;
use crate::dialect::message::Message;
use crate::dialect::{Dialect, tracking};
use crate::model::TrackingSession;
use crate::session::wire::{AckNumber, Handed, Urgency, Wire};
use crate::transport::conn::{ConnectionWriter, websocket};

/// A WebSocket that the session writes to.
pub struct Raw {
    pub writer: Arc<ConnectionWriter>,
    pub dialect: Dialect,
    /// The tracking session whose members go into messages that leave room for them.
    pub watched: Option<Arc<TrackingSession>>,
}

impl Wire for Raw {
    fn hand(&self, message: &Message, urgency: Urgency) -> Handed {
        let bytes = match (&message.of_session, &self.watched) {
            (Some(message), Some(watched)) => {
                websocket::text(&[tracking::text(message, watched).get().as_bytes()])
            }
            _ => message.bytes(|message| websocket::text(&[message.json.get().as_bytes()])),
        };
        self.writer.push(bytes, urgency)
    }

    /// The answer is a message of its own. These dialects have no ack numbers.
    fn acknowledge(&self, _: AckNumber, json: &Json) -> Handed {
        self.writer.push(websocket::text(&[json.get().as_bytes()]), Urgency::Reply)
    }

    fn prove(&self) -> bool {
        self.writer.prove(websocket::PING)
    }

    fn close(&self, reason: CloseReason) {
        let (code, text) = self.dialect.close_code(reason);
        self.writer.finish(websocket::close(code, text));
    }
}
