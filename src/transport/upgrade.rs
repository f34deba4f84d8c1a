//! How an HTTP request becomes a WebSocket, and how a WebSocket ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role as Side, WebSocketConfig};

use super::conn::{Conn, LAST_WORDS, websocket};
use super::problem;
use crate::app::App;
use crate::base::error::Refusal;
use crate::dialect::close::{self, Close};

/// Refuses the page of an origin that may not connect. Browsers let any page open a WebSocket to any server, so the server has
/// to check the origin.
#[must_use]
pub fn refuse_foreign(app: &App, headers: &HeaderMap) -> Option<Response> {
    let origin = headers.get(header::ORIGIN).filter(|_| headers.contains_key(header::UPGRADE))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let allows = |origin: &str| app.config.origins().is_ok_and(|origins| origins.allows(origin, host));
    if origin.to_str().is_ok_and(allows) {
        return None;
    }
    app.metrics.rejected("foreign_origin");
    Some(problem::respond(&Refusal::Forbidden("this origin may not connect; see CORS_ORIGIN".to_owned())))
}

/// The answer to a WebSocket handshake (RFC 6455 §4.2.2). `None` if the request is no handshake.
#[must_use]
pub fn switching(headers: &HeaderMap) -> Option<Response> {
    let names = |name, word: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !version || !names(header::UPGRADE, "websocket") || !names(header::CONNECTION, "upgrade") {
        return None;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes()))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Some(response)
}

/// Whether a key is 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(digit))
}

/// The server's end of a WebSocket after its handshake. `buffer` is the size of the read buffer, and `longest` the limit of a
/// message, both in bytes.
pub(super) async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    buffer: usize,
    longest: usize,
) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(buffer)
        .write_buffer_size(0)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    WebSocketStream::from_raw_socket(stream, Side::Server, Some(config)).await
}

/// The name of the ending after a message that is too long.
const TOO_LARGE: &str = "too_large";

/// How a WebSocket ended.
pub(super) struct Ending {
    /// The reason in the metrics.
    pub name: &'static str,
    /// The close frame that is still to be sent.
    pub close: Option<Bytes>,
}

impl Ending {
    /// The client is gone.
    pub fn silent(name: &'static str) -> Self {
        Self { name, close: None }
    }

    fn told(name: &'static str, (code, reason): Close) -> Self {
        Self { name, close: Some(websocket::close(code, reason)) }
    }

    /// A message was so long that it was not read.
    pub fn is_too_large(&self) -> bool {
        self.name == TOO_LARGE
    }

    /// The client has broken the protocol.
    pub fn protocol() -> Self {
        Self::told("protocol_error", close::PROTOCOL_ERROR)
    }

    /// The ending for the error with which reading ended, if there was one.
    pub fn of(error: Option<Error>) -> Self {
        match error {
            Some(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                Self::told(TOO_LARGE, close::TOO_LARGE)
            }
            Some(Error::Utf8(_)) => Self::told("protocol_error", close::NOT_UTF8),
            // This is usual, because apps are killed.
            Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                Self::silent("transport_close")
            }
            Some(Error::Protocol(error)) => {
                tracing::debug!(%error, "a WebSocket broke the protocol");
                Self::protocol()
            }
            Some(_) | None => Self::silent("transport_close"),
        }
    }
}

/// Reads and ignores what the client still sends. If a connection is closed while something is unread, the kernel resets it,
/// and the client may lose our last frames.
pub(super) async fn read_to_end(mut stream: impl AsyncRead + Unpin) {
    let mut ignored = [0; 512];
    let read = async { while stream.read(&mut ignored).await.is_ok_and(|count| count > 0) {} };
    let _ = tokio::time::timeout(LAST_WORDS, read).await;
}

/// A connection that is read from a little further back.
pub struct Rewound {
    before: Vec<u8>,
    at: usize,
    conn: Conn,
}

impl Rewound {
    /// `before` is read first, then the connection.
    #[must_use]
    pub(super) fn new(before: Vec<u8>, conn: Conn) -> Self {
        Self { before, at: 0, conn }
    }

    /// The connection, after everything before it was read.
    pub(super) fn into_conn(self) -> Conn {
        self.conn
    }
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.before[this.at..];
        if rest.is_empty() {
            return Pin::new(&mut this.conn).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        this.at += count;
        if this.at == this.before.len() {
            (this.before, this.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().conn).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_shutdown(cx)
    }
}

/// The connection of an upgrade, once the answer is written. `None` if the connection has ended before.
pub(super) async fn upgraded(upgrade: OnUpgrade) -> Option<Rewound> {
    let parts = upgrade.await.ok()?.downcast::<TokioIo<Conn>>().ok()?;
    let mut conn = parts.io.into_inner();
    // `unread` copies, because these bytes are in a buffer of 16 KiB.
    conn.unread(&parts.read_buf);
    Some(Rewound::new(Vec::new(), conn))
}
