//! `/api/orders/{id}…`: the REST calls beside the WebSocket `/orders/track`, in its words.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, Caller, OrderPath, Reader};
use crate::app::App;
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::dialect::orders_track as dialect;
use crate::dialect::orders_track::OrderView;
use crate::model::{Action, Order, OrderId, OrderStatus, Principal, WholeNumber};
use crate::transport::problem::{self, Problem};
use crate::transport::site::Site;

/// Moves an order to a status of an older vocabulary. There one word may stand for several statuses. If the order has
/// any of them already, the request succeeds without a change.
///
/// # Errors
/// Those of [`crate::order::Orders::change`], as they are answered in that vocabulary.
pub(super) async fn set_status(
    app: &App,
    id: &OrderId,
    who: &Principal,
    to: OrderStatus,
    expected_seq: Option<WholeNumber>,
    word: impl Fn(OrderStatus) -> &'static str,
) -> Result<Order, Response> {
    let action = Action::to(to).at(expected_seq.map(|WholeNumber(seq)| seq));
    let moved = match app.orders.change(id, who, action).await {
        Err(Refusal::Illegal { status, .. }) if word(status) == word(to) => {
            app.orders.get(id, who).await.map(|(order, _)| order)
        }
        answer => answer,
    };
    moved.map_err(|refusal| problem::respond_in(&refusal, word))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TrackedStatusChange)]
pub struct StatusChange {
    #[schema(format = "orders_track_status")]
    status: String,
    /// Refuse if the order is not at this seq
    #[serde(alias = "expectedSeq")]
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

/// That it was done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedStatusChanged)]
pub struct Changed<'a> {
    success: bool,
    order_id: &'a str,
    status: &'static str,
    updated_at: String,
}

/// Move the order to a status, in the words of `/orders/track`
#[utoipa::path(
    put, path = "/api/orders/{id}/status", tag = "orders/track", security(("bearer" = [])), request_body = StatusChange,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = Changed),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change_status(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<StatusChange>,
) -> Result<Response, Response> {
    let unknown = || Refusal::invalid("status", format!("must be one of {}", dialect::words().join(", ")));
    let to = dialect::status(&value.status).ok_or_else(|| problem::respond(&unknown()))?;
    let order = set_status(&site.app, &id, &who, to, value.expected_seq, dialect::word).await?;
    let changed = Changed {
        success: true,
        order_id: order.id.as_str(),
        status: dialect::word(order.status),
        updated_at: rfc3339(order.updated_at),
    };
    Ok(Json(changed).into_response())
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackedOrderFound)]
pub struct Found<'a> {
    success: bool,
    order: OrderView<'a>,
}

/// One order, in the words of `/orders/track`; without a token only with `--legacy-open`, and then nobody is in it
#[utoipa::path(
    get, path = "/api/orders/{id}", tag = "orders/track", security(("bearer" = []), ()),
    params(("id" = String, Path, description = "Order id")),
    responses((status = 200, body = Found))
)]
pub(super) async fn get(
    State(site): State<Site>,
    Reader(who): Reader,
    OrderPath(id): OrderPath,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let (order, party) = app.orders.get(&id, &who).await?;
    app.drivers.ask_others(&id).await;
    let forecast = app.drivers.forecast(&order);
    Ok(Json(Found { success: true, order: OrderView::new(&order, forecast, party) }).into_response())
}
