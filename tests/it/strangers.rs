//! Clients without a token: what they may have, and for how long.

use std::time::Duration;

use futures_util::future::{join_all, select_all};
use futures_util::{FutureExt, SinkExt, StreamExt};
use ordercast::base::clock::instant;
use ordercast::model::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::harness::{Answer, Api, Server, TestDb, until};
use crate::socket::Socket;

/// How often a client pings that wants to stay.
const HEARTBEAT: Duration = Duration::from_millis(200);
const EIO3: &str = "/socket.io/?EIO=3&transport=polling";
const EIO4: &str = "/socket.io/?EIO=4&transport=polling";

async fn gauge(server: &Server, name: &str) -> u64 {
    let metrics = server.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("ordercast_{name} ")));
    line.expect("a metric").parse().expect("a number")
}

/// Opens an Engine.IO session. Returns the path for its requests.
async fn open(server: &Server, path: &str) -> String {
    let answer = server.anonymous().request("GET", path).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("text");
    let sid = text.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid");
    format!("{path}&sid={sid}")
}

async fn post(server: &Server, path: &str, body: &'static str) -> u16 {
    let request = server.anonymous().request("POST", path).header("content-type", "text/plain");
    request.body(body).send().await.expect("an answer").status().as_u16()
}

/// Pings by polling until the session is gone.
async fn pings_by_polling(server: &Server, path: String, ping: &'static str) {
    let session = open(server, &path).await;
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    while post(server, &session, ping).await == 200 {
        heartbeat.tick().await;
    }
}

/// Sends these packets on a WebSocket, then pings until the connection is closed.
async fn pings_on_websocket(server: &Server, query: &str, packets: Vec<String>) {
    let url = format!("ws://{}/socket.io/?transport=websocket&{query}", server.address);
    let (mut stream, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
    for packet in packets {
        stream.send(Message::text(packet)).await.expect("sent");
    }
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            _ = heartbeat.tick() => {
                let _ = stream.send(Message::text("2")).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_into_no_namespace_is_closed_however_much_it_pings() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let server = &server;
    let token = server.token("customer", Role::Customer);
    let left = vec![format!("40/realtime,{}", json!({"token": token})), "41/realtime,".to_owned()];
    let all = [
        pings_by_polling(server, EIO3.to_owned(), "1:2").boxed(),
        pings_by_polling(server, EIO4.to_owned(), "3").boxed(),
        pings_by_polling(server, format!("{EIO3}&token=x"), "1:2").boxed(),
        pings_on_websocket(server, "EIO=3", vec![]).boxed(),
        pings_on_websocket(server, "EIO=3&token=x", vec!["40/realtime?token=x,".to_owned()]).boxed(),
        pings_on_websocket(server, "EIO=4", vec![]).boxed(),
        pings_on_websocket(
            server,
            "EIO=4",
            vec!["40/realtime,{\"token\":\"x\"}".to_owned(), "40".to_owned()],
        )
        .boxed(),
        // It was in, and has left.
        pings_on_websocket(server, "EIO=4", left).boxed(),
    ];
    // It comes before all others, and is there when they have been closed.
    let mut stays = Socket::connect(server, "customer", Role::Customer).await;
    join_all(all).await;
    assert_eq!(stays.ask("ping:latency", json!({"t": 1})).await["ok"], true);
    drop(stays);
    until("all is free", async || gauge(server, "polling_clients").await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_clients_that_say_goodbye() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--max-handshakes", "64"]).await;
    let long = "x".repeat(12_000);
    for path in [EIO3, EIO4] {
        let goodbye = if path == EIO3 { "1:1" } else { "1" };
        let some = || async {
            for _ in 0..8 {
                let session = open(&server, &format!("{path}&token={long}")).await;
                let sid = session.split("&sid=").nth(1).expect("a sid");
                assert_eq!(post(&server, &format!("{path}&sid={sid}"), goodbye).await, 200);
            }
        };
        // Far more than may be under way at a time, and each within less than the time that a handshake may take.
        join_all((0..20).map(|_| some())).await;
        until("all is free", async || gauge(&server, "polling_clients").await == 0).await;
    }
    drop(Socket::connect(&server, "customer", Role::Customer).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_limited_for_each_address() {
    let db = TestDb::sqlite();
    let flags = ["--trusted-proxies", "127.0.0.1", "--max-handshakes-per-address", "5"];
    let server = Server::start(&db, &flags).await;
    let from = async |hop: &str| -> Answer {
        let request = server.anonymous().request("GET", EIO4).header("forwarded", format!("for={hop}"));
        Api::send(request).await
    };
    let answers = join_all((0..8).map(|_| from("192.0.2.1"))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert_eq!((refused.len(), answers.len()), (3, 8));
    assert!(refused.iter().all(|answer| answer.header("retry-after").parse::<u32>().is_ok()));
    assert_eq!(from("192.0.2.2").await.status, 200, "another address");
    drop(Socket::connect(&server, "customer", Role::Customer).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_behind_a_proxy_are_counted_for_their_clients() {
    let db = TestDb::sqlite();
    let flags = ["--trusted-proxies", "127.0.0.1", "--max-connections-per-address", "3"];
    let server = Server::start(&db, &flags).await;
    let token = server.token("customer", Role::Customer);
    for door in ["socket.io/?EIO=4&transport=websocket&", "ws?"] {
        let from = async |hop: &'static str| {
            let url = format!("ws://{}/{door}token={token}", server.address);
            let mut request = url.into_client_request().expect("a request");
            request.headers_mut().insert("x-forwarded-for", http::HeaderValue::from_static(hop));
            tokio_tungstenite::connect_async(request).await.map(|(stream, _)| stream)
        };
        let (first, more) = (from("192.0.2.1").await, [from("192.0.2.1").await, from("192.0.2.1").await]);
        assert!(first.is_ok() && more.iter().all(Result::is_ok), "{door}");
        let Err(Error::Http(answer)) = from("192.0.2.1").await else {
            panic!("{door}: one too many came in")
        };
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        assert!(from("192.0.2.2").await.is_ok(), "another client");
        drop(first);
        until("one is gone", async || from("192.0.2.1").await.is_ok()).await;
        drop(more);
    }
    server.stop().await;
}

/// Connections on which nothing comes but the begin of a request.
async fn connections(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut tcp = TcpStream::connect(server.address).await.expect("connected");
        tcp.write_all(b"GET /health HTTP/1.1\r\nHost: ").await.expect("sent");
        all.push(tcp);
    }
    all
}

/// Waits until one of these connections is answered that there is no room.
async fn is_refused(connections: &mut [TcpStream]) {
    let answers = connections.iter_mut().map(|tcp| {
        async move {
            let mut answer = [0; 200];
            let count = tcp.read(&mut answer).await.unwrap_or(0);
            String::from_utf8_lossy(&answer[..count]).into_owned()
        }
        .boxed()
    });
    let (answer, ..) = select_all(answers).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_for_each_address_and_in_memory() {
    let db = TestDb::sqlite();
    for (flags, fit) in [
        (["--max-connections-per-address", "8"], 8),
        // A quarter of 4 MiB for one address, 16 KiB for each connection.
        (["--unauthenticated-bytes", "4194304"], 64),
    ] {
        let server = Server::start(&db, &flags).await;
        let mut held = connections(&server, fit + 1).await;
        is_refused(&mut held).await;
        drop(held);
        assert_eq!(server.anonymous().get("/health").await.status, 200);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_session_is_looked_for_before_the_body_is_read() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let head = format!("POST {EIO4}&sid=nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n");
    let mut tcp = TcpStream::connect(server.address).await.expect("connected");
    let began = instant();
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    tcp.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 400");
    assert!(began.elapsed() < Duration::from_secs(5), "before a body would be given up");
    server.stop().await;
}
