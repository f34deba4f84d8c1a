//! How good ETAs were.

use axum::Json;
use axum::extract::State;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Caller, OrderPath, Query};
use super::paging::{PageQuery, last_of, page};
use crate::base::clock::{Time, rfc3339, wire_option};
use crate::base::error::Refusal;
use crate::eta::log::Shown;
use crate::eta::report::{GroupBy, Item};
use crate::model::access::only_staff;
use crate::transport::site::Site;

/// The ETAs of an order that were shown, in their order.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    items: Vec<ShownEta>,
    /// When it arrived, once it has
    arrived_at: Option<String>,
    /// `milestone`: the driver was seen at the door; `status`: only the status says so
    evidence: Option<String>,
    /// `after` of the next page, if there may be more
    next_cursor: Option<i64>,
}

/// An ETA that was shown.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownEta {
    /// When it was shown first
    at: String,
    estimated_delivery_time: String,
    eta_low: String,
    eta_high: String,
    eta_source: String,
    /// What made it change: `fix` (a position), `plan` (stops, kitchen, status), `clock`, `hand`
    cause: String,
    remaining_meters: Option<i64>,
    stops_before: Option<i32>,
    stale: Option<bool>,
    /// How much later the order arrived, once it has
    error_seconds: Option<i64>,
}

impl ShownEta {
    fn new(shown: Shown, arrived_at: Option<Time>) -> Self {
        Self {
            at: rfc3339(shown.at),
            estimated_delivery_time: rfc3339(shown.eta_at),
            eta_low: rfc3339(shown.low),
            eta_high: rfc3339(shown.high),
            eta_source: shown.source,
            cause: shown.cause,
            remaining_meters: shown.metres,
            stops_before: shown.stops_before,
            stale: shown.stale.then_some(true),
            error_seconds: arrived_at.map(|arrived_at| (arrived_at - shown.eta_at).num_seconds()),
        }
    }
}

/// Each ETA of the order that was shown
#[utoipa::path(
    get, path = "/orders/{id}/eta/history", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), PageQuery),
    responses((status = 200, body = History))
)]
pub(super) async fn history(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<History>, Refusal> {
    let app = &site.app;
    let (after, limit) = page(wanted.after, wanted.limit, app.config.limits.page_limit_max)?;
    let (shown, outcome) = app.drivers.shown_etas(&id, &who, after, limit.into()).await?;
    let next_cursor = last_of(&shown, limit).map(|(id, _)| *id);
    let arrived_at = outcome.as_ref().map(|(at, _)| *at);
    let items = shown.into_iter().map(|(_, shown)| ShownEta::new(shown, arrived_at)).collect();
    let (arrived_at, evidence) = outcome.map(|(at, evidence)| (rfc3339(at), evidence)).unzip();
    Ok(Json(History { items, arrived_at, evidence, next_cursor }))
}

/// Of which time, and how it is grouped.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Orders delivered after this time [default: a day before `to`]
    #[serde(default, with = "wire_option")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Time>,
    /// Orders delivered up to this time [default: now]
    #[serde(default, with = "wire_option")]
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Time>,
    /// source, horizon (minutes before the arrival), mode, hour (UTC) or area (the middle of some two kilometres)
    #[serde(rename = "groupBy")]
    #[param(rename = "groupBy", pattern = "^(source|horizon|mode|hour|area)$")]
    group_by: Option<String>,
}

/// How good ETAs were.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accuracy {
    items: Vec<Measured>,
}

/// How good the ETAs of one group were. Of each order the first one that was shown in it counts.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EtaAccuracy)]
pub struct Measured {
    group: String,
    n: usize,
    mean_absolute_error_seconds: f64,
    /// How much later orders arrived than was shown; below 0 if they were early
    bias_seconds: f64,
    p50_seconds: f64,
    p90_seconds: f64,
    /// The share that arrived between `etaLow` and `etaHigh`
    coverage: f64,
    /// The share that arrived when promised
    promise_kept: Option<f64>,
    /// How many were at least two minutes later than shown
    slips: usize,
}

impl From<Item> for Measured {
    fn from(item: Item) -> Self {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let share = |value: f64| (value * 10_000.0).round() / 10_000.0;
        Self {
            group: item.group,
            n: item.n,
            mean_absolute_error_seconds: tenths(item.mean_absolute_error),
            bias_seconds: tenths(item.bias),
            p50_seconds: tenths(item.p50),
            p90_seconds: tenths(item.p90),
            coverage: share(item.coverage),
            promise_kept: item.promise_kept.map(share),
            slips: item.slips,
        }
    }
}

/// How good the ETAs were that were shown
#[utoipa::path(
    get, path = "/stats/eta", tag = "people", security(("bearer" = [])), params(Wanted),
    responses((status = 200, body = Accuracy))
)]
pub(super) async fn stats(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Accuracy>, Refusal> {
    only_staff(&who)?;
    let to = wanted.to.unwrap_or_else(|| site.app.clock.now());
    let from = wanted.from.unwrap_or(to - TimeDelta::days(1));
    let by = match wanted.group_by.as_deref() {
        None => GroupBy::Nothing,
        Some(word) => GroupBy::parse(word)
            .ok_or_else(|| Refusal::invalid("groupBy", "must be source, horizon, mode, hour or area"))?,
    };
    let items = site.app.drivers.accuracy(from, to, by).await?;
    Ok(Json(Accuracy { items: items.into_iter().map(Measured::from).collect() }))
}
