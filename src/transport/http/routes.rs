//! Ways between two places, for staff.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Caller, Query};
use crate::base::error::Refusal;
use crate::model::access::only_staff;
use crate::model::{EtaSource, Point, straight};
use crate::route::{Mode, Passed, Route};
use crate::transport::site::Site;

/// From where to where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Latitude and longitude: `47.14,9.52`
    #[param(
        required = true,
        example = "47.14,9.52",
        pattern = r"^-?([0-8]?[0-9](\.[0-9]{1,9})?|90(\.0{1,9})?),-?((1[0-7][0-9]|[0-9]{1,2})(\.[0-9]{1,9})?|180(\.0{1,9})?)$"
    )]
    from: Option<String>,
    /// Latitude and longitude
    #[param(
        required = true,
        example = "47.17,9.51",
        pattern = r"^-?([0-8]?[0-9](\.[0-9]{1,9})?|90(\.0{1,9})?),-?((1[0-7][0-9]|[0-9]{1,2})(\.[0-9]{1,9})?|180(\.0{1,9})?)$"
    )]
    to: Option<String>,
    /// car, bike or foot [default: what drivers travel with]
    #[param(pattern = "^(car|bike|foot)$")]
    mode: Option<String>,
}

/// A way.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    seconds: f64,
    meters: f64,
    /// `network`: by the roads in memory; `osrm`, `valhalla`, `google`, `mapbox`: by a router; `geodesic`: the straight line
    source: &'static str,
    /// The course as an encoded polyline, with five digits
    polyline: String,
}

/// How long a way takes, and where it goes
#[utoipa::path(
    get, path = "/routes", tag = "operation", security(("bearer" = [])), params(Wanted),
    responses((status = 200, body = Way))
)]
pub(super) async fn get(
    State(site): State<Site>,
    Caller(who): Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Way>, Refusal> {
    only_staff(&who)?;
    let (from, to) = (place("from", wanted.from.as_deref())?, place("to", wanted.to.as_deref())?);
    let mode = match wanted.mode.as_deref() {
        None => None,
        Some("car") => Some(Mode::Car),
        Some("bike") => Some(Mode::Bike),
        Some("foot") => Some(Mode::Foot),
        Some(_) => return Err(Refusal::invalid("mode", "must be car, bike or foot")),
    };
    let (route, source) = match site.app.roads.find(mode, from, to).await? {
        Some(found) => found,
        None => (as_the_crow_flies(from, to), EtaSource::Geodesic),
    };
    let tenths = |value: f64| (value * 10.0).round() / 10.0;
    Ok(Json(Way {
        seconds: tenths(route.seconds),
        meters: tenths(route.metres),
        source: source.as_str(),
        polyline: route.polyline(),
    }))
}

fn place(name: &'static str, text: Option<&str>) -> Result<Point, Refusal> {
    let read = || {
        let (latitude, longitude) = text?.split_once(',')?;
        let number = |text: &str| text.trim().parse::<f64>().ok();
        serde_json::from_value(json!({"latitude": number(latitude)?, "longitude": number(longitude)?})).ok()
    };
    read().ok_or_else(|| Refusal::invalid(name, "must be a latitude and a longitude, such as 47.14,9.52"))
}

fn as_the_crow_flies(from: Point, to: Point) -> Route {
    let (metres, seconds) = straight(from, to);
    let end = Passed { place: to, seconds, metres };
    Route { seconds, metres, points: vec![Passed { place: from, seconds: 0.0, metres: 0.0 }, end] }
}
