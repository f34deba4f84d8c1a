//! How clients begin. Little of HTTP may stay in memory for a client. For a WebSocket the handshake is ours, and socketioxide
//! gets the bare connection.

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::engine::Engine;
use super::engine_query::EngineQuery;
use crate::transport::conn;
use crate::transport::upgrade::upgraded;

/// The headers that Socket.IO needs.
const KEPT: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::ORIGIN,
];

/// Gives the connection to socketioxide once the answer to the handshake is written.
pub(super) fn go_on(engine: &Engine, mut request: Request) {
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, _) = request.into_parts();
    // socketioxide keeps the request as long as the client is there.
    parts.headers = HeaderMap::new();
    let request = http::Request::from_parts(parts, ());
    let engine = engine.clone();
    tokio::spawn(async move {
        if let Some(stream) = upgraded(upgrade).await {
            engine.take_over(Box::new(stream), request);
        }
    });
}

/// A copy of the request with what Engine.IO needs of it. socketioxide keeps the parts of a request as long as the socket
/// lives: a token would stay, and each would keep 16 KiB of hyper's read buffer.
pub(super) fn unpinned(request: Request, query: &EngineQuery) -> Option<Request> {
    let (mut parts, body) = request.into_parts();
    let uri: Uri = format!("{}?{}", parts.uri.path(), query.rewritten()).parse().ok()?;
    let mut headers = HeaderMap::with_capacity(KEPT.len());
    for name in KEPT {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    let mut copy = Request::new(body);
    *copy.method_mut() = parts.method;
    *copy.uri_mut() = uri;
    *copy.version_mut() = parts.version;
    *copy.headers_mut() = headers;
    if let Some(upgrade) = parts.extensions.remove::<hyper::upgrade::OnUpgrade>() {
        copy.extensions_mut().insert(upgrade);
    }
    if let Some(connection) = parts.extensions.remove::<conn::Handle>() {
        copy.extensions_mut().insert(connection);
    }
    Some(copy)
}
