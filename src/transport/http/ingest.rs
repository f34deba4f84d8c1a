//! Positions over HTTP, for phones whose sockets sleep: in our words, and in those of programs that were not written for this server.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::extract::{Caller, UserPath};
use crate::base::error::Refusal;
use crate::base::json::{read_json, well_formed};
use crate::driver::report::BatchOutcome;
use crate::model::phones::{Heard, background_geolocation, osmand, owntracks};
use crate::model::{LocationReport, Principal, Role, UserId, Verdict};
use crate::transport::problem::Problem;
use crate::transport::site::Site;
use crate::transport::{body, problem};

/// What became of positions.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    accepted: usize,
    rejected: Vec<RejectedPosition>,
    /// Whether clients see the newest of them
    shown: bool,
    /// Of a single one
    verdict: Option<&'static str>,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectedPosition {
    index: usize,
    code: &'static str,
    message: String,
    member: Option<String>,
}

impl From<BatchOutcome> for Reported {
    fn from(outcome: BatchOutcome) -> Self {
        let rejected = outcome.rejected.into_iter().map(|point| RejectedPosition {
            index: point.index,
            code: point.refusal.code(),
            message: point.refusal.to_string(),
            member: match point.refusal {
                Refusal::Invalid { member, .. } => Some(member),
                _ => None,
            },
        });
        Self { accepted: outcome.accepted, rejected: rejected.collect(), shown: outcome.shown, verdict: None }
    }
}

/// One position, or several that an app has collected: for the document only.
#[derive(ToSchema)]
#[schema(as = PositionsIn)]
#[expect(dead_code, reason = "for the document only")]
struct PointsIn {
    #[schema(value_type = Option<f64>, format = "latitude")]
    latitude: Option<f64>,
    #[schema(value_type = Option<f64>, format = "longitude")]
    longitude: Option<f64>,
    #[schema(format = DateTime)]
    recorded_at: Option<String>,
    /// In place of a single one
    points: Option<Vec<Value>>,
}

/// The text of a body as large as a batch may be.
async fn text(site: &Site, request: Request) -> Result<String, Response> {
    let bytes = body::read(request.into_body(), site.app.config.limits.max_batch_bytes).await?;
    let malformed = || problem::respond(&Refusal::Malformed("not JSON: not UTF-8".to_owned()));
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
    Ok(well_formed(text).into_owned())
}

/// The driver on whose behalf somebody reports.
fn driver_of(who: &Principal, id: Option<&UserId>) -> Result<UserId, Refusal> {
    match who.role {
        Role::Driver if id.is_none_or(|id| *id == who.id) => Ok(who.id.clone()),
        Role::Admin | Role::Service if let Some(id) = id => Ok(id.clone()),
        Role::Admin | Role::Service => Err(Refusal::invalid("id", "is required: which driver it is")),
        _ => Err(Refusal::Forbidden("only that driver, admin and service may do this".to_owned())),
    }
}

/// Report positions of a driver
#[utoipa::path(
    post, path = "/drivers/{id}/locations", tag = "drivers", security(("bearer" = [])), request_body = Value,
    params(("id" = String, Path, description = "User id")),
    responses(
        (status = 200, body = Reported),
        (status = 404, description = "It names an order that the driver does not carry", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn report(
    State(site): State<Site>,
    Caller(who): Caller,
    UserPath(driver): UserPath,
    request: Request,
) -> Result<Json<Reported>, Response> {
    #[derive(Deserialize)]
    struct Batch {
        points: Option<Vec<Box<serde_json::value::RawValue>>>,
    }
    let refuse = |refusal: Refusal| problem::respond(&refusal);
    let driver = driver_of(&who, Some(&driver)).map_err(refuse)?;
    let text = text(&site, request).await?;
    let Batch { points } = read_json(&text, "body").map_err(refuse)?;
    let (app, now) = (&site.app, site.app.clock.now());
    let live = app.drivers.driver(&driver);
    let Some(points) = points else {
        let fix: LocationReport = read_json(&text, "body").map_err(refuse)?;
        let outcome = app.drivers.report(&live, &fix, now).map_err(refuse)?;
        let (shown, verdict) = (outcome.verdict == Verdict::Shown, Some(outcome.verdict.as_str()));
        return Ok(Json(Reported { accepted: 1, rejected: Vec::new(), shown, verdict }));
    };
    let most = app.config.limits.location_batch_max;
    if points.len() > most {
        return Err(refuse(Refusal::invalid("points", format!("must have at most {most} points"))));
    }
    let points = points.iter().map(|point| read_json(point.get(), "point")).collect();
    let outcome = app.drivers.report_batch(&live, points, now).map_err(refuse)?;
    Ok(Json(outcome.into()))
}

/// Hands on what a phone says, one position as one and several as a batch. One that comes too fast is kept all the same, so the
/// phone must not send it again.
fn hear(site: &Site, driver: &UserId, mut heard: Vec<Result<Heard, Refusal>>) -> Result<Reported, Refusal> {
    let (app, now) = (&site.app, site.app.clock.now());
    let battery = heard.iter().rev().find_map(|heard| heard.as_ref().ok().and_then(|heard| heard.battery));
    if let Some(percent) = battery {
        app.drivers.battery(driver, percent);
    }
    let live = app.drivers.driver(driver);
    // An order that the driver has handed over since must not cost the position.
    for heard in heard.iter_mut().flatten() {
        heard.report.order_id = None;
    }
    if heard.len() == 1 {
        let Some(heard) = heard.pop() else { return Err(Refusal::invalid("location", "is required")) };
        let (shown, verdict) = match app.drivers.report(&live, &heard?.report, now) {
            Ok(outcome) => (outcome.verdict == Verdict::Shown, Some(outcome.verdict.as_str())),
            Err(Refusal::RateLimited { .. }) => (false, None),
            Err(refusal) => return Err(refusal),
        };
        return Ok(Reported { accepted: 1, rejected: Vec::new(), shown, verdict });
    }
    let points = heard.into_iter().map(|heard| heard.map(|heard| heard.report)).collect();
    Ok(app.drivers.report_batch(&live, points, now)?.into())
}

/// Positions from `react-native-background-geolocation`
#[utoipa::path(
    post, path = "/ingest/background-geolocation", tag = "drivers", security(("bearer" = [])), request_body = Value,
    responses((status = 200, body = Reported))
)]
pub(super) async fn background(
    State(site): State<Site>,
    Caller(who): Caller,
    request: Request,
) -> Result<Json<Reported>, Response> {
    let refuse = |refusal: Refusal| problem::respond(&refusal);
    let driver = driver_of(&who, None).map_err(refuse)?;
    let text = text(&site, request).await?;
    let body: Value = read_json(&text, "body").map_err(refuse)?;
    let heard = background_geolocation(&body, site.app.config.limits.location_batch_max).map_err(refuse)?;
    hear(&site, &driver, heard).map(Json).map_err(refuse)
}

/// A message of `OwnTracks`
#[utoipa::path(
    post, path = "/ingest/owntracks", tag = "drivers", security(("bearer" = [])), request_body = Value,
    responses((status = 200, description = "An empty list: nothing for the phone to do", body = Vec<Value>))
)]
pub(super) async fn own_tracks(
    State(site): State<Site>,
    Caller(who): Caller,
    request: Request,
) -> Result<Json<[Value; 0]>, Response> {
    let refuse = |refusal: Refusal| problem::respond(&refusal);
    let driver = driver_of(&who, None).map_err(refuse)?;
    let text = text(&site, request).await?;
    let body: Value = read_json(&text, "body").map_err(refuse)?;
    if let Some(heard) = owntracks(&body).map_err(refuse)? {
        hear(&site, &driver, vec![Ok(heard)]).map_err(refuse)?;
    }
    Ok(Json([]))
}

/// A position from Traccar Client, or anything else that speaks the protocol of `OsmAnd`
#[utoipa::path(
    get, path = "/ingest/osmand", tag = "drivers", security(("bearer" = [])),
    params(
        ("id" = Option<String>, Query, description = "The driver, if the token is a service's"),
        ("lat" = f64, Query), ("lon" = f64, Query),
        ("timestamp" = Option<String>, Query, description = "Seconds, milliseconds or a text"),
        ("speed" = Option<f64>, Query, description = "Knots"), ("bearing" = Option<f64>, Query),
        ("accuracy" = Option<f64>, Query), ("batt" = Option<f64>, Query),
    ),
    responses((status = 200, description = "Taken"))
)]
pub(super) async fn osm_and(
    State(site): State<Site>,
    Caller(who): Caller,
    request: Request,
) -> Result<Response, Response> {
    by_osmand(&site, &who, request).await
}

/// The same in a form, or as newer versions of Traccar Client send it, in JSON
#[utoipa::path(
    post, path = "/ingest/osmand", tag = "drivers", security(("bearer" = [])), request_body = Option<Value>,
    responses((status = 200, description = "Taken"))
)]
pub(super) async fn osm_and_form(
    State(site): State<Site>,
    Caller(who): Caller,
    request: Request,
) -> Result<Response, Response> {
    by_osmand(&site, &who, request).await
}

async fn by_osmand(site: &Site, who: &Principal, request: Request) -> Result<Response, Response> {
    let refuse = |refusal: Refusal| problem::respond(&refusal);
    let query = request.uri().query().unwrap_or_default().to_owned();
    let is_json = is_json(request.headers());
    let body = if *request.method() == Method::POST { text(site, request).await? } else { String::new() };
    let mut parameters: Map<String, Value> = Map::new();
    let mut add = |text: &str| {
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            parameters.insert(name.into_owned(), value.into_owned().into());
        }
    };
    add(&query);
    let json = if is_json && !body.trim().is_empty() {
        Some(read_json::<Value>(&body, "body").map_err(refuse)?)
    } else {
        add(&body);
        None
    };
    let named = parameters
        .get("id")
        .or_else(|| parameters.get("deviceid"))
        .or_else(|| json.as_ref()?.get("device_id"));
    let named = named.and_then(Value::as_str).and_then(|id| UserId::parse(id).ok());
    // Programs make ids of their own. Who reports is in the token, unless a service speaks for drivers.
    let driver = driver_of(who, named.as_ref().filter(|_| who.role.is_staff())).map_err(refuse)?;
    let heard = match json {
        Some(json) => {
            background_geolocation(&json, site.app.config.limits.location_batch_max).map_err(refuse)?
        }
        None => vec![Ok(osmand(&Value::Object(parameters)).map_err(refuse)?)],
    };
    hear(site, &driver, heard).map_err(refuse)?;
    Ok(().into_response())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}
