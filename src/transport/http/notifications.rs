//! What users were told, and what they have received and seen.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Caller, OrderPath, Query};
use super::paging::{PageQuery, last_of, page};
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::model::NotificationState;
use crate::notify::inbox::{Sayer, Told};
use crate::notify::receipts::Receipt;
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
    pub(super) ok: bool,
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
