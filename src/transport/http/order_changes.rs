//! `/orders/{id}/…`: changes of an order.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Caller, OrderPath, Query};
use super::orders::answer;
use crate::base::clock::{Time, wire_option};
use crate::base::error::Refusal;
use crate::base::json::optional;
use crate::dialect::canonical::{OrderView, StatusWord};
use crate::model::access::only_staff;
use crate::model::new_order::PersonIn;
use crate::model::{Action, Driver, FailureReason, Paragraph, ReasonWord, WholeNumber};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// An ETA of more than a month is a typing error.
const MAX_ETA_MINUTES: i64 = 31 * 24 * 60;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusChange {
    status: StatusWord,
    /// Told to the people who wait for the order
    #[schema(value_type = Option<String>, format = "paragraph")]
    #[serde(default, deserialize_with = "optional")]
    note: Option<Paragraph>,
    /// Why it could not be delivered; required for `failed`
    #[schema(value_type = Option<FailureReason>)]
    reason: Option<ReasonWord>,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

/// Move the order to a status
#[utoipa::path(
    patch, path = "/orders/{id}/status", tag = "orders", security(("bearer" = [])), request_body = StatusChange,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "Not from the present status, with what is allowed; or a stale expectedSeq", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change_status(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<StatusChange>,
) -> Result<Response, Refusal> {
    let note = value.note.map(|note| note.0);
    let reason = value.reason.and_then(|word| word.0);
    let action = Action::Status { to: value.status.0, note, reason }
        .at(value.expected_seq.map(|WholeNumber(seq)| seq));
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cancellation {
    /// Told to the people who wait for the order
    #[schema(value_type = Option<String>, format = "paragraph")]
    #[serde(default, deserialize_with = "optional")]
    reason: Option<Paragraph>,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

impl Cancellation {
    /// The seq that the caller knows of, if they say so.
    pub(super) fn expected_seq(&self) -> Option<i64> {
        self.expected_seq.as_ref().map(|WholeNumber(seq)| *seq)
    }

    /// The reason, if there is one.
    pub(super) fn reason(self) -> Option<String> {
        self.reason.map(|reason| reason.0)
    }
}

/// Cancel the order
#[utoipa::path(
    post, path = "/orders/{id}/cancel", tag = "orders", security(("bearer" = [])), request_body = Option<Cancellation>,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Cancellation>,
) -> Result<Response, Refusal> {
    let expected_seq = value.expected_seq();
    let action = Action::cancel(value.reason()).at(expected_seq);
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentVerification {
    /// The payment's reference in the system that took it
    #[schema(value_type = Option<String>, format = "paragraph")]
    #[serde(default, deserialize_with = "optional")]
    reference: Option<Paragraph>,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

impl PaymentVerification {
    /// The seq that the caller knows of, if they say so.
    pub(super) fn expected_seq(&self) -> Option<i64> {
        self.expected_seq.as_ref().map(|WholeNumber(seq)| *seq)
    }

    /// The reference, if there is one.
    pub(super) fn reference(self) -> Option<String> {
        self.reference.map(|reference| reference.0)
    }
}

/// The payment has arrived
#[utoipa::path(
    post, path = "/orders/{id}/payment/verify", tag = "orders", security(("bearer" = [])),
    request_body = Option<PaymentVerification>,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn verify_payment(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<PaymentVerification>,
) -> Result<Response, Refusal> {
    let expected_seq = value.expected_seq();
    let action = Action::VerifyPayment { reference: value.reference(), accept: false }.at(expected_seq);
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    driver: PersonIn,
    /// Refuse if the order is not at this seq
    #[schema(value_type = Option<i64>)]
    expected_seq: Option<WholeNumber>,
}

/// Give the order to a driver, or to another driver
#[utoipa::path(
    post, path = "/orders/{id}/assign", tag = "orders", security(("bearer" = [])), request_body = Assignment,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn assign(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<Assignment>,
) -> Result<Response, Refusal> {
    let PersonIn { id: driver_id, name, phone } = value.driver;
    let driver = Driver { id: driver_id, name: name.0, phone: phone.map(|phone| phone.0) };
    let action = Action::Assign { driver }.at(value.expected_seq.map(|WholeNumber(seq)| seq));
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct UnassignQuery {
    /// Refuse if the order is not at this seq
    #[param(minimum = 0)]
    expected_seq: Option<i64>,
}

/// Some clients send a body with every request that changes something.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unassignment {
    expected_seq: Option<WholeNumber>,
}

/// Take the order from its driver
#[utoipa::path(
    delete, path = "/orders/{id}/assign", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), UnassignQuery),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "The goods are with the driver already: reassign instead", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn unassign(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(query): Query<UnassignQuery>,
    Body { value, .. }: Body<Unassignment>,
) -> Result<Response, Refusal> {
    let in_body = value.expected_seq.map(|WholeNumber(seq)| seq);
    let action = Action::Unassign.at(query.expected_seq.or(in_body));
    let order = site.app.orders.change(&id, &who, action).await?;
    Ok(answer(&site.app, &order, &who))
}

/// The new ETA, in one of two forms. It is read as one struct, so that a refusal can name the member.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EtaChange {
    eta_minutes: Option<WholeNumber>,
    #[serde(default, with = "wire_option")]
    estimated_delivery_time: Option<Time>,
    expected_seq: Option<WholeNumber>,
}

/// The new ETA, in one of two forms
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EtaChange)]
#[expect(dead_code, reason = "for the document only")]
enum EtaOneOf {
    #[serde(rename_all = "camelCase")]
    Minutes {
        /// Minutes from now
        #[schema(minimum = 1, maximum = 44640)]
        eta_minutes: i64,
        /// Refuse if the order is not at this seq
        expected_seq: Option<i64>,
    },
    #[serde(rename_all = "camelCase")]
    Time {
        #[schema(format = DateTime)]
        estimated_delivery_time: String,
        /// Refuse if the order is not at this seq
        expected_seq: Option<i64>,
    },
}

/// Set the ETA by hand
#[utoipa::path(
    post, path = "/orders/{id}/eta", tag = "orders", security(("bearer" = [])), request_body = EtaOneOf,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "The order is finished", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set_eta(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<EtaChange>,
) -> Result<Response, Refusal> {
    // The writer checks this too. Here it comes before the input is checked, so that others get no details of it.
    only_staff(&who)?;
    let now = site.app.clock.now();
    let expected_seq = value.expected_seq.map(|WholeNumber(seq)| seq);
    let at = match (value.eta_minutes.map(|WholeNumber(minutes)| minutes), value.estimated_delivery_time) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid(
                "etaMinutes",
                "cannot be given together with estimatedDeliveryTime",
            ));
        }
        (Some(minutes @ 1..=MAX_ETA_MINUTES), None) => now + chrono::TimeDelta::minutes(minutes),
        (Some(_), None) => {
            return Err(Refusal::invalid("etaMinutes", format!("must be from 1 to {MAX_ETA_MINUTES}")));
        }
        (None, Some(at)) if at <= now => {
            return Err(Refusal::invalid("estimatedDeliveryTime", "must not be in the past"));
        }
        (None, Some(at)) => at,
        (None, None) => return Err(Refusal::invalid("etaMinutes", "or estimatedDeliveryTime is required")),
    };
    let order = site.app.drivers.override_eta(&id, &who, at, expected_seq).await?;
    Ok(answer(&site.app, &order, &who))
}
