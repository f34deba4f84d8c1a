//! Who is connected to this node, for staff.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Caller, Query};
use super::paging::page_size;
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::model::access::only_staff;
use crate::session::session::Session;
use crate::transport::site::Site;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SocketsQuery {
    /// Only sockets of this user
    user: Option<String>,
    /// Sockets on the page
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before
    #[param(minimum = 0)]
    cursor: Option<usize>,
}

/// A page of sockets, the longest connected first.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SocketList {
    items: Vec<SocketView>,
    next_cursor: Option<usize>,
}

/// Somebody who is connected.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Socket)]
#[serde(rename_all = "camelCase")]
pub struct SocketView {
    user_id: String,
    role: &'static str,
    /// `realtime`, `default`, `orders_track`, `ws`, `tracking` or `shared`
    client: &'static str,
    since: String,
    /// Whether it came back and missed nothing
    recovered: bool,
    /// Events that it was not handed yet; 0 if it is up to date
    behind: i64,
    /// Orders that it follows
    following: usize,
}

impl SocketView {
    fn new(session: &Session) -> Self {
        Self {
            user_id: session.principal().id.to_string(),
            role: session.role().as_str(),
            client: session.dialect().as_str(),
            since: rfc3339(session.since()),
            recovered: session.recovered(),
            behind: session.lag(),
            following: session.following(),
        }
    }
}

/// Who is connected to this node, since when, and how far behind
#[utoipa::path(
    get, path = "/sockets", tag = "people", security(("bearer" = [])), params(SocketsQuery),
    responses((status = 200, body = SocketList))
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(query): Query<SocketsQuery>,
) -> Result<Json<SocketList>, Refusal> {
    only_staff(&who)?;
    let limit = page_size(query.limit, site.app.config.limits.page_limit_max)? as usize;
    let begin = query.cursor.unwrap_or(0);
    let mut all = site.sessions.all();
    if let Some(user) = &query.user {
        all.retain(|session| session.principal().id.as_str() == user);
    }
    all.sort_by_key(|session| session.since());
    let items: Vec<_> = all.iter().skip(begin).take(limit).map(|session| SocketView::new(session)).collect();
    let next_cursor = (begin.saturating_add(items.len()) < all.len()).then_some(begin + items.len());
    Ok(Json(SocketList { items, next_cursor }))
}
