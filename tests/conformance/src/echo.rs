//! Echo handlers. Engine.IO messages come back unchanged; Socket.IO events come back in the form that the suite
//! expects.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use engineioxide::handler::EngineIoHandler;
use engineioxide::{DisconnectReason, Socket, Str};
use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use socketioxide::extract::{AckSender, Data, SocketRef};

/// Echoes text and binary messages of Engine.IO.
#[derive(Debug)]
pub struct Messages;

impl EngineIoHandler for Messages {
    type Data = ();

    fn on_connect(self: Arc<Self>, _: Arc<Socket<()>>) {}

    fn on_disconnect(&self, _: Arc<Socket<()>>, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<Socket<()>>) {
        // Fails if the socket has closed in the meantime, which is no error.
        let _ = socket.emit(message);
    }

    fn on_binary(self: &Arc<Self>, message: Bytes, socket: Arc<Socket<()>>) {
        let _ = socket.emit_binary(message);
    }
}

/// Sends the client's auth payload back as `auth`. Then echoes `message` as `message-back`, and `message-with-ack` as
/// its ack.
pub async fn events(socket: SocketRef, Data(auth): Data<Value>) {
    socket.on("message", async |socket: SocketRef, Data(args): Data<Args>| {
        let _ = socket.emit("message-back", &args);
    });
    socket.on("message-with-ack", async |Data(args): Data<Args>, ack: AckSender| {
        let _ = ack.send(&args);
    });
    let _ = socket.emit("auth", &auth);
}

/// All arguments of an event.
pub struct Args(Vec<Arg>);

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Arg {
    Json(Value),
    Binary(Bytes),
}

/// Asks for a tuple, because socketioxide then passes all arguments instead of only the first.
impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArgsVisitor;
        impl<'de> Visitor<'de> for ArgsVisitor {
            type Value = Args;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("arguments")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Args, A::Error> {
                let mut args = Vec::new();
                while let Some(arg) = sequence.next_element()? {
                    args.push(arg);
                }
                Ok(Args(args))
            }
        }
        deserializer.deserialize_tuple(usize::MAX, ArgsVisitor)
    }
}

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for arg in &self.0 {
            tuple.serialize_element(arg)?;
        }
        tuple.end()
    }
}
