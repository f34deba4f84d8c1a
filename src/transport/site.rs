//! What HTTP handlers share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::conn;
use crate::app::App;
use crate::session::Sessions;

/// What handlers share.
#[derive(Clone)]
pub struct Site {
    pub app: App,
    pub fanout: Sessions,
    pub connections: Arc<conn::Shared>,
    /// Requests under way that a stopping server waits for.
    pub under_way: Arc<AtomicUsize>,
    pub document: Arc<String>,
}

impl axum::extract::FromRef<Site> for App {
    fn from_ref(site: &Site) -> Self {
        site.app.clone()
    }
}
