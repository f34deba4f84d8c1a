//! A WebSocket of a client here whose session is on another node: bytes are copied both ways.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::transport::conn::{Handle, LAST_WORDS};
use crate::transport::socketio::CONNECT_TIMEOUT;
use crate::transport::upgrade::upgraded;

/// What is copied at a time in each direction, in bytes.
const BUFFER: usize = 4 * 1024;
/// How long the client's side may take to become a WebSocket.
const PATIENCE: Duration = Duration::from_secs(5);
/// The other node ends a client that is in no namespace for so long, so one that is here longer is in one.
const KNOWN: Duration = CONNECT_TIMEOUT.saturating_add(Duration::from_secs(2));

/// How long a tunnel lasts.
pub(super) struct Tunnel {
    pub connection: Handle,
    /// How long nothing may come from the other node, which sends heartbeats.
    pub silence: Duration,
    /// How long a write may take.
    pub stall: Duration,
    /// This node stops: the tunnel ends `delay` after that.
    pub stop: CancellationToken,
    pub delay: Duration,
}

impl Tunnel {
    /// Copies until a side ends, is silent for too long, or this node stops.
    pub async fn run(self, client: OnUpgrade, node: OnUpgrade) {
        let both = async { tokio::join!(upgraded(client), node) };
        let Ok((Some(client), Ok(node))) = timeout(PATIENCE, both).await else { return };
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_node, mut to_node) = tokio::io::split(TokioIo::new(node));
        let up = copy(&mut from_client, &mut to_node, None, self.stall);
        let down = copy(&mut from_node, &mut to_client, Some(self.silence), self.stall);
        tokio::pin!(up, down);
        let copied = async {
            // The other direction may still have a close frame.
            tokio::select! {
                () = &mut up => drop(timeout(LAST_WORDS, down).await),
                () = &mut down => drop(timeout(LAST_WORDS, up).await),
            }
        };
        let known = async {
            sleep(KNOWN).await;
            self.connection.authenticated();
            std::future::pending::<()>().await;
        };
        let stopped = async {
            self.stop.cancelled().await;
            sleep(self.delay).await;
        };
        tokio::select! {
            () = copied => {}
            () = known => {}
            () = stopped => {}
        }
    }
}

/// Copies until the end of `from`, then ends `to`.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    silence: Option<Duration>,
    stall: Duration,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer);
        let read = match silence {
            Some(silence) => timeout(silence, read).await.unwrap_or(Ok(0)),
            None => read.await,
        };
        let Ok(count @ 1..) = read else { break };
        if !matches!(timeout(stall, to.write_all(&buffer[..count])).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(LAST_WORDS, to.shutdown()).await;
}
