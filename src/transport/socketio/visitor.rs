//! A Socket.IO client at the door, with what it brings: its token, and where it was.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use socketioxide::ProtocolVersion;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{FromConnectParts, Value};
use socketioxide::socket::Socket;

use super::front::Handshake;
use crate::error::Refusal;
use crate::id::Whole;
use crate::recovery::Claim;
use crate::transport::{conn, http};

/// A socket at the door, with what it brings.
pub(super) struct Visitor {
    pub(super) socket: Arc<Socket<LocalAdapter>>,
    auth: Option<String>,
}

impl FromConnectParts<LocalAdapter> for Visitor {
    type Error = std::convert::Infallible;

    fn from_connect_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        auth: &Option<Value>,
    ) -> Result<Self, Self::Error> {
        let auth = match auth {
            Some(Value::Str(json, _)) => Some(json.to_string()),
            Some(Value::Bytes(_)) | None => None,
        };
        Ok(Self { socket: Arc::clone(socket), auth })
    }
}

/// The auth payload. What else is in it, and of what type, is nobody's concern.
#[derive(Default, Deserialize)]
struct AuthPayload<'a> {
    token: Option<String>,
    #[serde(borrow)]
    pid: Option<&'a RawValue>,
    #[serde(borrow)]
    offset: Option<&'a RawValue>,
    #[serde(borrow)]
    position: Option<&'a RawValue>,
}

impl Visitor {
    pub(super) fn is_eio3(&self) -> bool {
        self.socket.protocol() == ProtocolVersion::V4
    }

    /// What version 2, which has no auth payload, said in its query: see [`incoming`].
    fn query(&self) -> Option<&str> {
        self.auth.as_deref().filter(|_| self.is_eio3()).map(|query| query.trim_end_matches(','))
    }

    fn payload(&self) -> AuthPayload<'_> {
        self.auth.as_deref().and_then(|auth| serde_json::from_str(auth).ok()).unwrap_or_default()
    }

    /// The token, from `auth.token` (version 2: the query it joins with), the `Authorization` header or the `token`
    /// query parameter, in this order.
    pub(super) fn token(&self) -> Option<String> {
        self.payload()
            .token
            .or_else(|| self.query().and_then(http::token_in))
            .or_else(|| http::token_of(self.socket.req_parts()))
    }

    /// Where it says that it was.
    pub(super) fn claim(&self) -> Result<Claim, Refusal> {
        let payload = self.payload();
        // Of another type than it has to be: then it is not one that we gave out.
        let text = |raw: Option<&RawValue>| {
            raw.map(|raw| serde_json::from_str::<String>(raw.get()).unwrap_or_default())
        };
        let position = match payload.position {
            Some(raw) => {
                Some(serde_json::from_str::<Whole>(raw.get()).map_or(-1, |Whole(position)| position))
            }
            None => self.query().and_then(position_in),
        };
        if position.is_some_and(i64::is_negative) {
            return Err(Refusal::invalid("position", "must be a whole number, 0 or more"));
        }
        Ok(Claim { pid: text(payload.pid), offset: text(payload.offset), position })
    }

    pub(super) fn connection(&self) -> Option<conn::Handle> {
        self.socket.req_parts().extensions.get::<conn::Handle>().cloned()
    }

    pub(super) fn handshake(&self) -> Option<&Arc<Handshake>> {
        self.socket.req_parts().extensions.get::<Arc<Handshake>>()
    }

    pub(super) fn shaken_hands(&self) {
        if let Some(handshake) = self.handshake() {
            handshake.is_over();
        }
    }

    /// Ends the session in the default namespace of a client that came there only because its protocol says so.
    pub(super) fn leave_default_namespace(&self) {
        if let Some(session) = self.handshake().and_then(|handshake| handshake.first.take()) {
            session.leave();
        }
    }
}

/// The position in a query, -1 if it is not a number.
fn position_in(query: &str) -> Option<i64> {
    let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "position")?;
    Some(value.parse().unwrap_or(-1))
}
