//! The polls of a client: what it gets is changed on the way.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use super::front::{Front, gone};
use super::greeting::{mend_polled, without_close};
use super::packet::{refusal_of_version_3, write_acks};
use super::polling::PollingClient;
use super::posts;
use crate::base::metrics::Counted;

/// How often in a row socketioxide is asked again when nothing is left of its answer.
const POLLS: usize = 3;

impl Front {
    /// A client polls: what it gets is changed, and its sessions learn that there is room again.
    pub(super) async fn poll(&self, request: Request, sid: &str, eio3: bool) -> Response {
        let mut guard = Aborted { front: Some(self), sid, eio3 };
        let Some(client) = self.clients.get(sid) else {
            guard.front = None;
            return self.engine.call(request).await;
        };
        let _waits = self.app().map(|app| Counted::by(&app.metrics.polls_waiting));
        let polled = tokio::select! {
            biased;
            () = client.until_probing() => Response::new(Body::from(if eio3 { "1:6" } else { "6" })),
            response = self.polled(request, sid, eio3, &client) => response,
        };
        guard.front = None;
        let polled = self.rewritten(polled, &client).await;
        if client.has_last_poll() && polled.status() == StatusCode::BAD_REQUEST {
            // The client's last poll arrived after its goodbye. It is answered as if it had arrived before.
            return Response::new(Body::from("6"));
        }
        polled
    }

    /// Writes what socketioxide cannot write: acks with long numbers, and refusals of version 3.
    async fn rewritten(&self, response: Response, client: &PollingClient) -> Response {
        let may_be_refused = client.is_eio3() && client.entries().is_empty();
        if !may_be_refused && !client.may_have_long_acks() {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return gone() };
        let mut body = Vec::from(body);
        if may_be_refused && let Some(packets) = std::str::from_utf8(&body).ok().and_then(posts::lengths) {
            let packets = packets.into_iter().map(|packet| match refusal_of_version_3(packet) {
                Some(refusal) => Cow::Owned(refusal),
                None => Cow::Borrowed(packet),
            });
            body = packets.fold(String::new(), |body, packet| posts::with_length(body, &packet)).into_bytes();
        }
        write_acks(&mut body);
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, Body::from(body))
    }

    async fn polled(&self, request: Request, sid: &str, eio3: bool, client: &Arc<PollingClient>) -> Response {
        client.entries().iter().for_each(|entry| entry.session.polls_again());
        let mut response = self.engine.call(request).await;
        for _ in 0..POLLS {
            if !self.is_fresh() && client.entries().iter().any(|entry| entry.tells()) {
                // It waited too long, because the client did not poll or the process stood still.
                self.abandon(sid, eio3);
                return gone();
            }
            for entry in client.entries() {
                entry.drained();
            }
            if client.is_closing() {
                // A poll that fails brings every client back. Some stay away after a packet that closes the session.
                return gone();
            }
            if response.status() != StatusCode::OK {
                break;
            }
            match self.mend(response, sid, eio3, client).await {
                Ok(mended) => return mended,
                Err(Some(next)) => response = next,
                Err(None) => return gone(),
            }
        }
        response
    }

    /// Whether this node may tell events.
    fn is_fresh(&self) -> bool {
        self.app().is_none_or(|app| app.cluster.lease().is_fresh())
    }

    /// Ends the Engine.IO session of a client that does not get what it polled.
    fn abandon(&self, sid: &str, eio3: bool) {
        let (front, sid) = (self.clone(), sid.to_owned());
        tokio::spawn(async move {
            front.engine.close(&sid, eio3).await;
            front.may_have_left(&sid).await;
        });
    }

    /// Changes what was polled. If nothing is left of it, the next answer is returned as an error, or none if the session
    /// has ended.
    async fn mend(
        &self,
        response: Response,
        sid: &str,
        eio3: bool,
        client: &PollingClient,
    ) -> Result<Response, Option<Response>> {
        let (mut parts, whole) = response.into_parts();
        let whole = axum::body::to_bytes(whole, self.body_limit).await.map_err(|_| None)?;
        let left = without_close(&whole, eio3).ok_or(None)?;
        let settled = client.is_settled() && client.writer().is_none();
        let body = match std::str::from_utf8(left) {
            Ok(text) if !settled => {
                let mut answer_ping = false;
                let mended = mend_polled(text, client, &mut answer_ping);
                if answer_ping {
                    self.engine.pong(sid).await;
                }
                let Some(mended) = mended else { return Err(self.engine.poll(sid).await) };
                Bytes::from(mended)
            }
            _ => whole.slice_ref(left),
        };
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

/// Closes the Engine.IO session of a client that breaks a poll off, as Engine.IO's own server does. Otherwise the next
/// messages would be lost.
struct Aborted<'a> {
    front: Option<&'a Front>,
    sid: &'a str,
    eio3: bool,
}

impl Drop for Aborted<'_> {
    fn drop(&mut self) {
        if let Some(front) = self.front.take() {
            front.abandon(self.sid, self.eio3);
        }
    }
}
