//! In front of Socket.IO: who may shake hands now, from where, and with how much in their luggage; and what of the
//! protocol socketioxide leaves to us.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use tower::Service;

use super::door::Door;
use super::engine::Engine;
use super::greeting::{Greeting, mend_polled};
use super::handshake::Handshake;
use super::incoming::{Arrival, Incoming};
use super::peers::{Peer, Peers};
use super::{begin, probe, query};
use crate::app::App;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::transport::token::token_of;
use crate::transport::{conn, problem, upgrade};

/// Empty answers in a row that are asked for again in a polling client's place.
const POLLS: usize = 3;

/// A service in front of socketioxide's.
#[derive(Clone)]
pub struct Front {
    engine: Engine,
    peers: Peers,
    /// `None` in front of a server that is not Ordercast: the protocol's own test suites have one.
    door: Option<Arc<Door>>,
    body_limit: usize,
    handshakes: Arc<AtomicUsize>,
}

/// What we read of the packet that opens a session.
#[derive(Deserialize)]
struct Open<'a> {
    sid: &'a str,
}

/// What a request is about, by its query.
struct Asked {
    /// Its version of the protocol is one that there is.
    known: bool,
    eio3: bool,
    sid: Option<String>,
    websocket: bool,
}

impl Asked {
    fn new(request: &Request) -> Self {
        let mut asked = Self { known: false, eio3: false, sid: None, websocket: false };
        for pair in request.uri().query().unwrap_or_default().split('&') {
            match pair.split_once('=') {
                Some(("EIO", version)) => {
                    asked.eio3 = version == "3";
                    asked.known = asked.eio3 || version == "4";
                }
                Some(("sid", sid)) => asked.sid = Some(sid.to_owned()),
                Some(("transport", name)) => asked.websocket = name == "websocket",
                _ => {}
            }
        }
        asked
    }
}

impl Front {
    /// `door` decides who may come; without one everybody may.
    #[must_use]
    pub fn new(engine: Engine, peers: Peers, door: Option<Arc<Door>>, body_limit: usize) -> Self {
        Self { engine, peers, door, body_limit, handshakes: Arc::default() }
    }

    fn app(&self) -> Option<&App> {
        self.door.as_ref().map(|door| door.fanout.app())
    }

    /// The longest message that one packet may bring, in bytes.
    fn longest(&self) -> usize {
        self.app().map_or(self.body_limit, |app| app.config.limits.max_message_bytes)
    }

    fn refuse(&self, request: &Request, asked: &Asked) -> Option<Response> {
        let app = self.app()?;
        if asked.sid.is_none() {
            // Not a `connect_error`: after a 503 clients try again by themselves.
            let many = self.handshakes.load(Ordering::Acquire) >= app.config.limits.max_handshakes;
            if many {
                app.metrics.rejected("too_many_handshakes");
            }
            if many || !app.is_ready() {
                return Some(problem::respond(&Refusal::Unavailable));
            }
        }
        upgrade::refuse_foreign(app, request.headers())
    }

    async fn serve(self, request: Request, asked: Asked) -> Response {
        let polls = request.method() == Method::GET && !asked.websocket;
        let sid = match &asked.sid {
            _ if asked.websocket => return self.upgrade(request, &asked).await,
            None => return self.open(request, asked.eio3).await,
            Some(sid) => sid,
        };
        let response = if polls {
            self.poll(request, sid, asked.eio3).await
        } else {
            match self.mend_posted(request, sid, asked.eio3).await {
                Ok(request) => self.engine.call(request).await,
                Err(refusal) => refusal,
            }
        };
        self.may_have_left(sid).await;
        response
    }

    /// Gives the place of a client back that has ended its session on its way in.
    async fn may_have_left(&self, sid: &str) {
        if let Some(handshake) = self.peers.get(sid).and_then(|peer| peer.handshake())
            && !self.engine.knows(sid).await
        {
            handshake.ends();
        }
    }

    /// A WebSocket, for a client that has just come, or for one that has been polling.
    async fn upgrade(&self, request: Request, asked: &Asked) -> Response {
        let Some(lane) = request.extensions().get::<conn::Handle>().and_then(conn::Handle::lane) else {
            return gone();
        };
        let peer = asked.sid.as_ref().and_then(|sid| self.peers.get(sid));
        let handshake = request.extensions().get::<Arc<Handshake>>().cloned();
        let (parts, body) = request.into_parts();
        // Who has been polling may have said it then, and only then.
        let token = token_of(&parts).or_else(|| peer.as_ref().and_then(|peer| peer.token()));
        let came = peer.as_ref().and_then(|peer| peer.came()).unwrap_or_else(instant);
        let arrival = self.door.clone().map(|door| Arrival { door, came, token, peer: peer.clone() });
        let request = Request::from_parts(parts, body);
        let response = match (&asked.sid, &peer) {
            (None, _) => {
                let known = asked.known && request.method() == Method::GET;
                match upgrade::switching(request.headers()).filter(|_| known) {
                    Some(switching) => {
                        begin::go_on(&self.engine, request);
                        switching
                    }
                    // What is wrong with it socketioxide says.
                    None => self.engine.call(request).await,
                }
            }
            (Some(_), Some(peer)) if request.method() == Method::GET => {
                probe::accept(&self.engine, Arc::clone(peer), Arc::clone(&lane), request)
            }
            // As Engine.IO's own server says it.
            (Some(_), _) => {
                let unknown = Body::from(r#"{"code":1,"message":"Session ID unknown"}"#);
                let mut response = Response::new(unknown);
                *response.status_mut() = StatusCode::BAD_REQUEST;
                response
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let incoming = Incoming::new(asked.eio3, peer.as_deref(), self.longest(), arrival);
            lane.becomes_websocket(Greeting::new(asked.eio3, peer), incoming, handshake);
        }
        response
    }

    /// The first request of a client that polls.
    async fn open(&self, request: Request, eio3: bool) -> Response {
        let handshake = request.extensions().get::<Arc<Handshake>>().map_or_else(Weak::new, Arc::downgrade);
        let (parts, body) = request.into_parts();
        let token = token_of(&parts);
        let response = self.engine.call(Request::from_parts(parts, body)).await;
        if response.status() != StatusCode::OK {
            return response;
        }
        let (parts, body) = response.into_parts();
        let Ok(body) = axum::body::to_bytes(body, self.body_limit).await else { return gone() };
        // Version 3 puts the packet's length before it.
        let packet = body.iter().position(|byte| *byte == b'{').map_or(&[][..], |begin| &body[begin..]);
        if let Ok(Open { sid }) = serde_json::from_slice(packet) {
            let peer = self.peers.begin(sid);
            peer.came_with(handshake, token);
            peer.settled.store(eio3, Ordering::Release);
        }
        Response::from_parts(parts, Body::from(body))
    }

    /// A client polls: what it gets is mended, and its session hears that there is room for more.
    async fn poll(&self, request: Request, sid: &str, eio3: bool) -> Response {
        let mut guard = Aborted { front: Some(self), sid, eio3 };
        let Some(peer) = self.peers.get(sid) else {
            guard.front = None;
            return self.engine.call(request).await;
        };
        let polled = tokio::select! {
            biased;
            () = peer.until_probing() => Response::new(Body::from(if eio3 { "1:6" } else { "6" })),
            response = self.polled(request, sid, eio3, &peer) => response,
        };
        guard.front = None;
        if peer.said_goodbye() && polled.status() == StatusCode::BAD_REQUEST {
            // Its last poll and its goodbye have overtaken each other on their way: answered as if they had not.
            return Response::new(Body::from("6"));
        }
        polled
    }

    async fn polled(&self, request: Request, sid: &str, eio3: bool, peer: &Peer) -> Response {
        let mut response = self.engine.call(request).await;
        for _ in 0..POLLS {
            for session in peer.sessions() {
                session.drained();
            }
            if peer.is_closing() {
                // What a client of Engine.IO's own server would be told; then it knows that it may come back.
                response = Response::new(Body::from(if eio3 { "1:1" } else { "1" }));
                break;
            }
            let settled = peer.settled.load(Ordering::Acquire) && peer.lane().is_none();
            if settled || response.status() != StatusCode::OK {
                break;
            }
            match self.mend(response, sid, peer).await {
                Ok(mended) => {
                    response = mended;
                    break;
                }
                Err(Some(next)) => response = next,
                Err(None) => {
                    response = gone();
                    break;
                }
            }
        }
        response
    }

    /// Mends what was polled. When nothing is left of it, the next answer is returned as an error.
    async fn mend(&self, response: Response, sid: &str, peer: &Peer) -> Result<Response, Option<Response>> {
        let (mut parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, self.body_limit).await.map_err(|_| None)?;
        let Ok(text) = std::str::from_utf8(&body) else {
            return Ok(Response::from_parts(parts, Body::from(body)));
        };
        let mut answer_ping = false;
        let mended = mend_polled(text, peer, &mut answer_ping);
        if answer_ping {
            self.engine.pong(sid).await;
        }
        let Some(mended) = mended else { return Err(self.engine.poll(sid).await) };
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(mended.len()));
        Ok(Response::from_parts(parts, Body::from(mended)))
    }

    /// Makes what a client of version 2 posts readable: see [`query`]. Of what others post, takes notice.
    async fn mend_posted(&self, request: Request, sid: &str, eio3: bool) -> Result<Request, Response> {
        let (parts, body) = request.into_parts();
        let Ok(bytes) = axum::body::to_bytes(body, self.body_limit).await else {
            return Err(problem::plain(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large"));
        };
        let mut bytes = Vec::from(bytes);
        if eio3 {
            query::rewrite_body(&mut bytes);
        } else if let Some(peer) = self.peers.get(sid) {
            peer.posts(&bytes);
            if bytes == b"1" {
                peer.says_goodbye();
            }
        }
        Ok(Request::from_parts(parts, Body::from(bytes)))
    }
}

fn gone() -> Response {
    problem::respond(&Refusal::Unavailable)
}

/// Closes the session of a client that gives up waiting for what it polls, as Engine.IO's own server does: what it is
/// sent next would be lost.
struct Aborted<'a> {
    front: Option<&'a Front>,
    sid: &'a str,
    eio3: bool,
}

impl Drop for Aborted<'_> {
    fn drop(&mut self) {
        if let Some(front) = self.front.take() {
            let (front, sid, eio3) = (front.clone(), self.sid.to_owned(), self.eio3);
            tokio::spawn(async move {
                front.engine.close(&sid, eio3).await;
                front.may_have_left(&sid).await;
            });
        }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let asked = Asked::new(&request);
        if let Some(refusal) = self.refuse(&request, &asked) {
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        let Some(mut request) = begin::unpinned(request) else {
            let refusal = problem::respond(&Refusal::Malformed("the request cannot be read".to_owned()));
            return Box::pin(std::future::ready(Ok(refusal)));
        };
        if asked.sid.is_none() {
            request.extensions_mut().insert(Arc::new(Handshake::new(&self.handshakes)));
        }
        let front = self.clone();
        Box::pin(async move { Ok(front.serve(request, asked).await) })
    }
}
