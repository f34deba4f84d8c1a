//! `/orders/{id}`: what an order says is changed, and what is wrong is put right.

#![expect(clippy::option_option, reason = "a member is absent, taken away, or new")]

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;
use utoipa::ToSchema;

use super::extract::{Body, Caller, OrderPath};
use super::orders::answer;
use crate::base::error::Refusal;
use crate::base::json::{given, optional};
use crate::dialect::canonical::{OrderView, StatusWord};
use crate::model::access::{only_admin, only_staff};
use crate::model::new_order::Items;
use crate::model::{
    Action, Amendment, Amount, Code, Latitude, Line, Longitude, Paragraph, Text, UserId, WholeNumber,
    WindowIn, WindowText,
};
use crate::order::create::item;
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// New values. What is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OrderChange)]
pub struct OrderChange {
    delivery: Option<DeliveryChange>,
    /// In place of all of them
    #[schema(max_items = 200)]
    items: Option<Items>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "paragraph")]
    notes: Option<Option<Paragraph>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>, format = "amount")]
    total: Option<Option<Amount>>,
    customer: Option<CustomerChange>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<WindowText>)]
    scheduled_for: Option<Option<WindowIn>>,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
    #[schema(ignore)]
    status: Option<IgnoredAny>,
    #[schema(ignore)]
    payment_status: Option<IgnoredAny>,
    #[schema(ignore)]
    driver: Option<IgnoredAny>,
    #[schema(ignore)]
    chef: Option<IgnoredAny>,
}

impl OrderChange {
    /// What an order has, too, and is changed in other ways: to take it in silence would look as if it had been done.
    fn refuse_others(&self) -> Result<(), Refusal> {
        let others = [
            ("status", &self.status, "PATCH /orders/{id}/status"),
            ("paymentStatus", &self.payment_status, "POST /orders/{id}/payment/verify"),
            ("driver", &self.driver, "POST /orders/{id}/assign"),
            ("chef", &self.chef, "a new order"),
        ];
        match others.into_iter().find(|(_, given, _)| given.is_some()) {
            Some((member, _, way)) => {
                Err(Refusal::invalid(member, format!("cannot be changed here, but by {way}")))
            }
            None => Ok(()),
        }
    }
}

/// Another address without coordinates makes the place unknown.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DeliveryChange)]
struct DeliveryChange {
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2000, format = "text")]
    address: Option<Text<1, 2_000>>,
    /// Both or neither
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<f64>, format = "latitude")]
    latitude: Option<Latitude>,
    /// Both or neither
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<f64>, format = "longitude")]
    longitude: Option<Longitude>,
}

/// The customer stays the same person.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CustomerChange)]
struct CustomerChange {
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "user_id")]
    id: Option<UserId>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(value_type = Option<String>, format = "line")]
    name: Option<Line>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "code")]
    phone: Option<Option<Code>>,
}

/// Change what the order says
#[utoipa::path(
    patch, path = "/orders/{id}", tag = "orders", security(("bearer" = [])), request_body = OrderChange,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "The order is finished, or a stale expectedSeq", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn amend(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<OrderChange>,
) -> Result<Response, Refusal> {
    only_staff(&who)?;
    value.refuse_others()?;
    let delivery = value.delivery;
    let place = match delivery.as_ref().map(|delivery| (delivery.latitude, delivery.longitude)) {
        Some((Some(latitude), Some(longitude))) => Some((latitude.0, longitude.0)),
        None | Some((None, None)) => None,
        Some((None, _)) => return Err(Refusal::invalid("delivery.latitude", "is required with a longitude")),
        Some((_, None)) => return Err(Refusal::invalid("delivery.longitude", "is required with a latitude")),
    };
    let customer = value.customer;
    if let Some(other) = customer.as_ref().and_then(|customer| customer.id.as_ref()) {
        let (order, _) = site.app.orders.get(&id, &who).await?;
        if *other != order.customer.id {
            return Err(Refusal::invalid("customer.id", "cannot be changed"));
        }
    }
    let (name, phone) = customer.map(|customer| (customer.name, customer.phone)).unwrap_or_default();
    let amendment = Amendment {
        address: delivery.and_then(|delivery| delivery.address).map(|address| address.0),
        place,
        items: value.items.map(|items| items.0.into_iter().map(item).collect()),
        customer_name: name.map(|name| name.0),
        customer_phone: phone.map(|phone| phone.map(|phone| phone.0)),
        notes: value.notes.map(|notes| notes.map(|notes| notes.0)),
        total: value.total.map(|total| total.map(|total| total.0)),
        scheduled_for: value.scheduled_for.map(|window| window.map(|window| window.0)),
    };
    let action = Action::Amend(Box::new(amendment)).at(value.expected_seq.map(|WholeNumber(seq)| seq));
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Correction {
    status: StatusWord,
    /// Why; told to the people who wait for the order
    #[schema(value_type = String, min_length = 1, max_length = 2000, format = "text")]
    note: Text<1, 2_000>,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

/// Set any status, also back from a final one
#[utoipa::path(
    post, path = "/orders/{id}/correct", tag = "orders", security(("bearer" = [])), request_body = Correction,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "A stale expectedSeq", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn correct(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Correction>,
) -> Result<Response, Refusal> {
    only_admin(&who)?;
    if value.note.0.trim().is_empty() {
        return Err(Refusal::invalid("note", "must say something"));
    }
    let action = Action::Correct { to: value.status.0, note: value.note.0 };
    let action = action.at(value.expected_seq.map(|WholeNumber(seq)| seq));
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}
