//! What orders say is changed; places that are not known yet; schedules.

use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Server, new_order};
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn a_place_is_learned_later(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        let mut order = new_order("o1");
        order["delivery"] = json!({"address": "Linden Lane 12"});
        let made = admin.post("/orders", order.clone()).await;
        assert_eq!((made.status, &made.body["delivery"]), (201, &order["delivery"]), "{}", made.body);
        for (half, member) in [("latitude", "delivery.longitude"), ("longitude", "delivery.latitude")] {
            let mut order = order.clone();
            order["id"] = json!("o2");
            order["delivery"][half] = json!(9.5);
            let refused = admin.post("/orders", order).await;
            refused.assert_problem(422, "invalid_payload");
            assert_eq!(refused.body["member"], member);
        }
        admin.status("o1", "ready_for_pickup").await;
        admin.post("/orders/o1/assign", crate::harness::assignment("driver")).await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        driver.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.52})).await;
        let tracking = admin.get("/orders/o1/tracking").await.body;
        assert_eq!((&tracking["deliveryLatitude"], tracking.get("etaMinutes")), (&Value::Null, None), "no ETA before it is known where to");
        let amended = admin.patch("/orders/o1", json!({"delivery": {"latitude": 47.15, "longitude": 9.53}})).await;
        assert_eq!((amended.status, &amended.body["delivery"]["address"]), (200, &json!("Linden Lane 12")), "{}", amended.body);
        let told = driver.event("order:status_update").await;
        assert_eq!((&told["changed"], &told["status"], &told["seq"]), (&json!(["delivery"]), &json!("assigned_to_driver"), &amended.body["seq"]));
        assert!(admin.get("/orders/o1/tracking").await.body["etaMinutes"].is_i64());
        // Another address is elsewhere.
        admin.patch("/orders/o1", json!({"delivery": {"address": "Acacia Avenue 1"}})).await;
        let tracking = admin.get("/orders/o1/tracking").await.body;
        assert_eq!((&tracking["deliveryLatitude"], tracking.get("etaMinutes")), (&Value::Null, None), "{tracking}");
        server.stop().await;
    }

    async fn staff_change_what_an_order_says(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        server.order("o1").await;
        for who in [server.api("customer", Role::Customer), server.api("chef", Role::Chef)] {
            who.patch("/orders/o1", json!({"notes": "x"})).await.assert_problem(403, "forbidden");
        }
        let body = json!({
            "items": [{"name": "Risotto", "quantity": 1.5}], "notes": null, "total": "12.50",
            "customer": {"id": "customer", "name": "Clara B.", "phone": ""},
            "scheduledFor": {"from": "2026-12-24T18:00:00Z", "to": "2026-12-24T18:30:00Z"}, "expectedSeq": 1,
        });
        let amended = admin.patch("/orders/o1", body.clone()).await;
        assert_eq!(amended.status, 200, "{}", amended.body);
        assert_eq!(amended.body["items"], json!([{"name": "Risotto", "quantity": 1.5}]));
        assert_eq!((amended.body.get("notes"), &amended.body["total"]), (None, &json!(12.5)));
        assert_eq!(amended.body["customer"], json!({"id": "customer", "name": "Clara B."}));
        assert_eq!(amended.body["scheduledFor"], json!({"from": "2026-12-24T18:00:00.000Z", "to": "2026-12-24T18:30:00.000Z"}));
        assert_eq!(admin.get("/orders/o1").await.body, amended.body, "on disk, too");
        let events = admin.get("/orders/o1/events?after=1").await.body;
        assert_eq!(events["events"][0]["changed"], json!(["items", "notes", "total", "customer", "scheduledFor"]));
        // A retry finds it so.
        let mut again = body;
        again.as_object_mut().expect("an object").remove("expectedSeq");
        assert_eq!(admin.patch("/orders/o1", again).await.body["seq"], 2);
        for (body, member) in [
            (json!({"customer": {"id": "other"}}), "customer.id"),
            (json!({"delivery": {"latitude": 1}}), "delivery.longitude"),
            (json!({"scheduledFor": "tomorrow"}), "scheduledFor"),
            (json!({"scheduledFor": {"from": "2026-12-24T18:00:00Z"}}), "scheduledFor.to"),
            (json!({"items": [{"name": "x"}]}), "items[0].quantity"),
        ] {
            let refused = admin.patch("/orders/o1", body).await;
            refused.assert_problem(422, "invalid_payload");
            assert_eq!(refused.body["member"], member, "{}", refused.body);
        }
        assert_eq!(admin.patch("/orders/o1", json!({"scheduledFor": "2026-12-24T19:00:00Z"})).await.body["scheduledFor"], "2026-12-24T19:00:00.000Z");
        admin.patch("/orders/o1", json!({"notes": "x", "expectedSeq": 1})).await.assert_problem(409, "stale_seq");
        admin.status("o1", "cancelled").await;
        admin.patch("/orders/o1", json!({"notes": "x"})).await.assert_problem(409, "illegal_transition");
        server.stop().await;
    }
}
