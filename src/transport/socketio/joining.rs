//! A client that wants to come in, and what it brings: its token, and where its session was.

use std::sync::{Arc, Weak};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{FromConnectParts, Value};
use socketioxide::socket::Socket;
use socketioxide::{ProtocolVersion, TransportType};

use super::handshake::{Caller, Handshake};
use crate::base::clock::Clock;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::model::WholeNumber;
use crate::session::resume::Claim;
use crate::session::session::Session;
use crate::transport::conn;
use crate::transport::token::token_in;

/// Random bytes of a socket id. socketioxide's ids have as many.
pub(super) const SID: usize = 12;

/// A client that wants to come into a namespace.
pub(super) struct JoiningClient {
    /// The socket id that the client knows.
    pub(super) sid: String,
    pub(super) is_eio3: bool,
    pub(super) polls: bool,
    pub(super) connection: Option<conn::Handle>,
    pub(super) handshake: Option<Arc<Handshake>>,
    /// Whose token came with its first request.
    pub(super) caller: Caller,
    /// The auth payload of its CONNECT: JSON.
    pub(super) auth: Option<String>,
    /// The socket of socketioxide, if it has one.
    pub(super) socket: Weak<Socket<LocalAdapter>>,
}

impl FromConnectParts<LocalAdapter> for JoiningClient {
    type Error = std::convert::Infallible;

    fn from_connect_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        auth: &Option<Value>,
    ) -> Result<Self, Self::Error> {
        let came_with = socket.req_parts();
        let handshake = came_with.extensions.get::<Arc<Handshake>>().cloned();
        Ok(Self {
            sid: socket.id.to_string(),
            is_eio3: socket.protocol() == ProtocolVersion::V4,
            polls: socket.transport_type() == TransportType::Polling,
            connection: came_with.extensions.get().cloned(),
            caller: handshake.as_ref().map_or(Caller::Nobody, |handshake| handshake.caller.clone()),
            handshake,
            auth: auth.as_ref().and_then(json_of),
            socket: Arc::downgrade(socket),
        })
    }
}

/// The JSON of an auth payload.
pub(super) fn json_of(auth: &Value) -> Option<String> {
    match auth {
        Value::Str(json, _) => Some(json.to_string()),
        Value::Bytes(_) => None,
    }
}

/// The auth payload. Other members are ignored, whatever their type.
#[derive(Default, Deserialize)]
struct AuthPayload<'a> {
    token: Option<String>,
    #[serde(borrow)]
    share: Option<&'a RawValue>,
    #[serde(borrow)]
    pid: Option<&'a RawValue>,
    #[serde(borrow)]
    offset: Option<&'a RawValue>,
    #[serde(borrow)]
    position: Option<&'a RawValue>,
    #[serde(borrow)]
    recovery: Option<&'a RawValue>,
}

impl JoiningClient {
    /// A client on a WebSocket of ours. `auth` is from its CONNECT, and the rest from its first request.
    pub(super) fn on_websocket(
        clock: &Clock,
        auth: Option<String>,
        caller: Caller,
        handshake: Option<Arc<Handshake>>,
        connection: conn::Handle,
    ) -> Self {
        Self {
            sid: URL_SAFE_NO_PAD.encode(clock.random::<SID>()),
            is_eio3: false,
            polls: false,
            connection: Some(connection),
            handshake,
            caller,
            auth,
            socket: Weak::new(),
        }
    }

    /// The query of a version 2 client, which has no auth payload: see [`super::query`].
    fn query(&self) -> Option<&str> {
        self.auth.as_deref().filter(|_| self.is_eio3).map(|query| query.trim_end_matches(','))
    }

    fn payload(&self) -> AuthPayload<'_> {
        self.auth.as_deref().and_then(|auth| serde_json::from_str(auth).ok()).unwrap_or_default()
    }

    /// The token that it joins with: `auth.token`, or version 2: of the query. It goes before that of the first request.
    pub(super) fn token(&self) -> Option<String> {
        self.payload().token.or_else(|| self.query().and_then(token_in))
    }

    /// The token of a link that it joins with.
    pub(super) fn share(&self) -> Option<String> {
        self.payload().share.map(|raw| serde_json::from_str(raw.get()).unwrap_or_default())
    }

    /// Where its session was, as the client says.
    pub(super) fn claim(&self) -> Result<Claim, Refusal> {
        let payload = self.payload();
        // A value of another type was not given out by us. An empty string is refused as such.
        let text = |raw: Option<&RawValue>| {
            raw.map(|raw| serde_json::from_str::<String>(raw.get()).unwrap_or_default())
        };
        let position = match payload.position {
            Some(raw) => Some(position_of(raw)),
            None => self.query().and_then(position_in),
        };
        if position.is_some_and(i64::is_negative) {
            return Err(Refusal::invalid("position", "must be a whole number, 0 or more"));
        }
        Ok(Claim { pid: text(payload.pid), offset: text(payload.offset), position })
    }

    /// Whether durable events carry their offset as one more last argument. Clients that do not speak connection state
    /// recovery hand it to the app's handler, and handlers with one parameter fail on it in some languages. In `/realtime`
    /// every client is told to expect it. In the default namespace only clients that have shown that they recover get it.
    pub(super) fn gets_offsets(&self, dialect: Dialect, claim: &Claim) -> bool {
        let recovers = || {
            claim.pid.is_some() || self.payload().recovery.is_some_and(|recovery| recovery.get() == "true")
        };
        !self.is_eio3 && claim.position.is_none() && (dialect == Dialect::Realtime || recovers())
    }

    /// The client has this session now, so its handshake is over.
    pub(super) fn joins(&self, session: &Arc<Session>) {
        if let Some(handshake) = &self.handshake {
            handshake.joined(session);
        }
    }

    /// Ends the session in the default namespace of a client that was there only because its protocol requires it.
    pub(super) fn leave_default_namespace(&self) {
        if let Some(handshake) = &self.handshake {
            handshake.default_namespace.left();
        }
    }
}

/// The position in `auth`: a number, or its digits, because some clients can put nothing but texts there. -1 if it is neither.
fn position_of(raw: &RawValue) -> i64 {
    let number = serde_json::from_str::<WholeNumber>(raw.get()).map(|WholeNumber(position)| position);
    number.unwrap_or_else(|_| serde_json::from_str::<String>(raw.get()).map_or(-1, |text| digits(&text)))
}

fn digits(text: &str) -> i64 {
    text.parse().unwrap_or(-1)
}

/// The position in a query; -1 if it is not a number.
fn position_in(query: &str) -> Option<i64> {
    let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "position")?;
    Some(digits(&value))
}
