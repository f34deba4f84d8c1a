//! `/tracking/…`: tracking sessions, the REST calls beside the WebSocket `/ws/tracking/{id}`.

use std::collections::BTreeMap;
use std::ops::Not;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, Caller, UserPath};
use super::figures::Figures;
use crate::app::App;
use crate::base::error::Refusal;
use crate::base::json::optional;
use crate::dialect::Dialect;
use crate::dialect::tracking::{Update, View, WORDS, word};
use crate::model::access::only_staff;
use crate::model::{
    Code, Forecast, Latitude, Longitude, Order, OrderId, Party, Point, TrackingSession, UserId,
};
use crate::tracking::{self, NewSession};
use crate::transport::problem::{self, Problem};
use crate::transport::site::Site;

/// A rider sets out.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewTrackingSession)]
pub struct Start {
    /// One that nobody knows is made
    #[schema(value_type = String, format = "order_id")]
    order_id: OrderId,
    /// The caller, if not said
    #[schema(value_type = Option<String>, format = "user_id")]
    #[serde(default, deserialize_with = "optional")]
    rider_id: Option<UserId>,
    /// Where the order says, if not said
    #[schema(value_type = Option<f64>, format = "latitude")]
    dropoff_lat: Option<Latitude>,
    #[schema(value_type = Option<f64>, format = "longitude")]
    dropoff_lng: Option<Longitude>,
    /// The customer's, for an order that is made
    #[schema(value_type = Option<String>, format = "code")]
    #[serde(default, deserialize_with = "optional")]
    phone: Option<Code>,
}

async fn forecast(app: &App, order: &Order) -> Result<Forecast, Refusal> {
    let position = app.drivers.position(order).await?;
    Ok(Forecast { eta: app.drivers.eta(order), position })
}

async fn whole<'a>(app: &App, session: &'a TrackingSession, order: &Order) -> Result<View<'a>, Refusal> {
    Ok(View::new(session, order, forecast(app, order).await?, Party::Staff))
}

/// Start tracking an order
#[utoipa::path(
    post, path = "/tracking/start", tag = "tracking", security(("bearer" = [])), request_body = Start,
    responses(
        (status = 200, body = View),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start(
    State(site): State<Site>,
    Caller(who): Caller,
    Body { value, .. }: Body<Start>,
) -> Result<Response, Refusal> {
    let dropoff = match (value.dropoff_lat, value.dropoff_lng) {
        (Some(latitude), Some(longitude)) => Some(Point { latitude, longitude }),
        (None, None) => None,
        (Some(_), None) => return Err(Refusal::invalid("dropoff_lng", "is required")),
        (None, Some(_)) => return Err(Refusal::invalid("dropoff_lat", "is required")),
    };
    let phone = value.phone.map(|phone| phone.0);
    let new = NewSession { order: value.order_id, rider: value.rider_id, dropoff, phone };
    let (session, order) = site.app.tracking.start(&who, new).await?;
    Ok(Json(whole(&site.app, &session, &order).await?).into_response())
}

/// Say where the rider is, and perhaps how far
#[utoipa::path(
    post, path = "/tracking/update/{id}", tag = "tracking", security(("bearer" = [])), request_body = Update,
    params(("id" = String, Path, description = "Tracking id")),
    responses(
        (status = 200, body = View),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 410, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn update(
    State(site): State<Site>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body { value, .. }: Body<Update>,
) -> Result<Response, Response> {
    let refuse = |refusal| problem::respond_in(&refusal, word);
    let (session, order) = site.app.tracking.update(&who, &id, value.moved()).await.map_err(refuse)?;
    let view = whole(&site.app, &session, &order).await.map_err(refuse)?;
    Ok(Json(View { order_id: None, rider_id: None, dropoff: None, ..view }).into_response())
}

/// How a session stands; for whoever knows its id
#[utoipa::path(
    get, path = "/tracking/{id}", tag = "tracking", security(()),
    params(("id" = String, Path, description = "Tracking id")),
    responses(
        (status = 200, body = View),
        (status = 410, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(site): State<Site>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let (session, order) = site.app.tracking.find(&id).await?;
    let view = View::new(&session, &order, forecast(&site.app, &order).await?, Party::Anonymous);
    Ok(Json(View { rider_id: None, ..view }).into_response())
}

/// The session that a rider has now
#[utoipa::path(
    get, path = "/tracking/rider/{id}", tag = "tracking", security(("bearer" = [])),
    params(("id" = String, Path, description = "Rider's user id")),
    responses((status = 200, body = View))
)]
pub(super) async fn of_rider(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(rider): UserPath,
) -> Result<Response, Refusal> {
    let (session, order) = site.app.tracking.of_rider(&who, &rider).await?;
    Ok(Json(whole(&site.app, &session, &order).await?).into_response())
}

/// Figures of all sessions that are not over.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackingStats)]
pub struct Stats {
    total_active_sessions: i64,
    total_websocket_connections: i64,
    status_distribution: BTreeMap<&'static str, i64>,
    sessions_by_recency: Recency,
    /// Set if a node's connections are missing or old
    #[serde(skip_serializing_if = "Not::not")]
    partial: bool,
}

/// When sessions last had news.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackingRecency)]
pub struct Recency {
    last_5_min: i64,
    last_hour: i64,
    older: i64,
}

/// Tracking sessions in figures
#[utoipa::path(
    get, path = "/stats/tracking", tag = "tracking", security(("bearer" = [])), responses((status = 200, body = Stats))
)]
pub(super) async fn stats(State(site): State<Site>, Caller(who): Caller) -> Result<Json<Stats>, Refusal> {
    only_staff(&who)?;
    let app = &site.app;
    let stats = app.tracking.stats().await?;
    let mut status_distribution = BTreeMap::from(WORDS.map(|word| (word, 0)));
    for (status, count) in stats.by_status {
        *status_distribution.entry(word(status)).or_default() += count;
    }
    let tracking::Recency { last_5_min, last_hour, older } = stats.recency;
    let (figures, partial) = Figures::of_all(&site.sessions);
    Ok(Json(Stats {
        total_active_sessions: stats.active,
        total_websocket_connections: figures.by_client.get(Dialect::Tracking.as_str()).copied().unwrap_or(0),
        status_distribution,
        sessions_by_recency: Recency { last_5_min, last_hour, older },
        partial,
    }))
}
