//! The query of an Engine.IO request, and what is wrong with it, as Engine.IO's own server has it.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use form_urlencoded::parse;
use http::{HeaderValue, Method, StatusCode, header};

/// The errors of Engine.IO's own server, with its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineError {
    UnknownTransport = 0,
    UnknownSid = 1,
    BadHandshakeMethod = 2,
    BadRequest = 3,
    UnsupportedVersion = 5,
}

impl EngineError {
    /// The answer. Clients show it to the app, which may look at the code.
    pub(super) fn answer(self) -> Response {
        let message = match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSid => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::UnsupportedVersion => "Unsupported protocol version",
        };
        let mut response =
            Response::new(Body::from(format!(r#"{{"code":{},"message":"{message}"}}"#, self as u8)));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// The query of a request. Of a name that stands there twice, the last value counts.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one request")]
pub(super) struct EngineQuery {
    /// Everything that is not `EIO=4` is version 3: old clients do not say their version.
    pub(super) eio3: bool,
    /// It says 3 or 4.
    pub(super) says_version: bool,
    pub(super) sid: Option<String>,
    pub(super) websocket: bool,
    /// An Engine.IO 3 client that cannot take binary bodies.
    base64: bool,
}

impl EngineQuery {
    pub(super) fn read(method: &Method, query: &str) -> Result<Self, EngineError> {
        let mut read = Self { eio3: true, says_version: false, sid: None, websocket: false, base64: false };
        let mut transport = Cow::Borrowed("");
        for (name, value) in parse(query.as_bytes()) {
            match &*name {
                "EIO" => {
                    read.eio3 = value != "4";
                    read.says_version = !read.eio3 || value == "3";
                }
                "sid" => read.sid = Some(value.into_owned()),
                "transport" => transport = value,
                "b64" => read.base64 = !value.is_empty(),
                _ => {}
            }
        }
        read.websocket = transport == "websocket";
        if !read.websocket && transport != "polling" {
            return Err(EngineError::UnknownTransport);
        }
        match &read.sid {
            None if *method != Method::GET => Err(EngineError::BadHandshakeMethod),
            // A client that sends an empty id has lost it. A new session would be one that nobody ends.
            Some(sid) if sid.is_empty() => Err(EngineError::UnknownSid),
            _ => Ok(read),
        }
    }

    /// The query as socketioxide has to see it, which does not decode and knows two versions. Nothing else is kept: there
    /// may be a token.
    pub(super) fn rewritten(&self) -> String {
        let version = if self.eio3 { 3 } else { 4 };
        let transport = if self.websocket { "websocket" } else { "polling" };
        let mut query = format!("EIO={version}&transport={transport}");
        if let Some(sid) = &self.sid {
            query.extend(["&sid=", sid]);
        }
        if self.base64 {
            query.push_str("&b64=1");
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::text;

    #[test]
    fn queries() {
        for (query, rewritten) in [
            ("EIO=4&transport=polling&t=x&token=a.b.c", "EIO=4&transport=polling"),
            ("EIO=4&transport=websocket&sid=a", "EIO=4&transport=websocket&sid=a"),
            ("transport=polling&b64=1", "EIO=3&transport=polling&b64=1"),
            ("EIO=&transport=polling", "EIO=3&transport=polling"),
            ("EIO=5&transport=polling", "EIO=3&transport=polling"),
            ("EIO=4&EIO=3&transport=polling", "EIO=3&transport=polling"),
            ("EIO=%34&transport=poll%69ng", "EIO=4&transport=polling"),
            ("EIO=4&transport=polling&sid=b&sid=a", "EIO=4&transport=polling&sid=a"),
        ] {
            let Ok(read) = EngineQuery::read(&Method::GET, query) else { panic!("{query}") };
            assert_eq!(read.rewritten(), rewritten);
        }
        for (method, query, error) in [
            (Method::GET, "EIO=4", EngineError::UnknownTransport),
            (Method::GET, "", EngineError::UnknownTransport),
            (Method::GET, "EIO=4&transport=Polling", EngineError::UnknownTransport),
            (Method::POST, "EIO=4&transport=polling", EngineError::BadHandshakeMethod),
            (Method::GET, "EIO=4&transport=polling&sid=", EngineError::UnknownSid),
        ] {
            assert_eq!(EngineQuery::read(&method, query).err(), Some(error), "{method} {query}");
        }
    }

    const VALUES: &str = include_str!("../../../tests/it/corpus/values.txt");

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// socketioxide, which takes the first value of a name as it stands, reads in the rewritten query what is read here.
        #[test]
        fn fuzz_queries_are_rewritten_or_refused(query in text(VALUES)) {
            let Ok(read) = EngineQuery::read(&Method::GET, &query) else { return Ok(()) };
            let rewritten = read.rewritten();
            let first = |name: &str| {
                rewritten.split('&').filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name)
            };
            prop_assert_eq!(first("EIO"), Some(("EIO", if read.eio3 { "3" } else { "4" })));
            prop_assert_eq!(first("transport").map(|(_, value)| value == "websocket"), Some(read.websocket));
        }
    }
}
