//! Lets requests in as fast as their users and addresses may ask: see [`limits`](crate::transport::limits).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, header};
use http_body::{Frame, SizeHint};

use crate::base::address::ClientAddress;
use crate::base::error::Refusal;
use crate::transport::conn;
use crate::transport::limits::Gate;
use crate::transport::site::Site;
use crate::transport::token::token_of;

/// Probes of machines. They cost little, and a server under attack has to be seen to be alive.
pub(super) const UNLIMITED: [&str; 2] = ["/health", "/ready"];

/// Why the token of a request is refused, for handlers that need one.
#[derive(Clone)]
pub(super) struct Refused(pub Arc<Refusal>);

/// The address of a request's client. A node that forwards a request has said it.
#[must_use]
pub fn address_of(gate: &Gate, parts: &Parts) -> Option<ClientAddress> {
    if let Some(known) = parts.extensions.get::<ClientAddress>() {
        return Some(*known);
    }
    let connection = parts.extensions.get::<conn::Handle>()?;
    Some(gate.address(connection.peer, &parts.headers))
}

/// Verifies the token of a request, and lets it go on in its turn. Handlers find the caller in its extensions.
pub async fn admit(State(site): State<Site>, request: Request, next: Next) -> Response {
    let gate = site.connections.gate();
    let (mut parts, body) = request.into_parts();
    let Some(address) = address_of(gate, &parts).filter(|_| !UNLIMITED.contains(&parts.uri.path())) else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    parts.extensions.insert(address);
    let caller = match token_of(&parts) {
        None => None,
        Some(token) => match site.app.auth.verify(&token).await {
            Ok(who) => Some(who),
            Err(refusal) => {
                parts.extensions.insert(Refused(Arc::new(refusal)));
                None
            }
        },
    };
    let admitted = match &caller {
        None => gate.stranger(address).await.map(|()| None),
        Some(who) => {
            if let Some(connection) = parts.extensions.get::<conn::Handle>() {
                connection.authenticated();
            }
            let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
            gate.request(address, who, changes, length(&site, &parts, changes)).await.map(Some)
        }
    };
    match admitted {
        Err(refusal) => refusal.into_response(),
        Ok(under_way) => {
            if let Some(who) = caller {
                parts.extensions.insert(who);
            }
            let response = next.run(Request::from_parts(parts, body)).await;
            match under_way {
                Some(under_way) => until_written(response, under_way),
                None => response,
            }
        }
    }
}

/// The bytes that a body may have: as many as it says, or else as many as are read.
fn length(site: &Site, parts: &Parts, changes: bool) -> u64 {
    let limits = &site.app.config.limits;
    let most = limits.max_message_bytes.max(limits.max_batch_bytes) as u64;
    let says =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let chunked = changes && parts.headers.contains_key(header::TRANSFER_ENCODING);
    says.unwrap_or(if chunked { most } else { 0 }).min(most)
}

/// Keeps something until the body of a response is written, or given up.
pub(super) fn until_written<T: Send + Unpin + 'static>(response: Response, kept: T) -> Response {
    response.map(|body| Body::new(Keeping { body, _kept: kept }))
}

struct Keeping<T> {
    body: Body,
    _kept: T,
}

impl<T: Unpin> http_body::Body for Keeping<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
