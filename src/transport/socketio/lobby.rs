//! A namespace for clients that poll and have not come in yet. socketioxide keeps everything of a client of Engine.IO 4 that
//! has joined no namespace until `connect_timeout`, also when the client is gone. So each of them is let into the lobby at
//! once, and we close those that come in nowhere else (see [`handshake`](super::handshake)). To be deleted when upstream lets
//! go of a client that has left.

use std::sync::Arc;
use std::time::Duration;

use socketioxide::SocketIo;
use socketioxide::extract::SocketRef;

use super::engine::Engine;
use super::handshake::Handshake;
use super::packet::SEPARATOR;

/// The name of the namespace. It takes no events.
const LOBBY: &str = "/~";
const CONNECT: &str = "40/~,";
/// How long socketioxide may take.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn open(io: &SocketIo) {
    io.ns(LOBBY, async |socket: SocketRef| {
        if let Some(handshake) = socket.req_parts().extensions.get::<Arc<Handshake>>() {
            handshake.in_lobby.notify_one();
        }
    });
}

/// Lets a client in that has just opened its session. It is not told.
pub(super) async fn enter(engine: &Engine, handshake: &Handshake, sid: &str) {
    let entering = async {
        engine.post(sid, false, CONNECT).await;
        handshake.in_lobby.notified().await;
        // The reply to CONNECT, and perhaps the first ping.
        let Some(polled) = engine.poll(sid).await else { return };
        let Ok(body) = axum::body::to_bytes(polled.into_body(), 1024).await else { return };
        let pinged = body.split(|byte| *byte == SEPARATOR).any(|packet| packet == b"2");
        if pinged && handshake.client.as_ref().is_some_and(|client| client.claim_ping()) {
            engine.pong(sid).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, entering).await;
}
