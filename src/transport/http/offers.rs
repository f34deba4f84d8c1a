//! Orders that are offered to drivers: listed, claimed, declined.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::extract::{Body, Caller, OrderPath, Query};
use super::orders::answer;
use super::paging::{CursorQuery, page_size};
use crate::base::error::Refusal;
use crate::base::json::optional;
use crate::dialect::canonical::OrderView;
use crate::model::straight;
use crate::model::{Action, Driver, Order, Paragraph, Point, Role, WholeNumber};
use crate::order::read::Cursor;
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// A page of offers, the oldest first.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferList<'a> {
    items: Vec<Offer<'a>>,
    next_cursor: Option<String>,
}

/// An order that drivers may take.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Offer<'a> {
    order_id: &'a str,
    order_number: &'a str,
    pickup: OfferPickup<'a>,
    /// From where the driver was seen last, in a straight line
    distance_meters: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct OfferPickup<'a> {
    address: Option<&'a str>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl<'a> Offer<'a> {
    fn new(order: &'a Order, from: Option<Point>) -> Self {
        let chef = &order.chef;
        let place = chef.latitude.zip(chef.longitude).map(|(lat, lon)| Point::stored(lat, lon));
        Self {
            order_id: order.id.as_str(),
            order_number: &order.order_number,
            pickup: OfferPickup {
                address: chef.address.as_deref(),
                latitude: chef.latitude,
                longitude: chef.longitude,
            },
            distance_meters: from.zip(place).map(|(from, to)| straight(from, to).0.round()),
        }
    }
}

/// What drivers may take now
#[utoipa::path(
    get, path = "/offers", tag = "orders", security(("bearer" = [])), params(CursorQuery),
    responses((status = 200, body = OfferList))
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(query): Query<CursorQuery>,
) -> Result<Response, Refusal> {
    if who.role != Role::Driver {
        return Err(Refusal::Forbidden("only drivers have offers".to_owned()));
    }
    let app = &site.app;
    let limit = page_size(query.limit, app.config.limits.page_limit_max)?;
    let after = query.cursor.as_deref().map(Cursor::decode).transpose()?;
    let (of_user, of_all) = site.connections.gate().list(&who).await?;
    let page = app.orders.offers(&who.id, after, limit).await?;
    let from = app.drivers.seen_last(&who.id).await?.map(|(place, _)| place);
    let items = page.orders.iter().map(|order| Offer::new(order, from)).collect();
    let list = OfferList { items, next_cursor: page.next.map(|cursor| cursor.encode()) };
    let response = Json(list).into_response();
    drop(of_all);
    Ok(super::admission::until_written(response, of_user))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

/// Take an order that is offered
#[utoipa::path(
    post, path = "/orders/{id}/claim", tag = "orders", security(("bearer" = [])), request_body = Option<Claim>,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "Another driver was first, or it is not offered any more", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn claim(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Claim>,
) -> Result<Response, Refusal> {
    if who.role != Role::Driver {
        return Err(Refusal::Forbidden("only drivers may do this".to_owned()));
    }
    if !(site.app.config.driver_claims || site.app.config.demo) {
        return Err(Refusal::Forbidden("drivers do not take orders themselves here".to_owned()));
    }
    let contact = who.contact.as_deref().cloned().unwrap_or_default();
    let name = contact.name.unwrap_or_else(|| who.id.to_string());
    let driver = Driver { id: who.id.clone(), name, phone: contact.phone };
    let action = Action::Claim { driver }.at(value.expected_seq.map(|WholeNumber(seq)| seq));
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// For staff
    #[schema(value_type = Option<String>, format = "paragraph")]
    #[serde(default, deserialize_with = "optional")]
    reason: Option<Paragraph>,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

/// Given back.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Declined {
    order_id: String,
    status: &'static str,
    seq: i64,
}

/// Give an order back that one was assigned
#[utoipa::path(
    post, path = "/orders/{id}/decline", tag = "orders", security(("bearer" = [])), request_body = Option<Refused>,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = Declined),
        (status = 409, description = "The goods are with the driver already", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn decline(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Refused>,
) -> Result<Json<Declined>, Refusal> {
    let action = Action::Decline { driver: who.id.clone(), reason: value.reason.map(|reason| reason.0) };
    let action = action.at(value.expected_seq.map(|WholeNumber(seq)| seq));
    // The driver may not see the order any more.
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(Json(Declined { order_id: order.id.to_string(), status: order.status.as_str(), seq: order.seq }))
}
