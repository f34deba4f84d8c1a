//! Limits of users and addresses over HTTP: they slow down, then refuse, and say when to come back.

use futures_util::future::join_all;
use ordercast::model::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Api, Server, TestDb, new_order};

/// Sends the same request many times at once.
async fn crowd(count: usize, request: impl Fn() -> reqwest::RequestBuilder) -> Vec<Answer> {
    join_all((0..count).map(|_| Api::send(request()))).await
}

fn refused(answers: &[Answer]) -> Vec<&Answer> {
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    for answer in &refused {
        answer.assert_problem(429, "rate_limited");
        let seconds: u64 = answer.header("retry-after").parse().expect("Retry-After");
        assert!(seconds >= 1, "{answer:?}");
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_asks_too_much_is_slowed_down_and_then_refused() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--user-requests-per-second", "4"]).await;
    server.order("o1").await;
    let [customer, chef, admin] = [("customer", Role::Customer), ("chef", Role::Chef), ("root", Role::Admin)]
        .map(|(id, role)| server.api(id, role));
    for path in ["/orders/o1", "/orders?limit=1", "/api/orders/o1", "/api/v1/orders", "/tracking/rider/d"] {
        let answers = crowd(100, || customer.request("GET", path)).await;
        // At the very first, 40 may come at once. Then 12 are waited for: 4 a second, for 3 s.
        assert!(refused(&answers).len() >= 40, "{path}: {}", refused(&answers).len());
    }
    assert_eq!(chef.get("/orders/o1").await.status, 200, "others do not notice");
    let answers = crowd(200, || admin.request("GET", "/orders/o1")).await;
    assert!(refused(&answers).is_empty(), "staff has no limit");
    let metrics = server.metrics().await;
    assert!(metrics.contains("ordercast_rejections_total{code=\"rate_limited\"}"), "{metrics}");
    assert!(!metrics.contains("ordercast_slowed_total 0"), "{metrics}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_answers_under_way_are_limited_for_each_user() {
    let db = TestDb::sqlite();
    let flags = ["--user-bytes-per-second", "2000", "--user-requests-under-way", "2"];
    let server = Server::start(&db, &flags).await;
    let customer = server.api("customer", Role::Customer);
    let mut large = new_order("x");
    large["id"] = Value::Null;
    large["notes"] = json!("x".repeat(2_000));
    large["delivery"]["address"] = json!("y".repeat(2_000));
    // 64,000 bytes may come at once, and 20,000 are waited for.
    let answers = crowd(60, || customer.request("POST", "/orders").json(&large)).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert!((10..=30).contains(&made), "{made} were made");
    assert_eq!(refused(&answers).len() + made, 60);
    // A poll that waits is under way.
    let id =
        answers.iter().find(|answer| answer.status == 201).expect("made").body["id"].as_str().expect("an id");
    let chef = server.api("chef", Role::Chef);
    let path = format!("/orders/{id}/events?after=1&wait=5");
    let answers = crowd(4, || chef.request("GET", &path)).await;
    assert_eq!(refused(&answers).len(), 2, "the others waited for too long");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_told_apart_behind_trusted_proxies_only() {
    let db = TestDb::sqlite();
    let flags = ["--trusted-proxies", "127.0.0.0/8", "--unauthenticated-requests-per-second", "1"];
    let server = Server::start(&db, &flags).await;
    let stranger = server.anonymous();
    let from = |hop: &'static str| {
        let request = stranger.request("GET", "/tracking/nobody");
        move || request.try_clone().expect("a copy").header("x-forwarded-for", hop)
    };
    // 10 may come at once, and 3 are waited for. What the client says itself, on the left, changes nothing.
    assert!(!refused(&crowd(20, from("198.51.100.1")).await).is_empty());
    assert!(!refused(&crowd(5, from("192.0.2.9, 198.51.100.1")).await).is_empty());
    assert_eq!(Api::send(from("198.51.100.2")()).await.status, 404);
    assert!(!refused(&crowd(20, from("2001:db8::1")).await).is_empty());
    assert!(!refused(&crowd(5, from("2001:db8::2")).await).is_empty(), "the same /64");
    assert_eq!(Api::send(from("2001:db8:0:1::1")()).await.status, 404);
    assert_eq!(stranger.get("/health").await.status, 200);
    server.stop().await;

    let server = Server::start(&db, &["--unauthenticated-requests-per-second", "1"]).await;
    let stranger = server.anonymous();
    let answers = join_all((0..20).map(|number| {
        let hop = format!("198.51.100.{number}");
        Api::send(stranger.request("GET", "/tracking/nobody").header("x-forwarded-for", hop))
    }));
    assert!(!refused(&answers.await).is_empty(), "nobody is believed");
    server.stop().await;
}

#[tokio::test]
async fn sign_ins_are_limited() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--demo", "--logins-per-minute", "3"]).await;
    let login = || {
        let body = json!({"email": "admin@martly.dev", "password": "wrong"});
        server.anonymous().request("POST", "/api/v1/auth/login").json(&body)
    };
    let answers = crowd(5, login).await;
    assert_eq!(refused(&answers).len(), 2);
    assert_eq!(answers.iter().filter(|answer| answer.status == 401).count(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--page-bytes-max", "150000"]).await;
    let admin = server.admin();
    for number in 0..9 {
        let mut order = new_order(&format!("o{number}"));
        order["items"] = (0..200).map(|_| json!({"name": "x".repeat(250), "quantity": 1})).collect();
        assert_eq!(admin.post("/orders", order).await.status, 201);
    }
    for (path, items) in [("/orders", "items"), ("/api/v1/orders", "data")] {
        let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let page = admin.get(&format!("{path}?limit=200{cursor}")).await;
            assert!(page.body.to_string().len() < 200_000, "{}", page.body.to_string().len());
            let orders = page.body[items].as_array().expect("orders");
            seen.extend(orders.iter().map(|order| order["id"].as_str().expect("an id").to_owned()));
            pages += 1;
            let Some(next) = page.body["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, (0..9).rev().map(|number| format!("o{number}")).collect::<Vec<_>>());
        assert!(pages > 3, "{pages}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_given_up() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let token = server.token("customer", Role::Customer);
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 60000\r\n\r\n{{"
    );
    let mut tcp = TcpStream::connect(server.address).await.expect("connected");
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.expect("the end");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("application/problem+json") && answer.contains("\"code\":\"timeout\""),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_much_sees_why_it_is_refused() {
    const SENT: usize = 20_000_000;
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let token = server.token("customer", Role::Customer);
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {SENT}\r\n\r\n"
    );
    let mut tcp = TcpStream::connect(server.address).await.expect("connected");
    tcp.write_all(head.as_bytes()).await.expect("sent");
    // The answer is there long before the end of this, and the server has ended its side.
    tcp.write_all(&vec![b'x'; SENT]).await.expect("all is taken");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.expect("the end");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"too_large\""), "{answer}");
    server.stop().await;
}
