//! What was learned from deliveries, for staff.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::extract::{Body, Caller};
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::eta::calibration::store::{Version, View, Wanted};
use crate::model::WholeNumber;
use crate::model::access::only_staff;
use crate::transport::problem::Problem;
use crate::transport::site::Site;

/// How much longer driving takes than the routers say, as learned.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtaCalibration {
    /// `on`, `shadow` (nothing is changed by it) or `off`
    mode: &'static str,
    /// True while nothing is learned
    frozen: bool,
    /// The newest version, which is in use
    version: i64,
    /// The last day that counts
    day: Option<String>,
    levels: Vec<LevelOut>,
    ranges: Vec<RangeOut>,
    /// All versions that are kept, the newest first
    versions: Vec<VersionOut>,
}

/// The factor of a mode, of one of its hours, or of an area that it goes to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EtaLevel)]
pub struct LevelOut {
    /// Such as `car`, `car 17 weekday` (UTC), `car @47.15,9.51`
    name: String,
    trips: u64,
    /// What is in use: 1 as long as there were few trips, and towards 1 while ETAs would be better without
    factor: f64,
}

/// How far arrivals lie from the ETAs of a source, of so many minutes ahead.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EtaRange)]
pub struct RangeOut {
    /// Such as `network 5-10 car`, or `all`
    name: String,
    trips: u64,
    /// A tenth of the drives takes less than this share of the time that was said
    low: f64,
    /// A tenth takes more
    high: f64,
}

/// A version.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EtaCalibrationVersion)]
pub struct VersionOut {
    version: i64,
    day: String,
    made_at: String,
    /// Who asked for it; without anybody, a day was learned
    made_by: Option<String>,
    /// The version that was gone back to
    copy_of: Option<i64>,
    frozen: bool,
}

impl From<Version> for VersionOut {
    fn from(from: Version) -> Self {
        let Version { version, day, made_at, made_by, copy_of, frozen } = from;
        Self { version, day, made_at: rfc3339(made_at), made_by, copy_of, frozen }
    }
}

impl From<View> for EtaCalibration {
    fn from(view: View) -> Self {
        let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
        let newest = view.versions.first();
        let levels = view.learned.levels.iter().map(|(name, level)| LevelOut {
            name: name.clone(),
            trips: level.trips,
            factor: round(level.published.exp()),
        });
        let ranges = view.learned.ranges().map(|(name, trips, spread)| RangeOut {
            name: name.to_owned(),
            trips,
            low: round(spread.low),
            high: round(spread.high),
        });
        Self {
            mode: view.policy.as_str(),
            frozen: newest.is_some_and(|newest| newest.frozen),
            version: newest.map_or(0, |newest| newest.version),
            day: newest.map(|newest| newest.day.clone()),
            levels: levels.collect(),
            ranges: ranges.collect(),
            versions: view.versions.into_iter().map(VersionOut::from).collect(),
        }
    }
}

/// What is to become of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EtaCalibrationIn)]
pub struct CalibrationIn {
    /// True: nothing is learned any more; false: days are learned again, from today on
    frozen: Option<bool>,
    /// Go back to what this version had learned. Days until today are not learned again
    #[schema(value_type = Option<i64>, minimum = 1)]
    roll_back_to: Option<WholeNumber>,
}

/// What was learned from deliveries
#[utoipa::path(
    get, path = "/stats/eta/calibration", tag = "people", security(("bearer" = [])),
    responses((status = 200, body = EtaCalibration))
)]
pub(super) async fn view(
    State(site): State<Site>,
    Caller(who): Caller,
) -> Result<Json<EtaCalibration>, Refusal> {
    only_staff(&who)?;
    Ok(Json(site.app.calibrating.view().await?.into()))
}

/// Stop learning from deliveries, go on, or go back to an older version
#[utoipa::path(
    post, path = "/stats/eta/calibration", tag = "people", security(("bearer" = [])),
    request_body = CalibrationIn,
    responses(
        (status = 200, body = EtaCalibration),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(site): State<Site>,
    Caller(who): Caller,
    Body { value, .. }: Body<CalibrationIn>,
) -> Result<Json<EtaCalibration>, Refusal> {
    let roll_back_to = value.roll_back_to.map(|WholeNumber(version)| version);
    if value.frozen.is_none() && roll_back_to.is_none() {
        return Err(Refusal::invalid("frozen", "must be there, or rollBackTo must be"));
    }
    site.app.calibrating.set(&who, Wanted { frozen: value.frozen, roll_back_to }).await?;
    Ok(Json(site.app.calibrating.view().await?.into()))
}
