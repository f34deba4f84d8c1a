//! A client that begins with a WebSocket. Its handshake is ours: socketioxide is given the bare connection, and nothing of
//! HTTP stays in memory with it.

use axum::extract::Request;
use http::{HeaderMap, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::engine::Engine;
use super::probe::Rewound;
use crate::transport::conn::Conn;

/// Goes on behind the answer to a request for a WebSocket.
pub(super) fn go_on(engine: &Engine, mut request: Request) {
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, _) = request.into_parts();
    // socketioxide keeps the request for as long as the client is there. Of its headers only the token is asked for again.
    let token = parts.headers.remove(header::AUTHORIZATION);
    parts.headers = token.into_iter().map(|token| (header::AUTHORIZATION, token)).collect::<HeaderMap>();
    let request = http::Request::from_parts(parts, ());
    let engine = engine.clone();
    tokio::spawn(async move {
        if let Some(stream) = upgraded(upgrade).await {
            engine.take_over(Box::new(stream), request);
        }
    });
}

/// The connection behind an upgrade, once the answer to it is written; `None` if it has ended before.
pub(in crate::transport) async fn upgraded(upgrade: OnUpgrade) -> Option<Rewound> {
    let parts = upgrade.await.ok()?.downcast::<TokioIo<Conn>>().ok()?;
    // A copy: what was read lies in a buffer of 16 KiB.
    Some(Rewound::new(parts.read_buf.to_vec(), parts.io.into_inner()))
}
