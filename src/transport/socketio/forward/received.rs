//! Requests that another node forwards, on a listener of their own.

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::header;

use super::signature::{FORWARDED, Forwarded, KNOWN, REFUSED};
use crate::base::error::Refusal;
use crate::transport::socketio::PATH;
use crate::transport::socketio::engine_query::EngineError;
use crate::transport::socketio::front::{Front, Way};
use crate::transport::{conn, problem};

impl Front {
    /// What the listener for other nodes serves.
    pub fn for_nodes(self) -> Router {
        Router::new().fallback(move |request: Request| self.clone().received(request))
    }

    async fn received(self, mut request: Request) -> Response {
        if request.uri().path() != PATH {
            return problem::respond(&Refusal::NotFound("page"));
        }
        let Some(app) = self.app() else { return EngineError::UnknownSid.answer() };
        let target = request.uri().path_and_query().map_or(PATH, http::uri::PathAndQuery::as_str);
        let now = app.clock.now().timestamp_millis();
        let headers = request.headers();
        let Some(forwarded) = Forwarded::verified(app.cluster.key(), request.method(), target, headers, now)
        else {
            app.metrics.rejected("not_forwarded");
            let refusal = Refusal::Forbidden("only other nodes may send requests here".to_owned());
            let mut response = problem::respond(&refusal);
            response.headers_mut().insert(FORWARDED, REFUSED);
            return response;
        };
        if !headers.contains_key(header::UPGRADE)
            && let Some(connection) = request.extensions().get::<conn::Handle>()
        {
            // The connection is the other node's. A WebSocket is the client's.
            connection.authenticated();
        }
        request.extensions_mut().insert(forwarded.client);
        let query = match self.way(&request) {
            Way::Here(query) => query,
            Way::Answer(answer) => return answer,
            // It is never forwarded again.
            Way::Node(..) => return EngineError::UnknownSid.answer(),
        };
        // A session begins where its client comes first.
        let Some(sid) = query.sid.clone() else { return EngineError::UnknownSid.answer() };
        let front = self.clone();
        let mut response = self.serve(request, query).await;
        let is_in = front.clients.get(&sid).is_some_and(|client| !client.entries().is_empty());
        if is_in {
            response.headers_mut().insert(FORWARDED, KNOWN);
        }
        response
    }
}
