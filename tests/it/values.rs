//! Values as phones, forms and text editors write them, at every door.

use futures_util::{SinkExt, StreamExt};
use ordercast::model::Role;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Api, Server, TestDb, assignment, new_order};
use crate::on_both_databases;
use crate::socket::Socket;

#[tokio::test]
async fn what_a_phone_does_not_know_costs_only_that_member() {
    let db = TestDb::sqlite();
    let server =
        Server::start(&db, &["--location-rate-per-second", "0", "--socket-requests-per-second", "0"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    for (members, shown) in [
        (json!({"speed": -1, "heading": -1, "accuracy": 5}), json!({"accuracy": 5.0})),
        (json!({"speed": null, "heading": null, "accuracy": null}), json!({})),
        (json!({"speed": "NaN", "heading": 360, "accuracy": -1}), json!({"heading": 0.0})),
        (json!({"speed": 0, "heading": 359.5, "accuracy": 0}), json!({"speed": 0.0, "heading": 359.5})),
    ] {
        let mut fix = members.clone();
        fix["latitude"] = json!(47.146);
        fix["longitude"] = json!(9.525);
        assert_eq!(driver.ask("driver:location", fix.clone()).await["ok"], true, "{members}");
        let update = customer.event("driver:location_update").await;
        for member in ["speed", "heading", "accuracy"] {
            assert_eq!(update[member], shown[member], "{member} of {members}");
        }
        let batch = driver.ask("driver:location_batch", json!({"points": [fix]})).await;
        assert_eq!((&batch["accepted"], &batch["rejected"]), (&json!(1), &json!([])), "{members}");
        customer.event("driver:location_update").await;
    }
    server.stop().await;
}

/// Sends a text to a raw WebSocket and returns the first answer with one of these types.
async fn asked(server: &Server, door: &str, text: &str, types: &[&str]) -> Value {
    let address = format!("ws://{}{door}", server.address);
    let (mut stream, _) = connect_async(address).await.expect("a door");
    stream.send(Message::text(text)).await.expect("sent");
    while let Some(Ok(message)) = stream.next().await {
        if let Ok(message) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default())
            && message["type"].as_str().is_some_and(|found| types.contains(&found))
        {
            return message;
        }
    }
    panic!("{door} closed after {text}");
}

#[tokio::test]
async fn halves_of_emojis_harm_nobody() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let admin = server.admin();
    for id in ["o1", "o2"] {
        server.order(id).await;
    }
    // Without a token that JavaScript cannot make, `{note}` is `thank you ` and the first half of a pizza.
    let half = r"thank you \ud83c";
    let mut socket = Socket::connect(&server, "root", Role::Admin).await;
    socket
        .raw(&format!(
            r#"42/realtime,801["order:status_update",{{"orderId":"o1","status":"accepted","note":"{half}"}}]"#
        ))
        .await;
    assert_eq!(socket.answer_to(801).await["ok"], true);
    assert_eq!(socket.event("order:status_update").await["message"], "thank you \u{fffd}");
    // Anywhere else in a packet: an event's name, a member's name, an unknown member, an id.
    for (number, packet) in [
        (802, format!(r#"["{half}",{{}}]"#)),
        (803, format!(r#"["order:tracking",{{"orderId":"{half}"}}]"#)),
        (804, format!(r#"["ping:latency",{{"t":"{half}","{half}":1}}]"#)),
        (805, format!(r#"["subscribe:order",{{"orderId":"o1","x":"{half}"}},"{half}"]"#)),
        (806, format!(r#"["token:refresh",{{"token":"{half}"}}]"#)),
    ] {
        socket.raw(&format!("42/realtime,{number}{packet}")).await;
        let answer = socket.answer_to(number).await;
        assert!(answer["ok"].is_boolean(), "{packet}: {answer}");
    }
    let rest = |method: &str, path: &str, body: String| {
        Api::send(admin.request(method, path).header("content-type", "application/json").body(body))
    };
    let body = format!(r#"{{"status":"preparing","note":"{half}"}}"#);
    assert_eq!(rest("PATCH", "/orders/o1/status", body).await.status, 200);
    let body = new_order("o3").to_string().replace("ring twice", half);
    assert_eq!(rest("POST", "/orders", body).await.body["notes"], "thank you \u{fffd}");
    let body = format!(r#"{{"role":"admin","event":"hello","data":{{"text":"{half}"}}}}"#);
    assert_eq!(rest("POST", "/announcements", body).await.status, 202);
    assert_eq!(socket.event("hello").await["text"], "thank you \u{fffd}");
    let token = server.token("root", Role::Admin);
    for (door, text, answer) in [
        ("/orders/track", format!(r#"{{"type":"subscribe","order_id":"o2","x":"{half}"}}"#), "subscribed"),
        ("/orders/track", format!(r#"{{"type":"{half}"}}"#), "error"),
        ("/ws", format!(r#"{{"type":"subscribe","orderId":"{half}"}}"#), "error"),
        ("/ws", "\u{feff}{\"type\":\"ping\"}".to_owned(), "pong"),
    ] {
        asked(&server, &format!("{door}?token={token}"), &text, &[answer]).await;
    }
    // Also in what a client says as it connects.
    let mut other = Socket::connect_with_auth(&server, json!({"token": token, "x": "PUT HERE"})).await;
    other.event("connected").await;
    other.raw("41/realtime,").await;
    other.raw(&format!(r#"40/realtime,{{"token":"{token}","x":"{half}"}}"#)).await;
    other.event("connected").await;
    server.stop().await;
}

on_both_databases! {
    async fn money_and_quantities_are_kept_exactly(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        let mut order = new_order("o1");
        order["total"] = json!("999999999999.99");
        order["items"] = json!([
            {"name": "Rice", "quantity": 0.75, "unitPrice": "12.50"},
            {"name": "Oil", "quantity": 0.001, "unitPrice": 0.1 + 0.2},
            {"name": "Egg", "quantity": 12, "unitPrice": "0.333333"},
        ]);
        let made = admin.post("/orders", order.clone()).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let read = |path: &'static str| async { admin.request("GET", path).send().await.expect("an answer").text().await.expect("text") };
        // Written as text, so that no parser rounds: on every surface, from the row and from the log.
        for path in ["/orders/o1", "/orders", "/api/orders/o1", "/api/v1/orders/o1"] {
            let text = read(path).await;
            assert!(text.contains(r#""total":999999999999.99"#), "{path}: {text}");
            for part in [r#""quantity":0.75,"#, r#""quantity":0.001,"#, r#""quantity":12,"#, ":12.5}", ":0.3}", ":0.333333}"] {
                assert!(text.contains(part), "{path}: {part} in {text}");
            }
        }
        let mut again = order.clone();
        for (total, status) in [("1e3", 422), ("-1", 422), ("12,50", 422), ("1234567890123.45", 422), ("0.10", 201)] {
            again["id"] = json!(format!("t{total}").replace(',', "-"));
            again["total"] = json!(total);
            let answer = admin.post("/orders", again.clone()).await;
            assert_eq!(answer.status, status, "{total}: {}", answer.body);
            if status == 422 {
                assert_eq!(answer.body["member"], "total");
            }
        }
        again["total"] = json!(1);
        for quantity in [json!(0), json!(0.0001), json!(1.2345), json!(100_001), json!("two")] {
            again["items"][0]["quantity"] = quantity.clone();
            let refused = admin.post("/orders", again.clone()).await;
            assert_eq!(refused.status, 422, "{quantity}");
            assert!(refused.body["member"].as_str().is_some_and(|member| member.starts_with("items")), "{}", refused.body);
        }
        server.stop().await;
        // What a snapshot or the log says after a restart is the same.
        let server = Server::start(&db, &[]).await;
        let text = server.admin().request("GET", "/orders/o1").send().await.expect("an answer").text().await.expect("text");
        assert!(text.contains(r#""total":999999999999.99"#) && text.contains(r#""quantity":0.75,"#), "{text}");
        server.stop().await;
    }

    async fn empty_text_is_as_good_as_none(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        let mut order = new_order("x");
        for member in ["id", "orderNumber", "trackingNumber", "total", "currency", "notes"] {
            order[member] = json!("");
        }
        order["customer"]["phone"] = json!("");
        order["chef"]["businessName"] = json!("");
        order["chef"]["address"] = json!("");
        order["items"][0]["unitPrice"] = json!("");
        let made = admin.post("/orders", order.clone()).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let id = made.body["id"].as_str().expect("an id").to_owned();
        assert_eq!(id.len(), 36, "{id}");
        assert!(made.body["orderNumber"].as_str().is_some_and(|number| number.starts_with("RND-")));
        for gone in ["/trackingNumber", "/total", "/currency", "/notes", "/customer/phone", "/chef/businessName", "/items/0/unitPrice"] {
            assert_eq!(made.body.pointer(gone), None, "{gone}");
        }
        let accepted = admin.patch(&format!("/orders/{id}/status"), json!({"status": "ready_for_pickup", "note": ""})).await;
        assert_eq!(accepted.status, 200, "{}", accepted.body);
        let mut driver = assignment("driver");
        driver["driver"]["phone"] = json!("");
        let assigned = admin.post(&format!("/orders/{id}/assign"), driver).await;
        assert_eq!((assigned.status, assigned.body["driver"].get("phone")), (200, None), "{}", assigned.body);
        assert_eq!(admin.post(&format!("/orders/{id}/payment/verify"), json!({"reference": ""})).await.status, 200);
        // What is required stays required.
        order["customer"]["name"] = json!("");
        let refused = admin.post("/orders", order).await;
        assert_eq!((refused.status, &refused.body["member"]), (422, &json!("customer.name")));
        let started = json!({"order_id": "t1", "rider_id": "rider", "dropoff_lat": 5.6, "dropoff_lng": -0.2, "phone": ""});
        assert_eq!(admin.post("/tracking/start", started).await.status, 200);
        server.stop().await;
    }
}

#[tokio::test]
async fn refusals_name_the_member_in_words_for_people() {
    let db = TestDb::sqlite();
    let server =
        Server::start(&db, &["--location-rate-per-second", "0", "--socket-requests-per-second", "0"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let at = json!({"latitude": 47.1, "longitude": 9.5});
    let with = |member: &str, value: Value| {
        let mut fix = at.clone();
        fix[member] = value;
        fix
    };
    for (payload, member, message) in [
        (with("latitude", json!("47")), "latitude", "latitude: must be a number"),
        (with("latitude", json!(91)), "latitude", "latitude: must be a number from -90 to 90"),
        (with("heading", json!({})), "heading", "heading: must be a number"),
        (
            with("recordedAt", json!(5)),
            "recordedAt",
            "recordedAt: must be a time as RFC 3339 has it, such as 2026-11-21T09:00:00.000Z",
        ),
        (json!(7), "payload", "payload: must be an object"),
    ] {
        let error = driver.ask("driver:location", payload.clone()).await["error"].clone();
        assert_eq!((&error["member"], &error["message"]), (&json!(member), &json!(message)), "{payload}");
        let batch = driver.ask("driver:location_batch", json!({"points": [at, payload]})).await;
        let rejected = json!([{"index": 1, "code": "invalid_payload", "member": member, "message": message}]);
        assert_eq!((&batch["accepted"], &batch["rejected"]), (&json!(1), &rejected), "{batch}");
    }
    driver.raw(r#"42/realtime,901["driver:location",{"latitude":1,"latitude":2,"longitude":3}]"#).await;
    assert_eq!(driver.answer_to(901).await["error"]["message"], "payload: is given twice");
    let ahead = server.clock.now() + chrono::TimeDelta::minutes(10);
    let batch = json!({"points": [with("recordedAt", json!(ahead)), with("orderId", json!("other"))]});
    let rejected = driver.ask("driver:location_batch", batch).await["rejected"].clone();
    assert_eq!((&rejected[0]["code"], &rejected[0]["member"]), (&json!("clock_skew"), &json!("recordedAt")));
    assert_eq!((&rejected[1]["code"], &rejected[1]["member"]), (&json!("not_found"), &json!("orderId")));
    let admin = server.admin();
    for (path, member, reason) in [
        ("/orders?limit=many", "limit", "must be a whole number"),
        ("/orders?limit=-1", "limit", "must be a whole number"),
        ("/orders/o1/events?after=x", "after", "must be a whole number"),
        ("/orders?cursor=9999999999999999.o1", "cursor", "is not one that this server gave out"),
    ] {
        let refused = admin.get(path).await;
        refused.assert_problem(422, "invalid_payload");
        assert_eq!(refused.body["detail"], format!("{member}: {reason}"), "{path}");
    }
    let token = server.token("root", Role::Admin);
    for (door, text, member) in [
        ("/orders/track", r#"{"type":"subscribe","order_id":[1]}"#, "order_id"),
        ("/orders/track", r#"{"type":"subscribe"}"#, "order_id"),
        ("/orders/track", r#"{"type":"subscribe","order_id":"a","order_id":"b"}"#, "message"),
        ("/ws", r#"{"type":7}"#, "type"),
        ("/ws", "[1]", "message"),
    ] {
        let answer = asked(&server, &format!("{door}?token={token}"), text, &["error"]).await;
        assert_eq!(answer["member"], member, "{text}: {answer}");
        let message = answer["message"].as_str().expect("a message");
        assert!(!message.contains("expected") && !message.contains("struct"), "{message}");
    }
    server.stop().await;
}
