//! TCP connections: how they are accepted, limited, written to and ended. This folder knows no session and no protocol.

mod flusher;
mod out;
mod push;
mod stream;
pub mod tap;
pub mod websocket;
mod writer;
mod writing;

pub use stream::Conn;
pub use writer::{ConnectionWriter, LAST_WORDS};

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use self::flusher::Flusher;
use crate::base::config::Limits;
use crate::base::metrics::Metrics;

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// hyper's buffer for one connection while it speaks HTTP.
const HTTP_BUFFER: usize = 16 * 1024;
/// The delay before the next try when the system has no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The connections that are open. A server that stops ends those that do not end themselves.
#[derive(Default)]
pub struct OpenConnections(Mutex<HashMap<u64, Handle>>);

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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the connections of a server share.
pub struct Shared {
    limits: Limits,
    stall: Duration,
    flusher: Flusher,
    metrics: Metrics,
    open: OpenConnections,
}

impl Shared {
    #[must_use]
    pub fn new(limits: &Limits, metrics: Metrics) -> Arc<Self> {
        // A client that has missed its heartbeat is not waited for any longer.
        let heartbeat = limits.ping_interval_ms.saturating_add(limits.ping_timeout_ms);
        let stall = Duration::from_millis(u64::from(limits.write_stall_ms).min(heartbeat));
        let (limits, flusher, open) = (limits.clone(), Flusher::new(), OpenConnections::default());
        Arc::new(Self { limits, stall, flusher, metrics, open })
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
pub struct Handle(Weak<ConnectionWriter>);

impl Handle {
    #[must_use]
    pub fn of(writer: &Arc<ConnectionWriter>) -> Self {
        Self(Arc::downgrade(writer))
    }

    #[must_use]
    pub fn writer(&self) -> Option<Arc<ConnectionWriter>> {
        self.0.upgrade()
    }

    /// Ends the connection in both directions. Tasks that read or write it learn that at once.
    pub fn kill(&self) {
        if let Some(writer) = self.0.upgrade() {
            writer.kill();
        }
    }
}

/// Accepts connections until `stop`. They last until `end`. Then each of them finishes its current request.
pub async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    end: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(shared.limits.max_connections));
    for number in 0.. {
        let accept = async {
            // The place is taken first, so that connections over the limit wait in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let (tcp, _) = listener.accept().await?;
            Ok::<_, io::Error>((tcp, place))
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, place)) => {
                prepare(&tcp, &shared.limits);
                let (read, write) = tcp.into_split();
                let writer = ConnectionWriter::new(write, Arc::clone(&shared));
                let handle = Handle::of(&writer);
                shared.open.handles().insert(number, handle.clone());
                let conn = Conn::new(read, writer, number, place);
                tasks.spawn(one(conn, handle, router.clone(), end.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
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
        router.clone().call(request)
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
