//! What users were told, what became of it, and what providers say.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Caller, OrderPath, Query};
use super::paging::{PageQuery, last_of, page};
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::model::{NotificationState, OrderId};
use crate::notify::channel::Callback;
use crate::notify::inbox::{Sayer, Told};
use crate::notify::receipts::Receipt;
use crate::notify::report::{Line, Tried, Wanted};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// A list.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationList {
    items: Vec<NotificationOut>,
    /// `after` of the next page, if there may be more
    next_cursor: Option<i64>,
}

/// What a user was told.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Notification)]
pub struct NotificationOut {
    id: String,
    /// `order.accepted` …, or `announcement`
    kind: String,
    order_id: Option<String>,
    seq: Option<i64>,
    /// What a screen shows
    title: String,
    at: String,
    expires_at: String,
    delivered_at: Option<String>,
    opened_at: Option<String>,
    /// The event of an announcement, and its data
    event: Option<String>,
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

impl From<Told> for NotificationOut {
    fn from(told: Told) -> Self {
        let (event, data) = told.announcement.map(|queued| (queued.event, queued.data)).unzip();
        Self {
            id: told.id,
            kind: told.kind,
            order_id: told.order,
            seq: told.seq,
            title: told.title,
            at: rfc3339(told.at),
            expires_at: rfc3339(told.expires_at),
            delivered_at: told.delivered_at.map(rfc3339),
            opened_at: told.opened_at.map(rfc3339),
            event,
            data,
        }
    }
}

/// What the caller was told, the oldest first
#[utoipa::path(
    get, path = "/notifications", tag = "notifications", security(("bearer" = [])), params(PageQuery),
    responses((status = 200, body = NotificationList))
)]
pub(super) async fn inbox(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<NotificationList>, Refusal> {
    let (after, limit) = page(wanted.after, wanted.limit, site.app.config.limits.page_limit_max)?;
    let told = site.app.notify.inbox(&who, after, limit.into()).await?;
    let next_cursor = last_of(&told, limit).map(|told| told.number);
    Ok(Json(NotificationList { items: told.into_iter().map(NotificationOut::from).collect(), next_cursor }))
}

/// What has become of a notification.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NotificationAck)]
pub struct AckIn {
    /// `delivered`: it is there; `opened`: somebody has opened it
    #[schema(value_type = String, pattern = "^(delivered|opened)$")]
    state: NotificationState,
}

/// The signature of an address that was in a notification.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Signature {
    /// From `ackUrl`, in place of a token
    sig: Option<String>,
}

/// It worked.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    ok: bool,
}

/// Say that a notification is there, or was opened: with a token, or with the signed address that is in it
#[utoipa::path(
    post, path = "/notifications/{id}/ack", tag = "notifications", security(("bearer" = []), ()), request_body = AckIn,
    params(("id" = String, Path, description = "Id of the notification"), Signature),
    responses((status = 200, body = Done))
)]
pub(super) async fn acknowledge(
    State(site): State<Site>,
    caller: Result<Caller, Refusal>,
    Path(id): Path<String>,
    Query(Signature { sig }): Query<Signature>,
    Body { value, .. }: Body<AckIn>,
) -> Result<Json<Done>, Refusal> {
    match (sig, caller) {
        (Some(sig), _) => site.app.notify.acknowledge(&id, value.state, Sayer::Holder(&sig)).await?,
        (None, Ok(Caller(who))) => site.app.notify.acknowledge(&id, value.state, Sayer::User(&who)).await?,
        (None, Err(refusal)) => return Err(refusal),
    }
    Ok(Json(Done { ok: true }))
}

/// What users have of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptList {
    items: Vec<Receipt>,
}

/// Who has received and seen what of an order: for its chef and staff
#[utoipa::path(
    get, path = "/orders/{id}/receipts", tag = "notifications", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id")), responses((status = 200, body = ReceiptList))
)]
pub(super) async fn receipts(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
) -> Result<Json<ReceiptList>, Refusal> {
    let receipts = site.app.notify.receipts_of(&id, &who).await?;
    Ok(Json(ReceiptList { items: receipts }))
}

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
    /// `fcm`, `expo`, `webpush` or `sms`
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

/// Who sends SMS, and about which one they speak.
#[derive(Deserialize)]
pub(super) struct OfText {
    provider: String,
    delivery: String,
}

/// The parameters of a call of a provider: in the address, in a form, or in JSON.
fn parameters(query: Option<&str>, headers: &HeaderMap, body: &Bytes) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let pairs = |bytes: &[u8]| form_urlencoded::parse(bytes).into_owned().collect::<Vec<_>>();
    all.extend(pairs(query.unwrap_or_default().as_bytes()));
    let kind =
        headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let members = json.as_object().into_iter().flatten();
        all.extend(members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))));
    } else {
        all.extend(pairs(body));
    }
    all
}

/// What a provider says of a text: its words, as far as they are known.
fn callback(provider: &str, parameters: &BTreeMap<String, String>) -> Option<Callback> {
    let word = match provider {
        "twilio" => parameters.get("MessageStatus").or_else(|| parameters.get("SmsStatus")),
        "vonage" => parameters.get("status"),
        // Kannel: 1 delivered, 2 failed, 8 with the network, 16 refused by it.
        _ => parameters.get("type").or_else(|| parameters.get("status")),
    }?;
    match word.to_ascii_lowercase().as_str() {
        "delivered" | "1" | "read" => Some(Callback::Delivered),
        "undelivered" | "failed" | "rejected" | "expired" | "2" | "16" => Some(Callback::Failed),
        "sent" | "submitted" | "accepted" | "buffered" | "8" => Some(Callback::Sent),
        _ => None,
    }
}

/// A provider says what became of a text
pub(super) async fn sms_status(
    State(site): State<Site>,
    Path(OfText { provider, delivery }): Path<OfText>,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let all = parameters(uri.query(), &headers, &body);
    let signature = all.get("sig").map(String::as_str).unwrap_or_default();
    let id = delivery.parse().map_err(|_| Refusal::NotFound("text"))?;
    site.app.notify.sms_callback(id, signature, callback(&provider, &all)).await?;
    Ok(StatusCode::OK)
}

/// The secret of the address that texts come in at.
#[derive(Deserialize)]
pub(super) struct Inbound {
    #[serde(default)]
    secret: Option<String>,
}

/// Somebody has answered a text. The address has the secret that `ordercast sms-address` prints, or Twilio signs the call
pub(super) async fn sms_inbound(
    State(site): State<Site>,
    Path(Inbound { secret }): Path<Inbound>,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<&'static str, Refusal> {
    let form: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let twilio = headers.get("x-twilio-signature").and_then(|value| value.to_str().ok());
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    if !site.app.notify.is_inbound(secret.as_deref(), path, &form, twilio) {
        return Err(Refusal::NotFound("page"));
    }
    let all = parameters(uri.query(), &headers, &body);
    let member = |names: &[&str]| names.iter().find_map(|name| all.get(*name)).map(String::as_str);
    let from = member(&["From", "from", "msisdn", "sender"]).unwrap_or_default();
    let text = member(&["Body", "text", "message"]).unwrap_or_default();
    site.app.notify.sms_inbound(from, text).await?;
    // Gateways send what they are answered.
    Ok("")
}
