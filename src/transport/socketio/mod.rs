//! Socket.IO: socketioxide speaks the protocol, we decide who may come in and what happens then.

mod begin;
mod engine;
mod front;
pub mod greeting;
mod handler;
pub mod incoming;
pub mod peers;
mod probe;
mod visitor;
pub mod wire;

pub(super) use begin::upgraded;
pub use engine::Engine;
pub use front::{Front, Handshake};
pub use probe::Rewound;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::SocketRef;
use socketioxide::handler::ConnectHandler;
use socketioxide::socket::Socket;
use socketioxide::{SocketIo, TransportType};
use tower::util::service_fn;

use self::handler::Handler;
use self::peers::{Peer, Peers};
use self::visitor::Visitor;
use self::wire::{Direct, Polled};
use super::inbox::Inbox;
use super::{Wire, conn};
use crate::auth::{Principal, Role};
use crate::config::Limits;
use crate::dialect::{Dialect, realtime};
use crate::error::Refusal;
use crate::fanout::Fanout;
use crate::fanout::session::Session;
use crate::recovery;

/// Where it is served.
const PATH: &str = "/socket.io/";
/// A connection that does not get as far as a namespace is closed after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Read buffer of a WebSocket; our clients' messages are small.
const READ_BUFFER: usize = 512;
/// Engine.IO packets of protocol 3 carry no limits of their own; attachments have no use here.
const MAX_ATTACHMENTS: usize = 4;
/// How many messages of the largest size one polling body may hold.
const MESSAGES_PER_BODY: usize = 8;

/// What the namespaces share.
struct Door {
    fanout: Fanout,
    peers: Peers,
    engine: Engine,
}

/// The Socket.IO service, its namespaces in place.
#[must_use]
pub fn service(fanout: &Fanout, peers: &Peers) -> Front {
    let app = fanout.app();
    let limits = &app.config.limits;
    let (service, io) = builder(limits).build_with_inner_svc(service_fn(not_found));
    let engine = Engine::new(service, PATH);
    let door = Arc::new(Door { fanout: fanout.clone(), peers: peers.clone(), engine: engine.clone() });
    serve_realtime(&io, &door);
    serve_notices(&io, &door);
    let body_limit = limits.max_message_bytes.saturating_mul(MESSAGES_PER_BODY);
    Front::new(engine, peers.clone(), Some(app.clone()), body_limit)
}

async fn not_found(_: axum::extract::Request) -> Result<axum::response::Response, std::convert::Infallible> {
    Ok(super::http::problem::respond(&Refusal::NotFound("page")))
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
fn serve_realtime(io: &SocketIo, door: &Arc<Door>) {
    let door = Arc::clone(door);
    let admit = move |visitor: Visitor| {
        let door = Arc::clone(&door);
        async move {
            visitor.leave_default_namespace();
            let admitted = match verify(&door, &visitor).await {
                Ok(principal) => admit(&door, &visitor, Dialect::Realtime, principal).await,
                Err(denied) => Err(denied),
            };
            visitor.shaken_hands();
            admitted
        }
    };
    io.ns(realtime::NAMESPACE, enter.with(admit));
}

/// The default namespace. Protocol 3 puts every client there first, wherever it goes: who goes on to another namespace has
/// nothing to hear in this one.
fn serve_notices(io: &SocketIo, door: &Arc<Door>) {
    let door = Arc::clone(door);
    let admit = move |visitor: Visitor| {
        let door = Arc::clone(&door);
        async move {
            let open = door.fanout.app().config.legacy_open;
            let principal = match visitor.token() {
                None if open => Ok(Principal::anonymous()),
                _ => verify(&door, &visitor).await,
            };
            let admitted = match principal {
                Ok(principal) => admit(&door, &visitor, Dialect::Notices, principal).await,
                Err(denied) => Err(denied),
            };
            if admitted.is_ok() || !visitor.is_eio3() {
                // Otherwise it may still go on to another namespace.
                visitor.shaken_hands();
            }
            admitted
        }
    };
    io.ns("/", enter.with(admit));
}

/// The session was made by the middleware; it enters its rooms now that the client is connected.
async fn enter(visitor: Visitor) {
    if let Some(entry) = visitor.socket.extensions.get::<Arc<Entry>>() {
        entry.enter(&visitor.socket);
    }
}

/// Why a client may not come in: what its `connect_error` says.
struct Denied(String);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Denied {
    fn new(door: &Door, visitor: &Visitor, refusal: &Refusal) -> Self {
        door.fanout.metrics().rejected(refusal.code());
        // A fault of ours must not look like a refusal, after which clients never come back: cut the line.
        if matches!(refusal, Refusal::Unavailable | Refusal::Internal(_)) {
            if let Refusal::Internal(error) = refusal {
                tracing::error!(%error, "a client could not be let in");
            }
            let sid = visitor.socket.id.to_string();
            match door.peers.get(&sid) {
                None => visitor.connection().iter().for_each(conn::Handle::kill),
                Some(peer) => {
                    // Whatever it polls next tells it that the connection has ended, and nothing else.
                    peer.close();
                    peer.lane().iter().for_each(|lane| lane.kill());
                    door.cut(sid, visitor.is_eio3());
                }
            }
        }
        Self(format!("{}: {refusal}", refusal.code()))
    }
}

impl Door {
    /// Ends the connection of a client that polls.
    fn cut(&self, sid: String, eio3: bool) {
        let engine = self.engine.clone();
        tokio::spawn(async move { engine.close(&sid, eio3).await });
    }
}

async fn verify(door: &Door, visitor: &Visitor) -> Result<Principal, Denied> {
    let verified = match visitor.token() {
        Some(token) => door.fanout.app().auth.verify(&token).await,
        None => Err(Refusal::Unauthorized("no token was given")),
    };
    verified.map_err(|refusal| Denied::new(door, visitor, &refusal))
}

/// Lets a client in, or not. Everything is put in place here: the CONNECT reply leaves before the connect handler
/// has run, and the client's first events may come right after it.
async fn admit(
    door: &Arc<Door>,
    visitor: &Visitor,
    dialect: Dialect,
    principal: Principal,
) -> Result<(), Denied> {
    let namespace = dialect.namespace().unwrap_or_default();
    let sid = visitor.socket.id.to_string();
    let begun = match visitor.claim() {
        Ok(claim) => recovery::begin(&door.fanout, &principal, dialect, &claim, &sid).await,
        Err(refusal) => Err(refusal),
    };
    let mut begun = begun.map_err(|refusal| Denied::new(door, visitor, &refusal))?;
    if visitor.is_eio3() || principal.role == Role::Anonymous {
        // There is no telling whose it is.
        begun.beginning.holder = None;
    }
    let polls = visitor.socket.transport_type() == TransportType::Polling;
    let peer = if polls { Some(door.peers.begin(&sid)) } else { door.peers.get(&sid) };
    let socket = Arc::downgrade(&visitor.socket);
    let lane = match &peer {
        // A WebSocket from the start.
        None => visitor.connection().and_then(|connection| connection.lane()),
        // It has moved to one before it came in.
        Some(peer) if !polls => peer.lane(),
        Some(_) => None,
    };
    let wire = match &lane {
        Some(lane) => Wire::Direct(Direct { lane: Arc::clone(lane), socket, namespace }),
        None => Wire::Polled(Polled {
            socket,
            namespace,
            engine: door.engine.clone(),
            peer: peer.clone(),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }),
    };
    let session = Session::new(door.fanout.clone(), principal, dialect, wire, begun.beginning);
    visitor.socket.on_fallback(Handler(Inbox::new(Arc::clone(&session))));
    if dialect == Dialect::Notices
        && visitor.is_eio3()
        && let Some(handshake) = visitor.handshake()
    {
        handshake.first.set(&session);
    }
    let entry =
        Arc::new(Entry { door: Arc::clone(door), session: Arc::clone(&session), resync: begun.resync, peer });
    let leaving = Arc::clone(&entry);
    visitor.socket.on_disconnect(
        async move |_: SocketRef, reason: socketioxide::socket::DisconnectReason| {
            leaving.leave();
            if !leaving.session.is_closing() {
                // Who is closed by us is counted with our reason.
                leaving.door.fanout.metrics().closed(reason_name(reason));
            }
        },
    );
    match (&lane, &entry.peer) {
        (Some(lane), _) => lane.expect(&session),
        (None, Some(peer)) => peer.has(&session),
        (None, None) => {}
    }
    visitor.socket.extensions.insert(entry);
    Ok(())
}

/// A session and where it belongs, from the middleware on.
struct Entry {
    door: Arc<Door>,
    session: Arc<Session>,
    resync: Option<&'static str>,
    peer: Option<Arc<Peer>>,
}

impl Entry {
    fn enter(&self, socket: &Socket<LocalAdapter>) {
        let (session, fanout) = (&self.session, &self.door.fanout);
        let (sid, now) = (socket.id.to_string(), fanout.app().clock.now());
        fanout.recovery().began(session.holder(), session.principal(), session.dialect());
        session.enter(
            |place| session.dialect().greeting(&sid, session, place, now),
            self.resync.filter(|_| session.dialect() == Dialect::Realtime).map(realtime::resync),
        );
        if let Some(peer) = &self.peer {
            // It may be on the move to a WebSocket already.
            peer.mark();
        }
        // Gone between the CONNECT reply and now: then nobody else will take it out.
        if !socket.connected() {
            self.leave();
        }
    }

    fn leave(&self) {
        if self.session.leave() {
            let fanout = &self.door.fanout;
            fanout.recovery().ended(self.session.holder(), fanout.app().clock.now());
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
