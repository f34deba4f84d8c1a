//! Links for strangers to one order.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::extract::{Body, Caller, OrderPath, Query};
use super::page;
use super::paging::{CursorQuery, last_of, page_size};
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::base::spawn::uninterrupted;
use crate::dialect::shared::SharedView;
use crate::event::bus::Question;
use crate::model::{OrderId, Principal, WholeNumber};
use crate::order::links::{Link, Scope};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// The longest life of a link, in seconds: a week.
const WEEK: i64 = 604_800;
/// And the usual one.
const DAY: i64 = 86_400;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkIn {
    /// [default: a day]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 604_800)]
    expires_in_seconds: Option<WholeNumber>,
    /// [default: `status`]
    scope: Option<Scope>,
}

/// A link.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ShareLink)]
pub struct LinkView {
    id: String,
    scope: Scope,
    created_by: String,
    created_at: String,
    expires_at: String,
    revoked_at: Option<String>,
    /// Shown once
    token: Option<String>,
    /// Where strangers look; shown once
    url: Option<String>,
}

impl LinkView {
    fn new(link: &Link) -> Self {
        Self {
            id: link.id.clone(),
            scope: link.scope,
            created_by: link.created_by.to_string(),
            created_at: rfc3339(link.created_at),
            expires_at: rfc3339(link.expires_at),
            revoked_at: link.revoked_at.map(rfc3339),
            token: None,
            url: None,
        }
    }
}

/// Make a link by which a stranger may follow the order
#[utoipa::path(
    post, path = "/orders/{id}/share-links", tag = "orders", security(("bearer" = [])), request_body = Option<LinkIn>,
    params(("id" = String, Path, description = "Order id")),
    responses((status = 201, body = LinkView))
)]
pub(super) async fn make(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<LinkIn>,
) -> Result<Response, Refusal> {
    let seconds = value.expires_in_seconds.map_or(DAY, |WholeNumber(seconds)| seconds);
    if !(1..=WEEK).contains(&seconds) {
        return Err(Refusal::invalid("expiresInSeconds", format!("must be from 1 to {WEEK}")));
    }
    let scope = value.scope.unwrap_or(Scope::Status);
    let (link, token) = site.app.orders.share(&id, &who, TimeDelta::seconds(seconds), scope).await?;
    let base = site.app.config.notify.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    let url = Some(format!("{base}/share/{token}"));
    let view = LinkView { token: Some(token), url, ..LinkView::new(&link) };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// A page of links, the newest first.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkList {
    items: Vec<LinkView>,
    next_cursor: Option<String>,
}

/// The links of the order: staff see all, others their own
#[utoipa::path(
    get, path = "/orders/{id}/share-links", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), CursorQuery),
    responses((status = 200, body = LinkList))
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(query): Query<CursorQuery>,
) -> Result<Json<LinkList>, Refusal> {
    let limit = page_size(query.limit, site.app.config.limits.page_limit_max)?;
    let links = site.app.orders.links(&id, &who, query.cursor.as_deref(), limit.into()).await?;
    let next_cursor = last_of(&links, limit).map(|last| last.id.clone());
    Ok(Json(LinkList { items: links.iter().map(LinkView::new).collect(), next_cursor }))
}

#[derive(Deserialize)]
pub(super) struct OfLink {
    id: String,
    link: String,
}

/// End a link. Who looks by it is disconnected
#[utoipa::path(
    delete, path = "/orders/{id}/share-links/{link}", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), ("link" = String, Path, description = "Link id")),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn end(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(OfLink { id, link }): Path<OfLink>,
) -> Result<StatusCode, Refusal> {
    let id = OrderId::parse(&id).map_err(|_| Refusal::NotFound("order"))?;
    // Runs to its end even if the caller goes away: what is recorded has to be carried out.
    uninterrupted(async move {
        let user = site.app.orders.unshare(&id, &link, &who).await?.user();
        site.app.revoke_tokens(&user).await?;
        let _ = site.sessions.revoke(&user);
        site.app.bus.ask(Question::Revoked(user)).await;
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The order of a link: a page for browsers, JSON for programs
#[utoipa::path(
    get, path = "/share/{token}", tag = "orders",
    params(("token" = String, Path, description = "Token of the link")),
    responses(
        (status = 200, body = SharedView),
        (status = 404, description = "Nobody gave this link out", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The link has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn look(
    State(site): State<Site>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_browser = accept.contains("text/html");
    let link = site.app.orders.shared(&token).await;
    let mut response = match link {
        // The page asks again as a program and says what has become of the link.
        link if is_browser => {
            let mut response = page::serve("share.html", &HeaderMap::new());
            if let Err(refusal) = link {
                *response.status_mut() = refusal.into_response().status();
            }
            response
        }
        Ok(link) => match order(&site, &link, &link.principal()).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        },
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn order(site: &Site, link: &Link, who: &Principal) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shared<'a> {
        #[serde(flatten)]
        order: SharedView<'a>,
        scope: Scope,
        expires_at: String,
    }
    let tracking = site.app.drivers.overview(&link.order, who).await?;
    let eta = site.app.drivers.eta(&tracking.order);
    let order = SharedView::new(&tracking, eta);
    Ok(Json(Shared { order, scope: link.scope, expires_at: rfc3339(link.expires_at) }).into_response())
}
