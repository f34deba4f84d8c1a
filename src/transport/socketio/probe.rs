//! A polling client tries a WebSocket: it sends `2probe`, gets `3probe`, and sends `5` once it has stopped polling. Only then
//! does socketioxide get the connection, because it ends the session when a try fails. Some proxies let a WebSocket begin
//! and then cut it, and no client behind them could stay connected.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::engine::Engine;
use super::polling::PollingClient;
use crate::base::error::Refusal;
use crate::transport::conn::{ConnectionWriter, websocket as frames};
use crate::transport::problem;
use crate::transport::upgrade::{self, Rewound, upgraded};

/// How long a try may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client that has changed may be without a namespace. On a fast network the post with its CONNECT may come after the
/// WebSocket, and is refused once socketioxide knows that it has changed. The client for Swift would wait for its answer for ever.
const LATE_POST: Duration = Duration::from_millis(250);

/// Answers the handshake, and follows the try in a task.
pub(super) fn accept(
    engine: &Engine,
    client: Arc<PollingClient>,
    writer: Arc<ConnectionWriter>,
    mut request: Request,
) -> Response {
    let Some(response) = upgrade::switching(request.headers()) else {
        return problem::respond(&Refusal::Malformed("this is no WebSocket handshake".to_owned()));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let engine = engine.clone();
    // A second WebSocket is accepted and then ended. socketioxide would do the same, but not while it is still taking the
    // first one over.
    let trial = client.tries().filter(|_| client.writer().is_none());
    tokio::spawn(async move {
        let Some(mut stream) = upgraded(upgrade).await else { return };
        let Some(_trial) = trial else { return };
        let moved = tokio::time::timeout(PATIENCE, probed(&mut stream, &client)).await;
        if let Ok(Ok(frames)) = moved {
            client.moves_to(&writer);
            if !client.entries().is_empty() {
                writer.authenticated();
            }
            // socketioxide reads these frames again.
            let stream = Rewound::new(frames, stream.into_conn());
            // The token and the rest are known from the first request of the client.
            let mut copy = http::Request::new(());
            *copy.uri_mut() = request.uri().clone();
            engine.take_over(Box::new(stream), copy);
        }
    });
    response
}

/// Waits until the client has changed to this WebSocket. Returns the frames that it has sent.
async fn probed(stream: &mut Rewound, client: &PollingClient) -> io::Result<Vec<u8>> {
    let probe = expect(stream, b"2probe").await?;
    // The client changes once its poll has ended, so that ends now.
    client.probes();
    stream.write_all(&frames::text(&[b"3probe"])).await?;
    let upgrade = expect(stream, b"5").await?;
    // One of Engine.IO 3 is in the default namespace from the beginning. One that asks for its token may join on the WebSocket.
    let mut next = [0; 1024];
    let read = tokio::select! {
        biased;
        () = client.until_joined() => 0,
        read = stream.read(&mut next) => read?,
        () = tokio::time::sleep(LATE_POST) => 0,
    };
    Ok([&*probe, &*upgrade, &next[..read]].concat())
}

/// Reads one frame, which has to be this packet.
async fn expect(stream: &mut Rewound, packet: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 2 + 4 + packet.len()];
    let (head, rest) = frame.split_at_mut(2);
    // The head is read first, because a shorter frame has to be refused at once.
    stream.read_exact(head).await?;
    if head[0] != frames::TEXT || usize::from(head[1]) != 0x80 + packet.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    stream.read_exact(rest).await?;
    let (mask, masked) = rest.split_at(4);
    let says = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    if says.eq(packet.iter().copied()) { Ok(frame) } else { Err(io::ErrorKind::InvalidData.into()) }
}
