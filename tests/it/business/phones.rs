//! Positions over HTTP, in the words of several programs.

use base64::Engine;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Api, Server};
use crate::on_both_databases;
use crate::socket::Socket;

/// Where a driver is, as staff see it.
async fn place(server: &Server, driver: &str) -> Value {
    let list = server.admin().get("/drivers").await;
    assert_eq!(list.status, 200, "{}", list.body);
    let items = list.body["items"].as_array().expect("items").clone();
    items.into_iter().find(|item| item["driverId"] == driver).unwrap_or_default()
}

#[tokio::test]
async fn phones_report_over_http() {
    let db = crate::harness::TestDb::sqlite();
    let server = Server::start(&db, &["--gps-filter", "off"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let (driver, service) = (server.api("driver", Role::Driver), server.api("shop", Role::Service));
    let mut watcher = Socket::connect(&server, "customer", Role::Customer).await;
    watcher.ask("subscribe:order", json!({"orderId": "o1"})).await;
    let one = driver
        .post(
            "/drivers/driver/locations",
            json!({"latitude": 47.141, "longitude": 9.521, "speed": -1, "heading": 360}),
        )
        .await;
    assert_eq!(
        (one.status, one.body),
        (200, json!({"accepted": 1, "rejected": [], "shown": true, "verdict": "shown"}))
    );
    assert_eq!(watcher.event("driver:location_update").await["latitude"], 47.141);
    let now = server.clock.now().timestamp_millis();
    let at = |ago: i64| ordercast::base::clock::rfc3339(ordercast::base::clock::from_millis(now - ago));
    let batch = json!({"points": [
        {"latitude": 47.142, "longitude": 9.521, "recordedAt": at(2_000)}, {"latitude": 91, "longitude": 9.5},
        {"latitude": 47.143, "longitude": 9.521, "orderId": "other"}, {"latitude": 47.144, "longitude": 9.521},
    ]});
    let several = service.post("/drivers/driver/locations", batch).await;
    assert_eq!(
        (several.status, &several.body["accepted"], &several.body["shown"]),
        (200, &json!(2), &json!(true)),
        "{}",
        several.body
    );
    let codes: Vec<_> = several.body["rejected"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|point| (point["index"].clone(), point["code"].clone()))
        .collect();
    assert_eq!(codes, [(json!(1), json!("invalid_payload")), (json!(2), json!("not_found"))]);
    assert_eq!(watcher.event("driver:location_update").await["latitude"], 47.144);
    // Who may not, and what is no position.
    for who in [server.api("other", Role::Driver), server.api("customer", Role::Customer)] {
        who.post("/drivers/driver/locations", json!({"latitude": 1, "longitude": 1}))
            .await
            .assert_problem(403, "forbidden");
    }
    let bad = driver.post("/drivers/driver/locations", json!({"latitude": 1})).await;
    bad.assert_problem(422, "invalid_payload");
    assert_eq!(bad.body["member"], "longitude");
    driver
        .post("/drivers/driver/locations", json!({"latitude": 1, "longitude": 1, "orderId": "other"}))
        .await
        .assert_problem(404, "not_found");
    server.stop().await;
}

/// A request as a phone sends it, with a name and the token as the password.
fn basic(server: &Server, method: &str, path: &str, user: &str) -> reqwest::RequestBuilder {
    let pair = format!("phone:{}", server.token(user, Role::Driver));
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    server.anonymous().request(method, path).header("authorization", format!("Basic {encoded}"))
}

on_both_databases! {
    async fn three_programs_need_no_code(db: TestDb) {
        let server = Server::start(&db, &["--gps-filter", "off"]).await;
        let now = server.clock.now();
        let at = ordercast::base::clock::rfc3339(now);
        let position = json!({"timestamp": at, "coords": {"latitude": 47.11, "longitude": 9.51, "accuracy": 5, "speed": -1, "heading": -1}, "battery": {"level": 0.5}});
        let plugin = server.api("d1", Role::Driver).post("/ingest/background-geolocation", json!({"location": position})).await;
        assert_eq!((plugin.status, &plugin.body["shown"]), (200, &json!(true)), "{}", plugin.body);
        let spot = place(&server, "d1").await;
        assert_eq!((&spot["latitude"], &spot["battery"], spot.get("speed"), &spot["online"]), (&json!(47.11), &json!(50), None, &json!(false)), "{spot}");
        let several = server.api("d1", Role::Driver).post("/ingest/background-geolocation", json!([position, {"coords": {"latitude": "x"}}, position])).await;
        assert_eq!((several.status, &several.body["accepted"], &several.body["rejected"][0]["index"]), (200, &json!(2), &json!(1)), "{}", several.body);

        let tracks = json!({"_type": "location", "lat": 47.12, "lon": 9.52, "tst": now.timestamp(), "vel": 36, "cog": 90, "batt": 81, "acc": 9});
        let answer = Api::send(basic(&server, "POST", "/ingest/owntracks", "d2").json(&tracks)).await;
        assert_eq!((answer.status, answer.body), (200, json!([])));
        let spot = place(&server, "d2").await;
        assert_eq!((&spot["speed"], &spot["heading"], &spot["battery"]), (&json!(10.0), &json!(90.0), &json!(81)), "{spot}");
        let will = Api::send(basic(&server, "POST", "/ingest/owntracks", "d2").json(&json!({"_type": "lwt", "tst": 1}))).await;
        assert_eq!((will.status, will.body), (200, json!([])));

        let query = format!("id=123456&lat=47.13&lon=9.53&timestamp={}&speed=19.4384449&bearing=180&accuracy=8&batt=70", now.timestamp());
        let traccar = Api::send(basic(&server, "POST", &format!("/ingest/osmand?{query}"), "d3")).await;
        assert_eq!(traccar.status, 200, "{}", traccar.body);
        let spot = place(&server, "d3").await;
        assert_eq!((&spot["latitude"], &spot["heading"]), (&json!(47.13), &json!(180.0)));
        assert!((spot["speed"].as_f64().expect("a speed") - 10.0).abs() < 0.001, "{spot}");
        let by_query = format!("/ingest/osmand?token={}&lat=47.14&lon=9.54&timestamp={}", server.token("d4", Role::Driver), now.timestamp_millis());
        assert_eq!(server.anonymous().get(&by_query).await.status, 200);
        assert_eq!(place(&server, "d4").await["latitude"], 47.14);
        let form = basic(&server, "POST", "/ingest/osmand", "d5").form(&[("lat", "47.15"), ("lon", "9.55")]);
        assert_eq!(Api::send(form).await.status, 200);
        let newer = basic(&server, "POST", "/ingest/osmand?id=d5", "d5").json(&json!({"device_id": "7", "location": position}));
        assert_eq!(Api::send(newer).await.status, 200);
        assert_eq!(place(&server, "d5").await["battery"], 50);
        // A service speaks for a driver; without one it has to say for which.
        let service = server.api("shop", Role::Service);
        assert_eq!(service.get("/ingest/osmand?id=d6&lat=47.16&lon=9.56").await.status, 200);
        assert_eq!(place(&server, "d6").await["latitude"], 47.16);
        let nobody = service.get("/ingest/osmand?lat=47.16&lon=9.56").await;
        nobody.assert_problem(422, "invalid_payload");
        assert_eq!(nobody.body["member"], "id");

        for (method, path) in [("POST", "/ingest/background-geolocation"), ("POST", "/ingest/owntracks"), ("GET", "/ingest/osmand?lat=1&lon=1")] {
            Api::send(server.anonymous().request(method, path).json(&json!({}))).await.assert_problem(401, "unauthorized");
            Api::send(server.api("customer", Role::Customer).request(method, path).json(&json!({}))).await.assert_problem(403, "forbidden");
        }
        // A name and a password open no other door.
        Api::send(basic(&server, "GET", "/orders", "d2")).await.assert_problem(401, "unauthorized");
        // Faster than it may: kept, and not to be sent again.
        for _ in 0..30 {
            let answer = Api::send(basic(&server, "POST", "/ingest/owntracks", "d7").json(&tracks)).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        server.stop().await;
    }

    async fn staff_see_the_fleet(db: TestDb) {
        let server = Server::start(&db, &["--gps-filter", "off"]).await;
        let admin = server.admin();
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let mut idle = Socket::connect(&server, "idle", Role::Driver).await;
        let mut viewer = Socket::connect(&server, "root", Role::Admin).await;
        let mut boxed = Socket::connect(&server, "shop", Role::Service).await;
        assert_eq!(viewer.ask("subscribe:fleet", json!({})).await["ok"], true);
        assert_eq!(boxed.ask("subscribe:fleet", json!({"bbox": "9.6,47,9.7,47.2"})).await["ok"], true);
        assert_eq!(boxed.ask("subscribe:fleet", json!({"bbox": [9.6, 47.2, 9.7, 47.0]})).await["error"]["member"], "bbox");
        assert_eq!(driver.ask("subscribe:fleet", json!({})).await["error"]["code"], "forbidden");
        driver.ask("driver:location", json!({"latitude": 47.11, "longitude": 9.51, "speed": 8, "heading": 45})).await;
        idle.ask("driver:location", json!({"latitude": 47.12, "longitude": 9.65})).await;
        let mut seen = std::collections::BTreeMap::new();
        while seen.len() < 2 {
            for spot in viewer.event("fleet:positions").await["drivers"].as_array().expect("drivers") {
                seen.insert(spot["driverId"].as_str().expect("an id").to_owned(), spot.clone());
            }
        }
        assert_eq!((&seen["driver"]["orderIds"], &seen["driver"]["speed"]), (&json!(["o1"]), &json!(8.0)));
        let only = boxed.event("fleet:positions").await;
        assert_eq!((only["drivers"].as_array().map(Vec::len), &only["drivers"][0]["driverId"]), (Some(1), &json!("idle")));
        // Who does not move is not told again, and who has left hears nothing.
        assert_eq!(viewer.ask("unsubscribe:fleet", json!({})).await["ok"], true);
        driver.ask("driver:location", json!({"latitude": 47.13, "longitude": 9.66})).await;
        let next = boxed.event("fleet:positions").await;
        assert_eq!((next["drivers"].as_array().map(Vec::len), &next["drivers"][0]["driverId"]), (Some(1), &json!("driver")));
        assert!(viewer.events_so_far().await.iter().all(|event| event.name != "fleet:positions"));

        let all = admin.get("/drivers?limit=1").await.body;
        assert_eq!((&all["items"][0]["driverId"], &all["items"][0]["online"]), (&json!("driver"), &json!(true)));
        let rest = admin.get(&format!("/drivers?limit=1&cursor={}", all["nextCursor"].as_str().expect("a cursor"))).await.body;
        assert_eq!((&rest["items"][0]["driverId"], &rest["items"][0]["orderIds"]), (&json!("idle"), &json!([])));
        let west = admin.get("/drivers?bbox=9.64,47,9.655,48").await.body;
        assert_eq!((west["items"].as_array().map(Vec::len), &west["items"][0]["driverId"]), (Some(1), &json!("idle")), "{west}");
        for bad in ["bbox=9,48,10,47", "bbox=1,2,3", "bbox=a,b,c,d", "limit=0"] {
            admin.get(&format!("/drivers?{bad}")).await.assert_problem(422, "invalid_payload");
        }
        server.api("driver", Role::Driver).get("/drivers").await.assert_problem(403, "forbidden");
        server.stop().await;
    }

    async fn a_trail_is_read_in_three_formats(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &["--gps-filter", "off"]).await;
        server.order_with_driver("o1", "in_transit").await;
        server.clock.advance(chrono::TimeDelta::seconds(60));
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let since = server.clock.now() - chrono::TimeDelta::seconds(50);
        let point = |step: i32| {
            let at = ordercast::base::clock::rfc3339(since + chrono::TimeDelta::seconds((step * 10).into()));
            json!({"latitude": 47.11 + f64::from(step) / 1_000.0, "longitude": 9.51, "recordedAt": at})
        };
        let sent = driver.ask("driver:location_batch", json!({"points": (0..5).map(point).collect::<Vec<_>>()})).await;
        assert_eq!(sent["accepted"], 5, "{sent}");
        let admin = server.admin();
        crate::harness::until("the trail", async || admin.get("/orders/o1/trail").await.body["items"].as_array().is_some_and(|items| items.len() == 5)).await;
        for path in ["/orders/o1/trail", "/drivers/driver/trail"] {
            let first = admin.get(&format!("{path}?limit=3")).await;
            assert_eq!((first.body["items"].as_array().map(Vec::len), first.header("link").is_empty()), (Some(3), false));
            let next = admin.get(&format!("{path}?limit=3&after={}", first.body["nextCursor"])).await.body;
            assert_eq!((next["items"].as_array().map(Vec::len), next.get("nextCursor")), (Some(2), None));
            let geo = Api::send(admin.request("GET", path).header("accept", "application/geo+json")).await;
            assert_eq!(geo.header("content-type"), "application/geo+json");
            assert_eq!((&geo.body["type"], &geo.body["features"][0]["geometry"]["coordinates"][0]), (&json!("FeatureCollection"), &json!([9.51, 47.11])));
            let gpx = admin.request("GET", path).header("accept", "application/gpx+xml").send().await.expect("an answer");
            assert_eq!(gpx.headers()["content-type"], "application/gpx+xml");
            let text = gpx.text().await.expect("text");
            assert!(text.contains("<trkpt lat=\"47.11\" lon=\"9.51\"><time>") && text.matches("<trkpt").count() == 5, "{text}");
            for bad in ["limit=10001", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "after=-1"] {
                admin.get(&format!("{path}?{bad}")).await.assert_problem(422, "invalid_payload");
            }
            for who in [server.api("driver", Role::Driver), server.api("customer", Role::Customer)] {
                who.get(path).await.assert_problem(403, "forbidden");
            }
        }
        server.stop().await;
    }
}
