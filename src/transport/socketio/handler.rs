//! Takes the events of a socket in order, on the task that reads its connection. socketioxide's own handlers would each run
//! in a task of their own and overtake each other.

use std::sync::Arc;

use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{MessageHandler, Value};
use socketioxide::socket::Socket;

use crate::session::inbox::Inbox;
use crate::session::wire::AckNumber;

/// Takes every event of one socket.
pub struct Handler(pub(super) Arc<Inbox>);

/// socketioxide has 64 bits for it.
pub(super) fn number(ack: i64) -> Option<AckNumber> {
    ack.try_into().ok()
}

/// A marker for handlers that take the packet as it is.
pub struct RawPacket;

impl MessageHandler<LocalAdapter, RawPacket> for Handler {
    fn call(&self, _: Arc<Socket<LocalAdapter>>, value: Value, ack: Option<i64>) {
        match value {
            Value::Str(json, _) => self.0.text(&json, ack.and_then(number)),
            Value::Bytes(bytes) => self.0.binary(bytes.len(), ack.and_then(number)),
        }
    }
}
