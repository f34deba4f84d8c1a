//! Hostile input: each bad client gets its answer and does not affect other clients.

use ordercast::model::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Api, Server, TestDb};
use crate::socket::{Incoming, Socket};

#[tokio::test]
async fn a_bad_payload_is_refused_by_member_and_the_socket_stays() {
    let db = TestDb::sqlite();
    let server =
        Server::start(&db, &["--socket-requests-per-second", "0", "--location-rate-per-second", "0"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    for (event, payload, member) in [
        ("driver:location", json!({"latitude": "47", "longitude": 9}), "latitude"),
        ("driver:location", json!({"latitude": 47}), "longitude"),
        ("driver:location", json!({"latitude": 90.1, "longitude": 9}), "latitude"),
        ("driver:location", json!({"latitude": 47, "longitude": -180.5}), "longitude"),
        ("driver:location", json!({"latitude": null, "longitude": 9}), "latitude"),
        ("driver:location", json!({"latitude": 47, "longitude": 9, "heading": "north"}), "heading"),
        ("driver:location", json!({"latitude": 47, "longitude": 9, "speed": [8]}), "speed"),
        ("driver:location", json!({"latitude": 47, "longitude": 9, "recordedAt": "yesterday"}), "recordedAt"),
        ("driver:location", json!({"latitude": 47, "longitude": 9, "orderId": "a b"}), "orderId"),
        ("driver:location", json!([47, 9]), "payload"),
        ("driver:location", json!("47,9"), "payload"),
        ("driver:location", json!({"_placeholder": true, "num": 0}), "latitude"),
        ("driver:location_batch", json!({"points": {}}), "points"),
        ("subscribe:order", json!({}), "orderId"),
        ("subscribe:order", json!({"orderId": true}), "orderId"),
        ("subscribe:order", json!({"orderId": 7.5}), "orderId"),
        ("subscribe:order", json!({"orderId": "o1", "since": -1}), "since"),
        ("subscribe:order", json!({"orderId": "o1", "since": 1.5}), "since"),
        ("subscribe:order", json!(null), "payload"),
        ("order:status_update", json!({"orderId": "o1", "status": "cooked"}), "status"),
        ("order:status_update", json!({"orderId": "o1"}), "status"),
        ("order:tracking", json!({"orderId": ["o1"]}), "orderId"),
        ("no:such_event", json!({}), "event"),
    ] {
        let answer = driver.ask(event, payload.clone()).await;
        let error = &answer["error"];
        assert_eq!(
            (error["code"].as_str(), error["member"].as_str()),
            (Some("invalid_payload"), Some(member)),
            "{event} {payload}: {answer}"
        );
        assert!(!error["message"].as_str().expect("a message").contains("line 1"), "{answer}");
    }
    driver.raw(r#"42/realtime,901["driver:location"]"#).await;
    assert_eq!(driver.answer_to(901).await["error"]["code"], "invalid_payload");
    assert_eq!(
        driver.ask("driver:location", json!({"latitude": 47, "longitude": 9, "unknown": 1})).await["ok"],
        true
    );
    server.stop().await;
}

#[tokio::test]
async fn broken_packets_end_only_their_own_connection() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let mut healthy = Socket::connect(&server, "customer", Role::Customer).await;
    for packet in [
        "42/realtime,",
        "49",
        "4",
        "42/realtime,{\"a\":1}",
        "42/realtime,[7]",
        "451-/realtime,[\"x\",",
        "9",
        "é",
    ] {
        let mut broken = Socket::connect(&server, "customer", Role::Customer).await;
        broken.raw(packet).await;
        // Some of these packets are ignored and some end their connection, but none affects another one.
        assert_eq!(healthy.ask("ping:latency", json!({"t": 1})).await["ok"], true, "after {packet}");
    }
    // NaN is not JSON. A broken packet ends the connection, as on every Socket.IO server.
    let mut nan = Socket::connect(&server, "driver", Role::Driver).await;
    nan.raw(r#"42/realtime,900["driver:location",{"latitude":NaN,"longitude":9}]"#).await;
    nan.until_closed().await;
    // No event has 20 MB.
    let mut large = Socket::connect(&server, "customer", Role::Customer).await;
    large.raw(&format!("42/realtime,[\"ping:latency\",\"{}\"]", "x".repeat(20 << 20))).await;
    large.until_closed().await;
    let mut binary = Socket::connect(&server, "customer", Role::Customer).await;
    binary.raw_binary(&[0, 159, 146, 150]).await;
    binary.until_closed().await;
    assert_eq!(healthy.ask("ping:latency", json!({"t": 1})).await["t"], 1);
    server.stop().await;
}

/// A WebSocket frame from a client, with a mask that changes every byte.
fn frame(first: u8, payload: &str) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let length = u8::try_from(payload.len()).expect("short");
    assert!(length <= 125);
    let masked = payload.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [first, 0x80 | length].into_iter().chain(mask).chain(masked).collect()
}

#[tokio::test]
async fn events_are_handled_in_order_however_their_bytes_arrive() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--socket-requests-per-second", "0"]).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let ask = |number: u64| format!("42/realtime,{number}[\"ping:latency\",{{\"t\":{number}}}]");
    for size in [1, 5, 64, 10_000] {
        let fragmented = ask(902);
        let all = [
            frame(0x81, &ask(901)),
            // A message in fragments, with a ping between them.
            frame(0x01, &fragmented[..10]),
            frame(0x89, "here?"),
            frame(0x00, &fragmented[10..20]),
            frame(0x80, &fragmented[20..]),
            frame(0x81, &ask(903)),
            frame(0x81, "3"),
            frame(0x81, &ask(904)),
            frame(0x81, &ask(905)),
        ]
        .concat();
        for piece in all.chunks(size) {
            driver.bytes(piece).await;
        }
        for number in 901..=905 {
            let next = |incoming: &Incoming| match incoming {
                Incoming::Ack(number, answer) => Some((*number, answer["t"].clone())),
                _ => None,
            };
            assert_eq!(driver.wait_for(next).await, (number, json!(number)), "in pieces of {size}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn cut_handshakes_are_harmless_and_foreign_origins_are_refused() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--cors-origin", "https://good.test"]).await;
    let upgrade = |origin: &str| {
        format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: shop.test\r\n{origin}Connection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    // Cuts the connection after every 17th byte of a handshake, and after the complete handshake.
    let whole = upgrade("");
    for cut in (1..whole.len()).step_by(17).chain([whole.len()]) {
        let mut tcp = TcpStream::connect(server.address).await.expect("connected");
        tcp.write_all(&whole.as_bytes()[..cut]).await.expect("sent");
    }
    for (origin, status) in [
        ("Origin: https://good.test\r\n", "101"),
        ("Origin: http://shop.test\r\n", "101"),
        ("", "101"),
        ("Origin: https://evil.test\r\n", "403"),
        ("Origin: null\r\n", "403"),
    ] {
        let mut tcp = TcpStream::connect(server.address).await.expect("connected");
        tcp.write_all(upgrade(origin).as_bytes()).await.expect("sent");
        let mut head = [0; 12];
        tcp.read_exact(&mut head).await.expect("an answer");
        assert_eq!(std::str::from_utf8(&head[9..]).expect("text"), status, "{origin}");
    }
    let mut garbage = TcpStream::connect(server.address).await.expect("connected");
    garbage.write_all(b"\x16\x03\x01 what is this\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    garbage.read_to_end(&mut answer).await.expect("the end");
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&answer));
    let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
    assert_eq!(socket.ask("ping:latency", json!({})).await["ok"], true);
    server.stop().await;
}

#[tokio::test]
async fn listed_origins_can_poll() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--cors-origin", "https://good.test,https://other.test"]).await;
    let from = async |origin: &str| {
        let api = server.anonymous();
        Api::send(api.request("GET", "/socket.io/?EIO=4&transport=polling").header("origin", origin)).await
    };
    assert_eq!(from("https://good.test").await.header("access-control-allow-origin"), "https://good.test");
    assert_eq!(from("https://good.test").await.header("access-control-allow-credentials"), "true");
    assert_eq!(from("https://evil.test").await.header("access-control-allow-origin"), "");
    let preflight = server.anonymous().request("OPTIONS", "/orders").header("origin", "https://good.test");
    let preflight = preflight
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-app");
    let allowed = Api::send(preflight).await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-headers")), (200, "x-app"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_disconnected_without_affecting_others() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--max-socket-buffer", "64"]).await;
    let stalled = Socket::connect(&server, "stalled", Role::Driver).await;
    let mut healthy = Socket::connect(&server, "healthy", Role::Driver).await;
    let admin = server.admin();
    // Fills the kernel's buffers, then the server's. After that, the server closes the connection.
    let mut sent = 0;
    while admin.get("/users/stalled/presence").await.body["online"] == true {
        assert!(sent < 2_000, "still connected after {sent} unread messages");
        let body = json!({"role": "driver", "event": "n", "data": [sent, "x".repeat(60_000)]});
        assert_eq!(admin.post("/announcements", body).await.status, 202);
        assert_eq!(healthy.event("n").await[0], sent);
        sent += 1;
    }
    let metrics = server.metrics().await;
    assert!(metrics.contains("ordercast_sockets_closed_total{reason=\"slow_reader\"} 1"), "{metrics}");
    drop(stalled);
    server.stop().await;
}
