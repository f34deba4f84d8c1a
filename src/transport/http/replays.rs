//! Deliveries again, for staff.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::extract::{Body, Caller, OrderPath};
use crate::base::error::Refusal;
use crate::model::access::only_staff;
use crate::replay::{Changes, Replay, replay};
use crate::transport::site::Site;

/// What is to be different.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ReplayIn)]
pub struct ReplayIn {
    /// `filter.vmax` and `filter.vmaxLong` (metres per second), `filter.mode` (car, bike, foot), `filter.mocked` (drop, flag)
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    set: Option<BTreeMap<String, Value>>,
}

/// Judge the positions of a delivery again, and hold what was shown against it
#[utoipa::path(
    post, path = "/orders/{id}/replay", tag = "orders", security(("bearer" = [])), request_body = ReplayIn,
    params(("id" = String, Path, description = "Order id")),
    responses((status = 200, body = Replay))
)]
pub(super) async fn run(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Body { value, .. }: Body<ReplayIn>,
) -> Result<Json<Replay>, Refusal> {
    only_staff(&who)?;
    let mut changes = Changes::none(site.app.drivers.rules());
    changes.set_all(value.set.unwrap_or_default())?;
    let recorded = site.app.drivers.recorded(&id, &who).await?;
    // It takes a moment for a long delivery, and must not keep others waiting.
    let replayed = tokio::task::spawn_blocking(move || replay(&recorded, &changes)).await;
    replayed.map(Json).map_err(|_| Refusal::internal("the replay failed"))
}
