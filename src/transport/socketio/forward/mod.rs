//! Requests for a session of another node go there. So clients may poll any node, and a proxy needs no sticky sessions.
//!
//! Nothing is believed but the signature: see [`signature`]. A request is forwarded once only.

mod received;
mod signature;
mod tunnel;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::util::{BoxCloneSyncService, service_fn};

use self::signature::{FORWARDED, Forwarded, KNOWN, REFUSED};
use self::tunnel::Tunnel;
use super::engine_query::{EngineError, EngineQuery};
use super::front::gone;
use super::{PATH, sid};
use crate::app::App;
use crate::base::clock::instant;
use crate::transport::http::admission;
use crate::transport::limits::{Forwarding, Gate};
use crate::transport::{body, conn, problem, upgrade};

/// How long a connection to another node may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Idle connections to one node.
const IDLE: usize = 256;
/// How long they are kept. The other node ends them after 10 s.
const KEPT: Duration = Duration::from_secs(5);
/// A node knows of a new one after one beat of two seconds. A request may come before that.
const ROSTER: Duration = Duration::from_millis(2_500);
const LOOK: Duration = Duration::from_millis(50);
/// What another node may take beside the heartbeats, which an answer may wait for.
const MARGIN: Duration = Duration::from_secs(5);
/// Of a client's headers the other node needs these. The token was read when the session began, and stays here.
const SENT: [HeaderName; 3] = [header::HOST, header::ORIGIN, header::CONTENT_TYPE];
const SENT_TO_UPGRADE: [HeaderName; 4] =
    [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION];
/// Of an answer these are about the connection between the nodes.
const OF_CONNECTION: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::DATE, FORWARDED];

type Connector = BoxCloneSyncService<Uri, TokioIo<TcpStream>, std::io::Error>;

/// The other nodes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Nodes(Arc<Parts>);

struct Parts {
    app: App,
    gate: Arc<Gate>,
    pool: Client<Connector, Body>,
    /// Makes a connection for each WebSocket. On the other node it counts as the client's own.
    single: Client<Connector, Body>,
    stop: CancellationToken,
}

impl Nodes {
    /// `stop` is cancelled when this node begins to stop.
    pub fn new(app: &App, gate: &Arc<Gate>, stop: CancellationToken) -> Self {
        let client = |idle| {
            let connector: Connector = BoxCloneSyncService::new(service_fn(connect));
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEPT)
                .pool_max_idle_per_host(idle)
                .build(connector)
        };
        let (app, gate) = (app.clone(), Arc::clone(gate));
        Self(Arc::new(Parts { app, gate, pool: client(IDLE), single: client(0), stop }))
    }

    /// The id that a client gets for a session of this node.
    pub fn id(&self, sid: &str) -> String {
        sid::with_node(sid, self.0.app.cluster.number())
    }

    /// The id of a session within this node, or the other node that has it.
    pub fn whose(&self, id: &str) -> Option<Result<String, u16>> {
        let (sid, node) = sid::split(id)?;
        Some(if node == self.0.app.cluster.number() { Ok(sid.to_owned()) } else { Err(node) })
    }

    /// Has another node answer a request. The body of the answer is passed on as it comes.
    pub async fn forward(&self, request: Request, query: &EngineQuery, node: u16) -> Response {
        let Parts { app, gate, .. } = &*self.0;
        let (mut parts, body) = request.into_parts();
        let Some(client) = admission::address_of(gate, &parts) else { return gone() };
        let permit = match gate.forward(client) {
            Ok(permit) => permit,
            Err(refusal) => {
                app.metrics.forwarded("refused");
                return body::ends(problem::respond(&refusal));
            }
        };
        let Some(address) = self.address(node).await else {
            app.metrics.forwarded("unknown");
            return body::ends(EngineError::UnknownSid.answer());
        };
        let switching = query.websocket.then(|| upgrade::switching(&parts.headers)).flatten();
        let upgrades = switching.is_some();
        let target = format!("{PATH}?{}", query.rewritten());
        let by = Forwarded { node: app.cluster.number(), at: app.clock.now().timestamp_millis(), client };
        let Some(signed) = by.sign(app.cluster.key(), &parts.method, &target) else { return gone() };
        let Ok(uri) = format!("http://{address}{target}").parse::<Uri>() else { return gone() };
        let mut request = Request::new(if upgrades { Body::empty() } else { body });
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers(&parts.headers, upgrades, signed);
        let sent = if upgrades { &self.0.single } else { &self.0.pool }.request(request);
        let limits = &app.config.limits;
        let heartbeats = limits.ping_interval_ms.saturating_add(limits.ping_timeout_ms);
        let patience = Duration::from_millis(heartbeats).saturating_add(MARGIN);
        let ends_at = instant() + patience;
        let mut answer = match timeout(patience, sent).await {
            Ok(Ok(answer)) if answer.headers().get(FORWARDED) == Some(&REFUSED) => {
                tracing::warn!(
                    node,
                    "another node does not accept forwarded requests; are the keys or clocks apart?"
                );
                app.metrics.forwarded("refused");
                return body::ends(gone());
            }
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return self.unreachable(node, &error),
            Err(error) => return self.unreachable(node, &error),
        };
        app.metrics.forwarded("ok");
        let connection = parts.extensions.get::<conn::Handle>().cloned();
        if let Some(connection) =
            connection.as_ref().filter(|_| answer.headers().get(FORWARDED) == Some(&KNOWN))
        {
            connection.authenticated();
        }
        match (switching, connection) {
            (Some(switching), Some(connection)) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let stall = Duration::from_millis(limits.write_stall_ms.into());
                let (stop, delay) = (self.0.stop.clone(), self.delay());
                let tunnel = Tunnel { connection, silence: patience, stall, stop, delay };
                let node = hyper::upgrade::on(&mut answer);
                if let Some(client) = parts.extensions.remove::<hyper::upgrade::OnUpgrade>() {
                    tokio::spawn(tunnel.run(client, node));
                }
                switching
            }
            _ => passed_on(answer, permit, ends_at),
        }
    }

    fn unreachable(&self, node: u16, error: &impl std::fmt::Display) -> Response {
        tracing::debug!(node, %error, "a request could not be forwarded");
        self.0.app.metrics.forwarded("unreachable");
        body::ends(gone())
    }

    /// Where a node takes requests, once this one knows it.
    async fn address(&self, node: u16) -> Option<String> {
        let until = instant() + ROSTER;
        loop {
            if let Some(known) = self.0.app.cluster.node(node) {
                return known.address;
            }
            if instant() >= until {
                return None;
            }
            sleep(LOOK).await;
        }
    }

    /// How long a tunnel lasts after this node begins to stop. Their clients are not to come back all at once.
    fn delay(&self) -> Duration {
        let config = &self.0.app.config;
        let drain = Duration::from_millis(config.limits.drain_ms).mul_f64(self.0.app.clock.fraction());
        Duration::from_millis(config.cluster.drain_delay_ms).saturating_add(drain)
    }
}

/// Connects to `host:port`.
async fn connect(uri: Uri) -> std::io::Result<TokioIo<TcpStream>> {
    let address = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let stream = timeout(CONNECT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

fn headers(of_client: &HeaderMap, upgrades: bool, signed: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let of_upgrade = if upgrades { &SENT_TO_UPGRADE[..] } else { &[] };
    for name in SENT.iter().chain(of_upgrade) {
        if let Some(value) = of_client.get(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(FORWARDED, signed);
    headers
}

fn passed_on(answer: Response<Incoming>, permit: Forwarding, ends_at: tokio::time::Instant) -> Response {
    let (mut parts, incoming) = answer.into_parts();
    // The other node has not read the whole body of the request, so nobody is to wait for it here.
    let ends = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
    for name in OF_CONNECTION {
        parts.headers.remove(name);
    }
    parts.extensions = http::Extensions::new();
    let late = Box::pin(tokio::time::sleep_until(ends_at));
    let response = Response::from_parts(parts, Body::new(Answer { incoming, late, _permit: permit }));
    if ends { body::ends(response) } else { response }
}

/// The body of another node's answer. It fails if it takes too long.
struct Answer {
    incoming: Incoming,
    late: Pin<Box<Sleep>>,
    _permit: Forwarding,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Pending if this.late.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Some(Err("the other node is too slow".into())))
            }
            answer => answer.map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
