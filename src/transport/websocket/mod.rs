//! Raw WebSockets: one handshake and one read loop for every dialect that uses them. Tungstenite reads, and sessions write.

mod admit;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Message as WsMessage;

use self::admit::{Admitted, Refused, admit};
use self::wire::Raw;
use crate::base::address::ClientAddress;
use crate::base::clock::instant;
use crate::base::config::Limits;
use crate::base::error::Refusal;
use crate::dialect::names::RealtimeRequest;
use crate::dialect::{self, Dialect};
use crate::model::Command;
use crate::session::inbox::Inbox;
use crate::session::session::Session;
use crate::session::wire::{AckNumber, Handed, Urgency};
use crate::transport::conn::{self, ConnectionWriter, websocket};
use crate::transport::problem;
use crate::transport::site::Site;
use crate::transport::token::token_of;
use crate::transport::upgrade::{Ending, Rewound, read_to_end, refuse_foreign, speak, switching, upgraded};

/// The read buffer of a WebSocket. Messages of clients are small.
const READ_BUFFER: usize = 2_048;
/// A message that is up to so many times too long gets an answer. A longer one ends the connection.
const READ_AND_REFUSED: usize = 4;
/// Every request gets an answer here. The number of the ack has no meaning.
const ANSWERED: Option<AckNumber> = Some(0);

/// The paths of raw WebSockets.
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
    let (parts, _) = request.into_parts();
    let Some((peer, writer)) =
        parts.extensions.get().and_then(|handle: &conn::Handle| Some((handle.peer, handle.writer()?)))
    else {
        return problem::respond(&Refusal::Unavailable);
    };
    if let Some(client) = parts.extensions.get::<ClientAddress>() {
        match site.connections.gate().proxied_websocket(peer, *client).await {
            Ok(permit) => writer.counts_for_client(permit),
            Err(refusal) => return problem::respond(&refusal),
        }
    }
    let decision = match admit(app, dialect, tracking.as_deref(), token_of(&parts)).await {
        Ok(decision) => decision,
        Err(refusal) => return problem::respond(&refusal),
    };
    if decision.is_ok() {
        // Also without a token, where that is allowed: the client may stay.
        writer.authenticated();
    }
    writer.becomes_websocket();
    let site = site.clone();
    tokio::spawn(async move {
        let Some(stream) = upgraded(upgrade).await else { return };
        match decision {
            Ok(admitted) => serve(&site, dialect, admitted, stream, writer).await,
            Err(Refused { message, close }) => {
                if let Some(message) = message {
                    let _ = writer.push(websocket::text(&[message.json.get().as_bytes()]), Urgency::Reply);
                }
                writer.finish(close);
                read_to_end(stream).await;
            }
        }
    });
    response
}

/// Serves one WebSocket until it ends.
async fn serve(
    site: &Site,
    dialect: Dialect,
    admitted: Admitted,
    stream: Rewound,
    writer: Arc<ConnectionWriter>,
) {
    let limits = &site.app.config.limits;
    let Admitted { principal, beginning } = admitted;
    let watched = beginning.watched.as_ref().map(|(watched, _)| Arc::clone(watched));
    let wire = Box::new(Raw { writer: Arc::clone(&writer), dialect, watched: watched.clone() });
    let session = Session::new(site.sessions.clone(), principal, dialect, wire, beginning);
    writer.attach(&session);
    session.enter(|place| session.greeting("", place), None);
    // The rooms are left also when this task panics or is dropped.
    let entered = Entered(Arc::clone(&session));
    let inbox = Inbox::new(Arc::clone(&session));
    if let Some(watched) = watched {
        let command = Ok(Command::Subscribe { order: watched.order.clone(), since: None });
        inbox.request(dialect::Request { event: RealtimeRequest::Subscribe.as_str(), command }, ANSWERED);
    }
    // A message that is too long is read as long as that costs little, so that it can be answered and the socket stays.
    let longest = limits.max_message_bytes.saturating_mul(READ_AND_REFUSED);
    let mut socket = speak(stream, READ_BUFFER, longest).await;
    let reason = hear(&mut socket, &inbox, &writer, Heartbeat::new(limits)).await;
    if reason.is_too_large() {
        inbox.too_large("", usize::MAX, ANSWERED);
    }
    drop(entered);
    if !session.is_closing() {
        site.sessions.metrics().closed(reason.name);
    }
    if let Some(close) = reason.close {
        writer.finish(close);
        read_to_end(socket.into_inner()).await;
    }
}

/// Takes the session out of its rooms when it is dropped.
struct Entered(Arc<Session>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

struct Heartbeat {
    /// The time between two pings.
    interval: Duration,
    /// A client that was not heard for this long is gone.
    patience: Duration,
}

impl Heartbeat {
    const fn new(limits: &Limits) -> Self {
        Self {
            interval: Duration::from_millis(limits.ping_interval_ms),
            patience: Duration::from_millis(limits.ping_interval_ms.saturating_add(limits.ping_timeout_ms)),
        }
    }
}

/// Reads until the client leaves or breaks the protocol.
async fn hear(
    socket: &mut WebSocketStream<Rewound>,
    inbox: &Arc<Inbox>,
    writer: &Arc<ConnectionWriter>,
    beat: Heartbeat,
) -> Ending {
    let mut heard = instant();
    let mut next = heard + beat.interval;
    loop {
        let message = tokio::select! {
            message = async {
                // Requests that come too fast wait at the client.
                if inbox.is_held() {
                    inbox.until_ready().await;
                }
                socket.next().await
            } => message,
            () = tokio::time::sleep_until(next) => {
                let now = instant();
                if now >= heard + beat.patience {
                    return Ending::silent("heartbeat_timeout");
                }
                if writer.beat_behind(websocket::PING) == Handed::Gone {
                    return Ending::silent("transport_close");
                }
                next = (now + beat.interval).min(heard + beat.patience);
                continue;
            }
        };
        heard = instant();
        match message {
            Some(Ok(WsMessage::Text(text))) => inbox.text(&text, ANSWERED),
            Some(Ok(WsMessage::Binary(bytes))) => inbox.binary(bytes.len(), ANSWERED),
            Some(Ok(WsMessage::Pong(_))) => {
                if writer.answered() {
                    inbox.session().proved();
                }
            }
            // Tungstenite answers pings.
            Some(Ok(WsMessage::Ping(_) | WsMessage::Close(_) | WsMessage::Frame(_))) => {}
            Some(Err(error)) => return Ending::of(Some(error)),
            None => return Ending::of(None),
        }
    }
}
