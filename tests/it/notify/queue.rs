//! Announcements that wait for who is not there.

use chrono::TimeDelta;
use ordercast::model::Role;
use serde_json::json;

use crate::harness::Server;
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn what_waits_is_told_in_order_until_it_is_acknowledged(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let admin = server.admin();
        let mut ids = Vec::new();
        for number in 1..=3 {
            let body = json!({"userId": "driver", "event": "shift:changed", "data": {"number": number}, "durable": true, "ttlSeconds": 3600});
            let made = admin.post("/announcements", body).await;
            assert_eq!(made.status, 202, "{}", made.body);
            ids.push(made.body["notificationId"].as_str().expect("an id").to_owned());
        }
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        for (number, id) in (1..=3).zip(&ids) {
            let event = driver.event("shift:changed").await;
            assert_eq!(event, json!({"number": number, "notificationId": id}));
        }
        // One that comes while the driver is there is told once.
        let body = json!({"userId": "driver", "event": "shift:changed", "data": "now", "durable": true});
        ids.push(admin.post("/announcements", body).await.body["notificationId"].as_str().expect("an id").to_owned());
        assert_eq!(driver.event("shift:changed").await, json!({"data": "now", "notificationId": ids[3]}));
        for id in &ids[..2] {
            assert_eq!(driver.ask("notification:ack", json!({"id": id, "state": "delivered"})).await["ok"], true);
        }
        assert_eq!(driver.ask("notification:ack", json!({"id": "nonsense", "state": "delivered"})).await["error"]["code"], "not_found");
        drop(driver);
        // Only what is not acknowledged comes again.
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        for id in &ids[2..] {
            assert_eq!(driver.event("shift:changed").await["notificationId"], **id);
        }
        driver.ask("ping:latency", json!({})).await;
        let more = driver.events_so_far().await;
        assert!(more.iter().all(|event| event.name != "shift:changed"), "{more:?}");
        // REST does the same, and nobody else may.
        let api = server.api("driver", Role::Driver);
        assert_eq!(server.api("other", Role::Driver).post(&format!("/notifications/{}/ack", ids[2]), json!({"state": "opened"})).await.status, 404);
        assert_eq!(api.post(&format!("/notifications/{}/ack", ids[2]), json!({"state": "opened"})).await.status, 200);
        let inbox = api.get("/notifications?limit=2").await.body;
        assert_eq!((&inbox["items"][0]["event"], &inbox["items"][0]["data"]), (&json!("shift:changed"), &json!({"number": 1})), "{inbox}");
        let next = inbox["nextCursor"].as_i64().expect("more");
        assert_eq!(api.get(&format!("/notifications?after={next}")).await.body["items"].as_array().map(Vec::len), Some(2));
        // What is too old is not told.
        drop(driver);
        server.clock.advance(TimeDelta::days(8));
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        driver.ask("ping:latency", json!({})).await;
        assert!(driver.events_so_far().await.iter().all(|event| event.name != "shift:changed"));
        server.stop().await;
    }

    async fn a_queue_is_bounded_and_for_one_user(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let admin = server.admin();
        let one = |ttl: i64| json!({"userId": "u", "event": "note", "durable": true, "ttlSeconds": ttl});
        for _ in 0..100 {
            assert_eq!(admin.post("/announcements", one(60)).await.status, 202);
        }
        admin.post("/announcements", one(60)).await.assert_problem(409, "queue_full");
        server.clock.advance(TimeDelta::seconds(61));
        assert_eq!(admin.post("/announcements", one(60)).await.status, 202);
        for (body, member) in [
            (json!({"role": "driver", "event": "note", "durable": true}), "durable"), (one(0), "ttlSeconds"), (one(604_801), "ttlSeconds"),
            (json!({"userId": "u", "event": "note", "ttlSeconds": 5}), "ttlSeconds"),
        ] {
            let refused = admin.post("/announcements", body).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!(member)), "{}", refused.body);
        }
        server.stop().await;
    }
}
