//! The positions of an order's drivers, for staff: what was sent, what became of it, and why.

use std::fmt::Display;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Caller, OrderPath, Query};
use super::geo::{self, Format, Gpx};
use super::paging::{last_of, page};
use crate::base::clock::{Time, rfc3339, wire_option};
use crate::base::error::Refusal;
use crate::driver::explain::explain;
use crate::driver::positions::{Kept, Span};
use crate::transport::site::Site;

/// So many fixes before the one that is explained are read.
const AROUND: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
const FIXES: u64 = 5_000;

/// Which positions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Measured at this time or later
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
    /// Positions in one answer [default: 50, for maps 1000; JSON has at most 200]
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<u32>,
    /// `geojson` or `gpx`, for maps, whatever `Accept` says
    #[param(pattern = "^(geojson|gpx)$")]
    format: Option<String>,
}

/// Which position is to be explained.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// The time at which somebody looked [default: now]
    #[serde(default, with = "wire_option")]
    #[param(value_type = Option<String>, format = DateTime)]
    at: Option<Time>,
}

/// A position as it was sent, and what became of it.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PositionView {
    driver_id: String,
    recorded_at: String,
    received_at: String,
    latitude: f64,
    longitude: f64,
    heading: Option<f64>,
    speed: Option<f64>,
    accuracy: Option<f64>,
    /// True if the phone said that an app invented it
    mocked: Option<bool>,
    /// Null for positions of versions that did not judge them
    #[serialize_always]
    #[schema(required = true)]
    verdict: Option<&'static str>,
    /// Metres per second that the driver would have gone since the position before, at least
    implied_speed: Option<f64>,
    /// How far it is from where it was expected, in usual errors
    innovation: Option<f64>,
    /// Where the driver was shown. Null if this position was not
    #[serialize_always]
    #[schema(required = true)]
    shown: Option<ShownView>,
}

/// A place that was shown.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownView {
    latitude: f64,
    longitude: f64,
    /// `raw`: as sent; `filtered`: estimated; `snapped`: moved to the road
    source: &'static str,
    uncertainty_meters: Option<f64>,
    reanchored: Option<bool>,
}

/// A page of positions, in the order in which they were received.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Positions {
    items: Vec<PositionView>,
    /// `after` of the next page, if there may be more
    next_cursor: Option<i64>,
}

/// Why the dot jumped, or did not.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    #[serialize_always]
    #[schema(required = true)]
    verdict: Option<&'static str>,
    text: String,
    /// How far the dot moved
    moved_meters: Option<f64>,
    position: PositionView,
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl PositionView {
    /// Longitude and latitude, as they were sent.
    const fn place(&self) -> [f64; 2] {
        [self.longitude, self.latitude]
    }

    fn new(kept: &Kept) -> Self {
        let fix = &kept.fix;
        Self {
            driver_id: kept.driver.as_str().to_owned(),
            recorded_at: rfc3339(fix.recorded_at),
            received_at: rfc3339(fix.received_at),
            latitude: fix.place.lat(),
            longitude: fix.place.lon(),
            heading: fix.heading,
            speed: fix.speed,
            accuracy: fix.accuracy,
            mocked: fix.mocked.then_some(true),
            verdict: kept.verdict.map(crate::model::Verdict::as_str),
            implied_speed: kept.speed.map(rounded),
            innovation: kept.innovation.map(|innovation| rounded(innovation.sqrt())),
            shown: kept.shown.map(|(place, provenance)| ShownView {
                latitude: place.lat(),
                longitude: place.lon(),
                source: provenance.source.as_str(),
                uncertainty_meters: provenance.uncertainty.map(rounded),
                reanchored: provenance.reanchored.then_some(true),
            }),
        }
    }
}

/// Each position of the order's drivers while they carried it, and what became of it
#[utoipa::path(
    get, path = "/orders/{id}/positions", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), Wanted),
    responses((status = 200, description = "JSON, or by `format` or `Accept` GeoJSON or GPX", content((Positions = "application/json"), (Object = "application/geo+json"), (String = "application/gpx+xml"))))
)]
pub(super) async fn list(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let app = &site.app;
    let Wanted { from, to, after, limit, format: name } = wanted;
    let format = Format::wanted(name.as_deref(), &headers)?;
    let max = match format {
        Format::Json => app.config.limits.page_limit_max,
        Format::GeoJson | Format::Gpx => geo::POINTS_MAX,
    };
    let limit = limit.or((format != Format::Json).then_some(geo::POINTS));
    let (after, limit) = page(after, limit, max)?;
    let kept = app.drivers.positions(&id, &who, Span { from, to, after }, limit.into()).await?;
    let next_cursor = last_of(&kept, limit).map(|last| last.id);
    let items: Vec<_> = kept.iter().map(PositionView::new).collect();
    let response = match format {
        Format::Json => Json(Positions { items, next_cursor }).into_response(),
        Format::GeoJson => {
            let feature = |item: &PositionView| geo::feature(&[item.place()], item);
            format.answer(geo::geo_json(&items.iter().map(feature).collect::<Vec<_>>(), next_cursor))
        }
        Format::Gpx => format.answer(gpx(&items)),
    };
    let next = next_cursor.map(|after| {
        let query = geo::next_query(after, limit.into(), from, to);
        name.map_or_else(|| query.clone(), |name| format!("{query}&format={name}"))
    });
    Ok(geo::finish(response, &format!("/orders/{id}/positions"), next))
}

/// A track for each driver, of the places as they were sent. What became of each is in its extensions, in the words of JSON.
fn gpx(items: &[PositionView]) -> String {
    let mut gpx = Gpx::new(true);
    for line in items.chunk_by(|one, other| one.driver_id == other.driver_id) {
        gpx.track(&line[0].driver_id, |track| {
            for item in line {
                let shown = item.shown.as_ref();
                track.point(
                    item.place(),
                    &item.recorded_at,
                    &[
                        ("verdict", display(item.verdict.as_ref())),
                        ("receivedAt", Some(&item.received_at)),
                        ("heading", display(item.heading.as_ref())),
                        ("speed", display(item.speed.as_ref())),
                        ("accuracy", display(item.accuracy.as_ref())),
                        ("mocked", display(item.mocked.as_ref())),
                        ("impliedSpeed", display(item.implied_speed.as_ref())),
                        ("innovation", display(item.innovation.as_ref())),
                        ("shownLatitude", display(shown.map(|shown| &shown.latitude))),
                        ("shownLongitude", display(shown.map(|shown| &shown.longitude))),
                        ("source", display(shown.map(|shown| &shown.source))),
                        (
                            "uncertaintyMeters",
                            display(shown.and_then(|shown| shown.uncertainty_meters.as_ref())),
                        ),
                        ("reanchored", display(shown.and_then(|shown| shown.reanchored.as_ref()))),
                    ],
                );
            }
        });
    }
    gpx.end()
}

fn display<T: Display>(value: Option<&T>) -> Option<&dyn Display> {
    value.map(|value| value as &dyn Display)
}

/// Why the dot was where it was at a time
#[utoipa::path(
    get, path = "/orders/{id}/positions/explain", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "Order id"), Asked),
    responses((status = 200, body = Explanation))
)]
pub(super) async fn why(
    State(site): State<Site>,
    Caller(who): Caller,
    OrderPath(id): OrderPath,
    Query(asked): Query<Asked>,
) -> Result<Json<Explanation>, Refusal> {
    let app = &site.app;
    let at = asked.at.unwrap_or_else(|| app.clock.now());
    let span = Span { from: Some(at - AROUND), to: Some(at + AROUND), after: 0 };
    let mut kept = app.drivers.positions(&id, &who, span, FIXES).await?;
    if kept.is_empty() {
        // The newest ones before that time.
        kept = app.drivers.positions(&id, &who, Span { to: Some(at), ..Span::default() }, FIXES).await?;
    }
    let explained = explain(&kept, at).ok_or(Refusal::NotFound("position"))?;
    Ok(Json(Explanation {
        verdict: explained.kept.verdict.map(crate::model::Verdict::as_str),
        text: explained.text,
        moved_meters: explained.moved.map(rounded),
        position: PositionView::new(&explained.kept),
    }))
}
