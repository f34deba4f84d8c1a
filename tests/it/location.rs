//! Position reports: who receives them, which are refused, and when the ETA is sent.

use chrono::TimeDelta;
use ordercast::base::clock::rfc3339;
use ordercast::model::Role;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, assignment};
use crate::socket::Socket;

fn fix(latitude: f64) -> Value {
    json!({"latitude": latitude, "longitude": 9.53})
}

/// The latitudes of all received position updates, in order.
fn latitudes(events: Vec<crate::socket::Event>) -> Vec<Value> {
    let updates = events.into_iter().filter(|event| event.name == "driver:location_update");
    updates.map(|event| event.data["latitude"].clone()).collect()
}

#[tokio::test]
async fn followers_see_the_driver_move() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    let mut chef = Socket::connect(&server, "chef", Role::Chef).await;
    customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
    let recorded = rfc3339(server.clock.now() - TimeDelta::seconds(3));
    let sent = json!({"latitude": 47.14, "longitude": 9.53, "heading": 90, "speed": 8.5, "accuracy": 5, "recordedAt": recorded});
    let answer = driver.ask("driver:location", sent).await;
    let now = rfc3339(server.clock.now());
    // The first fix of all waits a moment for a second one. None comes that contradicts it.
    assert_eq!(
        answer,
        json!({"ok": true, "receivedAt": now, "shown": false, "verdict": "held", "reason": "held"})
    );
    let acknowledged = driver.event("driver:location_acknowledged").await;
    assert_eq!(acknowledged, json!({"orderIds": ["o1"], "receivedAt": now}));
    let seen = customer.event("driver:location_update").await;
    assert_eq!(
        seen,
        json!({"orderId": "o1", "driverId": "driver", "latitude": 47.14, "longitude": 9.53, "heading": 90.0, "speed": 8.5,
               "accuracy": 5.0, "source": "filtered", "uncertaintyMeters": 5.0, "timestamp": recorded, "receivedAt": now, "ageMs": 3000, "conflated": 0})
    );
    // 1,111.9 m at 30 km/h: 133 s.
    let eta = customer.event("order:eta_update").await;
    assert_eq!((eta["etaMinutes"].as_i64(), eta["etaSource"].as_str()), (Some(2), Some("geodesic")));
    assert!(
        chef.events_so_far().await.is_empty(),
        "a client that does not follow the order does not see its driver"
    );
    server.stop().await;
}

#[tokio::test]
async fn the_eta_is_sent_when_its_minute_changes_and_can_be_overridden() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &["--location-rate-per-second", "0"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    // The customer gets the ETA without following the order.
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    for latitude in [47.10, 47.100_01, 47.120, 47.120_01, 47.15] {
        assert_eq!(driver.ask("driver:location", fix(latitude)).await["ok"], true);
    }
    let minutes = |events: Vec<crate::socket::Event>| {
        // A milestone may be told in between.
        events
            .into_iter()
            .filter(|event| event.name != "order:milestone")
            .map(|event| (event.name, event.data["etaMinutes"].as_i64().expect("minutes")))
            .collect::<Vec<_>>()
    };
    let eta = |minutes| ("order:eta_update".to_owned(), minutes);
    assert_eq!(minutes(customer.events_so_far().await), [eta(11), eta(7), eta(1)]);
    let set = server.admin().post("/orders/o1/eta", json!({"etaMinutes": 20})).await;
    assert_eq!((set.status, &set.body["etaMinutes"], &set.body["seq"]), (200, &json!(20), &json!(4)));
    let told = customer.event("order:eta_update").await;
    assert_eq!((&told["etaMinutes"], &told["etaSource"]), (&json!(20), &json!("override")));
    driver.ask("driver:location", fix(47.10)).await;
    let told = customer.events_so_far().await;
    let is_eta = told.iter().any(|event| event.name == "order:eta_update");
    assert!(!is_eta, "a fix does not change an ETA that was set by hand");
    assert_eq!(server.admin().get("/orders/o1/tracking").await.body["etaMinutes"], 20);
    for body in [
        json!({}),
        json!({"etaMinutes": 0}),
        json!({"etaMinutes": 5, "estimatedDeliveryTime": "2026-01-01T00:00:00Z"}),
        json!({"estimatedDeliveryTime": "soon"}),
    ] {
        server.admin().post("/orders/o1/eta", body).await.assert_problem(422, "invalid_payload");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_customer_sees_the_driver_only_on_the_way() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--location-rate-per-second", "0"]).await;
    let api = server.admin();
    server.order("o1").await;
    api.status("o1", "accepted").await;
    api.post("/orders/o1/assign", assignment("driver")).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    let mut chef = Socket::connect(&server, "chef", Role::Chef).await;
    for socket in [&mut customer, &mut chef] {
        socket.ask("subscribe:order", json!({"orderId": "o1"})).await;
        socket.discard_received();
    }
    driver.ask("driver:location", fix(47.1)).await;
    let seen =
        |events: Vec<crate::socket::Event>| events.iter().any(|event| event.name == "driver:location_update");
    assert!(!seen(customer.events_so_far().await), "assigned early: not on the way yet");
    assert!(seen(chef.events_so_far().await));
    assert_eq!(
        server.api("customer", Role::Customer).get("/orders/o1/tracking").await.body["driverLatitude"],
        Value::Null
    );
    api.status("o1", "ready_for_pickup").await;
    driver.ask("driver:location", fix(47.11)).await;
    assert!(seen(customer.events_so_far().await));
    api.status("o1", "delivered").await;
    driver.ask("driver:location", fix(47.12)).await;
    assert!(!seen(customer.events_so_far().await), "delivered: no longer their business");
    assert_eq!(
        driver.ask("driver:location", json!({"latitude": 1, "longitude": 1, "orderId": "o1"})).await["error"]
            ["code"],
        "not_found"
    );
    server.stop().await;
}

#[tokio::test]
async fn late_fixes_are_stored_and_future_fixes_are_refused() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
    customer.discard_received();
    let at = |seconds: i64| rfc3339(server.clock.now() + TimeDelta::seconds(seconds));
    let report =
        |latitude: f64, when: String| json!({"latitude": latitude, "longitude": 9.53, "recordedAt": when});
    assert_eq!(driver.ask("driver:location", report(47.11, at(-10))).await["ok"], true);
    assert_eq!(
        driver.ask("driver:location", report(47.10, at(-20))).await["ok"],
        true,
        "late: stored, not published"
    );
    assert_eq!(driver.ask("driver:location", report(47.99, at(61))).await["error"]["code"], "clock_skew");
    assert_eq!(driver.ask("driver:location", report(47.12, at(60))).await["ok"], true);
    // The driver's clock was fast and is correct now.
    assert_eq!(driver.ask("driver:location", report(47.123, at(0))).await["ok"], true);
    assert_eq!(
        driver.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.53})).await["ok"],
        true
    );
    let shown = latitudes(customer.events_so_far().await);
    assert_eq!(shown, [json!(47.11), json!(47.12), json!(47.123), json!(47.14)]);
    server.stop().await;
    let database = ordercast::base::db::Db::connect(&db.url()).await.expect("database");
    let trail = entity::position_trail::Entity::find().all(database.reader()).await.expect("rows");
    assert_eq!(trail.len(), 4, "including the late one, and only the first of two with the same time");
    database.close().await;
}

#[tokio::test]
async fn the_rate_limit_of_a_driver_counts_all_sockets() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    let mut one = Socket::connect(&server, "driver", Role::Driver).await;
    let mut two = Socket::connect(&server, "driver", Role::Driver).await;
    for socket in [&mut one, &mut two] {
        for _ in 0..5 {
            assert_eq!(socket.ask("driver:location", fix(47.1)).await["ok"], true);
        }
    }
    let refused = two.ask("driver:location", fix(47.1)).await;
    assert_eq!(
        (refused["error"]["code"].as_str(), &refused["error"]["retryAfterMs"]),
        (Some("rate_limited"), &json!(500))
    );
    server.clock.advance(TimeDelta::milliseconds(500));
    assert_eq!(one.ask("driver:location", fix(47.1)).await["ok"], true);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_is_stored_and_its_newest_point_is_published() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
    customer.discard_received();
    let point = |latitude: f64, seconds: i64| json!({"latitude": latitude, "longitude": 9.53, "recordedAt": rfc3339(server.clock.now() + TimeDelta::seconds(seconds))});
    let points = json!([point(47.10, -30), point(47.12, -10), point(91.0, -9), point(47.11, -20), point(47.2, 90),
                        {"latitude": 1, "longitude": 1, "orderId": "not-mine"}, "nonsense"]);
    let mut answer = driver.ask("driver:location_batch", json!({"points": points})).await;
    for point in answer["rejected"].as_array_mut().expect("a list") {
        let message = point.as_object_mut().and_then(|point| point.remove("message"));
        assert!(message.is_some_and(|message| message.is_string()), "{point}");
    }
    assert_eq!(
        answer,
        json!({"ok": true, "accepted": 3, "rejected": [
            {"index": 2, "code": "invalid_payload", "member": "latitude"},
            {"index": 4, "code": "clock_skew", "member": "recordedAt"},
            {"index": 5, "code": "not_found", "member": "orderId"},
            {"index": 6, "code": "invalid_payload", "member": "payload"}]})
    );
    assert_eq!(latitudes(customer.events_so_far().await), [json!(47.12)]);
    // With a fast clock, the newest point is found wherever it is in the batch, and all points are stored.
    customer.discard_received();
    let points = json!([point(47.123, 30), point(47.121, 10), point(47.122, 20)]);
    assert_eq!(driver.ask("driver:location_batch", json!({"points": points})).await["accepted"], 3);
    assert_eq!(latitudes(customer.events_so_far().await), [json!(47.123)]);
    let many: Vec<_> = (0..501).map(|_| fix(1.0)).collect();
    let refused = driver.ask("driver:location_batch", json!({"points": many})).await;
    assert_eq!(
        (refused["error"]["code"].as_str(), refused["error"]["member"].as_str()),
        (Some("invalid_payload"), Some("points"))
    );
    server.stop().await;
    let database = ordercast::base::db::Db::connect(&db.url()).await.expect("database");
    let trail = entity::position_trail::Entity::find().all(database.reader()).await.expect("rows");
    assert_eq!(trail.len(), 6);
    database.close().await;
}

#[tokio::test]
async fn a_fix_counts_for_all_orders_or_for_the_one_it_names() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order_with_driver("o1", "in_transit").await;
    server.order_with_driver("o2", "picked_up").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    driver.ask("driver:location", fix(47.1)).await;
    let mut all = driver.event("driver:location_acknowledged").await["orderIds"].clone();
    all.as_array_mut().expect("ids").sort_by_key(ToString::to_string);
    assert_eq!(all, json!(["o1", "o2"]));
    driver.ask("driver:location", json!({"latitude": 1, "longitude": 1, "orderId": "o2"})).await;
    assert_eq!(driver.event("driver:location_acknowledged").await["orderIds"], json!(["o2"]));
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    assert_eq!(customer.ask("driver:location", fix(47.1)).await["error"]["code"], "forbidden");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_sees_no_position() {
    let db = TestDb::sqlite();
    let flags = ["--location-rate-per-second", "0", "--socket-requests-per-second", "0"];
    let server = Server::start(&db, &flags).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let moving = tokio::spawn(async move {
        for step in 0..1_000 {
            driver.ask("driver:location", fix(f64::from(step) / 100.0)).await;
        }
    });
    let mut stranger = Socket::connect(&server, "stranger", Role::Customer).await;
    while !moving.is_finished() {
        let refused = stranger.ask("subscribe:order", json!({"orderId": "o1"})).await;
        assert_eq!(refused["error"]["code"], "not_found");
    }
    moving.await.expect("no panic");
    let heard = stranger.events_so_far().await;
    assert!(heard.is_empty(), "{heard:?}");
    server.stop().await;
}
