//! Raw WebSockets: one way in and one loop for every dialect that speaks on them. Tungstenite reads, sessions write.

mod wire;

pub use wire::Raw;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role as Side, WebSocketConfig};

use super::Wire;
use super::conn::{self, LAST_WORDS, Lane, websocket};
use super::http::{Site, problem, token_of};
use super::inbox::Inbox;
use super::socketio::{self, Rewound};
use crate::app::App;
use crate::auth::Principal;
use crate::command::Command;
use crate::dialect::{Dialect, Request as Asked};
use crate::error::Refusal;
use crate::fanout::handing::{Beginning, CloseReason, Handed, Urgency};
use crate::fanout::session::Session;
use crate::fanout::{Frame, Place};
use crate::tracking;

/// Read buffer of a socket; our clients' messages are small.
const READ_BUFFER: usize = 2_048;
/// An answer to every request, also to those that are answered by events: the number means nothing here.
const ANSWERED: Option<i64> = Some(0);

/// The doors.
pub fn routes() -> Router<Site> {
    Router::new()
        .route(
            "/orders/track",
            get(async |State(site): State<Site>, request: Request| {
                open(&site, Dialect::OrdersTrack, None, request).await
            }),
        )
        .route(
            "/ws",
            get(async |State(site): State<Site>, request: Request| {
                open(&site, Dialect::Ws, None, request).await
            }),
        )
        .route(
            "/ws/tracking/{id}",
            get(async |State(site): State<Site>, Path(id): Path<String>, request: Request| {
                open(&site, Dialect::Tracking, Some(id), request).await
            }),
        )
}

/// Refuses a browser's page that is not allowed to connect. Browsers let any page open a WebSocket anywhere; whose page it
/// is, only we can check.
#[must_use]
pub fn refuse_foreign(app: &App, headers: &HeaderMap) -> Option<Response> {
    let origin = headers.get(header::ORIGIN).filter(|_| headers.contains_key(header::UPGRADE))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if origin.to_str().is_ok_and(|origin| app.config.origin_allowed(origin, host)) {
        return None;
    }
    app.metrics.rejected("foreign_origin");
    Some(problem::respond(&Refusal::Forbidden("this origin may not connect; see CORS_ORIGIN".to_owned())))
}

/// The answer to a WebSocket handshake (RFC 6455 §4.2.2); `None` if it is none.
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
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Some(response)
}

/// Who comes in, and where they begin.
struct Entrant {
    principal: Principal,
    beginning: Beginning,
}

/// Why somebody does not come in: what is said, and the close frame.
struct Turned {
    words: Option<Frame>,
    close: Bytes,
}

impl Turned {
    fn away(reason: &str) -> Self {
        Self { words: None, close: websocket::close(1008, reason) }
    }
}

async fn open(site: &Site, dialect: Dialect, tracking: Option<String>, mut request: Request) -> Response {
    let app = &site.app;
    let Some(response) = switching(request.headers()).filter(|_| request.method() == Method::GET) else {
        let detail = "this is for WebSockets, version 13";
        let mut response = problem::plain(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail);
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    if let Some(refused) = refuse_foreign(app, request.headers()) {
        return refused;
    }
    if !app.is_ready() {
        return problem::respond(&Refusal::Unavailable);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let Some(lane) = request.extensions().get::<conn::Handle>().and_then(conn::Handle::lane) else {
        return problem::respond(&Refusal::Unavailable);
    };
    let (parts, _) = request.into_parts();
    let entrant = match admit(app, dialect, tracking.as_deref(), token_of(&parts)).await {
        Ok(entrant) => entrant,
        // A fault of ours must not look like a refusal, after which clients do not come back.
        Err(refusal) => return problem::respond(&refusal),
    };
    lane.becomes_raw_websocket();
    let site = site.clone();
    tokio::spawn(async move {
        let Some(stream) = socketio::upgraded(upgrade).await else { return };
        match entrant {
            Ok(entrant) => serve(&site, dialect, entrant, stream, lane).await,
            Err(Turned { words, close }) => {
                if let Some(words) = words {
                    let _ = lane.push(websocket::text(&[words.json.get().as_bytes()]), Urgency::Reply);
                }
                lane.finish(close);
                listen_out(stream).await;
            }
        }
    });
    response
}

/// Decides who comes in; what is to be said to who does not, in WebSocket's words.
async fn admit(
    app: &App,
    dialect: Dialect,
    tracking: Option<&str>,
    token: Option<String>,
) -> Result<Result<Entrant, Turned>, Refusal> {
    let open = match dialect {
        Dialect::Tracking => true,
        Dialect::OrdersTrack => app.config.legacy_open,
        Dialect::Ws | Dialect::Realtime | Dialect::Notices => false,
    };
    let principal = match token {
        None if open => Principal::anonymous(),
        None => {
            app.metrics.rejected("unauthorized");
            return Ok(Err(Turned::away("Token required")));
        }
        Some(token) => match app.auth.verify(&token).await {
            Ok(principal) => principal,
            Err(refusal @ (Refusal::Unavailable | Refusal::Internal(_))) => return Err(refusal),
            Err(refusal) => {
                app.metrics.rejected(refusal.code());
                return Ok(Err(Turned::away("Invalid token")));
            }
        },
    };
    let watched = match tracking {
        None => None,
        Some(id) => match tracking::find(app, id).await {
            Ok((session, order)) => {
                let ends_at = session.end(app, &order).await?;
                Some((Arc::new(session), ends_at))
            }
            Err(Refusal::NotFound(_)) => return Ok(Err(Turned::away("Tracking not found"))),
            Err(Refusal::Gone(_)) => {
                let words = dialect.last_words(CloseReason::Expired);
                return Ok(Err(Turned { words, ..Turned::away("Session expired") }));
            }
            Err(refusal) => return Err(refusal),
        },
    };
    let beginning = Beginning::at(Place::after(app.relay.position()), watched);
    Ok(Ok(Entrant { principal, beginning }))
}

/// Serves one socket to its end.
async fn serve(site: &Site, dialect: Dialect, entrant: Entrant, stream: Rewound, lane: Arc<Lane>) {
    let limits = &site.app.config.limits;
    let Entrant { principal, beginning } = entrant;
    let watched = beginning.watched.as_ref().map(|(watched, _)| Arc::clone(watched));
    let wire = Wire::Raw(Raw { lane: Arc::clone(&lane), dialect, watched: watched.clone() });
    let session = Session::new(site.fanout.clone(), principal, dialect, wire, beginning);
    lane.attach(&session);
    let now = site.app.clock.now();
    session.enter(|place| dialect.greeting("", &session, place, now), None);
    // However this ends, its rooms are left.
    let entered = Entered(Arc::clone(&session));
    let inbox = Inbox::new(Arc::clone(&session));
    if let Some(watched) = watched {
        let command = Ok(Command::Subscribe { order: watched.order.clone(), since: None });
        inbox.request(Asked { event: "subscribe:order", command }, ANSWERED);
    }
    let mut socket = speak(stream, READ_BUFFER, limits.max_message_bytes).await;
    let reason = hear(&mut socket, &inbox, &lane, Heartbeat::new(limits)).await;
    drop(entered);
    if !session.is_closing() {
        site.fanout.metrics().closed(reason.name);
    }
    if let Some(close) = reason.close {
        lane.finish(close);
        listen_out(socket.into_inner()).await;
    }
}

/// The server's end of a WebSocket whose handshake is done; with a buffer to read to, and messages of at most so many bytes.
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

/// Takes the session out of its rooms.
struct Entered(Arc<Session>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// How a socket ended.
pub(super) struct Ending {
    /// Why, as it is counted.
    pub name: &'static str,
    /// What it is still to be told.
    pub close: Option<Bytes>,
}

impl Ending {
    /// There is nobody to be told anything.
    pub fn silent(name: &'static str) -> Self {
        Self { name, close: None }
    }

    fn told(name: &'static str, code: u16, reason: &str) -> Self {
        Self { name, close: Some(websocket::close(code, reason)) }
    }

    /// The client says what it must not.
    pub fn protocol() -> Self {
        Self::told("protocol_error", 1002, "Protocol error")
    }

    /// By what reading ended with.
    pub fn of(error: Option<Error>) -> Self {
        match error {
            Some(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                Self::told("too_large", 1009, "Message too large")
            }
            Some(Error::Utf8(_)) => Self::told("protocol_error", 1007, "Not UTF-8"),
            // Nothing is unusual in that: apps are killed.
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

/// When a socket is asked whether it is there, and when it is not.
struct Heartbeat {
    interval: Duration,
    patience: Duration,
}

impl Heartbeat {
    const fn new(limits: &crate::config::Limits) -> Self {
        Self {
            interval: Duration::from_millis(limits.ping_interval_ms),
            patience: Duration::from_millis(limits.ping_interval_ms.saturating_add(limits.ping_timeout_ms)),
        }
    }
}

/// Hears what a client says, until it has left or says what it must not.
async fn hear(
    socket: &mut WebSocketStream<Rewound>,
    inbox: &Arc<Inbox>,
    lane: &Arc<Lane>,
    beat: Heartbeat,
) -> Ending {
    let mut heard = Instant::now();
    let mut next = heard + beat.interval;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = tokio::time::sleep_until(next) => {
                let now = Instant::now();
                if now >= heard + beat.patience {
                    return Ending::silent("heartbeat_timeout");
                }
                if lane.push(websocket::PING, Urgency::Live) == Handed::Gone {
                    return Ending::silent("transport_close");
                }
                next = (now + beat.interval).min(heard + beat.patience);
                continue;
            }
        };
        heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => inbox.text(&text, ANSWERED),
            Some(Ok(Message::Binary(bytes))) => inbox.binary(bytes.len(), ANSWERED),
            // Pings are answered as they are read.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Ending::of(Some(error)),
            None => return Ending::of(None),
        }
    }
}

/// Lets a client read the last it was told: closing with something of its unread would take that back.
pub(super) async fn listen_out(mut stream: impl AsyncRead + Unpin) {
    let mut nothing = [0; 512];
    let listen = async { while stream.read(&mut nothing).await.is_ok_and(|count| count > 0) {} };
    let _ = tokio::time::timeout(LAST_WORDS, listen).await;
}
