//! `/webhooks`: other systems that are told of orders.

#![expect(clippy::option_option, reason = "a member is absent, taken away, or new")]

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Caller, Query};
use super::paging::{CursorQuery, last_of, page_size};
use crate::base::clock::{Time, rfc3339, wire, wire_option};
use crate::base::error::Refusal;
use crate::base::json::given;
use crate::model::{Text, UserId};
use crate::transport::problem::Problem;
use crate::transport::site::Site;
use crate::webhook::endpoint::{Change, Endpoint, Keys};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewWebhook)]
pub struct WebhookIn {
    /// Public, by https
    #[schema(value_type = String, min_length = 1, max_length = 2000)]
    url: Text<1, 2_000>,
    /// Types such as `order.created`, groups such as `order.*`, or `*`
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 32)]
    events: Vec<Text<1, 64>>,
    /// Only orders of this chef
    #[schema(value_type = Option<String>, format = "user_id")]
    chef_id: Option<UserId>,
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookChange)]
pub struct WebhookChange {
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2000)]
    url: Option<Text<1, 2_000>>,
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 32)]
    events: Option<Vec<Text<1, 64>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "user_id")]
    chef_id: Option<Option<UserId>>,
    /// Whether it is called
    enabled: Option<bool>,
}

/// An endpoint of another system.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub struct WebhookView {
    id: String,
    url: String,
    events: Vec<String>,
    chef_id: Option<String>,
    enabled: bool,
    /// Why it is not called: `gone`, `failing` or `by_hand`
    reason: Option<String>,
    disabled_at: Option<String>,
    /// Since when every call has failed
    failing_since: Option<String>,
    created_at: String,
    /// What `v1a` is verified with
    public_key: String,
    /// What `v1` is verified with. Shown once
    secret: Option<String>,
    /// Until when the secret before signs, too
    previous_secret_until: Option<String>,
}

impl WebhookView {
    fn new(endpoint: Endpoint, keys: Keys, shows_secret: bool) -> Self {
        Self {
            enabled: endpoint.disabled_at.is_none(),
            id: endpoint.id,
            url: endpoint.url,
            events: endpoint.events,
            chef_id: endpoint.chef.map(|chef| chef.to_string()),
            reason: endpoint.reason,
            disabled_at: endpoint.disabled_at.map(rfc3339),
            failing_since: endpoint.failing_since.map(rfc3339),
            created_at: rfc3339(endpoint.created_at),
            public_key: keys.public_key,
            secret: shows_secret.then_some(keys.secret),
            previous_secret_until: endpoint.previous_until.filter(|_| shows_secret).map(rfc3339),
        }
    }
}

fn texts(events: Vec<Text<1, 64>>) -> Vec<String> {
    events.into_iter().map(|text| text.0).collect()
}

async fn view(site: &Site, endpoint: Endpoint) -> Result<WebhookView, Refusal> {
    let keys = site.app.webhooks.keys(&endpoint).await?;
    Ok(WebhookView::new(endpoint, keys, false))
}

/// Tell another system of orders from now on
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks", security(("bearer" = [])), request_body = WebhookIn,
    responses((status = 201, body = WebhookView, headers(("Location" = String))))
)]
pub(super) async fn make(
    State(site): State<Site>,
    Caller(who): Caller,
    Body { value, .. }: Body<WebhookIn>,
) -> Result<Response, Refusal> {
    let WebhookIn { url, events, chef_id } = value;
    let (endpoint, keys) = site.app.webhooks.make(&who, &url.0, texts(events), chef_id).await?;
    let headers = [
        (header::LOCATION, format!("/webhooks/{}", endpoint.id)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, Json(WebhookView::new(endpoint, keys, true))).into_response())
}

/// A page of webhooks.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookList {
    items: Vec<WebhookView>,
    next_cursor: Option<String>,
}

/// The systems that are told
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks", security(("bearer" = [])), params(CursorQuery),
    responses((status = 200, body = WebhookList))
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(query): Query<CursorQuery>,
) -> Result<Json<WebhookList>, Refusal> {
    let limit = page_size(query.limit, site.app.config.limits.page_limit_max)?;
    let found = site.app.webhooks.list(&who, query.cursor.as_deref(), limit.into()).await?;
    let next_cursor = last_of(&found, limit).map(|last| last.id.clone());
    let mut items = Vec::with_capacity(found.len());
    for endpoint in found {
        items.push(view(&site, endpoint).await?);
    }
    Ok(Json(WebhookList { items, next_cursor }))
}

/// One of them
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, description = "Webhook id")),
    responses((status = 200, body = WebhookView))
)]
pub(super) async fn get(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<WebhookView>, Refusal> {
    let endpoint = site.app.webhooks.get(&who, &id).await?;
    Ok(Json(view(&site, endpoint).await?))
}

/// Change it
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "webhooks", security(("bearer" = [])), request_body = WebhookChange,
    params(("id" = String, Path, description = "Webhook id")),
    responses((status = 200, body = WebhookView))
)]
pub(super) async fn change(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body { value, .. }: Body<WebhookChange>,
) -> Result<Json<WebhookView>, Refusal> {
    let WebhookChange { url, events, chef_id, enabled } = value;
    let change = Change { url: url.map(|url| url.0), events: events.map(texts), chef: chef_id, enabled };
    let endpoint = site.app.webhooks.change(&who, &id, change).await?;
    Ok(Json(view(&site, endpoint).await?))
}

/// Tell it nothing any more
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, description = "Webhook id")),
    responses((status = 204))
)]
pub(super) async fn remove(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    site.app.webhooks.remove(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give it a new secret; the old one signs, too, for 24 hours
#[utoipa::path(
    post, path = "/webhooks/{id}/rotate", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, description = "Webhook id")),
    responses((status = 200, body = WebhookView))
)]
pub(super) async fn rotate(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let (endpoint, keys) = site.app.webhooks.rotate(&who, &id).await?;
    let view = WebhookView::new(endpoint, keys, true);
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// What the other system said.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
pub struct Tested {
    ok: bool,
    status: Option<u16>,
    error: Option<String>,
    milliseconds: u64,
}

/// Send it a message of the type `webhook.test`, now
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, description = "Webhook id")),
    responses((status = 200, body = Tested))
)]
pub(super) async fn test(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Tested>, Refusal> {
    let attempt = site.app.webhooks.test(&who, &id).await?;
    let milliseconds = u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(Tested { ok: attempt.is_good(), status: attempt.status, error: attempt.error, milliseconds }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MessagesQuery {
    /// `due`, `delivered` or `dead`
    #[param(pattern = "^(due|delivered|dead)$")]
    state: Option<String>,
    /// Messages on the page
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before
    #[param(minimum = 1)]
    cursor: Option<i64>,
}

/// A page of messages, the newest first.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageList {
    items: Vec<MessageView>,
    next_cursor: Option<i64>,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookMessage)]
pub struct MessageView {
    /// The `webhook-id` of every attempt
    id: String,
    r#type: String,
    order_id: Option<String>,
    position: Option<i64>,
    /// `due`, `delivered` or `dead`
    state: String,
    attempts: i32,
    /// The HTTP status of the last attempt
    status: Option<i32>,
    error: Option<String>,
    at: String,
    next_attempt_at: Option<String>,
    done_at: Option<String>,
}

/// What it is told, and was told in the last week
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, description = "Webhook id"), MessagesQuery),
    responses((status = 200, body = MessageList))
)]
pub(super) async fn deliveries(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<MessageList>, Refusal> {
    let limit = page_size(query.limit, site.app.config.limits.page_limit_max)?;
    let state = query.state.as_deref();
    if state.is_some_and(|state| !["due", "delivered", "dead"].contains(&state)) {
        return Err(Refusal::invalid("state", "must be due, delivered or dead"));
    }
    let found = site.app.webhooks.deliveries(&who, &id, state, query.cursor, limit.into()).await?;
    let next_cursor = last_of(&found, limit).map(|last| last.id);
    let items = found.into_iter().map(|row| MessageView {
        next_attempt_at: (row.state == "due").then(|| rfc3339(row.due_at)),
        id: row.key,
        r#type: row.r#type,
        order_id: row.order_id,
        position: row.position,
        state: row.state,
        attempts: row.tries,
        status: row.status,
        error: row.error,
        at: rfc3339(row.at),
        done_at: row.done_at.map(rfc3339),
    });
    Ok(Json(MessageList { items: items.collect(), next_cursor }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = WebhookReplay)]
pub struct Replay {
    #[serde(with = "wire")]
    #[schema(value_type = String, format = DateTime)]
    since: Time,
    /// [default: now]
    #[serde(default, with = "wire_option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
}

/// What is told again: events after the first position, up to the second one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replayed {
    after: i64,
    until: i64,
}

/// Tell it again what has happened in a time, with the same ids
#[utoipa::path(
    post, path = "/webhooks/{id}/replay", tag = "webhooks", security(("bearer" = [])), request_body = Replay,
    params(("id" = String, Path, description = "Webhook id")),
    responses(
        (status = 202, body = Replayed),
        (status = 409, description = "It is being told something again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replay(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body { value, .. }: Body<Replay>,
) -> Result<Response, Refusal> {
    if value.until.is_some_and(|until| until < value.since) {
        return Err(Refusal::invalid("until", "must not be before since"));
    }
    let (after, until) = site.app.webhooks.replay(&who, &id, (value.since, value.until)).await?;
    Ok((StatusCode::ACCEPTED, Json(Replayed { after, until })).into_response())
}
