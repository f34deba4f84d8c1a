//! REST: rights, answers and refusals.

use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Api, Server, TestDb, assignment, new_order};
use crate::socket::Socket;

#[tokio::test]
async fn a_customer_can_create_an_order() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let customer = server.api("customer", Role::Customer);
    let made = customer.post("/orders", new_order("o1")).await;
    assert_eq!((made.status, made.header("location"), made.header("etag")), (201, "/orders/o1", "\"1\""));
    for (member, value) in new_order("o1").as_object().expect("object") {
        assert_eq!(&made.body[member], value, "{member}");
    }
    assert_eq!((made.body["status"].as_str(), &made.body["driver"]), (Some("pending"), &Value::Null));
    for member in ["estimatedDeliveryTime", "etaMinutes"] {
        assert_eq!(made.body.get(member), Some(&Value::Null), "{member}: not known yet");
    }
    let odd = customer.post("/orders", new_order("A-z_0.9:-|@")).await;
    assert_eq!((odd.status, odd.header("location")), (201, "/orders/A-z_0.9:-%7C@"));
    assert_eq!(customer.get(odd.header("location")).await.body["id"], "A-z_0.9:-|@");
    // Customers cannot create orders for others. Chefs cannot create orders.
    let mut theirs = new_order("o2");
    theirs["customer"]["id"] = json!("somebody");
    customer.post("/orders", theirs).await.assert_problem(403, "forbidden");
    server.api("chef", Role::Chef).post("/orders", new_order("o2")).await.assert_problem(403, "forbidden");
    server.anonymous().post("/orders", new_order("o2")).await.assert_problem(401, "unauthorized");
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_wrong_member() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let admin = server.admin();
    let set = |pointer: &str, value: Value| {
        let mut order = new_order("o1");
        *order.pointer_mut(pointer).expect("a member") = value;
        order
    };
    for (body, member) in [
        (set("/id", json!("a b")), "id"),
        (set("/customer/id", json!("")), "customer.id"),
        (set("/customer/name", json!(7)), "customer.name"),
        (set("/delivery/latitude", json!(91)), "delivery.latitude"),
        (set("/delivery/longitude", json!("9.5")), "delivery.longitude"),
        (set("/delivery/latitude", Value::Null), "delivery.latitude"),
        (set("/items/0/quantity", json!(0)), "items[0].quantity"),
        (set("/total", json!(-1)), "total"),
        (set("/notes", json!("x".repeat(2_001))), "notes"),
        (json!([]), "body"),
        (set("/customer", json!(["c", "C", null])), "customer"),
        (set("/delivery", json!(["x", 1, 2])), "delivery"),
        (set("/items/0", json!(["Pizza", 1, 2.5])), "items[0]"),
        (set("/chef", json!("k")), "chef"),
        (json!({"customer": {"id": "c", "name": "C"}, "chef": {"id": "k", "name": "K"}}), "delivery"),
    ] {
        let refused = admin.post("/orders", body).await;
        refused.assert_problem(422, "invalid_payload");
        let named = refused.body["member"].as_str().expect("a member");
        assert!(named == member || member == "items[0].quantity" && named == "items", "{named} for {member}");
        assert!(!refused.body["detail"].as_str().expect("a detail").contains("struct"), "{}", refused.body);
    }
    let malformed =
        admin.request("POST", "/orders").header("content-type", "application/json").body("{\"a\":");
    Api::send(malformed).await.assert_problem(400, "malformed");
    let nan = r#"{"customer":{"id":"c","name":"C"},"chef":{"id":"k","name":"K"},"delivery":{"address":"x","latitude":NaN,"longitude":1}}"#;
    let nan = admin.request("POST", "/orders").header("content-type", "application/json").body(nan);
    Api::send(nan).await.assert_problem(400, "malformed");
    let form = admin.request("POST", "/orders").header("content-type", "text/plain").body("{}");
    Api::send(form).await.assert_problem(415, "unsupported_media_type");
    let large =
        admin.request("POST", "/orders").header("content-type", "application/json").body("x".repeat(1 << 20));
    Api::send(large).await.assert_problem(413, "too_large");
    admin.get("/nowhere").await.assert_problem(404, "not_found");
    admin.delete("/orders").await.assert_problem(405, "method_not_allowed");
    assert_eq!(admin.get("/orders").await.body["items"], json!([]), "no refused request created an order");
    server.stop().await;
}

#[tokio::test]
async fn orders_of_others_seem_not_to_exist() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    for (id, role) in [
        ("somebody", Role::Customer),
        ("chef", Role::Customer),
        ("customer", Role::Chef),
        ("driver", Role::Driver),
    ] {
        let api = server.api(id, role);
        for path in ["/orders/o1", "/orders/o1/tracking", "/orders/o1/events"] {
            api.get(path).await.assert_problem(404, "not_found");
        }
        api.patch("/orders/o1/status", json!({"status": "cancelled"})).await.assert_problem(404, "not_found");
        api.post("/orders/o1/cancel", json!({})).await.assert_problem(404, "not_found");
        assert_eq!(api.get("/orders").await.body["items"], json!([]));
        for path in ["/orders/o1/payment/verify", "/orders/o1/eta"] {
            api.post(path, json!({})).await.assert_problem(403, "forbidden");
        }
        api.post("/orders/o1/assign", assignment("x")).await.assert_problem(403, "forbidden");
        api.delete("/orders/o1/assign").await.assert_problem(403, "forbidden");
        api.get("/stats").await.assert_problem(403, "forbidden");
        api.get("/users/customer/presence").await.assert_problem(403, "forbidden");
    }
    server.admin().get("/orders/nowhere").await.assert_problem(404, "not_found");
    server.admin().get("/orders/a%20b").await.assert_problem(404, "not_found");
    server.stop().await;
}

#[tokio::test]
async fn the_pages_of_a_list_contain_each_order_once() {
    let db = TestDb::sqlite();
    // The clock stands still. Orders with the same creation time are sorted by their ids.
    let server = Server::start_with_manual_clock(&db, &[]).await;
    for number in 0..7 {
        server.order(&format!("o{number}")).await;
        if number % 3 == 0 {
            server.clock.advance(chrono::TimeDelta::milliseconds(1));
        }
    }
    let admin = server.admin();
    let mut seen = Vec::new();
    let mut path = "/orders?limit=2".to_owned();
    loop {
        let page = admin.get(&path).await.body;
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|order| order["id"].as_str().expect("id").to_owned()));
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("/orders?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["o6", "o5", "o4", "o3", "o2", "o1", "o0"]);
    admin.status("o3", "accepted").await;
    let accepted = admin.get("/orders?status=ACCEPTED").await.body;
    assert_eq!(accepted["items"].as_array().map(Vec::len), Some(1));
    for (query, member) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("status=cooked", "status"),
        ("status=", "status"),
        ("cursor=x", "cursor"),
        ("limit=x", "limit"),
    ] {
        let refused = admin.get(&format!("/orders?{query}")).await;
        refused.assert_problem(422, "invalid_payload");
        assert_eq!(refused.body["member"], member);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unchanged_order_is_answered_with_304() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--location-rate-per-second", "0"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let admin = server.admin();
    for path in ["/orders/o1", "/orders/o1/tracking"] {
        let first = admin.get(path).await;
        let again = Api::send(admin.request("GET", path).header("if-none-match", first.header("etag"))).await;
        assert_eq!((again.status, &again.body), (304, &Value::Null), "{path}");
    }
    // A new ETA changes the ETag but not the seq.
    for path in ["/orders/o1", "/orders/o1/tracking"] {
        let before = admin.get(path).await.header("etag").to_owned();
        admin.post("/orders/o1/eta", json!({"etaMinutes": path.len()})).await;
        let changed = Api::send(admin.request("GET", path).header("if-none-match", before)).await;
        assert_eq!((changed.status, &changed.body["etaMinutes"]), (200, &json!(path.len())), "{path}");
    }
    // A new position changes the ETag of the tracking view but not the seq.
    let before = admin.get("/orders/o1/tracking").await.header("etag").to_owned();
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    driver.ask("driver:location", json!({"latitude": 47.1, "longitude": 9.5})).await;
    let moved = Api::send(admin.request("GET", "/orders/o1/tracking").header("if-none-match", &before)).await;
    assert_eq!((moved.status, &moved.body["driverLatitude"]), (200, &json!(47.1)));
    server.stop().await;
}

#[tokio::test]
async fn a_long_poll_returns_at_the_next_event() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let customer = server.api("customer", Role::Customer);
    let waiting = tokio::spawn(async move { customer.get("/orders/o1/events?after=1&wait=30").await });
    // Events of other orders do not end the wait.
    server.order("o2").await;
    server.admin().status("o1", "accepted").await;
    let woken = waiting.await.expect("no panic").body;
    assert_eq!((woken["seq"].as_i64(), woken["events"][0]["status"].as_str()), (Some(2), Some("accepted")));
    let none = server.admin().get("/orders/o1/events?after=2&wait=0").await.body;
    assert_eq!(none, json!({"events": [], "seq": 2}));
    server.admin().get("/orders/o1/events?wait=31").await.assert_problem(422, "invalid_payload");
    server.admin().get("/orders/o1/events?after=-1").await.assert_problem(422, "invalid_payload");
    server.stop().await;
}

#[tokio::test]
async fn an_illegal_transition_is_refused_with_the_allowed_ones() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let customer = server.api("customer", Role::Customer);
    let refused = customer.patch("/orders/o1/status", json!({"status": "delivered"})).await;
    refused.assert_problem(409, "illegal_transition");
    assert_eq!(refused.body["allowed"], json!(["cancelled"]));
    let admin = server.admin();
    admin.post("/orders/o1/assign", assignment("d")).await.assert_problem(409, "illegal_transition");
    admin.status("o1", "Canceled").await;
    admin
        .patch("/orders/o1/status", json!({"status": "accepted"}))
        .await
        .assert_problem(409, "illegal_transition");
    admin.post("/orders/o1/eta", json!({"etaMinutes": 5})).await.assert_problem(409, "illegal_transition");
    server.stop().await;
}

#[tokio::test]
async fn an_order_with_a_driver_becomes_assigned_when_it_is_ready() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let (admin, chef) = (server.admin(), server.api("chef", Role::Chef));
    let ready = json!({"status": "ready_for_pickup"});
    server.order("early").await;
    chef.status("early", "accepted").await;
    admin.post("/orders/early/assign", assignment("driver")).await;
    for _ in 0..2 {
        let done = chef.patch("/orders/early/status", ready.clone()).await;
        assert_eq!((done.status, done.body["status"].as_str()), (200, Some("assigned_to_driver")));
        assert_eq!(done.body["seq"], 5, "a retry changes nothing");
    }
    // No transition goes backwards.
    chef.patch("/orders/early/status", json!({"status": "preparing"}))
        .await
        .assert_problem(409, "illegal_transition");
    server
        .api("driver", Role::Driver)
        .patch("/orders/early/status", ready.clone())
        .await
        .assert_problem(409, "illegal_transition");
    server.order("late").await;
    admin.status("late", "assigned_to_driver").await;
    admin.patch("/orders/late/status", ready).await.assert_problem(409, "illegal_transition");
    server.stop().await;
}

#[tokio::test]
async fn a_driver_can_be_unassigned_until_the_pickup() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let admin = server.admin();
    server.order_with_driver("o1", "assigned_to_driver").await;
    let back = admin.delete("/orders/o1/assign").await.body;
    assert_eq!((back["status"].as_str(), &back["driver"]), (Some("ready_for_pickup"), &Value::Null));
    assert_eq!(admin.delete("/orders/o1/assign").await.body["seq"], back["seq"], "a retry changes nothing");
    // An admin can set this status by hand without a driver.
    server.order("o3").await;
    assert_eq!(admin.status("o3", "assigned_to_driver").await["driver"], Value::Null);
    assert!(admin.get("/orders/o3/tracking").await.body["assignedAt"].is_string());
    assert_eq!(admin.delete("/orders/o3/assign").await.body["status"], "ready_for_pickup");
    server.order_with_driver("o2", "picked_up").await;
    admin.delete("/orders/o2/assign").await.assert_problem(409, "illegal_transition");
    let other = admin.post("/orders/o2/assign", assignment("other")).await.body;
    assert_eq!(
        (other["status"].as_str(), other["driver"]["id"].as_str()),
        (Some("picked_up"), Some("other"))
    );
    server.stop().await;
}

#[tokio::test]
async fn announcements_presence_and_stats_work() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let admin = server.admin();
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let presence = admin.get("/users/customer/presence").await.body;
    assert_eq!(presence, json!({"userId": "customer", "online": true, "connections": 1}));
    assert_eq!(admin.get("/users/nobody/presence").await.body["online"], false);
    let to_role = json!({"role": "courier", "event": "shift:ends", "data": {"at": 18}});
    assert_eq!(admin.post("/announcements", to_role).await.status, 202);
    assert_eq!(driver.event("shift:ends").await, json!({"at": 18}));
    let to_user = json!({"userId": "customer", "event": "voucher", "data": [1, "two"]});
    assert_eq!(admin.post("/announcements", to_user).await.status, 202);
    assert_eq!(customer.event("voucher").await, json!([1, "two"]));
    assert!(customer.events_so_far().await.is_empty(), "the drivers' announcement is not for customers");
    for body in [
        json!({"role": "driver", "event": "order:new", "data": {}}),
        json!({"role": "driver", "event": "connect"}),
        json!({"role": "king", "event": "x"}),
        json!({"event": "x"}),
        json!({"role": "driver", "userId": "u", "event": "x"}),
    ] {
        admin.post("/announcements", body).await.assert_problem(422, "invalid_payload");
    }
    let stats = admin.get("/stats").await.body;
    assert_eq!(stats["connections"]["byRole"]["driver"], 1);
    assert_eq!(stats["connections"]["byClient"]["realtime"], 2);
    let metrics = server.metrics().await;
    assert!(metrics.contains("ordercast_connections{role=\"driver\",client=\"realtime\"} 1"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn the_document_names_every_route() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let document = server.anonymous().get("/openapi.json").await.body;
    assert_eq!(document["openapi"], "3.1.0");
    for path in [
        "/orders",
        "/orders/{id}",
        "/orders/{id}/tracking",
        "/orders/{id}/events",
        "/orders/{id}/status",
        "/orders/{id}/cancel",
        "/orders/{id}/payment/verify",
        "/orders/{id}/assign",
        "/orders/{id}/eta",
        "/announcements",
        "/users/{id}/presence",
        "/stats",
        "/health",
        "/ready",
        "/metrics",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(server.anonymous().get("/health").await.body["status"], "ok");
    server.stop().await;
}
