//! A polling client tries a WebSocket: `2probe`, `3probe`, and, once it has stopped polling, `5`. Only then is socketioxide
//! given the connection. It would take the session for lost when the try fails, and behind proxies that let a WebSocket
//! begin and then cut it, no client could ever stay.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::engine::Engine;
use super::peers::Peer;
use crate::base::error::Refusal;
use crate::transport::conn::{Lane, websocket as frames};
use crate::transport::problem;
use crate::transport::upgrade::{self, Rewound, upgraded};

/// How long a client may take to make up its mind.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers the request for a WebSocket, and goes on behind the answer.
pub(super) fn accept(engine: &Engine, peer: Arc<Peer>, lane: Arc<Lane>, mut request: Request) -> Response {
    let Some(response) = upgrade::switching(request.headers()) else {
        return problem::respond(&Refusal::Malformed("this is no WebSocket handshake".to_owned()));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let engine = engine.clone();
    // One at a time, and none after it has moved: another one is let begin, and ended. socketioxide would end it too, but
    // not while it is still taking the first one over.
    let trial = peer.tries().filter(|_| peer.lane().is_none());
    tokio::spawn(async move {
        let Some(mut stream) = upgraded(upgrade).await else { return };
        let Some(_trial) = trial else { return };
        let moved = tokio::time::timeout(PATIENCE, probed(&mut stream, &peer)).await;
        if let Ok(Ok(frames)) = moved {
            peer.moves_to(&lane);
            // What was read here is read again by socketioxide.
            let stream = Rewound::new(frames, stream.into_conn());
            // What the client came with is known from its first request.
            let mut copy = http::Request::new(());
            *copy.uri_mut() = request.uri().clone();
            engine.take_over(Box::new(stream), copy);
        }
    });
    response
}

/// Waits until the client has moved here. Returns the frames with which it did.
async fn probed(stream: &mut Rewound, peer: &Peer) -> io::Result<Vec<u8>> {
    let probe = expect(stream, b"2probe").await?;
    // Its poll ends now, and it does not poll again: when that is done, it moves.
    peer.probes();
    stream.write_all(&frames::text(&[b"3probe"])).await?;
    let upgrade = expect(stream, b"5").await?;
    Ok([probe, upgrade].concat())
}

/// Reads one frame, which has to be this packet.
async fn expect(stream: &mut Rewound, packet: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 2 + 4 + packet.len()];
    let (head, rest) = frame.split_at_mut(2);
    // The head first: what is no such frame has to end here, however short it is.
    stream.read_exact(head).await?;
    if head[0] != frames::TEXT || usize::from(head[1]) != 0x80 + packet.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    stream.read_exact(rest).await?;
    let (mask, masked) = rest.split_at(4);
    let says = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    if says.eq(packet.iter().copied()) { Ok(frame) } else { Err(io::ErrorKind::InvalidData.into()) }
}
