//! The ways that notifications went: what became of each, for staff.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Caller, OrderPath, Query};
use super::notifications::Done;
use super::paging::{PageQuery, last_of, page};
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::model::OrderId;
use crate::notify::report::{Line, Tried, Wanted};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// Deliveries.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryList {
    items: Vec<DeliveryOut>,
    /// `after` or `cursor` of the next page, if there may be more
    next_cursor: Option<i64>,
}

/// One way of a notification, or a notification that goes no way.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationDelivery)]
pub struct DeliveryOut {
    /// Of the delivery; without one it goes no way
    id: Option<i64>,
    notification_id: String,
    kind: String,
    user_id: String,
    order_id: Option<String>,
    /// `fcm`, `expo`, `webpush`, `apns` or `sms`
    channel: Option<String>,
    /// `held`, `due`, `sending`, `sent`, `delivered`; at the end `failed`, `dead`, `expired`, `superseded`, `suppressed`, `opted_out`,
    /// `capped` or `unknown`
    state: String,
    /// Why
    reason: Option<String>,
    at: String,
    due_at: Option<String>,
    sent_at: Option<String>,
    tries: i32,
    segments: Option<i32>,
}

impl From<Line> for DeliveryOut {
    fn from(line: Line) -> Self {
        Self {
            id: line.delivery,
            notification_id: line.id,
            kind: line.kind,
            user_id: line.recipient,
            order_id: line.order,
            channel: line.channel,
            state: line.state,
            reason: line.reason,
            at: rfc3339(line.at),
            due_at: line.due_at.map(rfc3339),
            sent_at: line.sent_at.map(rfc3339),
            tries: line.tries,
            segments: line.segments,
        }
    }
}

/// What was sent of an order, what not, and why
#[utoipa::path(
    get, path = "/orders/{id}/notifications", tag = "notifications", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), PageQuery), responses((status = 200, body = DeliveryList))
)]
pub(super) async fn of_order(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<DeliveryList>, Refusal> {
    let (after, limit) = page(wanted.after, wanted.limit, site.app.config.limits.page_limit_max)?;
    let (lines, next_cursor) = site.app.notify.of_order(&id, &who, after, limit.into()).await?;
    Ok(Json(DeliveryList { items: lines.into_iter().map(DeliveryOut::from).collect(), next_cursor }))
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    state: Option<String>,
    channel: Option<String>,
    #[param(value_type = Option<String>)]
    order_id: Option<OrderId>,
    /// `nextCursor` of the page before
    #[param(minimum = 0)]
    cursor: Option<i64>,
    /// Items in one answer
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Deliveries of notifications, the newest first
#[utoipa::path(
    get, path = "/deliveries", tag = "notifications", security(("bearer" = [])), params(DeliveryQuery),
    responses((status = 200, body = DeliveryList))
)]
pub(super) async fn deliveries(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(wanted): Query<DeliveryQuery>,
) -> Result<Json<DeliveryList>, Refusal> {
    let DeliveryQuery { state, channel, order_id, cursor, limit } = wanted;
    let (_, limit) = page(None, limit, site.app.config.limits.page_limit_max)?;
    let wanted = Wanted { state, channel, order: order_id, before: cursor };
    let lines = site.app.notify.deliveries(&who, wanted, limit.into()).await?;
    let next_cursor = last_of(&lines, limit).and_then(|line| line.delivery);
    Ok(Json(DeliveryList { items: lines.into_iter().map(DeliveryOut::from).collect(), next_cursor }))
}

/// A delivery, and how it was tried.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotificationDeliveryDetails)]
pub struct DeliveryDetails {
    #[serde(flatten)]
    delivery: DeliveryOut,
    /// The oldest first, the last 50
    attempts: Vec<TriedOut>,
}

/// One try to hand it to its provider.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotificationAttempt)]
pub struct TriedOut {
    n: i32,
    at: String,
    /// How long the provider took
    millis: i32,
    /// HTTP status of the answer, if there was one
    status: Option<i32>,
    /// How the answer began
    excerpt: Option<String>,
}

impl From<Tried> for TriedOut {
    fn from(Tried { n, at, millis, status, excerpt }: Tried) -> Self {
        Self { n, at: rfc3339(at), millis, status, excerpt }
    }
}

/// One delivery of a notification, with every attempt
#[utoipa::path(
    get, path = "/deliveries/{id}", tag = "notifications", security(("bearer" = [])),
    params(("id" = i64, Path, description = "Id of the delivery")), responses((status = 200, body = DeliveryDetails))
)]
pub(super) async fn delivery(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<DeliveryDetails>, Refusal> {
    let (line, tried) = site.app.notify.delivery(&who, number(&id)?).await?;
    let attempts = tried.into_iter().map(TriedOut::from).collect();
    Ok(Json(DeliveryDetails { delivery: line.into(), attempts }))
}

/// Send a delivery again that is over
#[utoipa::path(
    post, path = "/deliveries/{id}/retry", tag = "notifications", security(("bearer" = [])),
    params(("id" = i64, Path, description = "Id of the delivery")),
    responses(
        (status = 200, body = Done),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Done>, Refusal> {
    site.app.notify.retry(&who, number(&id)?).await?;
    Ok(Json(Done { ok: true }))
}

/// Give a delivery up
#[utoipa::path(
    post, path = "/deliveries/{id}/discard", tag = "notifications", security(("bearer" = [])),
    params(("id" = i64, Path, description = "Id of the delivery")),
    responses(
        (status = 200, body = Done),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn discard(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Done>, Refusal> {
    site.app.notify.discard(&who, number(&id)?).await?;
    Ok(Json(Done { ok: true }))
}

fn number(id: &str) -> Result<i64, Refusal> {
    id.parse().map_err(|_| Refusal::NotFound("delivery"))
}
