//! What the request handlers share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::body::Bytes;

use super::conn;
use crate::app::App;
use crate::session::Sessions;

/// Each request has several of it, so it is cheap to clone.
#[derive(Clone)]
pub struct Site(Arc<Parts>);

/// The fields of a [`Site`].
pub struct Parts {
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

impl Site {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Site {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl axum::extract::FromRef<Site> for App {
    fn from_ref(site: &Site) -> Self {
        site.app.clone()
    }
}
