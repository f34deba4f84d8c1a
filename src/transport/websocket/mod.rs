//! Raw WebSockets: one way in and one loop for every dialect that speaks on them. Tungstenite reads, sessions write.

mod wire;

pub use wire::Raw;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Message as WsMessage;

use crate::app::App;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::dialect::close::CloseReason;
use crate::dialect::message::Message;
use crate::dialect::place::Place;
use crate::dialect::{Dialect, Request as Asked};
use crate::model::{Command, Principal};
use crate::session::beginning::Beginning;
use crate::session::inbox::Inbox;
use crate::session::session::Session;
use crate::session::wire::{Handed, Urgency, Wire};
use crate::transport::conn::{self, Lane, websocket};
use crate::transport::problem;
use crate::transport::site::Site;
use crate::transport::token::token_of;
use crate::transport::upgrade::{Ending, Rewound, listen_out, refuse_foreign, speak, switching, upgraded};

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

/// Who comes in, and where they begin.
struct Entrant {
    principal: Principal,
    beginning: Beginning,
}

/// Why somebody does not come in: what is said, and the close frame.
struct Turned {
    words: Option<Message>,
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
        let Some(stream) = upgraded(upgrade).await else { return };
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
            Err(refusal @ (Refusal::Unavailable | Refusal::Conflict(_) | Refusal::Internal(_))) => {
                return Err(refusal);
            }
            Err(refusal) => {
                app.metrics.rejected(refusal.code());
                return Ok(Err(Turned::away("Invalid token")));
            }
        },
    };
    let watched = match tracking {
        None => None,
        Some(id) => match app.tracking.find(id).await {
            Ok((session, order)) => {
                let ends_at = app.tracking.end(&session, &order).await?;
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
    let beginning = Beginning::at(Place::after(app.events.position()), watched);
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
    session.enter(|place| session.greeting("", place), None);
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

/// Takes the session out of its rooms.
struct Entered(Arc<Session>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// When a socket is asked whether it is there, and when it is not.
struct Heartbeat {
    interval: Duration,
    patience: Duration,
}

impl Heartbeat {
    const fn new(limits: &crate::base::config::Limits) -> Self {
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
    let mut heard = instant();
    let mut next = heard + beat.interval;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = tokio::time::sleep_until(next) => {
                let now = instant();
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
        heard = instant();
        match message {
            Some(Ok(WsMessage::Text(text))) => inbox.text(&text, ANSWERED),
            Some(Ok(WsMessage::Binary(bytes))) => inbox.binary(bytes.len(), ANSWERED),
            // Pings are answered as they are read.
            Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Close(_) | WsMessage::Frame(_))) => {
            }
            Some(Err(error)) => return Ending::of(Some(error)),
            None => return Ending::of(None),
        }
    }
}
