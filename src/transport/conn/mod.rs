//! TCP connections: how they are accepted, limited, written to and ended. This folder knows no session and no protocol.

mod flusher;
mod identity;
mod linger;
mod out;
mod pipe;
mod push;
mod stream;
pub mod tap;
pub mod websocket;
mod writer;
mod writing;

pub use identity::{Identity, Reload};
pub use stream::Conn;
pub use writer::{ConnectionWriter, LAST_WORDS};

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use self::flusher::Flusher;
use self::pipe::{Input, Pipe, Tls};
use crate::base::config::Limits;
use crate::base::metrics::Metrics;
use crate::cluster::fresh::RightsLease;
use crate::transport::limits::{Admission, Gate, PATIENCE};

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// hyper's buffer for one connection while it speaks HTTP.
const HTTP_BUFFER: usize = 16 * 1024;
/// Memory of a connection that has sent a request, and of its tasks, in bytes: measured.
const CONNECTION_BYTES: usize = 16 * 1024;
/// What TLS takes for it besides: measured, 12 KiB after the handshake, and more while that goes on.
const TLS_BYTES: usize = 32 * 1024;
/// Connections that wait until their address, or memory, has room for them.
const MAX_WAITING: usize = 16_384;
/// What a connection is told that there is no room for.
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// The delay before the next try when the system has no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The connections that are open. A server that stops ends those that do not end themselves.
#[derive(Default)]
pub struct OpenConnections {
    handles: Mutex<HashMap<u64, Handle>>,
    next: AtomicU64,
}

impl OpenConnections {
    /// Ends every connection.
    pub fn kill_all(&self) {
        // This is a copy because a connection that ends removes itself from the list.
        let all: Vec<Handle> = self.handles().values().cloned().collect();
        for handle in all {
            handle.kill();
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.handles().len()
    }

    fn closed(&self, number: u64) {
        self.handles().remove(&number);
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<u64, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the connections of a server share.
pub struct Shared {
    limits: Limits,
    stall: Duration,
    flusher: Flusher,
    metrics: Metrics,
    open: OpenConnections,
    gate: Arc<Gate>,
    /// Once it has ended, events that still wait here are not written.
    lease: RightsLease,
}

impl Shared {
    #[must_use]
    pub fn new(limits: &Limits, metrics: Metrics, lease: RightsLease) -> Arc<Self> {
        // A client that has missed its heartbeat is not waited for any longer.
        let heartbeat = limits.ping_interval_ms.saturating_add(limits.ping_timeout_ms);
        let stall = Duration::from_millis(u64::from(limits.write_stall_ms).min(heartbeat));
        let gate = Gate::new(limits, metrics.clone());
        let (limits, flusher, open) = (limits.clone(), Flusher::new(), OpenConnections::default());
        Arc::new(Self { limits, stall, flusher, metrics, open, gate, lease })
    }

    /// The limits of addresses and users.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The connections that are open.
    #[must_use]
    pub fn open(&self) -> &OpenConnections {
        &self.open
    }

    /// Writes what was queued in each round, until [`stop_flushing`](Self::stop_flushing).
    pub async fn flush(self: Arc<Self>) {
        self.flusher.run().await;
    }

    /// Ends [`flush`](Self::flush).
    pub fn stop_flushing(&self) {
        self.flusher.stop();
    }
}

/// Reaches a connection, if it is still there.
#[derive(Clone)]
pub struct Handle {
    writer: Weak<ConnectionWriter>,
    /// The other end of the connection: a client, or a proxy.
    pub peer: IpAddr,
}

impl Handle {
    #[must_use]
    pub fn of(writer: &Arc<ConnectionWriter>) -> Self {
        Self { writer: Arc::downgrade(writer), peer: writer.peer }
    }

    #[must_use]
    pub fn writer(&self) -> Option<Arc<ConnectionWriter>> {
        self.writer.upgrade()
    }

    /// A verified token has come on this connection, so it does not count as unauthenticated any more.
    pub fn authenticated(&self) {
        if let Some(writer) = self.writer.upgrade() {
            writer.authenticated();
        }
    }

    /// The client may still send when its connection ends.
    fn lingers(&self) {
        if let Some(writer) = self.writer.upgrade() {
            writer.lingers.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the connection in both directions. Tasks that read or write it learn that at once.
    pub fn kill(&self) {
        if let Some(writer) = self.writer.upgrade() {
            writer.kill();
        }
    }
}

/// Who connects to a listener.
#[derive(Clone)]
pub enum Callers {
    /// Clients, with TLS if the server has an identity. They count by their addresses.
    Clients(Option<Arc<Identity>>),
    /// Other nodes.
    Nodes,
}

/// What all connections of a listener need.
#[derive(Clone)]
struct Listening {
    shared: Arc<Shared>,
    router: Router,
    end: CancellationToken,
    tasks: TaskTracker,
    callers: Callers,
}

/// Accepts connections until `stop`. They last until `end`. Then each of them finishes its current request.
pub async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    callers: Callers,
    router: Router,
    stop: CancellationToken,
    end: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(shared.limits.max_connections));
    let waiting = Arc::new(Semaphore::new(MAX_WAITING));
    let listening = Listening { shared, router, end, tasks, callers };
    let bytes = if listening.speaks_tls() { CONNECTION_BYTES + TLS_BYTES } else { CONNECTION_BYTES };
    loop {
        let accept = async {
            // The place is taken first, so that connections over the limit wait in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let (tcp, peer) = listener.accept().await?;
            Ok::<_, io::Error>((tcp, peer.ip(), place))
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer, place)) => {
                let gate = &listening.shared.gate;
                let counted = matches!(listening.callers, Callers::Clients(_)).then_some(peer);
                if let Some(admission) = gate.try_connection(counted, bytes) {
                    listening.begin(tcp, peer, place, admission);
                } else if let Ok(waits) = Arc::clone(&waiting).try_acquire_owned() {
                    // Nothing is read from it meanwhile, so it costs little.
                    let listening = listening.clone();
                    tokio::spawn(async move {
                        let admission = listening.shared.gate.connection(counted, bytes).await;
                        match admission {
                            Some(admission) => listening.begin(tcp, peer, place, admission),
                            None if !listening.speaks_tls() => refuse(&tcp).await,
                            // There is no TLS yet to say anything in.
                            None => {}
                        }
                        drop(waits);
                    });
                } else {
                    listening.shared.metrics.rejected("too_many_connections");
                    if !listening.speaks_tls() {
                        let _ = tcp.try_write(NO_ROOM);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Listening {
    fn identity(&self) -> Option<&Arc<Identity>> {
        match &self.callers {
            Callers::Clients(identity) => identity.as_ref(),
            Callers::Nodes => None,
        }
    }

    fn speaks_tls(&self) -> bool {
        self.identity().is_some()
    }

    fn begin(&self, tcp: TcpStream, peer: IpAddr, place: OwnedSemaphorePermit, admission: Admission) {
        prepare(&tcp, &self.shared.limits);
        let tls = match self.identity().map(|identity| identity.accept()).transpose() {
            Ok(session) => session.map(Tls::new),
            Err(error) => return tracing::warn!(%error, "TLS cannot begin"),
        };
        let (read, write) = tcp.into_split();
        let Admission { of_address, room } = admission;
        let pipe = Pipe { tcp: write, tls: tls.clone() };
        let writer = ConnectionWriter::new(pipe, Arc::clone(&self.shared), peer, room);
        let handle = Handle::of(&writer);
        let number = self.shared.open.next.fetch_add(1, Ordering::Relaxed);
        self.shared.open.handles().insert(number, handle.clone());
        let conn = Conn::new(Input { tcp: read, tls }, writer, number, (place, of_address));
        self.tasks.spawn(one(conn, handle, self.router.clone(), self.end.clone()));
    }
}

/// Tells a connection that there is no room for it. What it has sent is read first, as far as it is here: otherwise the
/// kernel would reset the connection, and the client might not see the answer.
async fn refuse(tcp: &TcpStream) {
    let _ = tokio::time::timeout(PATIENCE, tcp.readable()).await;
    let mut ignored = [0; 4096];
    let _ = tcp.try_read(&mut ignored);
    let _ = tcp.try_write(NO_ROOM);
}

/// Small frames leave at once, and the kernel gives up a client that acknowledges nothing for too long.
fn prepare(tcp: &TcpStream, limits: &Limits) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    // Without a limit the kernel buffers megabytes for a client that reads nothing, and we notice it late.
    if let Err(error) = SockRef::from(tcp).set_send_buffer_size(limits.socket_send_buffer_bytes) {
        tracing::debug!(%error, "SO_SNDBUF cannot be set");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) =
        SockRef::from(tcp).set_tcp_user_timeout(Some(Duration::from_millis(u64::from(limits.write_stall_ms))))
    {
        tracing::debug!(%error, "TCP_USER_TIMEOUT cannot be set");
    }
}

/// Speaks HTTP on one connection until it ends, becomes a WebSocket, or is stopped.
async fn one(conn: Conn, handle: Handle, router: Router, stop: CancellationToken) {
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(handle.clone());
        let (response, handle) = (router.clone().call(request), handle.clone());
        async move {
            let response = response.await;
            if response.as_ref().is_ok_and(linger::is_due) {
                handle.lingers();
            }
            response
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HTTP_BUFFER)
        .serve_connection(TokioIo::new(conn), service)
        .with_upgrades();
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
