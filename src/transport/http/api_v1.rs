//! `/api/v1/orders…`: the REST calls beside the WebSocket `/ws`, in its words.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::admission::until_written;
use super::extract::{Body, Caller, OrderPath, Query};
use super::order_changes::{Cancellation, PaymentVerification};
use super::orders_track::set_status;
use super::paging::page_size;
use crate::app::App;
use crate::base::error::Refusal;
use crate::dialect::canonical::OrderView;
use crate::dialect::words::WsOrder;
use crate::dialect::ws as dialect;
use crate::model::access::party;
use crate::model::{Action, Order, OrderStatus, Party, Principal, WholeNumber};
use crate::order::read::{Cursor, Wanted};
use crate::transport::problem::{self, Problem};
use crate::transport::site::Site;

/// `{success: true, data}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = V1Order)]
pub struct Found<'a> {
    success: bool,
    #[schema(value_type = WsOrder)]
    data: OrderView<'a>,
}

fn view<'a>(app: &App, order: &'a Order, who: &Principal) -> OrderView<'a> {
    let party = party(order, who).unwrap_or(Party::Customer);
    dialect::order(order, app.drivers.eta(order), party)
}

fn answer(app: &App, order: &Order, who: &Principal) -> Response {
    Json(Found { success: true, data: view(app, order, who) }).into_response()
}

fn status(word: &str) -> Result<OrderStatus, Refusal> {
    dialect::status(word)
        .ok_or_else(|| Refusal::invalid("status", format!("must be one of {}", dialect::words().join(", "))))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = V1StatusChange)]
pub struct StatusChange {
    #[schema(format = "ws_status")]
    status: String,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

/// Move the order to a status, in the words of `/ws`
#[utoipa::path(
    patch, path = "/api/v1/orders/{id}/status", tag = "ws", security(("bearer" = [])), request_body = StatusChange,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = Found),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change_status(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<StatusChange>,
) -> Result<Response, Response> {
    let to = status(&value.status).map_err(|refusal| problem::respond(&refusal))?;
    let order = set_status(&site.app, &id, &who, to, value.expected_seq, dialect::word).await?;
    Ok(answer(&site.app, &order, &who))
}

/// Cancel the order
#[utoipa::path(
    post, path = "/api/v1/orders/{id}/cancel", tag = "ws", security(("bearer" = [])), request_body = Option<Cancellation>,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = Found),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Cancellation>,
) -> Result<Response, Response> {
    let expected_seq = value.expected_seq();
    let action = Action::cancel(value.reason()).at(expected_seq);
    let cancelled = site.app.orders.change(&id, &who, action).await;
    let order = cancelled.map_err(|refusal| problem::respond_in(&refusal, dialect::word))?;
    Ok(answer(&site.app, &order, &who))
}

/// The payment has arrived; the order is accepted with it. A customer verifies their own, by its reference
#[utoipa::path(
    post, path = "/api/v1/orders/{id}/payment/verify", tag = "ws", security(("bearer" = [])),
    request_body = Option<PaymentVerification>,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = Found),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn verify_payment(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<PaymentVerification>,
) -> Result<Response, Response> {
    let expected_seq = value.expected_seq();
    let action = Action::VerifyPayment { reference: value.reference(), accept: true }.at(expected_seq);
    let paid = site.app.orders.change(&id, &who, action).await;
    let order = paid.map_err(|refusal| problem::respond_in(&refusal, dialect::word))?;
    Ok(answer(&site.app, &order, &who))
}

/// One order
#[utoipa::path(
    get, path = "/api/v1/orders/{id}", tag = "ws", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id")),
    responses((status = 200, body = Found))
)]
pub(super) async fn get(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
) -> Result<Response, Refusal> {
    let (order, _) = site.app.orders.get(&id, &who).await?;
    site.app.drivers.ask_others(&id).await;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only orders of this status
    #[param(format = "ws_status")]
    status: Option<String>,
    /// Orders on the page
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before
    cursor: Option<String>,
}

/// A page of orders, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = V1OrderList)]
pub struct Page<'a> {
    success: bool,
    #[schema(value_type = Vec<WsOrder>)]
    data: Vec<OrderView<'a>>,
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// The caller's orders, newest first
#[utoipa::path(
    get, path = "/api/v1/orders", tag = "ws", security(("bearer" = [])), params(ListQuery),
    responses((status = 200, body = Page))
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let limit = page_size(query.limit, app.config.limits.page_limit_max)?;
    let after = query.cursor.as_deref().map(Cursor::decode).transpose()?;
    let statuses: Vec<_> = match query.status.as_deref().map(status).transpose()? {
        None => Vec::new(),
        // One word may stand for several statuses.
        Some(asked) => {
            let same = |status: &OrderStatus| dialect::word(*status) == dialect::word(asked);
            OrderStatus::ALL.into_iter().filter(same).collect()
        }
    };
    let (of_user, of_all) = site.connections.gate().list(&who).await?;
    let page =
        app.orders.list(&who, Wanted { statuses: &statuses, risk: None, text: None }, limit, after).await?;
    let data = page.orders.iter().map(|order| view(app, order, &who)).collect();
    let next_cursor = page.next.map(|cursor| cursor.encode());
    let response = Json(Page { success: true, data, next_cursor }).into_response();
    drop(of_all);
    Ok(until_written(response, of_user))
}
