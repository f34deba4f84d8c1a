//! Fixes that phones get wrong, changes with an outdated seq, and order numbers that are taken ahead.

use ordercast::base::clock::rfc3339;
use ordercast::model::Role;
use serde_json::json;

use crate::harness::{Server, assignment, new_order};
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn a_fix_that_is_not_shown_says_why(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &["--location-rate-per-second", "0"]).await;
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let now = server.clock.now();
        let ago = |seconds| rfc3339(now - chrono::TimeDelta::seconds(seconds));
        for (fix, verdict) in [
            // 55 s fast.
            (json!({"latitude": 47.14, "longitude": 9.52, "recordedAt": ago(-55)}), "shown"),
            (json!({"latitude": 47.14, "longitude": 9.53, "recordedAt": ago(600)}), "late"),
            (json!({"latitude": 0, "longitude": 0}), "null_island"),
            (json!({"latitude": 47.0, "longitude": 9.0, "accuracy": 50_000}), "inaccurate"),
        ] {
            let answer = driver.ask("driver:location", fix.clone()).await;
            assert_eq!((&answer["ok"], &answer["verdict"]), (&json!(true), &json!(verdict)), "{fix}: {answer}");
            assert_eq!(answer["shown"], verdict == "shown");
            assert_eq!(answer["reason"].as_str(), (verdict != "shown").then_some(verdict));
        }
        for old in ["-9999-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2007-01-01T00:00:00Z"] {
            let fix = json!({"latitude": 47.14, "longitude": 9.52, "recordedAt": old});
            let batch = driver.ask("driver:location_batch", json!({"points": [fix]})).await;
            assert_eq!(batch["rejected"][0]["member"], "recordedAt", "{batch}");
            assert_eq!(driver.ask("driver:location", fix).await["error"]["member"], "recordedAt");
        }
        let tracking = server.admin().get("/orders/o1/tracking").await.body;
        assert_eq!((&tracking["driverLatitude"], &tracking["driverLongitude"]), (&json!(47.14), &json!(9.52)));
        // A minute and more of silence: the ETA is stale, and moves on.
        assert_eq!(tracking["stale"], json!(null));
        let fresh = server.admin().get("/orders/o1/tracking").await;
        server.clock.advance(chrono::TimeDelta::minutes(61));
        let stale = server.admin().get("/orders/o1/tracking").await;
        assert_ne!(stale.header("etag"), fresh.header("etag"));
        let tracking = stale.body;
        assert_eq!(tracking["stale"], true);
        assert!(tracking["estimatedDeliveryTime"].as_str() > Some(&rfc3339(server.clock.now())), "{tracking}");
        let past = json!({"estimatedDeliveryTime": rfc3339(server.clock.now())});
        let refused = server.admin().post("/orders/o1/eta", past).await;
        assert_eq!((refused.status, &refused.body["member"]), (422, &json!("estimatedDeliveryTime")));
        drop(driver);
        server.stop().await;
        // After a restart the last fix shown is the one before, and not later than it was received.
        let server = Server::start(&db, &["--location-rate-per-second", "0"]).await;
        let tracking = server.admin().get("/orders/o1/tracking").await.body;
        assert_eq!((&tracking["driverLongitude"], &tracking["lastLocationUpdate"]), (&json!(9.52), &json!(ago(0))));
        server.stop().await;
    }

    async fn a_phone_whose_clock_is_slow_is_shown_all_the_same(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &["--location-rate-per-second", "0"]).await;
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        driver.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.52})).await;
        for (slow, from) in [(600, "late"), (18 * 365 * 86_400, "")] {
            // Told one by one, the fixes show after two seconds that the clock is slow.
            for (second, verdict) in [(1, from), (2, from), (3, "shown"), (4, "shown")] {
                server.clock.advance(chrono::TimeDelta::seconds(1));
                let at = rfc3339(server.clock.now() - chrono::TimeDelta::seconds(slow));
                let fix = json!({"latitude": 47.14, "longitude": 9.52 + f64::from(second) / 100.0, "recordedAt": at});
                let answer = driver.ask("driver:location", fix).await;
                assert_eq!(answer["verdict"].as_str().unwrap_or_default(), verdict, "{answer}");
            }
            let tracking = server.admin().get("/orders/o1/tracking").await.body;
            assert_eq!(tracking["lastLocationUpdate"], rfc3339(server.clock.now()), "{tracking}");
            // The clock is set.
            driver.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.52, "recordedAt": rfc3339(server.clock.now())})).await;
        }
        // A delivered order does not move with its driver any more.
        server.admin().status("o1", "delivered").await;
        let tracking = server.admin().get("/orders/o1/tracking").await;
        assert_eq!(tracking.body["driverLatitude"], json!(null));
        driver.ask("driver:location", json!({"latitude": 40, "longitude": 9})).await;
        assert_eq!(server.admin().get("/orders/o1/tracking").await.header("etag"), tracking.header("etag"));
        // The seq may also be in a body.
        server.order("o2").await;
        server.admin().status("o2", "ready_for_pickup").await;
        server.admin().post("/orders/o2/assign", assignment("driver")).await;
        let stale = server.admin().request("DELETE", "/orders/o2/assign").json(&json!({"expectedSeq": 1}));
        assert_eq!(crate::harness::Api::send(stale).await.status, 409);
        server.stop().await;
    }

    async fn an_outdated_seq_is_refused_by_every_change(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        server.order("o1").await;
        admin.status("o1", "ready_for_pickup").await;
        let assign = |driver: &str| {
            let mut body = assignment(driver);
            body["expectedSeq"] = json!(2);
            let admin = admin.clone();
            async move { admin.post("/orders/o1/assign", body).await.status }
        };
        let (one, other) = tokio::join!(assign("driver"), assign("other"));
        assert_eq!((one.min(other), one.max(other)), (200, 409));
        let stale = json!({"expectedSeq": 2});
        let with = |more: serde_json::Value| {
            let mut body = stale.clone();
            body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            body
        };
        for (method, path, body) in [
            ("PATCH", "/orders/o1/status", with(json!({"status": "picked_up"}))),
            ("POST", "/orders/o1/cancel", stale.clone()),
            ("POST", "/orders/o1/payment/verify", stale.clone()),
            ("POST", "/orders/o1/assign", with(assignment("third"))),
            ("DELETE", "/orders/o1/assign?expectedSeq=2", json!({})),
            ("POST", "/orders/o1/eta", with(json!({"etaMinutes": 5}))),
            ("PUT", "/api/orders/o1/status", json!({"status": "delivered", "expected_seq": 2})),
            ("PATCH", "/api/v1/orders/o1/status", with(json!({"status": "DELIVERED"}))),
            ("POST", "/api/v1/orders/o1/cancel", stale.clone()),
            ("POST", "/api/v1/orders/o1/payment/verify", stale.clone()),
        ] {
            let refused = crate::harness::Api::send(admin.request(method, path).json(&body)).await;
            assert_eq!((refused.status, &refused.body["code"]), (409, &json!("stale_seq")), "{path}: {}", refused.body);
        }
        let order = admin.get("/orders/o1").await.body;
        assert_eq!((&order["seq"], &order["status"]), (&json!(3), &json!("assigned_to_driver")));
        let done = admin.post("/orders/o1/cancel", json!({"expectedSeq": 3})).await;
        assert_eq!(done.status, 200, "{}", done.body);
        server.stop().await;
    }

    async fn numbers_that_are_taken_ahead_stop_nobody(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let admin = server.admin();
        let day = server.clock.now().format("%Y%m%d");
        for number in 1..=150 {
            let mut order = new_order(&format!("taken-{number}"));
            order["orderNumber"] = json!(format!("RND-{day}-{number:04}"));
            assert_eq!(admin.post("/orders", order.clone()).await.status, 201);
            order["id"] = json!(format!("customers-{number}"));
            let refused = server.api("customer", Role::Customer).post("/orders", order).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!("orderNumber")));
        }
        assert_eq!(admin.post("/orders", new_order("free")).await.status, 201);
        let started = json!({"order_id": "t1", "rider_id": "rider", "dropoff_lat": 5.6, "dropoff_lng": -0.2});
        assert_eq!(admin.post("/tracking/start", started).await.status, 200);
        server.stop().await;
    }
}
