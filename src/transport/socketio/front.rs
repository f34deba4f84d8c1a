//! The HTTP service in front of socketioxide: it refuses clients, limits handshakes, answers WebSocket handshakes, and does
//! what socketioxide leaves out of the protocol.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use tower::Service;

use super::door::Door;
use super::engine::Engine;
use super::engine_query::{EngineError, EngineQuery};
use super::established::Arrival;
use super::forward::Nodes;
use super::greeting::Greeting;
use super::handshake::{Caller, Coming, EndsWithConnection, Handshake, Handshakes};
use super::incoming::Incoming;
use super::polling::PollingClients;
use super::{begin, established, lobby, longest_packet, probe, sid};
use crate::app::App;
use crate::base::address::ClientAddress;
use crate::base::error::Refusal;
use crate::transport::http::admission;
use crate::transport::limits::Gate;
use crate::transport::{conn, problem, upgrade};

/// The service in front of socketioxide's.
#[derive(Clone)]
pub struct Front {
    pub(super) engine: Engine,
    pub(super) clients: PollingClients,
    /// Decides who comes in. `None` in front of a server that is not Ordercast, as the protocol's own test suites have it.
    pub(super) door: Option<Arc<Door>>,
    pub(super) body_limit: usize,
    /// The other nodes, if they forward requests to each other. The ids of sessions then name their node.
    pub(super) nodes: Option<Nodes>,
    handshakes: Handshakes,
}

/// How often clients are looked for that are in no namespace for too long.
const LOOK: Duration = Duration::from_secs(1);
/// What a client may take that has not come in: its session and its messages, in bytes. On a WebSocket socketioxide puts
/// messages of Engine.IO 3 together.
const POLLING_BYTES: usize = 8 * 1024;
const WEBSOCKET_BYTES: usize = 16 * 1024;
const WEBSOCKET_3_BYTES: usize = 40 * 1024;

/// What is read of the packet that opens an Engine.IO session.
#[derive(Deserialize)]
struct OpenPacket<'a> {
    sid: &'a str,
}

impl Front {
    /// Without a `door` every client may come in. `body_limit` is in bytes.
    #[must_use]
    pub fn new(engine: Engine, clients: PollingClients, door: Option<Arc<Door>>, body_limit: usize) -> Self {
        let handshakes = Handshakes::new(clients.clone());
        Self { engine, clients, door, body_limit, nodes: None, handshakes }
    }

    /// Closes clients that have been in no namespace for too long. Never returns.
    pub async fn close_idle(self) {
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            self.handshakes.close_idle(&self.engine).await;
        }
    }

    pub(super) fn app(&self) -> Option<&App> {
        self.door.as_ref().map(|door| door.sessions.app())
    }

    pub(super) fn gate(&self) -> Option<&Gate> {
        self.door.as_ref().map(|door| &*door.gate)
    }

    /// The longest packet that is read as a whole, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.app().map_or(self.body_limit, |app| longest_packet(&app.config.limits))
    }

    /// The query of a request, and the other node that has the session. The id of a session of this node is without the node.
    fn query(&self, request: &Request) -> Result<(EngineQuery, Option<u16>), EngineError> {
        let mut query = EngineQuery::read(request.method(), request.uri().query().unwrap_or_default())?;
        if let (Some(nodes), Some(id)) = (&self.nodes, &query.sid) {
            match nodes.whose(id) {
                None => return Err(EngineError::UnknownSid),
                Some(Err(node)) => return Ok((query, Some(node))),
                Some(Ok(sid)) => query.sid = Some(sid),
            }
        }
        Ok((query, None))
    }

    /// The query of a request that Engine.IO's own server would accept, and the other node that has the session.
    fn read(&self, request: &Request) -> Result<(EngineQuery, Option<u16>), EngineError> {
        let (query, node) = self.query(request)?;
        if node.is_some() {
            return Ok((query, node));
        }
        // The protocol's own test suites are for servers of version 4 only.
        if self.door.is_none() && !query.says_version {
            return Err(EngineError::UnsupportedVersion);
        }
        let Some(sid) = &query.sid else { return Ok((query, None)) };
        match self.clients.get(sid) {
            None => Err(EngineError::UnknownSid),
            Some(client) if client.is_eio3() != query.eio3 => Err(EngineError::BadRequest),
            Some(_) => Ok((query, None)),
        }
    }

    /// The longest message of most kinds, in bytes.
    pub(super) fn usual(&self) -> usize {
        self.app().map_or(self.body_limit, |app| app.config.limits.max_message_bytes)
    }

    /// The answer to a client whose last poll arrives after its goodbye: as if it had arrived before.
    fn last_poll(&self, request: &Request) -> Option<Response> {
        let (query, _) = self.query(request).ok().filter(|_| request.method() == Method::GET)?;
        let left = self.clients.have_left(query.sid.as_deref()?);
        (left && !query.websocket).then(|| Response::new(Body::from("6")))
    }

    fn refuse(&self, request: &Request, query: &EngineQuery) -> Option<Response> {
        let app = self.app()?;
        if query.sid.is_none() && !app.is_ready() {
            // This is no `connect_error`, because clients try again by themselves after a 503.
            return Some(problem::respond(&Refusal::Unavailable));
        }
        upgrade::refuse_foreign(app, request.headers())
    }

    /// Begins the handshake of a new client, if its address and the server have room for it.
    async fn begin(&self, parts: &Parts, query: &EngineQuery) -> Result<Arc<Handshake>, Refusal> {
        let (eio3, polls) = (query.eio3, !query.websocket);
        let connection = parts.extensions.get::<conn::Handle>().cloned();
        let (mut caller, mut slot) = (Caller::Nobody, None);
        if let Some(door) = &self.door {
            caller = Caller::of(&door.sessions.app().auth, parts).await;
            let address = admission::address_of(&door.gate, parts).ok_or(Refusal::Unavailable)?;
            if !matches!(caller, Caller::Verified(_)) {
                door.gate.stranger(address).await?;
            }
            let bytes = match (polls, eio3) {
                (true, _) => POLLING_BYTES,
                (false, false) => WEBSOCKET_BYTES,
                (false, true) => WEBSOCKET_3_BYTES,
            };
            slot = Some(door.gate.handshake(address, bytes).await?);
        }
        Ok(self.handshakes.begin(Coming { eio3, polls, caller, slot, connection }))
    }

    /// Who answers a request.
    pub(super) fn way(&self, request: &Request) -> Way {
        match self.read(request) {
            Err(error) => Way::Answer(self.last_poll(request).unwrap_or_else(|| error.answer())),
            Ok((query, Some(node))) => Way::Node(query, node),
            Ok((query, None)) => match self.refuse(request, &query) {
                Some(refusal) => Way::Answer(refusal),
                None => Way::Here(query),
            },
        }
    }

    pub(super) async fn serve(self, request: Request, query: EngineQuery) -> Response {
        let polls = request.method() == Method::GET && !query.websocket;
        let (parts, body) = request.into_parts();
        let mut begun = None;
        if query.sid.is_none() {
            match self.begin(&parts, &query).await {
                Ok(handshake) => begun = Some(handshake),
                Err(refusal) => return problem::respond(&refusal),
            }
        }
        let address = self.door.as_ref().and_then(|door| admission::address_of(&door.gate, &parts));
        if let (true, Some(door), Some(address), Some(connection)) =
            (query.websocket, &self.door, address, parts.extensions.get::<conn::Handle>())
        {
            // A request that another node forwards has the address with it.
            let counted = match parts.extensions.get::<ClientAddress>() {
                Some(_) => door.gate.websocket(address).await.map(Some),
                None => door.gate.proxied_websocket(connection.peer, address).await,
            };
            match counted {
                Ok(permit) => {
                    if let Some(writer) = connection.writer() {
                        writer.counts_for_client(permit);
                    }
                }
                Err(refusal) => return problem::respond(&refusal),
            }
        }
        let Some(mut request) = begin::unpinned(Request::from_parts(parts, body), &query) else {
            return problem::respond(&Refusal::Malformed("the request cannot be read".to_owned()));
        };
        request.extensions_mut().extend(extensions(begun, address));
        let sid = match &query.sid {
            _ if query.websocket => return self.upgrade(request, &query),
            None => return self.open(request).await,
            Some(sid) => sid,
        };
        let response = if polls {
            self.poll(request, sid, query.eio3).await
        } else if request.method() == Method::POST {
            self.post(request, sid, query.eio3).await
        } else {
            return EngineError::BadRequest.answer();
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
        let arrival = self.door.clone().zip(client.clone()).map(|(door, client)| Arrival {
            door,
            came: client.came,
            caller: client.caller.clone(),
            client: Some(client),
        });
        let response = match (&query.sid, &client) {
            (None, _) => {
                let Some(switching) = upgrade::switching(request.headers()) else {
                    return EngineError::BadRequest.answer();
                };
                if let (Some(door), Some(handshake), false) = (&self.door, &handshake, query.eio3) {
                    let incoming = Incoming::new(false, None, [self.longest(), self.usual()], None, true);
                    writer.becomes_tapped_websocket(None, Box::new(incoming), None);
                    let upgrade = hyper::upgrade::on(request);
                    established::begin(Arc::clone(door), writer, Arc::clone(handshake), upgrade);
                    return switching;
                }
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
            let incoming = Incoming::new(
                query.eio3,
                client.as_deref(),
                [self.longest(), self.usual()],
                arrival,
                self.door.is_some(),
            );
            let greeting = Greeting::new(query.eio3, client);
            let until_end =
                handshake.map(|handshake| Box::new(EndsWithConnection(handshake)) as Box<dyn Any + Send>);
            writer.becomes_tapped_websocket(Some(Box::new(greeting)), Box::new(incoming), until_end);
        }
        response
    }

    /// The first request of a client that polls.
    async fn open(&self, request: Request) -> Response {
        let Some(handshake) = request.extensions().get::<Arc<Handshake>>().cloned() else { return gone() };
        let response = self.engine.call(request).await;
        if response.status() != StatusCode::OK {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let Ok(mut body) = axum::body::to_bytes(body, self.body_limit).await else { return gone() };
        let mut named = None;
        // Version 3 puts the length of the packet before it.
        let packet = body.iter().position(|byte| *byte == b'{').map_or(&[][..], |begin| &body[begin..]);
        if let Ok(OpenPacket { sid }) = serde_json::from_slice(packet) {
            if let Some(client) = &handshake.client {
                client.came_by(&handshake);
                client.is_known_as(sid);
            }
            if self.door.is_some() && !handshake.eio3 {
                lobby::enter(&self.engine, &handshake, sid).await;
            }
            named = self.nodes.as_ref().and_then(|nodes| {
                sid::open_with(std::str::from_utf8(&body).ok()?, handshake.eio3, sid, &nodes.id(sid))
            });
        }
        if let Some(named) = named {
            parts.headers.remove(header::CONTENT_LENGTH);
            body = named.into();
        }
        as_node(Response::from_parts(parts, Body::from(body)), false)
    }
}

/// Who answers a request.
pub(super) enum Way {
    Here(EngineQuery),
    /// Another node.
    Node(EngineQuery, u16),
    /// Nobody: this is the answer.
    Answer(Response),
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

/// What is known of a request, for those who answer it.
fn extensions(handshake: Option<Arc<Handshake>>, address: Option<ClientAddress>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    if let Some(handshake) = handshake {
        extensions.insert(handshake);
    }
    if let Some(address) = address {
        extensions.insert(address);
    }
    extensions
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
        let front = self.clone();
        match (self.way(&request), &self.nodes) {
            (Way::Answer(answer), _) => Box::pin(std::future::ready(Ok(answer))),
            (Way::Here(query), _) => Box::pin(async move { Ok(front.serve(request, query).await) }),
            (Way::Node(query, node), Some(nodes)) => {
                let nodes = nodes.clone();
                Box::pin(async move { Ok(nodes.forward(request, &query, node).await) })
            }
            (Way::Node(..), None) => Box::pin(std::future::ready(Ok(EngineError::UnknownSid.answer()))),
        }
    }
}
