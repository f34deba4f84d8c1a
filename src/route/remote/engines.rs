//! What routers are asked, and how their answers are read. Answers are hostile until they are parsed.

use reqwest::{Client, Request, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Address, Failure, Kind};
use crate::model::Point;
use crate::model::plane::Plane;
use crate::route::{Mode, Passed, Route};

/// The most points of a course.
const POINTS: usize = 100_000;
/// Places are taken to roads within so many metres.
const RADIUS: &str = "2500;2500";

/// The request for a way.
pub(super) fn request(
    address: &Address,
    client: &Client,
    mode: Mode,
    from: Point,
    to: Point,
) -> Option<Request> {
    let lonlat = |place: Point| format!("{:.6},{:.6}", place.lon(), place.lat());
    let pair = format!("{};{}", lonlat(from), lonlat(to));
    let under = |path: &str| -> Option<Url> {
        let mut url = address.url.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(path.split('/'));
        Some(url)
    };
    match address.kind {
        Kind::Osrm => {
            let profile = match mode {
                Mode::Car => "driving",
                Mode::Bike => "cycling",
                Mode::Foot => "walking",
            };
            let mut url = under(&format!("route/v1/{profile}/{pair}"))?;
            url.query_pairs_mut()
                .append_pair("overview", "full")
                .append_pair("geometries", "geojson")
                .append_pair("annotations", "duration,distance")
                .append_pair("radiuses", RADIUS);
            client.get(url).build().ok()
        }
        Kind::Valhalla => {
            let costing = match mode {
                Mode::Car => "auto",
                Mode::Bike => "bicycle",
                Mode::Foot => "pedestrian",
            };
            let location = |place: Point| json!({"lat": place.lat(), "lon": place.lon()});
            let body = json!({"locations": [location(from), location(to)], "costing": costing, "units": "kilometers"});
            client.post(under("route")?).json(&body).build().ok()
        }
        Kind::Google => {
            let travel = match mode {
                Mode::Car => "DRIVE",
                Mode::Bike => "BICYCLE",
                Mode::Foot => "WALK",
            };
            let mut url = under("directions/v2:computeRoutes")?;
            let key = url.query_pairs().find(|(name, _)| name == "key").map(|(_, key)| key.into_owned())?;
            url.set_query(None);
            let at = |place: Point| json!({"location": {"latLng": {"latitude": place.lat(), "longitude": place.lon()}}});
            let mut body = json!({"origin": at(from), "destination": at(to), "travelMode": travel});
            if mode == Mode::Car {
                body["routingPreference"] = json!("TRAFFIC_AWARE");
            }
            let fields = "routes.duration,routes.distanceMeters,routes.polyline.encodedPolyline";
            let request = client.post(url).header("X-Goog-Api-Key", key).header("X-Goog-FieldMask", fields);
            request.json(&body).build().ok()
        }
        Kind::Mapbox => {
            let profile = match mode {
                Mode::Car => "driving-traffic",
                Mode::Bike => "cycling",
                Mode::Foot => "walking",
            };
            let mut url = under(&format!("directions/v5/mapbox/{profile}/{pair}"))?;
            url.query_pairs_mut()
                .append_pair("overview", "full")
                .append_pair("geometries", "geojson")
                .append_pair("annotations", "duration,distance");
            client.get(url).build().ok()
        }
    }
}

/// Reads an answer.
pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Route, Failure> {
    match kind {
        Kind::Osrm | Kind::Mapbox => osrm(body),
        Kind::Valhalla => valhalla(body),
        Kind::Google => google(body),
    }
}

/// OSRM's answer, and Mapbox's, which is made like it.
#[derive(Deserialize)]
struct Osrm {
    code: String,
    #[serde(default)]
    routes: Vec<OsrmRoute>,
}

#[derive(Deserialize)]
struct OsrmRoute {
    duration: f64,
    distance: f64,
    geometry: OsrmGeometry,
    #[serde(default)]
    legs: Vec<OsrmLeg>,
}

#[derive(Deserialize)]
struct OsrmGeometry {
    coordinates: Vec<[f64; 2]>,
}

#[derive(Deserialize)]
struct OsrmLeg {
    annotation: Option<OsrmAnnotation>,
}

#[derive(Deserialize)]
struct OsrmAnnotation {
    #[serde(default)]
    duration: Vec<f64>,
    #[serde(default)]
    distance: Vec<f64>,
}

fn osrm(body: &[u8]) -> Result<Route, Failure> {
    let answer: Osrm =
        serde_json::from_slice(body).map_err(|_| Failure::Unreadable("it is no route of OSRM"))?;
    match answer.code.as_str() {
        "Ok" => {}
        "NoRoute" | "NoSegment" => return Err(Failure::NoWay),
        _ => return Err(Failure::Unreadable("its code is not Ok")),
    }
    let route = answer.routes.into_iter().next().ok_or(Failure::NoWay)?;
    let mut places = Vec::with_capacity(route.geometry.coordinates.len().min(POINTS));
    for [longitude, latitude] in route.geometry.coordinates.into_iter().take(POINTS) {
        places.push(place(latitude, longitude)?);
    }
    let known = route.legs.into_iter().next().and_then(|leg| leg.annotation);
    let known = known.filter(|known| {
        let pieces = places.len().saturating_sub(1);
        known.duration.len() == pieces && known.distance.len() == pieces
    });
    Ok(match known {
        Some(known) => of_pieces(&places, &known.duration, &known.distance, route.duration, route.distance),
        None => of_line(&places, route.duration, route.distance),
    })
}

fn valhalla(body: &[u8]) -> Result<Route, Failure> {
    const UNREADABLE: Failure = Failure::Unreadable("it is no route of Valhalla");
    let answer: Value = serde_json::from_slice(body).map_err(|_| UNREADABLE)?;
    // No path could be found, or no road is near.
    if matches!(answer["error_code"].as_i64(), Some(442 | 171)) {
        return Err(Failure::NoWay);
    }
    let (trip, leg) = (&answer["trip"], &answer["trip"]["legs"][0]);
    let seconds = trip["summary"]["time"].as_f64().ok_or(UNREADABLE)?;
    let kilometres = trip["summary"]["length"].as_f64().ok_or(UNREADABLE)?;
    let places = polyline(leg["shape"].as_str().ok_or(UNREADABLE)?, 1e6)?;
    Ok(of_line(&places, seconds, kilometres * 1_000.0))
}

fn google(body: &[u8]) -> Result<Route, Failure> {
    const UNREADABLE: Failure = Failure::Unreadable("it is no route of Google");
    let answer: Value = serde_json::from_slice(body).map_err(|_| UNREADABLE)?;
    if answer.get("error").is_some() {
        return Err(Failure::Unreadable("it is an error"));
    }
    // Without a way the answer is empty.
    let Some(route) = answer["routes"].get(0) else { return Err(Failure::NoWay) };
    let seconds = route["duration"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
    // Proto JSON leaves out zeros.
    let metres = route["distanceMeters"].as_f64().unwrap_or(0.0);
    let places = polyline(route["polyline"]["encodedPolyline"].as_str().ok_or(UNREADABLE)?, 1e5)?;
    Ok(of_line(&places, seconds.ok_or(UNREADABLE)?, metres))
}

fn place(latitude: f64, longitude: f64) -> Result<Point, Failure> {
    if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
        Ok(Point::stored(latitude, longitude))
    } else {
        Err(Failure::Unreadable("it leaves the globe"))
    }
}

/// Reads an encoded polyline with so many steps in a degree.
fn polyline(text: &str, steps: f64) -> Result<Vec<Point>, Failure> {
    const BROKEN: Failure = Failure::Unreadable("its polyline is broken");
    let (mut places, mut at, mut bytes) = (Vec::new(), [0_i64; 2], text.bytes().peekable());
    while bytes.peek().is_some() && places.len() < POINTS {
        for axis in &mut at {
            let (mut value, mut shift) = (0_i64, 0);
            loop {
                let byte = bytes.next().and_then(|byte| byte.checked_sub(63)).ok_or(BROKEN)?;
                if shift > 35 {
                    return Err(BROKEN);
                }
                value |= i64::from(byte & 0x1f) << shift;
                shift += 5;
                if byte < 0x20 {
                    break;
                }
            }
            *axis += (value >> 1) ^ -(value & 1);
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let [latitude, longitude] = at.map(|axis| axis as f64 / steps);
        places.push(place(latitude, longitude)?);
    }
    Ok(places)
}

/// A route whose pieces are known.
fn of_pieces(places: &[Point], seconds: &[f64], metres: &[f64], duration: f64, distance: f64) -> Route {
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    // The sums are rounded, and turns may be in the duration only.
    let scale = |total: f64, sum: f64| if sum > 0.0 { total / sum } else { 1.0 };
    let (time, length) = (scale(duration, sum(seconds)), scale(distance, sum(metres)));
    let (mut passed, mut points) = ((0.0, 0.0), Vec::with_capacity(places.len()));
    for (index, place) in places.iter().enumerate() {
        if let Some(before) = index.checked_sub(1) {
            passed = (passed.0 + seconds[before] * time, passed.1 + metres[before] * length);
        }
        points.push(Passed { place: *place, seconds: passed.0, metres: passed.1 });
    }
    Route { seconds: duration, metres: distance, points }
}

/// A route of which only the whole is known: time goes by the way.
fn of_line(places: &[Point], duration: f64, distance: f64) -> Route {
    let lengths: Vec<f64> = places.windows(2).map(|pair| Plane::around(pair[0]).away(pair[1])).collect();
    of_pieces(places, &lengths, &lengths, duration, distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_each_kind_are_read() {
        // Made like the examples in each one's documentation: 1,000 m east along the equator, then 500 m north, in 150 s.
        let osrm = json!({"code": "Ok", "routes": [{"duration": 150.0, "distance": 1_668.0, "geometry": {"type": "LineString",
            "coordinates": [[0.0, 0.0], [0.01, 0.0], [0.01, 0.005]]}, "legs": [{"annotation": {"duration": [90.0, 60.0], "distance": [1_112.0, 556.0]}}]}]});
        let valhalla = json!({"trip": {"status": 0, "summary": {"time": 150.0, "length": 1.668},
            "legs": [{"shape": r"???_pRowH?"}]}});
        let google = json!({"routes": [{"duration": "150s", "distanceMeters": 1_668,
            "polyline": {"encodedPolyline": r"???o}@g^?"}}]});
        for (kind, body) in
            [(Kind::Osrm, &osrm), (Kind::Mapbox, &osrm), (Kind::Google, &google), (Kind::Valhalla, &valhalla)]
        {
            let route =
                read(kind, body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            assert!(
                (route.seconds - 150.0).abs() < 1e-6 && (route.metres - 1_668.0).abs() < 1e-6,
                "{kind:?}"
            );
            let last = route.points.last().expect("a course");
            assert!(
                (last.seconds - 150.0).abs() < 1e-6 && (last.metres - 1_668.0).abs() < 1e-6,
                "{kind:?}: {last:?}"
            );
        }
        let middle = read(Kind::Osrm, osrm.to_string().as_bytes()).expect("a route").points[1];
        assert!((middle.seconds - 90.0).abs() < 1e-6 && (middle.metres - 1_112.0).abs() < 1e-6);
    }

    #[test]
    fn no_way_is_not_a_failure_and_nonsense_is() {
        for (kind, body) in [
            (Kind::Osrm, r#"{"code":"NoRoute","message":"Impossible route"}"#),
            (Kind::Mapbox, r#"{"code":"NoSegment"}"#),
            (Kind::Valhalla, r#"{"error_code":442,"error":"No path could be found for input"}"#),
            (Kind::Google, "{}"),
        ] {
            assert!(matches!(read(kind, body.as_bytes()), Err(Failure::NoWay)), "{kind:?}");
        }
        let broken = [
            "",
            "[]",
            "{}",
            "<html>",
            "{\"code\":\"Ok\"}",
            r#"{"trip":{"summary":{"time":1,"length":1},"legs":[{"shape":"~~~~~~~~~~~~~~~~"}]}}"#,
            r#"{"code":"Ok","routes":[{"duration":1,"distance":1,"geometry":{"coordinates":[[500,0],[0,500]]}}]}"#,
            r#"{"routes":[{"duration":"soon","polyline":{"encodedPolyline":"??"}}]}"#,
        ];
        for body in broken {
            for kind in [Kind::Osrm, Kind::Valhalla, Kind::Google, Kind::Mapbox] {
                assert!(read(kind, body.as_bytes()).is_err(), "{kind:?} {body}");
            }
        }
    }

    #[test]
    fn polylines_of_map_libraries_are_read() {
        // The example in Google's description of the format.
        let places = polyline("_p~iF~ps|U_ulLnnqC_mqNvxq`@", 1e5).unwrap_or_default();
        let expected = [(38.5, -120.2), (40.7, -120.95), (43.252, -126.453)];
        assert_eq!(places.len(), 3);
        for (place, (latitude, longitude)) in places.iter().zip(expected) {
            assert!((place.lat() - latitude).abs() < 1e-9 && (place.lon() - longitude).abs() < 1e-9);
        }
    }
}
