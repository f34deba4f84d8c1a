//! Where drivers go, and when kitchens are ready.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::{Body, Caller, OrderPath, UserPath};
use super::orders::answer;
use crate::base::clock::{Time, wire_option};
use crate::base::error::Refusal;
use crate::dialect::canonical::OrderView;
use crate::driver::plan::WantedStop;
use crate::driver::planning::Plan;
use crate::model::{OrderId, StopKind, WholeNumber};
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// A kitchen is ready within this many minutes: a week.
const MAX_PREP_MINUTES: i64 = 10_080;

/// The stops of a driver, in the order in which they are to be made. Those that are not named come after them.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PlanIn {
    #[schema(max_items = 200)]
    stops: Vec<StopIn>,
}

/// A stop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Stop)]
pub struct StopIn {
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
    kind: StopKind,
    /// How long the driver takes there
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 86400)]
    service_seconds: Option<WholeNumber>,
}

/// Where a driver goes
#[utoipa::path(
    get, path = "/drivers/{id}/plan", tag = "people", security(("bearer" = [])),
    params(("id" = String, Path, description = "User id of the driver")),
    responses((status = 200, body = Plan))
)]
pub(super) async fn get(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(driver): UserPath,
) -> Result<Json<Plan>, Refusal> {
    site.app.drivers.plan(&driver, &who).map(Json)
}

/// Set the order in which a driver goes to the stops
#[utoipa::path(
    put, path = "/drivers/{id}/plan", tag = "people", security(("bearer" = [])), request_body = PlanIn,
    params(("id" = String, Path, description = "User id of the driver")),
    responses((status = 200, body = Plan))
)]
pub(super) async fn set(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(driver): UserPath,
    Body { value, .. }: Body<PlanIn>,
) -> Result<Json<Plan>, Refusal> {
    let mut stops = Vec::with_capacity(value.stops.len());
    for (index, StopIn { order_id, kind, service_seconds }) in value.stops.into_iter().enumerate() {
        let service_seconds = service_seconds.map(|WholeNumber(seconds)| u32::try_from(seconds)).transpose();
        let service_seconds = service_seconds.map_err(|_| {
            Refusal::invalid(format!("stops[{index}].serviceSeconds"), "must be from 0 to 86400")
        })?;
        stops.push(WantedStop { order_id, kind, service_seconds });
    }
    site.app.drivers.set_plan(&driver, &who, stops).await.map(Json)
}

/// When the kitchen is ready, in one of two forms.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PrepIn {
    prep_minutes: Option<WholeNumber>,
    #[serde(default, with = "wire_option")]
    ready_at: Option<Time>,
}

/// When the kitchen is ready, in one of two forms
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Prep)]
#[expect(dead_code, reason = "for the document only")]
enum PrepOneOf {
    #[serde(rename_all = "camelCase")]
    Minutes {
        /// Minutes from now
        #[schema(minimum = 0, maximum = 10080)]
        prep_minutes: i64,
    },
    #[serde(rename_all = "camelCase")]
    Time {
        #[schema(format = DateTime)]
        ready_at: String,
    },
}

/// Say when the kitchen is ready
#[utoipa::path(
    post, path = "/orders/{id}/prep", tag = "orders", security(("bearer" = [])), request_body = PrepOneOf,
    params(("id" = String, Path, description = "Order id")),
    responses(
        (status = 200, body = OrderView, headers(("ETag" = String))),
        (status = 409, description = "The order is not in the kitchen", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn prep(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<PrepIn>,
) -> Result<Response, Refusal> {
    let now = site.app.clock.now();
    let latest = now + chrono::TimeDelta::minutes(MAX_PREP_MINUTES);
    let at = match (value.prep_minutes.map(|WholeNumber(minutes)| minutes), value.ready_at) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid("prepMinutes", "cannot be given together with readyAt"));
        }
        (Some(minutes @ 0..=MAX_PREP_MINUTES), None) => now + chrono::TimeDelta::minutes(minutes),
        (Some(_), None) => {
            return Err(Refusal::invalid("prepMinutes", format!("must be from 0 to {MAX_PREP_MINUTES}")));
        }
        (None, Some(at)) if at > latest => {
            return Err(Refusal::invalid("readyAt", "must be within a week"));
        }
        (None, Some(at)) if at < now - chrono::TimeDelta::hours(1) => {
            return Err(Refusal::invalid("readyAt", "must not be in the past"));
        }
        (None, Some(at)) => at,
        (None, None) => return Err(Refusal::invalid("prepMinutes", "or readyAt is required")),
    };
    let order = site.app.drivers.set_ready(&id, &who, at).await?;
    Ok(answer(&site.app, &order, &who))
}
