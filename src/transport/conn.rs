//! Connections: accepted under a bound, given a deadline for their headers, and ended when we say so.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::task::AtomicWaker;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::app::App;
use crate::transport::socketio::eio3;

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// hyper's buffer per connection while it speaks HTTP.
const HTTP_BUFFER: usize = 16 * 1024;
/// How long we wait when the system has no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A TCP stream that others can end. It holds its place among the connections for as long as it lives, as HTTP and then
/// as a WebSocket.
pub struct Conn {
    tcp: TcpStream,
    shared: Arc<Shared>,
    /// Mends what socketioxide cannot read, for connections that were said to need it.
    frames: Option<Box<eio3::Frames>>,
    number: u64,
    open: Arc<Open>,
    _place: OwnedSemaphorePermit,
}

/// The connections that are open, so that a stopping server can end those that would never end themselves.
#[derive(Default)]
pub struct Open(Mutex<HashMap<u64, Handle>>);

impl Open {
    /// Ends every connection.
    pub fn kill_all(&self) {
        for handle in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            handle.kill();
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.open.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// What a connection and those who hold its handle share.
#[derive(Default)]
struct Shared {
    killed: AtomicBool,
    /// The client speaks Engine.IO 3 over a WebSocket here.
    eio3: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// Reaches a connection, if it is still there.
#[derive(Clone)]
pub struct Handle(Weak<Shared>);

impl Handle {
    /// From now on the connection carries the frames of an Engine.IO 3 client.
    pub fn speaks_eio3(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.eio3.store(true, Ordering::Release);
        }
    }

    /// Ends the connection in both directions; whoever reads or writes it learns that at once.
    pub fn kill(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.killed.store(true, Ordering::Release);
            shared.reader.wake();
            shared.writer.wake();
        }
    }
}

impl Shared {
    /// What the stream answered, unless the connection was ended; one that waits is woken when it is.
    fn unless_killed<T>(
        &self,
        waker: &AtomicWaker,
        cx: &Context<'_>,
        answer: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if answer.is_pending() {
            waker.register(cx.waker());
            if self.killed.load(Ordering::Acquire) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        answer
    }

    fn check(&self) -> io::Result<()> {
        if self.killed.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

// The stream's own polls are used, not `try_read` and `try_write`: they know when a socket is drained without asking it.
impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shared.check()?;
        let before = buf.filled().len();
        let answer = Pin::new(&mut this.tcp).poll_read(cx, buf);
        if this.shared.eio3.load(Ordering::Acquire) {
            this.frames.get_or_insert_default().rewrite(&mut buf.filled_mut()[before..]);
        }
        this.shared.unless_killed(&this.shared.reader, cx, answer)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.check()?;
        let answer = Pin::new(&mut this.tcp).poll_write(cx, buf);
        this.shared.unless_killed(&this.shared.writer, cx, answer)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.check()?;
        let answer = Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs);
        this.shared.unless_killed(&this.shared.writer, cx, answer)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

/// Accepts connections until `stop`; each then finishes the request that is under way and ends.
pub async fn serve(
    app: App,
    listener: TcpListener,
    router: Router,
    open: Arc<Open>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(app.config.limits.max_connections));
    for number in 0.. {
        let accept = async {
            // The place first: past the bound, connections wait in the kernel's queue.
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
                prepare(&tcp, app.config.limits.write_stall_ms);
                let shared = Arc::new(Shared::default());
                let handle = Handle(Arc::downgrade(&shared));
                open.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, handle.clone());
                let conn = Conn { tcp, shared, frames: None, number, open: Arc::clone(&open), _place: place };
                tasks.spawn(one(conn, handle, router.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Small frames leave at once, and a peer that takes nothing for too long is given up by the kernel.
fn prepare(tcp: &TcpStream, stall_ms: u32) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) =
        SockRef::from(tcp).set_tcp_user_timeout(Some(Duration::from_millis(u64::from(stall_ms))))
    {
        tracing::debug!(%error, "TCP_USER_TIMEOUT cannot be set");
    }
}

/// Speaks HTTP on one connection until it ends, or becomes a WebSocket, or `stop`.
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
        tracing::debug!(%error, "a connection ended badly");
    }
}
