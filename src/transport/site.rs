//! What the request handlers share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::body::Bytes;

use super::conn;
use crate::app::App;
use crate::session::Sessions;

#[derive(Clone)]
pub struct Site {
    pub app: App,
    pub sessions: Sessions,
    pub connections: Arc<conn::Shared>,
    /// How many requests are under way. A server that stops waits for them.
    pub under_way: Arc<AtomicUsize>,
    /// The `OpenAPI` document.
    pub openapi: Bytes,
    /// The `AsyncAPI` document.
    pub asyncapi: Bytes,
}

impl axum::extract::FromRef<Site> for App {
    fn from_ref(site: &Site) -> Self {
        site.app.clone()
    }
}
