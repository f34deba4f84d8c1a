//! The HTTP service in front of socketioxide: it refuses clients, limits handshakes, answers WebSocket handshakes, and does
//! what socketioxide leaves out of the protocol.

use std::any::Any;
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
use super::engine_query::{EngineError, EngineQuery};
use super::established::Arrival;
use super::greeting::Greeting;
use super::handshake::{EndsWithConnection, Handshake};
use super::incoming::Incoming;
use super::polling::PollingClients;
use super::{begin, longest_packet, probe};
use crate::app::App;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::transport::token::token_of;
use crate::transport::{conn, problem, upgrade};

/// The service in front of socketioxide's.
#[derive(Clone)]
pub struct Front {
    pub(super) engine: Engine,
    pub(super) clients: PollingClients,
    /// Decides who comes in. `None` in front of a server that is not Ordercast, as the protocol's own test suites have it.
    pub(super) door: Option<Arc<Door>>,
    pub(super) body_limit: usize,
    /// How many handshakes are under way.
    handshakes: Arc<AtomicUsize>,
}

/// What is read of the packet that opens an Engine.IO session.
#[derive(Deserialize)]
struct OpenPacket<'a> {
    sid: &'a str,
}

impl Front {
    /// Without a `door` every client may come in. `body_limit` is in bytes.
    #[must_use]
    pub fn new(engine: Engine, clients: PollingClients, door: Option<Arc<Door>>, body_limit: usize) -> Self {
        Self { engine, clients, door, body_limit, handshakes: Arc::default() }
    }

    fn app(&self) -> Option<&App> {
        self.door.as_ref().map(|door| door.sessions.app())
    }

    /// The longest packet that is read as a whole, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.app().map_or(self.body_limit, |app| longest_packet(&app.config.limits))
    }

    /// The query of a request that Engine.IO's own server would accept.
    fn read(&self, request: &Request) -> Result<EngineQuery, EngineError> {
        let query = EngineQuery::read(request.method(), request.uri().query().unwrap_or_default())?;
        // The protocol's own test suites are for servers of version 4 only.
        if self.door.is_none() && !query.says_version {
            return Err(EngineError::UnsupportedVersion);
        }
        let Some(sid) = &query.sid else { return Ok(query) };
        match self.clients.get(sid) {
            None => Err(EngineError::UnknownSid),
            Some(client) if client.is_eio3() != query.eio3 => Err(EngineError::BadRequest),
            Some(_) => Ok(query),
        }
    }

    /// The longest message of most kinds, in bytes.
    fn usual(&self) -> usize {
        self.app().map_or(self.body_limit, |app| app.config.limits.max_message_bytes)
    }

    fn refuse(&self, request: &Request, query: &EngineQuery) -> Option<Response> {
        let app = self.app()?;
        if query.sid.is_none() {
            // This is no `connect_error`, because clients try again by themselves after a 503.
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

    async fn serve(self, request: Request, query: EngineQuery) -> Response {
        let polls = request.method() == Method::GET && !query.websocket;
        let sid = match &query.sid {
            _ if query.websocket => return self.upgrade(request, &query),
            None => return self.open(request, query.eio3).await,
            Some(sid) => sid,
        };
        let response = if polls {
            self.poll(request, sid, query.eio3).await
        } else {
            self.post(request, sid, query.eio3).await
        };
        self.may_have_left(sid).await;
        as_node(response, !polls)
    }

    /// Ends the handshake of a client that has ended its Engine.IO session before it came in.
    pub(super) async fn may_have_left(&self, sid: &str) {
        if let Some(handshake) = self.clients.get(sid).and_then(|client| client.handshake())
            && !self.engine.knows(sid).await
        {
            handshake.ends();
        }
    }

    /// A WebSocket of a new client, or of one that was polling before.
    fn upgrade(&self, request: Request, query: &EngineQuery) -> Response {
        let Some(writer) = request.extensions().get::<conn::Handle>().and_then(conn::Handle::writer) else {
            return gone();
        };
        let client = query.sid.as_ref().and_then(|sid| self.clients.get(sid));
        let handshake = request.extensions().get::<Arc<Handshake>>().cloned();
        let (parts, body) = request.into_parts();
        // A client that was polling may have sent its token with its first request only.
        let token = token_of(&parts).or_else(|| client.as_ref().and_then(|client| client.token()));
        let came = client.as_ref().and_then(|client| client.came()).unwrap_or_else(instant);
        let arrival = self.door.clone().map(|door| Arrival { door, came, token, client: client.clone() });
        let request = Request::from_parts(parts, body);
        let response = match (&query.sid, &client) {
            (None, _) => {
                let Some(switching) = upgrade::switching(request.headers()) else {
                    return EngineError::BadRequest.answer();
                };
                begin::go_on(&self.engine, request);
                switching
            }
            (Some(_), Some(client))
                if request.method() == Method::GET && upgrade::switching(request.headers()).is_some() =>
            {
                probe::accept(&self.engine, Arc::clone(client), Arc::clone(&writer), request)
            }
            (Some(_), _) => EngineError::BadRequest.answer(),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let incoming =
                Incoming::new(query.eio3, client.as_deref(), [self.longest(), self.usual()], arrival);
            let greeting = Greeting::new(query.eio3, client);
            let until_end =
                handshake.map(|handshake| Box::new(EndsWithConnection(handshake)) as Box<dyn Any + Send>);
            writer.becomes_tapped_websocket(Box::new(greeting), Box::new(incoming), until_end);
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
        // Version 3 puts the length of the packet before it.
        let packet = body.iter().position(|byte| *byte == b'{').map_or(&[][..], |begin| &body[begin..]);
        if let Ok(OpenPacket { sid }) = serde_json::from_slice(packet) {
            let client = self.clients.begin(sid);
            client.came_with(handshake, token);
            client.settle_as(eio3);
        }
        as_node(Response::from_parts(parts, Body::from(body)), false)
    }
}

/// An answer of socketioxide with the headers, and the error, of Socket.IO's own server.
fn as_node(mut response: Response, posted: bool) -> Response {
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    match response.status() {
        // Its code is a text in socketioxide.
        StatusCode::BAD_REQUEST if is_json => EngineError::UnknownSid.answer(),
        StatusCode::OK => {
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if posted {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            }
            response
        }
        _ => response,
    }
}

/// The answer when a connection or a session is gone.
pub(super) fn gone() -> Response {
    problem::respond(&Refusal::Unavailable)
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let query = match self.read(&request) {
            Ok(query) => query,
            Err(error) => return Box::pin(std::future::ready(Ok(error.answer()))),
        };
        if let Some(refusal) = self.refuse(&request, &query) {
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        let Some(mut request) = begin::unpinned(request, &query) else {
            let refusal = problem::respond(&Refusal::Malformed("the request cannot be read".to_owned()));
            return Box::pin(std::future::ready(Ok(refusal)));
        };
        if query.sid.is_none() {
            request.extensions_mut().insert(Arc::new(Handshake::new(&self.handshakes)));
        }
        let front = self.clone();
        Box::pin(async move { Ok(front.serve(request, query).await) })
    }
}
