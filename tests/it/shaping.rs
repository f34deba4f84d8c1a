//! Limits of a socket: what comes too fast is slowed down, what is too long is answered, and nothing durable is lost.

use std::fmt::Write as _;

use ordercast::model::Role;
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, until};
use crate::socket::{Incoming, Socket};

fn fix(latitude: f64) -> Value {
    json!({"latitude": latitude, "longitude": 9.525})
}

#[tokio::test]
async fn requests_over_the_limit_are_carried_out_late_and_in_order() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--socket-requests-per-second", "100"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut numbers = Vec::new();
    for number in 0..300 {
        let (event, payload) = match number % 3 {
            0 => ("order:tracking", json!({"orderId": "o1"})),
            1 => ("subscribe:order", json!({"orderId": "o1"})),
            _ => ("unsubscribe:order", json!({"orderId": "o1"})),
        };
        numbers.push(customer.emit_ack(event, &payload).await);
    }
    for _ in 0..200 {
        driver.emit_ack("driver:location", &fix(47.1)).await;
    }
    let delivered =
        driver.emit_ack("order:status_update", &json!({"orderId": "o1", "status": "delivered"})).await;
    for expected in numbers {
        // The next ack is always the one of the next request.
        let (number, answer) = customer
            .wait_for(|incoming| match incoming {
                Incoming::Ack(number, answer) => Some((*number, answer.clone())),
                _ => None,
            })
            .await;
        assert_eq!((number, &answer["ok"]), (expected, &json!(true)), "{answer}");
    }
    assert_eq!(driver.answer_to(delivered).await["ok"], true);
    let refused = driver.answer_to(200).await;
    assert_eq!(refused["error"]["code"], "rate_limited", "{refused}");
    assert!(refused["error"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0), "{refused}");
    let metrics = server.metrics().await;
    let over = metrics.lines().find_map(|line| line.strip_prefix("ordercast_requests_over_limit_total "));
    assert!(over.is_some_and(|over| over.parse::<u32>().expect("a number") > 0), "{metrics}");
    assert!(!metrics.contains("reason=\"flood\""), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn the_newest_position_over_the_limit_is_shown_and_the_others_are_in_the_trail() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let now = server.clock.now();
    for number in 0..100 {
        let recorded_at = now - chrono::TimeDelta::seconds(100 - number);
        let latitude = 47.0 + f64::from(u8::try_from(number).expect("small")) / 1_000.0;
        let report =
            json!({"latitude": latitude, "longitude": 9.525, "recordedAt": recorded_at.to_rfc3339()});
        driver.emit("driver:location", &report).await;
    }
    loop {
        let seen = customer.event("driver:location_update").await;
        if seen["latitude"] == 47.099 {
            break;
        }
    }
    let url = db.url();
    until("the trail", async || {
        let database = sea_orm::Database::connect(&url).await.expect("the database");
        entity::position_trail::Entity::find().count(&database).await.expect("a count") == 100
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn who_floods_on_is_cut_in_a_way_that_clients_repair() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--flood-grace-ms", "300"]).await;
    let mut healthy = Socket::connect(&server, "healthy", Role::Customer).await;
    let mut flood = Socket::connect(&server, "customer", Role::Customer).await;
    for number in 0..2_000 {
        flood.emit("ping:latency", &json!({"t": number})).await;
    }
    assert!(!flood.is_dismissed().await, "no packet says goodbye");
    assert_eq!(healthy.ask("ping:latency", json!({"t": 1})).await["ok"], true);
    until("the metric", async || {
        server.metrics().await.contains("ordercast_sockets_closed_total{reason=\"flood\"} 1")
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn all_sockets_of_a_user_share_a_limit() {
    let db = TestDb::sqlite();
    let flags = ["--user-socket-requests-per-second", "20", "--location-rate-per-second", "0"];
    let server = Server::start(&db, &flags).await;
    let mut refused = 0;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(Socket::connect(&server, "driver", Role::Driver).await);
    }
    for socket in &mut sockets {
        for _ in 0..15 {
            socket.emit_ack("driver:location", &fix(47.1)).await;
        }
    }
    for socket in &mut sockets {
        for number in 1..=15 {
            refused += usize::from(socket.answer_to(number).await["error"]["code"] == "rate_limited");
        }
        assert_eq!(socket.ask("ping:latency", json!({})).await["ok"], true);
    }
    // The rate lets some of them through that come later.
    assert!((1..=25).contains(&refused), "{refused} of 45");
    let mut other = Socket::connect(&server, "driver2", Role::Driver).await;
    assert_eq!(other.ask("driver:location", fix(47.1)).await["ok"], true);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_is_answered_and_the_socket_stays() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let point = r#"{"latitude":47.14612345678901,"longitude":9.525123456789012,"heading":123.45678901234567,"speed":12.345678901234567,"accuracy":5.123456789012345,"recordedAt":"2026-11-27T16:38:25.123Z","orderId":null}"#;
    let batch = |count: usize| {
        let mut text = r#"["driver:location_batch",{"points":["#.to_owned();
        for index in 0..count {
            let _ = write!(text, "{}{point}", if index > 0 { "," } else { "" });
        }
        text + "]}]"
    };
    driver.raw(&format!("42/realtime,1{}", batch(500))).await;
    let answer = driver.answer_to(1).await;
    assert_eq!(answer["ok"], true, "{answer}");
    for (number, payload, limit) in [
        (2, batch(1_500), 262_144),
        (3, batch(30_000), 262_144),
        (4, format!(r#"["ping:latency",{{"t":"{}"}}]"#, "x".repeat(70_000)), 65_536),
        (5, format!(r#"["ping:latency",{{"t":"{}"}}]"#, "é".repeat(1_000_000)), 65_536),
    ] {
        driver.raw(&format!("42/realtime,{number}{payload}")).await;
        let answer = driver.answer_to(number).await;
        let error = &answer["error"];
        assert_eq!((&error["code"], &error["limit"]), (&json!("too_large"), &json!(limit)), "{answer}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(&limit.to_string())), "{answer}");
    }
    driver.raw(&format!("42/realtime,{}", batch(1_500))).await;
    let error = driver.event("error").await;
    assert_eq!((&error["code"], &error["event"]), (&json!("too_large"), &json!("driver:location_batch")));
    assert_eq!(driver.ask("ping:latency", json!({"t": 1})).await["t"], 1);
    server.stop().await;
}
