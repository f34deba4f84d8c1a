//! socketioxide's service as the code around it uses it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tower::Service;
use tower::util::{BoxCloneSyncService, service_fn};

use super::front::gone;
use crate::transport::upgrade::Rewound;

/// The service. It also takes requests of our own in the place of a client.
#[derive(Clone)]
pub struct Engine {
    service: BoxCloneSyncService<Request, Response, Infallible>,
    streams: Arc<dyn Fn(Box<Rewound>, http::Request<()>) + Send + Sync>,
    path: &'static str,
}

impl Engine {
    /// `path` is the path of the service.
    #[must_use]
    pub fn new<S, B>(service: S, path: &'static str) -> Self
    where
        S: Service<Request, Response = http::Response<B>, Error = Infallible>
            + Service<(Box<Rewound>, http::Request<()>), Response = ()>
            + Clone
            + Send
            + Sync
            + 'static,
        <S as Service<Request>>::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let streams = service.clone();
        let requests = service_fn(move |request: Request| {
            let answer = Service::<Request>::call(&mut service.clone(), request);
            async move { Ok(answer.await?.map(Body::new)) }
        });
        let streams = move |stream, request| {
            // The service spawns a task. A request that it cannot read ends with the stream.
            drop(Service::<(Box<Rewound>, http::Request<()>)>::call(&mut streams.clone(), (stream, request)));
        };
        Self { service: BoxCloneSyncService::new(requests), streams: Arc::new(streams), path }
    }

    /// Gives socketioxide a WebSocket after its handshake. The stream is boxed because the task that reads it has room for it
    /// four times over.
    pub(super) fn take_over(&self, stream: Box<Rewound>, request: http::Request<()>) {
        (self.streams)(stream, request);
    }

    pub(super) async fn call(&self, request: Request) -> Response {
        match self.service.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Answers a ping for a client.
    pub(super) async fn pong(&self, sid: &str) {
        self.post(sid, false, "3").await;
    }

    /// Closes the Engine.IO session of a client that polls.
    pub async fn close(&self, sid: &str, eio3: bool) {
        self.post(sid, eio3, if eio3 { "1:1" } else { "1" }).await;
    }

    /// Whether socketioxide has this Engine.IO session. It accepts a post without packets if it has.
    pub(super) async fn knows(&self, sid: &str) -> bool {
        match self.request(Method::POST, sid, 4, "") {
            Some(request) => self.call(request).await.status() == StatusCode::OK,
            None => false,
        }
    }

    /// Polls once more for a client.
    pub(super) async fn poll(&self, sid: &str) -> Option<Response> {
        Some(self.call(self.request(Method::GET, sid, 4, "")?).await)
    }

    /// Posts for a client.
    pub(super) async fn post(&self, sid: &str, eio3: bool, body: impl Into<Body>) -> Response {
        match self.request(Method::POST, sid, if eio3 { 3 } else { 4 }, body) {
            Some(request) => self.call(request).await,
            None => gone(),
        }
    }

    fn request(&self, method: Method, sid: &str, version: u8, body: impl Into<Body>) -> Option<Request> {
        let uri: Uri = format!("{}?EIO={version}&transport=polling&sid={sid}", self.path).parse().ok()?;
        let mut request = Request::new(body.into());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let kind = HeaderValue::from_static("text/plain;charset=UTF-8");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        Some(request)
    }
}
