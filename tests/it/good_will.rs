//! Input of unmodified apps is read with good will: tokens as their issuers write them, ids and bodies as programs send them.

use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use ordercast::model::Role;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{SECRET, Server, TestDb, new_order};
use crate::on_both_databases;
use crate::socket::Socket;

fn signed(server: &Server, mut claims: Value) -> String {
    claims["exp"] = json!(server.clock.now().timestamp() + 600);
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .expect("a token")
}

#[tokio::test]
async fn roles_and_subjects_are_taken_as_issuers_write_them() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    for (claims, id, role) in [
        (json!({"sub": "u", "role": ["driver", "staff"]}), "u", "driver"),
        (json!({"sub": "u", "roles": "driver"}), "u", "driver"),
        (json!({"sub": "google+1/2 3", "role": "merchant"}), "google+1/2 3", "chef"),
        (json!({"userId": 42, "roles": ["boss", "Client"]}), "42", "customer"),
        (json!({"sub": "žćš-用户", "role": null, "roles": ["customer"]}), "žćš-用户", "customer"),
        (
            json!({"sub": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "role": "user"}),
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "customer",
        ),
    ] {
        let token = signed(&server, claims.clone());
        let answer = server.with_token(Some(token.clone())).get("/orders").await;
        assert_eq!(answer.status, 200, "{claims}: {}", answer.body);
        let mut socket = Socket::connect_with_auth(&server, json!({"token": token})).await;
        let connected = socket.event("connected").await;
        assert_eq!((&connected["userId"], &connected["role"]), (&json!(id), &json!(role)));
        let path = form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20");
        let presence = server.admin().get(&format!("/users/{path}/presence")).await;
        assert_eq!(presence.body["connections"], 1, "{}", presence.body);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_scheme_before_a_token_is_taken_off_at_every_door() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let token = server.token("u", Role::Customer);
    for scheme in ["Bearer ", "bearer ", "BEARER  "] {
        let text = format!("{scheme}{token}");
        let mut socket = Socket::connect_with_auth(&server, json!({"token": text})).await;
        socket.event("connected").await;
        assert_eq!(socket.ask("token:refresh", json!({"token": text})).await["ok"], true);
        for encoded in [text.replace(' ', "%20"), text.replace(' ', "+")] {
            let answer = server.anonymous().get(&format!("/orders?token={encoded}")).await;
            assert_eq!(answer.status, 200, "{encoded}");
            for door in ["ws", "orders/track"] {
                let address = format!("ws://{}/{door}?token={encoded}", server.address);
                let (mut stream, _) = connect_async(address).await.expect("a door");
                stream.send(Message::text(r#"{"type":"ping"}"#)).await.expect("sent");
                let pong = async {
                    while let Some(Ok(message)) = stream.next().await {
                        if message.to_text().is_ok_and(|text| text.contains("pong")) {
                            return true;
                        }
                    }
                    false
                };
                assert!(pong.await, "{door}");
            }
        }
        let header = server.anonymous().request("GET", "/orders").header("authorization", text);
        assert_eq!(header.send().await.expect("an answer").status(), 200);
    }
    server.stop().await;
}

on_both_databases! {
    async fn ids_are_read_as_programs_write_them(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        let mut order = new_order("x");
        order["id"] = json!(1001);
        order["chef"]["id"] = json!(77);
        order["customer"]["id"] = json!("anna+1@x.de / 用户");
        (order["orderNumber"], order["trackingNumber"]) = (json!(2001), json!(3001));
        order["customer"]["phone"] = json!(491_701_234);
        order["items"] = json!([{"name": "Rice", "quantity": "0.75"}]);
        let made = admin.post("/orders", order).await;
        assert_eq!((made.status, &made.body["id"], &made.body["chef"]["id"]), (201, &json!("1001"), &json!("77")));
        assert_eq!([&made.body["orderNumber"], &made.body["trackingNumber"]], [&json!("2001"), &json!("3001")]);
        assert_eq!(made.body["customer"]["phone"], "491701234");
        assert_eq!(made.body["items"][0]["quantity"], 0.75);
        admin.status("1001", "ready_for_pickup").await;
        let assigned = admin.post("/orders/1001/assign", json!({"driver": {"id": 9, "name": "Nine"}})).await;
        assert_eq!(assigned.body["driver"]["id"], "9", "{}", assigned.body);
        let customer = server.api("anna+1@x.de / 用户", Role::Customer);
        assert_eq!(customer.get("/orders").await.body["items"].as_array().map(Vec::len), Some(1));
        let mut socket = Socket::connect(&server, "anna+1@x.de / 用户", Role::Customer).await;
        assert_eq!(socket.ask("subscribe:order", json!({"orderId": 1001})).await["ok"], true);
        admin.status("1001", "picked_up").await;
        loop {
            if socket.event("order:status_update").await["status"] == "picked_up" {
                break;
            }
        }
        // A UUID is the same in capitals, wherever it is written.
        let capitals = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";
        let made = admin.post("/orders", new_order(capitals)).await;
        assert_eq!(made.body["id"], capitals.to_ascii_lowercase());
        for path in [capitals.to_owned(), capitals.to_ascii_lowercase()] {
            for path in [format!("/orders/{path}"), format!("/orders/{path}/tracking"), format!("/api/v1/orders/{path}"), format!("/api/orders/{path}")] {
                assert_eq!(admin.get(&path).await.status, 200, "{path}");
            }
        }
        let mut admin_socket = Socket::connect(&server, "root", Role::Admin).await;
        let subscribed = admin_socket.ask("subscribe:order", json!({"orderId": capitals})).await;
        assert_eq!(subscribed["orderId"], capitals.to_ascii_lowercase());
        assert_eq!(admin.post("/orders", new_order(&capitals.to_ascii_lowercase())).await.status, 409);
        for (member, bad) in [("id", json!(".")), ("id", json!("..")), ("id", json!(1.5)), ("id", json!(-1)), ("id", json!(true))] {
            let mut order = new_order("x");
            order[member] = bad.clone();
            let refused = admin.post("/orders", order).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!(member)), "{bad}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn bodies_and_paths_are_read_as_programs_send_them() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let admin = server.admin();
    let with_mark = |body: Value| format!("\u{feff}{body}");
    let made = admin
        .request("POST", "/orders")
        .header("content-type", "application/json")
        .body(with_mark(new_order("a")));
    assert_eq!(made.send().await.expect("an answer").status(), 201);
    let moved = admin
        .request("PUT", "/api/orders/a/status/")
        .header("content-type", "application/json")
        .body(with_mark(json!({"status": "confirmed"})));
    assert_eq!(moved.send().await.expect("an answer").status(), 200);
    for path in [
        "/orders/",
        "/orders//",
        "/orders/?limit=1",
        "/orders/a/",
        "/orders/a/tracking/",
        "/api/v1/orders/",
        "/stats/",
        "/health/",
        "/openapi.json/",
    ] {
        assert_eq!(admin.get(path).await.status, 200, "{path}");
    }
    assert_eq!(admin.post("/orders/", new_order("b")).await.status, 201);
    for coding in ["gzip", "br", "deflate", "identity, gzip", "nonsense"] {
        let request =
            admin.request("POST", "/orders").header("content-encoding", coding).json(&new_order("c"));
        let refused = crate::harness::Api::send(request).await;
        refused.assert_problem(415, "unsupported_media_type");
        assert_eq!(refused.header("accept-encoding"), "identity");
    }
    let plain = admin.request("POST", "/orders").header("content-encoding", "Identity").json(&new_order("c"));
    assert_eq!(crate::harness::Api::send(plain).await.status, 201);
    server.stop().await;
}
