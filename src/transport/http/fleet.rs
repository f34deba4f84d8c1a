//! All drivers, for staff: where they are, and where they were.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Caller, OrderPath, Query, UserPath};
use super::geo::{self, Format, Gpx};
use super::paging::{last_of, page_size};
use crate::base::clock::{Time, rfc3339, wire_option};
use crate::base::error::Refusal;
use crate::dialect::fleet::SpotView;
use crate::driver::positions::{Kept, Span};
use crate::event::bus::Question;
use crate::model::access::only_staff;
use crate::model::{Bounds, UserId, Verdict};
use crate::transport::site::Site;

/// Questions to other nodes at a time.
const ASKED: usize = 16;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FleetQuery {
    /// `west,south,east,north` in degrees
    #[param(pattern = "^ *-?[0-9.]+ *, *-?[0-9.]+ *, *-?[0-9.]+ *, *-?[0-9.]+ *$")]
    bbox: Option<String>,
    /// Drivers on the page
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before
    cursor: Option<String>,
}

/// A page of drivers.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetList<'a> {
    items: Vec<SpotView<'a>>,
    next_cursor: Option<String>,
}

/// Where all drivers are, also idle ones
#[utoipa::path(
    get, path = "/drivers", tag = "drivers", security(("bearer" = [])), params(FleetQuery),
    responses((status = 200, body = FleetList))
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(query): Query<FleetQuery>,
) -> Result<Response, Refusal> {
    only_staff(&who)?;
    let app = &site.app;
    let limit = page_size(query.limit, app.config.limits.page_limit_max)?;
    let bounds = query.bbox.as_deref().map(Bounds::parse).transpose()?;
    let bad = |_| Refusal::invalid("cursor", "is not one that this server gave out");
    let after = query.cursor.as_deref().map(UserId::parse).transpose().map_err(bad)?;
    let spots = app.drivers.spots(bounds, after.as_ref(), limit as usize).await?;
    let ask_others = app.bus.has_others();
    let drivers: Vec<UserId> = spots.iter().map(|spot| spot.driver.clone()).collect();
    let online: Vec<bool> = stream::iter(drivers)
        .map(|driver| {
            let here = site.sessions.hub().count(&driver) > 0;
            let bus = &app.bus;
            async move { here || (ask_others && bus.ask(Question::Presence(driver)).await.count > 0) }
        })
        .buffered(ASKED)
        .collect()
        .await;
    let next_cursor = last_of(&spots, limit).map(|last| last.driver.to_string());
    let items = spots.iter().zip(online).map(|(spot, online)| SpotView::new(spot, online)).collect();
    Ok(Json(FleetList { items, next_cursor }).into_response())
}

/// Which part of a trail.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TrailQuery {
    /// Measured at this time or later [default: a day ago, or the beginning of the order]
    #[serde(default, with = "wire_option")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Time>,
    /// Measured at this time or before
    #[serde(default, with = "wire_option")]
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Time>,
    /// `nextCursor` of the page before
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Points in one answer
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<u32>,
}

impl TrailQuery {
    fn page(&self) -> Result<(i64, u64), Refusal> {
        let after = self.after.unwrap_or(0);
        if after < 0 {
            return Err(Refusal::invalid("after", "must not be negative"));
        }
        if self.from.zip(self.to).is_some_and(|(from, to)| from > to) {
            return Err(Refusal::invalid("from", "must not be after to"));
        }
        Ok((after, geo::points(self.limit)?.into()))
    }
}

/// Where a driver was shown, in the order of time.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrailView<'a> {
    items: Vec<TrailPointView<'a>>,
    next_cursor: Option<i64>,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TrailPoint)]
pub struct TrailPointView<'a> {
    driver_id: &'a str,
    latitude: f64,
    longitude: f64,
    heading: Option<f64>,
    speed: Option<f64>,
    accuracy: Option<f64>,
    recorded_at: String,
}

impl TrailPointView<'_> {
    /// Longitude and latitude.
    const fn place(&self) -> [f64; 2] {
        [self.longitude, self.latitude]
    }
}

/// Where the drivers of an order were while they had it
#[utoipa::path(
    get, path = "/orders/{id}/trail", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), TrailQuery),
    responses((status = 200, description = "JSON, or by `Accept` GeoJSON or GPX", content((TrailView = "application/json"), (Object = "application/geo+json"), (String = "application/gpx+xml"))))
)]
pub(super) async fn of_order(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(query): Query<TrailQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (after, limit) = query.page()?;
    let span = Span { from: query.from, to: query.to, after };
    let kept = site.app.drivers.positions(&id, &who, span, limit).await?;
    trail(&kept, (limit, query.from, query.to), &headers, &format!("/orders/{id}/trail"))
}

/// Where a driver was
#[utoipa::path(
    get, path = "/drivers/{id}/trail", tag = "drivers", security(("bearer" = [])),
    params(("id" = String, Path, description = "User id"), TrailQuery),
    responses((status = 200, description = "JSON, or by `Accept` GeoJSON or GPX", content((TrailView = "application/json"), (Object = "application/geo+json"), (String = "application/gpx+xml"))))
)]
pub(super) async fn of_driver(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(driver): UserPath,
    Query(query): Query<TrailQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    only_staff(&who)?;
    let (after, limit) = query.page()?;
    let to = query.to.unwrap_or_else(|| site.app.clock.now());
    let from = query.from.unwrap_or(to - TimeDelta::days(1));
    let kept = site.app.drivers.trail_of(&driver, &who, (from, to), after, limit).await?;
    trail(&kept, (limit, Some(from), Some(to)), &headers, &format!("/drivers/{driver}/trail"))
}

/// Only what was shown is where the driver was.
fn points(kept: &[Kept]) -> Vec<TrailPointView<'_>> {
    let mut shown: Vec<&Kept> = kept
        .iter()
        .filter(|kept| kept.verdict.is_none_or(|verdict| matches!(verdict, Verdict::Shown | Verdict::Late)))
        .collect();
    // What came late lies before.
    shown.sort_by_key(|kept| kept.fix.recorded_at);
    let point = |kept: &'_ &Kept| {
        let place = kept.shown.map_or(kept.fix.place, |(place, _)| place);
        (place.lat(), place.lon())
    };
    shown
        .iter()
        .map(|kept| {
            let (latitude, longitude) = point(kept);
            TrailPointView {
                driver_id: kept.driver.as_str(),
                latitude,
                longitude,
                heading: kept.fix.heading,
                speed: kept.fix.speed,
                accuracy: kept.fix.accuracy,
                recorded_at: rfc3339(kept.fix.recorded_at),
            }
        })
        .collect()
}

/// `page`: how many points, and from when to when.
fn trail(
    kept: &[Kept],
    page: (u64, Option<Time>, Option<Time>),
    headers: &HeaderMap,
    path: &str,
) -> Result<Response, Refusal> {
    let (limit, from, to) = page;
    let next_cursor = kept.last().filter(|_| kept.len() as u64 >= limit).map(|last| last.id);
    let points = points(kept);
    let format = Format::wanted(None, headers)?;
    let response = match format {
        Format::GeoJson => format.answer(geo_json(&points, next_cursor)),
        Format::Gpx => format.answer(gpx(&points)),
        Format::Json => Json(TrailView { items: points, next_cursor }).into_response(),
    };
    Ok(geo::finish(response, path, next_cursor.map(|after| geo::next_query(after, limit, from, to))))
}

/// The points of each driver.
fn lines<'a, 'b>(points: &'a [TrailPointView<'b>]) -> impl Iterator<Item = &'a [TrailPointView<'b>]> {
    points.chunk_by(|one, other| one.driver_id == other.driver_id)
}

/// A line for each driver. The times are beside it, as many as there are points.
fn geo_json(points: &[TrailPointView<'_>], next_cursor: Option<i64>) -> String {
    let line = |line: &[TrailPointView<'_>]| {
        let places: Vec<_> = line.iter().map(TrailPointView::place).collect();
        let times: Vec<_> = line.iter().map(|point| &point.recorded_at).collect();
        geo::feature(&places, &json!({"driverId": line[0].driver_id, "recordedAt": times}))
    };
    geo::geo_json(&lines(points).map(line).collect::<Vec<_>>(), next_cursor)
}

/// A track for each driver.
fn gpx(points: &[TrailPointView<'_>]) -> String {
    let mut gpx = Gpx::new(false);
    for line in lines(points) {
        gpx.track(line[0].driver_id, |track| {
            for point in line {
                track.point(point.place(), &point.recorded_at, &[]);
            }
        });
    }
    gpx.end()
}
