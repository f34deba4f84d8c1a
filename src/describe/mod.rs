//! What sockets say and hear, as an `AsyncAPI` 3.0 document. Names come from `dialect::names`, where each message has to be described
//! here to compile; schemas come from the types that are written and read.

mod channel;
pub mod constrain;
mod notices;
mod raw;
mod realtime;
mod schema;

use serde_json::{Map, Value, json};

use self::schema::Schemas;

/// The servers of the document.
const SOCKET_IO: &str = "socketIo";
const WEBSOCKET: &str = "webSocket";

const DESCRIPTION: &str = "\
Live order tracking: the events of all five doors. The REST side is in `/openapi.json`.

Each door tells the same facts in its own words. `/realtime` is the main one. Ids are opaque strings; a whole number is taken as its \
digits. Times are RFC 3339, UTC, with milliseconds; tracking sessions use Unix seconds. Coordinates are decimal degrees, WGS 84.";

/// The document.
#[must_use]
pub fn document() -> Value {
    let (mut channels, mut operations, mut schemas) = (Map::new(), Map::new(), Schemas::new());
    let tracking = raw::tracking(&mut schemas);
    for channel in [
        realtime::channel(),
        realtime::by_link(),
        notices::channel(),
        raw::orders_track(),
        raw::ws(),
        tracking,
    ] {
        channel.describe(&mut channels, &mut operations, &mut schemas);
    }
    let host = json!({ "host": { "default": "localhost:9001", "description": "Where the server listens" } });
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:ordercast",
        "info": {
            "title": "Ordercast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "MIT" },
        },
        "defaultContentType": "application/json",
        "servers": {
            SOCKET_IO: {
                "host": "{host}", "pathname": "/socket.io/", "protocol": "socket.io", "variables": host,
                "description": "Socket.IO, versions 2 to 4: WebSocket, and polling with upgrade. The address of a channel is its namespace.",
            },
            WEBSOCKET: {
                "host": "{host}", "protocol": "ws", "variables": host,
                "description": "WebSockets (RFC 6455). The address of a channel is its path. With TLS the protocol is `wss`.",
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A token in the header of the handshake. Socket.IO clients give it in `auth.token`.",
                },
                "query": {
                    "type": "httpApiKey", "in": "query", "name": "token",
                    "description": "The same token as a query parameter, for browsers.",
                },
            },
        },
    })
}

/// The document as text.
#[must_use]
pub fn pretty() -> String {
    format!("{:#}", document())
}
