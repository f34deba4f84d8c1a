//! Socket.IO. socketioxide speaks the protocol until a client has come in, and we decide who comes in.

mod begin;
mod decode;
mod door;
mod engine;
mod engine_query;
mod entry;
mod established;
mod forward;
mod front;
mod greeting;
mod handler;
mod handshake;
mod incoming;
mod joining;
mod lobby;
pub mod packet;
pub mod polling;
mod polls;
mod posted;
mod posts;
mod probe;
pub mod query;
mod sid;
mod wire;

pub use engine::Engine;
pub use front::Front;

use std::sync::Arc;
use std::time::Duration;

use socketioxide::SocketIo;
use socketioxide::extract::SocketRef;
use socketioxide::handler::ConnectHandler;
use socketioxide::socket::DisconnectReason;
use tokio_util::sync::CancellationToken;
use tower::util::service_fn;

use self::door::{Denied, Door};
use self::entry::{Entry, Owner};
use self::forward::Nodes;
use self::handler::Handler;
use self::joining::JoiningClient;
use self::packet::{BEGINNING, MAX_ATTACHMENTS, READ_BUFFER};
use self::polling::PollingClients;
use crate::base::config::Limits;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::session::Sessions;
use crate::transport::limits::Gate;
use crate::transport::problem;

/// The path of the service.
const PATH: &str = "/socket.io/";
/// A connection that has joined no namespace is closed after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many messages of the largest size one polling body may hold.
const MESSAGES_PER_BODY: usize = 8;

/// The Socket.IO service with its namespaces. `stop` is cancelled when this node begins to stop.
#[must_use]
pub fn service(sessions: &Sessions, gate: &Arc<Gate>, stop: &CancellationToken) -> Front {
    let app = sessions.app();
    let limits = &app.config.limits;
    let (service, io) = builder(limits).build_with_inner_svc(service_fn(not_found));
    let engine = Engine::new(service, PATH);
    let clients = PollingClients::new(&app.metrics.polling_clients);
    let door = Arc::new(Door { sessions: sessions.clone(), engine: engine.clone(), gate: Arc::clone(gate) });
    lobby::open(&io);
    for dialect in Dialect::ALL {
        if let Some(namespace) = dialect.namespace()
            && Dialect::of_namespace(namespace) == Some(dialect)
        {
            serve(&io, &door, dialect, namespace);
        }
    }
    let nodes = app.config.cluster.cluster_listen.map(|_| Nodes::new(app, gate, stop.clone()));
    let mut front = Front::new(engine, clients, Some(door), body_limit(limits));
    front.nodes = nodes;
    front
}

/// The longest polling body that the server sends, and that it tells clients to send.
fn body_limit(limits: &Limits) -> usize {
    limits.max_message_bytes.saturating_mul(MESSAGES_PER_BODY).max(longest_packet(limits))
}

/// The longest packet that is read as a whole. What is too long for its kind is answered: see
/// [`Inbox::too_large`](crate::session::inbox::Inbox::too_large).
fn longest_packet(limits: &Limits) -> usize {
    limits.max_batch_bytes.saturating_add(BEGINNING)
}

async fn not_found(_: axum::extract::Request) -> Result<axum::response::Response, std::convert::Infallible> {
    Ok(problem::respond(&Refusal::NotFound("page")))
}

fn builder(limits: &Limits) -> socketioxide::SocketIoBuilder {
    let bytes = longest_packet(limits);
    SocketIo::builder()
        .ping_interval(Duration::from_millis(limits.ping_interval_ms))
        .ping_timeout(Duration::from_millis(limits.ping_timeout_ms))
        .connect_timeout(CONNECT_TIMEOUT)
        .max_buffer_size(limits.max_socket_buffer)
        .max_payload(body_limit(limits) as u64)
        .ws_max_message_size(bytes)
        .ws_max_frame_size(bytes)
        .ws_read_buffer_size(READ_BUFFER)
        .with_parser(
            socketioxide::ParserConfig::common()
                .max_incoming_binaries(MAX_ATTACHMENTS)
                .max_incoming_binary_buf_size(limits.max_message_bytes),
        )
}

fn serve(io: &SocketIo, door: &Arc<Door>, dialect: Dialect, namespace: &'static str) {
    let door = Arc::clone(door);
    let admit = move |joining: JoiningClient| {
        let door = Arc::clone(&door);
        async move {
            let entry = door.let_in(&joining, dialect, Owner::socketioxide()).await?;
            settle_in(&joining, entry);
            Ok::<_, Denied>(())
        }
    };
    io.ns(namespace, enter.with(admit));
}

/// Registers the handlers of a session. This is done before the connect handler runs: the CONNECT reply leaves first, and the
/// client's first events may follow at once.
fn settle_in(joining: &JoiningClient, entry: Arc<Entry>) {
    let Some(socket) = joining.socket.upgrade() else { return };
    socket.on_fallback(Handler(Arc::clone(&entry.inbox)));
    let leaving = Arc::clone(&entry);
    socket.on_disconnect(async move |_: SocketRef, reason: DisconnectReason| {
        leaving.ended_by_socketioxide(Some(reason_name(reason)));
    });
    if entry.session.dialect() == Dialect::Notices
        && joining.is_eio3
        && let Some(handshake) = &joining.handshake
    {
        handshake.default_namespace.joined(&entry.session);
    }
    match (&entry.writer, &entry.client) {
        (Some(writer), _) => entry.expect_on(writer),
        (None, Some(client)) => client.has(&entry),
        (None, None) => {}
    }
    socket.extensions.insert(entry);
}

/// The middleware has made the session. It enters its rooms now that the client is connected.
async fn enter(joining: JoiningClient) {
    let Some(socket) = joining.socket.upgrade() else { return };
    let Some(entry) = socket.extensions.get::<Arc<Entry>>() else { return };
    // socketioxide has answered the CONNECT.
    entry.enter(|| ());
    // The client may have gone before it was in its rooms. Then nothing else takes it out.
    if !socket.connected() {
        entry.ended_by_socketioxide(None);
    }
}

const fn reason_name(reason: DisconnectReason) -> &'static str {
    use DisconnectReason as Reason;
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
