//! Deliveries that fail, and statuses that were wrong.

use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Server, new_order};
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn a_delivery_fails_and_is_tried_again(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order_with_driver("o1", "assigned_to_driver").await;
        let driver = server.api("driver", Role::Driver);
        let mut watcher = Socket::connect(&server, "customer", Role::Customer).await;
        // Not before the driver has it.
        let early = driver.patch("/orders/o1/status", json!({"status": "failed", "reason": "nobody_home"})).await;
        early.assert_problem(409, "illegal_transition");
        driver.status("o1", "picked_up").await;
        for body in [json!({"status": "failed"}), json!({"status": "failed", "reason": "rain"}), json!({"status": "failed", "reason": 7})] {
            let refused = driver.patch("/orders/o1/status", body).await;
            refused.assert_problem(422, "invalid_payload");
            assert_eq!(refused.body["member"], "reason");
        }
        for who in [("customer", Role::Customer), ("chef", Role::Chef)] {
            let refused = server.api(who.0, who.1).patch("/orders/o1/status", json!({"status": "failed", "reason": "other"})).await;
            refused.assert_problem(409, "illegal_transition");
        }
        let failed = driver.patch("/orders/o1/status", json!({"status": "failed", "reason": "nobody_home", "note": "rang three times"})).await;
        assert_eq!((failed.status, &failed.body["status"], &failed.body["failureReason"]), (200, &json!("failed"), &json!("nobody_home")));
        assert_eq!(failed.body["etaMinutes"], Value::Null);
        let told = loop {
            let told = watcher.event("order:status_update").await;
            if told["status"] == "failed" { break told }
        };
        assert_eq!((&told["reason"], &told["message"], &told["previousStatus"]), (&json!("nobody_home"), &json!("rang three times"), &json!("picked_up")));
        // The other doors have no word for it.
        let tracked = server.admin().get("/api/orders/o1").await;
        assert_eq!(tracked.body["order"]["status"], "out_for_delivery", "{}", tracked.body);
        let martly = server.admin().get("/api/v1/orders/o1").await;
        assert_eq!(martly.body["data"]["status"], "OUT_FOR_DELIVERY");
        let refused = driver.patch("/orders/o1/status", json!({"status": "delivered"})).await;
        refused.assert_problem(409, "illegal_transition");
        assert_eq!(refused.body["allowed"], json!(["in_transit", "returned"]));
        driver.status("o1", "in_transit").await;
        let again = server.admin().get("/orders/o1/tracking").await;
        assert_eq!((&again.body["failureReason"], again.body["failedAt"].is_string()), (&Value::Null, true), "{}", again.body);
        driver.patch("/orders/o1/status", json!({"status": "failed", "reason": "refused"})).await;
        driver.status("o1", "returned").await;
        let over = server.admin().patch("/orders/o1/status", json!({"status": "in_transit"})).await;
        over.assert_problem(409, "illegal_transition");
        assert_eq!(over.body["allowed"], json!([]));
        assert_eq!(server.admin().get("/api/orders/o1").await.body["order"]["status"], "cancelled");
        server.stop().await;
    }

    async fn a_wrong_status_is_put_right(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order_with_driver("o1", "in_transit").await;
        let (admin, driver) = (server.admin(), server.api("driver", Role::Driver));
        driver.status("o1", "delivered").await;
        let correction = json!({"status": "in_transit", "note": "it was the neighbour's"});
        for who in [driver.clone(), server.api("shop", Role::Service), server.api("customer", Role::Customer)] {
            who.post("/orders/o1/correct", correction.clone()).await.assert_problem(403, "forbidden");
        }
        for (body, member) in [(json!({"status": "in_transit"}), "note"), (json!({"status": "in_transit", "note": " "}), "note"), (json!({"note": "x"}), "status")] {
            let refused = admin.post("/orders/o1/correct", body).await;
            refused.assert_problem(422, "invalid_payload");
            assert_eq!(refused.body["member"], member);
        }
        let mut watcher = Socket::connect(&server, "customer", Role::Customer).await;
        let seq = admin.get("/orders/o1").await.body["seq"].as_i64().expect("a seq");
        let stale = json!({"status": "in_transit", "note": "x", "expectedSeq": seq - 1});
        admin.post("/orders/o1/correct", stale).await.assert_problem(409, "stale_seq");
        let corrected = admin.post("/orders/o1/correct", correction.clone()).await;
        assert_eq!((corrected.status, &corrected.body["status"]), (200, &json!("in_transit")), "{}", corrected.body);
        let told = watcher.event("order:status_update").await;
        assert_eq!((&told["corrected"], &told["previousStatus"], &told["message"], &told["seq"]), (&json!(true), &json!("delivered"), &json!("it was the neighbour's"), &json!(seq + 1)));
        // What was undone has no time, and what was right keeps its own.
        let tracking = admin.get("/orders/o1/tracking").await.body;
        assert_eq!(tracking["deliveredAt"], Value::Null);
        let history = tracking["statusHistory"].as_array().expect("a history");
        assert_eq!(history.last().expect("the last")["corrected"], true);
        assert!(history[..history.len() - 1].iter().all(|past| past.get("corrected").is_none()));
        // A retry changes nothing, and the driver has the order again.
        assert_eq!(admin.post("/orders/o1/correct", correction).await.body["seq"], seq + 1);
        driver.status("o1", "delivered").await;
        assert!(admin.get("/orders/o1/tracking").await.body["deliveredAt"].is_string());
        // Back to before anybody accepted it: nobody carries it.
        let reset = admin.post("/orders/o1/correct", json!({"status": "pending", "note": "start again"})).await;
        assert_eq!((&reset.body["status"], &reset.body["driver"]), (&json!("pending"), &Value::Null));
        driver.get("/orders/o1").await.assert_problem(404, "not_found");
        server.stop().await;
    }

    async fn a_customer_fetches_an_order(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let (admin, chef) = (server.admin(), server.api("chef", Role::Chef));
        let mut order = new_order("o1");
        order.as_object_mut().expect("an object").remove("delivery");
        admin.post("/orders", order.clone()).await.assert_problem(422, "invalid_payload");
        order["fulfilment"] = json!("collection");
        let made = admin.post("/orders", order).await;
        assert_eq!((made.status, &made.body["fulfilment"], made.body.get("delivery")), (201, &json!("collection"), None), "{}", made.body);
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        chef.patch("/orders/o1/status", json!({"status": "delivered"})).await.assert_problem(409, "illegal_transition");
        chef.status("o1", "ready_for_pickup").await;
        let refused = admin.post("/orders/o1/assign", crate::harness::assignment("driver")).await;
        refused.assert_problem(409, "illegal_transition");
        admin.patch("/orders/o1/status", json!({"status": "picked_up"})).await.assert_problem(409, "illegal_transition");
        assert_eq!(server.api("driver", Role::Driver).get("/offers").await.body["items"], json!([]));
        chef.status("o1", "delivered").await;
        assert_eq!(admin.get("/orders/o1/tracking").await.body["deliveryAddress"], "");
        // No driver was told of it: the next thing that this one hears is the next order.
        server.order("o2").await;
        admin.status("o2", "ready_for_pickup").await;
        assert_eq!(driver.event("order:available").await["orderId"], "o2");
        server.stop().await;
    }
}
