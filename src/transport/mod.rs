//! Connections, HTTP, Socket.IO and raw WebSockets.

mod body;
pub mod client;
pub mod conn;
pub mod http;
pub mod limits;
pub mod problem;
pub mod site;
pub mod socketio;
pub mod token;
pub mod upgrade;
pub mod websocket;

use std::sync::Arc;

use self::conn::tap::WaitsForRoom;
use crate::session::session::Session;

impl WaitsForRoom for Session {
    fn has_room(self: Arc<Self>) {
        self.pump();
    }
}
