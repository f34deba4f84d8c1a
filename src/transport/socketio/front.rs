//! In front of Socket.IO: who may shake hands now, from where, and with how much in their luggage.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use tower::Service;

use super::{Door, Inner, eio3};
use crate::error::Refusal;
use crate::transport::conn;
use crate::transport::http::problem;

/// The headers that Socket.IO, and the token, need.
const KEPT: [HeaderName; 9] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::ORIGIN,
];

/// A service in front of socketioxide's.
#[derive(Clone)]
pub struct Front {
    inner: Inner,
    door: Door,
}

impl Front {
    pub(super) const fn new(inner: Inner, door: Door) -> Self {
        Self { inner, door }
    }

    fn refuse(&self, request: &Request) -> Option<Response> {
        let app = &self.door.app;
        let query = request.uri().query().unwrap_or_default();
        let handshake = !query.split('&').any(|pair| pair.starts_with("sid="));
        // Not a `connect_error`: after a 503 clients try again by themselves.
        if handshake && !app.is_ready() {
            return Some(problem::respond(&Refusal::Unavailable));
        }
        // Browsers let any page open a WebSocket anywhere; whose page it is, only we can check.
        let headers = request.headers();
        let origin = headers.get(header::ORIGIN).filter(|_| headers.contains_key(header::UPGRADE))?;
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let allowed = origin.to_str().is_ok_and(|origin| app.config.origin_allowed(origin, host));
        if allowed {
            return None;
        }
        app.metrics.rejected("foreign_origin");
        Some(problem::respond(&Refusal::Forbidden("this origin may not connect; see CORS_ORIGIN".to_owned())))
    }
}

/// A copy of the request that shares no memory with hyper's read buffer. Socket.IO keeps a request's parts as
/// long as the socket lives, and they would keep 16 KiB of buffer each.
fn unpinned(request: Request) -> Option<Request> {
    let (mut parts, body) = request.into_parts();
    let uri: Uri = String::from(parts.uri.path_and_query()?.as_str()).parse().ok()?;
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

/// Makes what a client of version 2 sends readable: see [`eio3`].
async fn adapt_eio3(request: Request, limit: usize) -> Result<Request, Response> {
    let query = request.uri().query().unwrap_or_default();
    if !query.split('&').any(|pair| pair == "EIO=3") {
        return Ok(request);
    }
    if request.headers().contains_key(header::UPGRADE) {
        if let Some(connection) = request.extensions().get::<conn::Handle>() {
            connection.speaks_eio3();
        }
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, limit).await else {
        return Err(problem::plain(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large"));
    };
    let mut bytes = Vec::from(bytes);
    eio3::rewrite_body(&mut bytes);
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if let Some(refusal) = self.refuse(&request) {
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        let Some(request) = unpinned(request) else {
            let refusal = problem::respond(&Refusal::Malformed("the request cannot be read".to_owned()));
            return Box::pin(std::future::ready(Ok(refusal)));
        };
        let limit = self.door.app.config.limits.max_message_bytes * super::MESSAGES_PER_BODY;
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let request = match adapt_eio3(request, limit).await {
                Ok(request) => request,
                Err(refusal) => return Ok(refusal),
            };
            let response = Service::<Request>::call(&mut inner, request).await?;
            Ok(response.map(Body::new))
        })
    }
}
