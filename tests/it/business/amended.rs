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

    async fn staff_search_orders_and_see_who_is_connected(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        for (id, name, tracking) in [("o1", "Clara 100%", "T-1"), ("o2", "Carl_Meyer", "T-2"), ("o3", "Éva", "T-3")] {
            let mut order = new_order(id);
            (order["customer"]["name"], order["trackingNumber"], order["orderNumber"]) = (json!(name), json!(tracking), json!(format!("N-{id}")));
            assert_eq!(admin.post("/orders", order).await.status, 201);
        }
        let found = async |q: &str| {
            let url = reqwest::Url::parse_with_params("http://x/orders", [("q", q)]).expect("a URL");
            let list = admin.get(&format!("/orders?{}", url.query().expect("a query"))).await;
            assert_eq!(list.status, 200, "{}", list.body);
            list.body["items"].as_array().expect("items").iter().map(|order| order["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
        };
        for (q, ids) in [("clara", &["o1"][..]), ("100%", &["o1"]), ("%", &["o1"]), ("L_m", &["o2"]), ("n-o", &["o3", "o2", "o1"]), ("T-3", &["o3"]), ("o2", &["o2"]), ("' OR 1=1 --", &[])] {
            assert_eq!(found(q).await, ids, "{q}");
        }
        admin.get("/orders?q=").await.assert_problem(422, "invalid_payload");
        assert_eq!(server.api("other", Role::Customer).get("/orders?q=n-o").await.body["items"], json!([]), "of their own only");
        let _driver = Socket::connect(&server, "dan", Role::Driver).await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
        let sockets = admin.get("/sockets?limit=1").await.body;
        assert_eq!((&sockets["items"][0]["userId"], &sockets["items"][0]["behind"]), (&json!("dan"), &json!(0)));
        let rest = admin.get(&format!("/sockets?cursor={}", sockets["nextCursor"])).await.body;
        assert_eq!((&rest["items"][0]["client"], &rest["items"][0]["following"], rest.get("nextCursor")), (&json!("realtime"), &json!(1), None), "{rest}");
        assert_eq!(admin.get("/sockets?user=nobody").await.body["items"], json!([]));
        server.api("dan", Role::Driver).get("/sockets").await.assert_problem(403, "forbidden");
        // The same in figures, which tell of nobody.
        admin.status("o1", "accepted").await;
        customer.event("order:status_update").await;
        let token = server.token("customer", Role::Customer);
        let (_customer, recovered) = customer.reconnect(&server, &token).await;
        assert!(recovered);
        let stats = admin.get("/stats").await.body;
        assert_eq!((&stats["activeUsers"]["now"]["customer"], &stats["activeUsers"]["hour"]["driver"], &stats["activeUsers"]["day"]["chef"]), (&json!(1), &json!(1), &json!(0)), "{stats}");
        assert_eq!((&stats["reconnects"], &stats["recoveredShare"], &stats["ordersFollowed"]), (&json!(1), &json!(1.0), &json!(1)), "{stats}");
        assert!(stats["medianDeliveryLatencyMs"].as_i64().is_some_and(|millis| millis < 10_000), "{stats}");
        assert!(stats["averageSessionSeconds"].is_number() && !stats.to_string().contains("dan"), "{stats}");
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
            (json!({"status": "delivered"}), "status"),
            (json!({"notes": "x", "driver": {"id": "david"}}), "driver"),
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
