//! Connections: accepted under a bound, given a deadline for their headers, and ended when we say so.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
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

/// A TCP stream that others can end. The stream is shared, so that ending it needs no second descriptor.
/// It holds its place among the connections for as long as it lives, as HTTP and then as a WebSocket.
pub struct Conn {
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
struct Shared {
    tcp: TcpStream,
    /// The client speaks Engine.IO 3 over a WebSocket here.
    eio3: AtomicBool,
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
            // A socket that is gone already is as good as shut down.
            let _ = SockRef::from(&shared.tcp).shutdown(std::net::Shutdown::Both);
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.shared.tcp.poll_read_ready(cx))?;
            match self.shared.tcp.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    if self.shared.eio3.load(Ordering::Acquire) {
                        self.frames.get_or_insert_default().rewrite(&mut buf.initialize_unfilled()[..count]);
                    }
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Conn {
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        attempt: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.shared.tcp.poll_write_ready(cx))?;
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, || self.shared.tcp.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, || self.shared.tcp.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.shared.tcp).shutdown(std::net::Shutdown::Write))
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
                let shared = Arc::new(Shared { tcp, eio3: AtomicBool::new(false) });
                let handle = Handle(Arc::downgrade(&shared));
                open.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, handle.clone());
                let conn = Conn { shared, frames: None, number, open: Arc::clone(&open), _place: place };
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
