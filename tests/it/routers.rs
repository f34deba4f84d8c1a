//! Routers elsewhere (`--router`), as servers that speak the words of OSRM, Valhalla, Google Routes and Mapbox: their paths, queries,
//! headers and answers are those of their documentation. What they ask for and what they answer is checked here, because none of them is a
//! package that can be installed.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use crate::binary::run;
use crate::harness::{Server, TestDb, until};
use crate::roads::prepared;
use crate::socket::Socket;

// What it does instead of its work.
const HANGS: u8 = 1;
const FAILS: u8 = 2;
const LIES: u8 = 3;
const NO_WAY: u8 = 4;

/// Method, path and query, headers, body.
type Asked = (Method, Uri, HeaderMap, Value);

/// A router that does as it is told.
#[derive(Clone, Default)]
struct Fake {
    mood: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
    /// What it was asked last.
    last: Arc<Mutex<Option<Asked>>>,
}

/// Ten minutes and 6,000 m from one place to the other, which are longitude and latitude.
fn osrm(from: [f64; 2], to: [f64; 2]) -> Value {
    json!({"code": "Ok", "waypoints": [], "routes": [{
        "duration": 600.0, "distance": 6_000.0, "weight": 600.0, "weight_name": "routability",
        "geometry": {"type": "LineString", "coordinates": [from, to]},
        "legs": [{"duration": 600.0, "distance": 6_000.0, "steps": [], "annotation": {"duration": [600.0], "distance": [6_000.0]}}],
    }]})
}

async fn answer(
    State(fake): State<Fake>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    fake.asked.fetch_add(1, Ordering::SeqCst);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = uri.path().to_owned();
    *fake.last.lock().unwrap() = Some((method, uri, headers, body));
    let pair: Vec<f64> = path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .split([',', ';'])
        .filter_map(|text| text.parse().ok())
        .collect();
    match fake.mood.load(Ordering::SeqCst) {
        HANGS => std::future::pending().await,
        FAILS => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        LIES => axum::Json(osrm([0.0, 0.0], [0.001, 0.0])).into_response(),
        NO_WAY => {
            (StatusCode::BAD_REQUEST, axum::Json(json!({"code": "NoRoute", "message": "Impossible route"})))
                .into_response()
        }
        _ if path.ends_with("/route") => axum::Json(json!({"trip": {"status": 0, "units": "kilometers",
            "summary": {"time": 600.0, "length": 6.0}, "legs": [{"shape": r"_ie|xA_w`dQowHowH"}]}}))
        .into_response(),
        _ if path.contains("computeRoutes") => {
            axum::Json(json!({"routes": [{"duration": "600s", "distanceMeters": 6_000,
            "polyline": {"encodedPolyline": r"_`v~G_kby@g^g^"}}]}))
            .into_response()
        }
        _ => axum::Json(osrm([pair[0], pair[1]], [pair[2], pair[3]])).into_response(),
    }
}

impl Fake {
    /// Starts it. Returns its address.
    async fn start() -> (Self, String) {
        let fake = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let app = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (fake, format!("http://{address}"))
    }

    fn is(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    fn last(&self) -> Asked {
        self.last.lock().unwrap().clone().expect("it was asked")
    }
}

const WAY: &str = "/routes?from=47.14,9.52&to=47.145,9.525";

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_asked_first_and_left_alone_when_it_fails() {
    let (db, folder) = (TestDb::sqlite(), tempfile::tempdir().expect("a folder"));
    let (fake, url) = Fake::start().await;
    let (router, roads) = (format!("osrm:{url}/base"), prepared(folder.path()));
    let flags = [
        "--router",
        &router,
        "--road-network",
        roads.to_str().expect("a path"),
        "--location-rate-per-second",
        "0",
    ];
    let server = Server::start(&db, &flags).await;
    until("the roads", async || crate::bus::metric(&server, "ordercast_road_segments").await > 0).await;
    let admin = server.admin();
    let way = async |query: &str| admin.get(query).await.body;
    let found = way(WAY).await;
    assert_eq!(
        (&found["source"], &found["seconds"], &found["meters"]),
        (&json!("osrm"), &json!(600.0), &json!(6_000.0)),
        "{found}"
    );
    let (method, uri, ..) = fake.last();
    assert_eq!(
        (method, uri.path()),
        (Method::GET, "/base/route/v1/driving/9.520000,47.140000;9.525000,47.145000")
    );
    for part in
        ["overview=full", "geometries=geojson", "radiuses=2500%3B2500", "annotations=duration%2Cdistance"]
    {
        assert!(uri.query().is_some_and(|query| query.contains(part)), "{part}: {uri}");
    }
    way(&format!("{WAY}&mode=bike")).await;
    assert!(fake.last().1.path().contains("/cycling/"));
    // An order on the way goes by it, too.
    server.order_with_driver("o1", "picked_up").await;
    let mut driver = Socket::connect(&server, "driver", ordercast::model::Role::Driver).await;
    driver.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.52})).await;
    until("the ETA", async || way("/orders/o1/tracking").await["etaSource"] == "osrm").await;
    assert_eq!(way("/orders/o1/tracking").await["etaMinutes"], 10);
    // It knows no way: that is no failure. The roads in memory are asked, and say so.
    fake.is(NO_WAY);
    for _ in 0..6 {
        assert_eq!(way(WAY).await["source"], "network");
    }
    assert!(
        server.metrics().await.contains("ordercast_route_requests_total{source=\"osrm\",result=\"none\"} 6")
    );
    // It lies, fails and hangs: after five times in a row nobody waits for it any more.
    for mood in [LIES, FAILS, HANGS, HANGS, HANGS] {
        fake.is(mood);
        let fallback = tokio::time::timeout(Duration::from_secs(5), way(WAY)).await.expect("in time");
        assert_eq!(fallback["source"], "network");
    }
    let asked = fake.asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(way(WAY).await["source"], "network");
    }
    assert_eq!(fake.asked.load(Ordering::SeqCst), asked, "it is left alone");
    assert!(server.metrics().await.contains("ordercast_router_open{source=\"osrm\"} 1"));
    // Where there are no roads in memory either, it is the straight line.
    assert_eq!(way("/routes?from=40,9&to=40.01,9").await["source"], "geodesic");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_router_is_asked_in_its_own_words() {
    let (fake, url) = Fake::start().await;
    for (kind, query, path) in [
        ("valhalla", "", "/route"),
        ("google", "?key=my-key", "/directions/v2:computeRoutes"),
        (
            "mapbox",
            "?access_token=my-token",
            "/directions/v5/mapbox/driving-traffic/9.520000,47.140000;9.525000,47.145000",
        ),
    ] {
        let db = TestDb::sqlite();
        let server = Server::start(&db, &["--router", &format!("{kind}:{url}{query}")]).await;
        let found = server.admin().get(WAY).await.body;
        assert_eq!(
            (&found["source"], &found["seconds"], &found["meters"]),
            (&json!(kind), &json!(600.0), &json!(6_000.0)),
            "{found}"
        );
        let (method, uri, headers, body) = fake.last();
        assert_eq!(uri.path(), path, "{kind}");
        match kind {
            "valhalla" => {
                assert_eq!(method, Method::POST);
                assert_eq!(
                    body,
                    json!({"locations": [{"lat": 47.14, "lon": 9.52}, {"lat": 47.145, "lon": 9.525}], "costing": "auto", "units": "kilometers"})
                );
            }
            "google" => {
                assert_eq!((method, uri.query()), (Method::POST, None), "the key is in a header");
                assert_eq!(headers["x-goog-api-key"], "my-key");
                assert_eq!(
                    headers["x-goog-fieldmask"],
                    "routes.duration,routes.distanceMeters,routes.polyline.encodedPolyline"
                );
                assert_eq!(
                    body["origin"]["location"]["latLng"],
                    json!({"latitude": 47.14, "longitude": 9.52})
                );
                assert_eq!(
                    (&body["travelMode"], &body["routingPreference"]),
                    (&json!("DRIVE"), &json!("TRAFFIC_AWARE"))
                );
            }
            _ => assert!(uri.query().is_some_and(|query| query.contains("access_token=my-token"))),
        }
        server.stop().await;
    }
}

#[test]
fn a_router_that_cannot_be_is_refused_at_start() {
    for (router, word) in [("tomtom:http://x", "osrm:"), ("osrm:nowhere", "URL"), ("google:https://x", "key")]
    {
        let refused = run(&[
            "--router",
            router,
            "--jwt-secret",
            &"s".repeat(32),
            "--database-url",
            "sqlite::memory:",
            "--listen",
            "127.0.0.1:0",
        ]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        let line = error.lines().last().unwrap_or_default();
        assert_eq!(refused.status.code(), Some(2), "{error}");
        assert!(line.starts_with("ordercast: ROUTER") && line.contains(word), "{error}");
    }
}
