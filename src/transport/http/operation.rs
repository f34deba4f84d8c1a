//! For operators: liveness, readiness, metrics.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::error::Refusal;
use crate::event::log;
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
    version: &'static str,
}

const fn well() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Alive
#[utoipa::path(get, path = "/health", tag = "operation", responses((status = 200, body = Health)))]
pub(super) async fn health() -> Json<Health> {
    well()
}

/// How long `/metrics` waits for the head of the log.
const HEAD_PATIENCE: Duration = Duration::from_millis(500);

/// Able to serve: the database answers, tokens can be verified, not on the way out
#[utoipa::path(
    get, path = "/ready", tag = "operation",
    responses(
        (status = 200, body = Health),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ready(State(site): State<Site>) -> Result<Json<Health>, Refusal> {
    if site.app.says_ready() { Ok(well()) } else { Err(Refusal::Unavailable) }
}

/// Prometheus metrics
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(site): State<Site>) -> Result<Response, Refusal> {
    let metrics = &site.app.metrics;
    let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    // A database that does not answer must not hide the metrics that say so.
    if let Ok(Ok(head)) = tokio::time::timeout(HEAD_PATIENCE, log::head(site.app.events.log())).await {
        metrics.relay_lag.set(head - site.app.events.position());
    }
    metrics.ready.set(site.app.says_ready().into());
    metrics.database_up.set(site.app.health.has_database().into());
    metrics.trail_depth.set(gauge(site.app.drivers.trail_depth()));
    metrics.writes_waiting.set(gauge(site.app.orders.writes_waiting()));
    metrics.unauthenticated_bytes.set(gauge(site.connections.gate().unauthenticated_bytes()));
    metrics.http_connections.set(gauge(site.connections.open().count()));
    let text = metrics.render().map_err(|error| Refusal::internal(error))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The `OpenAPI` document.
pub(super) async fn openapi(State(site): State<Site>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], site.openapi.clone()).into_response()
}

/// The `AsyncAPI` document.
pub(super) async fn asyncapi(State(site): State<Site>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], site.asyncapi.clone()).into_response()
}
