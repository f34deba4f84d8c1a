//! Socket.IO: socketioxide speaks the protocol, we decide who may come in and what happens then.

pub(super) mod eio3;
mod front;
mod handler;
mod requests;

pub use front::Front;

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Deserialize;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::SocketRef;
use socketioxide::handler::{FromConnectParts, Value};
use socketioxide::service::SocketIoService;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError, SocketIo};
use tower::util::service_fn;

use self::handler::Handler;
use super::conn;
use crate::app::App;
use crate::auth::{Principal, Role};
use crate::config::Limits;
use crate::dialect::{Dialect, realtime};
use crate::error::Refusal;
use crate::fanout::Frame;
use crate::fanout::hub::Hub;
use crate::fanout::session::{Handed, Session};

/// A connection that does not get as far as a namespace is closed after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Read buffer of a WebSocket; our clients' messages are small.
const READ_BUFFER: usize = 1_024;
/// How long a client has to read why it is disconnected.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Engine.IO packets of protocol 3 carry no limits of their own; attachments have no use here.
const MAX_ATTACHMENTS: usize = 4;
/// How many messages of the largest size one polling body may hold.
const MESSAGES_PER_BODY: usize = 8;

/// What the doors share.
#[derive(Clone)]
pub struct Door {
    pub app: App,
    pub hub: Arc<Hub>,
}

/// The Socket.IO service, its namespaces in place.
#[must_use]
pub fn service(door: &Door) -> Front {
    let limits = &door.app.config.limits;
    let nobody = service_fn(not_found as fn(axum::extract::Request) -> _);
    let (service, io) = builder(limits).build_with_inner_svc(nobody);
    serve_realtime(&io, door);
    serve_root(&io, door);
    Front::new(service, door.clone())
}

type NotFound = std::future::Ready<Result<axum::response::Response, std::convert::Infallible>>;
type Inner = SocketIoService<tower::util::ServiceFn<fn(axum::extract::Request) -> NotFound>>;

fn not_found(_: axum::extract::Request) -> NotFound {
    std::future::ready(Ok(super::http::problem::respond(&Refusal::NotFound("page"))))
}

fn builder(limits: &Limits) -> socketioxide::SocketIoBuilder {
    let bytes = limits.max_message_bytes;
    // A polling body may carry several messages at once; each is held to its own limit when it is read.
    let body = bytes.saturating_mul(MESSAGES_PER_BODY);
    SocketIo::builder()
        .ping_interval(Duration::from_millis(limits.ping_interval_ms))
        .ping_timeout(Duration::from_millis(limits.ping_timeout_ms))
        .connect_timeout(CONNECT_TIMEOUT)
        .max_buffer_size(limits.max_socket_buffer)
        .max_payload(body as u64)
        .ws_max_message_size(bytes)
        .ws_max_frame_size(bytes)
        .ws_read_buffer_size(READ_BUFFER)
        .with_parser(
            socketioxide::ParserConfig::common()
                .max_incoming_binaries(MAX_ATTACHMENTS)
                .max_incoming_binary_buf_size(bytes),
        )
}

/// The main door.
fn serve_realtime(io: &SocketIo, door: &Door) {
    use socketioxide::handler::ConnectHandler;
    let enter = async |visitor: Visitor| {
        // The session was made by the middleware; it enters its rooms now that the client is connected.
        if let Some(entry) = visitor.socket.extensions.get::<Entry>() {
            entry.enter(&visitor.socket);
        }
    };
    let door = door.clone();
    let admit = move |visitor: Visitor| {
        let door = door.clone();
        async move { admit(&door, visitor).await }
    };
    io.ns(realtime::NAMESPACE, enter.with(admit));
}

/// The default namespace. Protocol 3 puts every client there first, on its way to another namespace; nothing is
/// said in it. Clients of protocol 4 come only if they ask for it, and need a token like everywhere.
fn serve_root(io: &SocketIo, door: &Door) {
    use socketioxide::handler::ConnectHandler;
    let door = door.clone();
    let admit = move |visitor: Visitor| {
        let door = door.clone();
        async move {
            if visitor.socket.protocol() == socketioxide::ProtocolVersion::V4 {
                return Ok(());
            }
            verify(&door, &visitor).await.map(|_| ())
        }
    };
    io.ns("/", (async || {}).with(admit));
}

/// A socket at the door, with what it brings.
struct Visitor {
    socket: Arc<Socket<LocalAdapter>>,
    auth: Option<String>,
}

impl FromConnectParts<LocalAdapter> for Visitor {
    type Error = std::convert::Infallible;

    fn from_connect_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        auth: &Option<Value>,
    ) -> Result<Self, Self::Error> {
        let auth = match auth {
            Some(Value::Str(json, _)) => Some(json.to_string()),
            Some(Value::Bytes(_)) | None => None,
        };
        Ok(Self { socket: Arc::clone(socket), auth })
    }
}

impl Visitor {
    /// The token, from `auth.token` (version 2: the query it joins with), the `Authorization` header or the `token` query parameter, in this order.
    fn token(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct AuthPayload {
            token: Option<String>,
        }
        let given = self.auth.as_deref().and_then(|auth| match serde_json::from_str::<AuthPayload>(auth) {
            Ok(payload) => payload.token,
            // Version 2 has no auth payload; its query stands here: see `eio3`.
            Err(_) => super::http::token_in(auth.trim_end_matches(',')),
        });
        if given.is_some() {
            return given;
        }
        super::http::token_of(self.socket.req_parts())
    }

    fn connection(&self) -> Option<conn::Handle> {
        self.socket.req_parts().extensions.get::<conn::Handle>().cloned()
    }
}

/// Why a client may not come in: what its `connect_error` says.
struct Denied(String);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

async fn verify(door: &Door, visitor: &Visitor) -> Result<Principal, Denied> {
    let verified = match visitor.token() {
        Some(token) => door.app.auth.verify(&token).await,
        None => Err(Refusal::Unauthorized("no token was given")),
    };
    verified.map_err(|refusal| {
        door.app.metrics.rejected(refusal.code());
        // A fault of ours must not look like a refusal, after which clients never come back: cut the line.
        if matches!(refusal, Refusal::Unavailable | Refusal::Internal(_))
            && let Some(connection) = visitor.connection()
        {
            connection.kill();
        }
        Denied(format!("{}: {refusal}", refusal.code()))
    })
}

/// Lets a client in, or not. Everything is put in place here: the CONNECT reply leaves before the connect handler
/// has run, and the client's first events may come right after it.
async fn admit(door: &Door, visitor: Visitor) -> Result<(), Denied> {
    let principal = verify(door, &visitor).await?;
    let driver = (principal.role == Role::Driver).then(|| door.app.live.driver(&principal.id));
    let wire = Wire { socket: Arc::downgrade(&visitor.socket), connection: visitor.connection() };
    let wire = super::Wire::SocketIo(wire);
    let session = Session::new(principal, Dialect::Realtime, wire, driver, door.app.metrics.clone());
    visitor.socket.on_fallback(Handler::new(door.clone(), Arc::clone(&session)));
    let entry = Entry { door: door.clone(), session };
    let leaving = entry.clone();
    visitor.socket.on_disconnect(
        async move |_: SocketRef, reason: socketioxide::socket::DisconnectReason| {
            leaving.session.leave(&leaving.door.hub);
            leaving.door.app.metrics.closed(reason_name(reason));
        },
    );
    visitor.socket.extensions.insert(entry);
    Ok(())
}

/// A session and where it belongs, between the middleware and the connect handler.
#[derive(Clone)]
struct Entry {
    door: Door,
    session: Arc<Session>,
}

impl Entry {
    fn enter(&self, socket: &Socket<LocalAdapter>) {
        let app = &self.door.app;
        self.session.enter(&self.door.hub, || {
            let who = self.session.principal();
            let (position, now) = (app.relay.position(), app.clock.now());
            Some(realtime::connected(&socket.id.to_string(), who.id.as_str(), who.role, position, now))
        });
        // Gone between the CONNECT reply and now: then nobody else will take it out.
        if !socket.connected() {
            self.session.leave(&self.door.hub);
        }
    }
}

const fn reason_name(reason: socketioxide::socket::DisconnectReason) -> &'static str {
    use socketioxide::socket::DisconnectReason as Reason;
    match reason {
        Reason::TransportClose => "transport_close",
        Reason::TransportError => "transport_error",
        Reason::HeartbeatTimeout => "heartbeat_timeout",
        Reason::ClientNSDisconnect => "client_left",
        Reason::ServerNSDisconnect => "disconnected_by_us",
        Reason::ClosingServer => "server_closing",
        _ => "protocol_error",
    }
}

/// The way to a Socket.IO client. Weak: the socket owns the session through its handlers, not the other way round.
pub struct Wire {
    socket: Weak<Socket<LocalAdapter>>,
    connection: Option<conn::Handle>,
}

impl Wire {
    /// Hands a frame to socketioxide's buffer of the socket.
    #[must_use]
    pub fn hand(&self, frame: &Frame) -> Handed {
        let Some(socket) = self.socket.upgrade() else { return Handed::Gone };
        match socket.emit(&*frame.name, &*frame.json) {
            Ok(()) => Handed::Taken,
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Handed::Full,
            Err(SendError::Socket(SocketError::Closed) | SendError::Serialize(_)) => Handed::Gone,
        }
    }

    /// Disconnects the client, and ends its connection once it had time to read why.
    pub fn close(&self) {
        let told = match self.socket.upgrade() {
            Some(socket) => socket.disconnect().is_ok(),
            None => return,
        };
        let Some(connection) = self.connection.clone() else { return };
        if told {
            tokio::spawn(async move {
                tokio::time::sleep(LAST_WORDS).await;
                connection.kill();
            });
        } else {
            // Its buffer is full: nothing more can be said.
            connection.kill();
        }
    }
}
