//! How bytes move: connections, HTTP, Socket.IO and raw WebSockets.

pub mod conn;
pub mod http;
pub mod problem;
pub mod site;
pub mod socketio;
pub mod token;
pub mod upgrade;
pub mod websocket;
