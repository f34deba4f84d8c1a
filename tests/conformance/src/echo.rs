//! Says back what it is told: messages of Engine.IO as they are, events of Socket.IO as the suite wants them.

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

/// Text and binary messages of Engine.IO.
#[derive(Debug)]
pub struct Messages;

impl EngineIoHandler for Messages {
    type Data = ();

    fn on_connect(self: Arc<Self>, _: Arc<Socket<()>>) {}

    fn on_disconnect(&self, _: Arc<Socket<()>>, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<Socket<()>>) {
        // It may be gone by now; then there is nobody to tell.
        let _ = socket.emit(message);
    }

    fn on_binary(self: &Arc<Self>, message: Bytes, socket: Arc<Socket<()>>) {
        let _ = socket.emit_binary(message);
    }
}

/// Events of Socket.IO: `auth` says what the client came with, then `message` comes back as `message-back`, and
/// `message-with-ack` as its acknowledgement.
pub async fn events(socket: SocketRef, Data(auth): Data<Value>) {
    socket.on("message", async |socket: SocketRef, Data(args): Data<Args>| {
        let _ = socket.emit("message-back", &args);
    });
    socket.on("message-with-ack", async |Data(args): Data<Args>, ack: AckSender| {
        let _ = ack.send(&args);
    });
    let _ = socket.emit("auth", &auth);
}

/// The arguments of an event, however many there are.
pub struct Args(Vec<Arg>);

/// One of them.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Arg {
    Json(Value),
    Binary(Bytes),
}

/// socketioxide hands all arguments over, rather than the first, where a tuple is asked for.
impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
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
        deserializer.deserialize_tuple(usize::MAX, Each)
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
