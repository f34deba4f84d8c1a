//! Clients that poll, with several nodes and no sticky sessions: a request for a session of another node is forwarded there.

use std::sync::atomic::Ordering;

use aws_lc_rs::hmac;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use ordercast::base::db::Db;
use ordercast::model::Role;
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::binary::RunningServer;
use crate::harness::{SECRET, Server, TestDb, until};
use crate::on_both_databases;
use crate::poller::{Polling, event, message, text};

const NODE: [&str; 2] = ["--cluster-listen", "127.0.0.1:0"];
const HEADER: &str = "x-ordercast-forwarded";

async fn node(db: &TestDb, more: &[&str]) -> Server {
    Server::start(db, &[&NODE, more].concat()).await
}

async fn count(server: &Server, outcome: &str) -> u64 {
    let name = format!("ordercast_forwarded_total{{outcome=\"{outcome}\"}} ");
    let metrics = server.metrics().await;
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(&name))
        .map_or(0, |count| count.parse().expect("a number"))
}

async fn presence(server: &Server, user: &str) -> Value {
    server.admin().get(&format!("/users/{user}/presence")).await.body["connections"].clone()
}

on_both_databases! {
    async fn requests_of_a_client_may_reach_any_node(db: TestDb) {
        let (one, two) = (node(&db, &[]).await, node(&db, &[]).await);
        for (version, user, role) in [(4, "customer", Role::Customer), (3, "chef", Role::Chef)] {
            let order = format!("o{version}");
            one.order(&order).await;
            let nodes = [&one, &two];
            let mut client = Polling::open(&nodes, version).await;
            assert!(client.sid.ends_with(".1"), "{}", client.sid);
            client.join(user, role, json!({})).await;
            let answer = client.ask("subscribe:order", json!({"orderId": order})).await;
            assert!(answer.contains("\"ok\":true"), "{answer}");
            let forwarded = count(&two, "ok").await;
            assert!(forwarded >= 2, "{forwarded}");
            // A poll that waits at the other node.
            client.turn.store(1, Ordering::Relaxed);
            let admin = two.admin();
            tokio::join!(client.hears("accepted"), admin.status(&order, "accepted"));
            // The WebSocket is at the other node, and the poll beside it at either.
            let mut socket = client.upgrade(&two).await;
            socket.send(Message::text(format!("42/realtime,8{}", json!(["ping:latency", {"t": 1}])))).await.expect("sent");
            message(&mut socket, "43/realtime,8[").await;
            one.admin().status(&order, "preparing").await;
            while event(&message(&mut socket, "42/realtime,[\"order:status_update\"").await)[1]["status"] != "preparing" {}
            assert_eq!(presence(&one, user).await, 1);
            socket.close(None).await.expect("closed");
            until("the session ends with the tunnel", async || presence(&one, user).await == 0).await;
        }
        assert_eq!((count(&one, "ok").await, count(&two, "unreachable").await), (0, 0));
        one.stop().await;
        two.stop().await;
    }
}

/// What is sent to a node's listener for nodes.
struct Forger {
    key: hmac::Key,
    address: String,
    http: reqwest::Client,
}

impl Forger {
    async fn of(db: &TestDb, server: &Server) -> Self {
        let database = Db::connect(&db.url()).await.expect("database");
        let key =
            entity::server_key::Entity::find_by_id("cluster").one(database.reader()).await.expect("read");
        let key = hex::decode(key.expect("a key").value).expect("hex");
        database.close().await;
        let cluster = server.admin().get("/cluster").await.body;
        let this =
            cluster["nodes"].as_array().expect("nodes").iter().find(|node| node["number"] == cluster["this"]);
        let address = this.expect("this node")["address"].as_str().expect("an address").to_owned();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), address, http: reqwest::Client::new() }
    }

    /// The header of another node for this request, made `age` ms ago for a client with this address.
    fn header(&self, method: &str, path: &str, age: i64, client: &str) -> String {
        let at = chrono::DateTime::timestamp_millis(&ordercast::base::clock::Clock::System.now()) - age;
        let signed = format!("ordercast forwards\nv1\n{method}\n{path}\n9\n{at}\n{client}");
        format!("v1,9,{at},{client},{}", hex::encode(hmac::sign(&self.key, signed.as_bytes())))
    }

    async fn send(&self, method: &str, path: &str, header: Option<&str>) -> (u16, String) {
        let request =
            self.http.request(method.parse().expect("a method"), format!("http://{}{path}", self.address));
        let request = header.into_iter().fold(request, |request, header| request.header(HEADER, header));
        let request = if method == "POST" { request.body("3") } else { request };
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_for_nodes_takes_what_a_node_has_signed_and_nothing_else() {
    let db = TestDb::sqlite();
    let server = node(&db, &["--max-handshakes-per-address", "1"]).await;
    let forger = Forger::of(&db, &server).await;
    let nodes = [&server];
    let client = Polling::open(&nodes, 4).await;
    let path = client.path();
    let good = forger.header("POST", &path, 0, "203.0.113.1");
    // What is sent is the same each time but for the header.
    assert_eq!(forger.send("POST", &path, Some(&good)).await.0, 200);
    let altered = good.replace("203.0.113.1", "203.0.113.2");
    let old = forger.header("POST", &path, 11_000, "203.0.113.1");
    let ahead = forger.header("POST", &path, -11_000, "203.0.113.1");
    let of_a_poll = forger.header("GET", &path, 0, "203.0.113.1");
    for (what, header) in [
        ("none", None),
        ("garbage", Some("v1,1,1,1,1")),
        ("altered", Some(&*altered)),
        ("old", Some(&*old)),
        ("ahead", Some(&*ahead)),
        ("of another request", Some(&*of_a_poll)),
    ] {
        assert_eq!(forger.send("POST", &path, header).await.0, 403, "{what}");
    }
    for path in
        ["/orders", "/ready", "/metrics", "/cluster", "/", "/socket.io", "/socket.io/x", "/openapi.json"]
    {
        let header = forger.header("GET", path, 0, "203.0.113.1");
        assert_eq!(forger.send("GET", path, Some(&header)).await.0, 404, "{path}");
    }
    // A request is never forwarded twice, and a session begins at the door for clients.
    let sid = client.sid.replace(".1", ".2");
    for path in [path.replace(&client.sid, &sid), "/socket.io/?EIO=4&transport=polling".to_owned()] {
        let header = forger.header("GET", &path, 0, "203.0.113.1");
        let (status, body) = forger.send("GET", &path, Some(&header)).await;
        assert_eq!((status, &*body), (400, r#"{"code":1,"message":"Session ID unknown"}"#), "{path}");
    }
    // At the door for clients the header means nothing: the address is the client's own, which has its one handshake.
    let open = "/socket.io/?EIO=4&transport=polling";
    let header = forger.header("GET", open, 0, "203.0.113.1");
    let answer =
        server.anonymous().request("GET", open).header(HEADER, &header).send().await.expect("an answer");
    assert_eq!(answer.status(), 503);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_nowhere_is_unknown() {
    let db = TestDb::sqlite();
    let (one, two) = (node(&db, &[]).await, node(&db, &[]).await);
    let nodes = [&one];
    let known = Polling::open(&nodes, 4).await.sid;
    let (sid, _) = known.rsplit_once('.').expect("a node");
    for id in [
        sid.to_owned(),
        format!("{sid}.2"),
        format!("{sid}.zz"),
        format!("{sid}."),
        format!("{sid}.1x-"),
        format!("{sid}.01"),
        format!("{sid}.%2B1"),
        format!("{sid}.-1"),
        format!("{sid}.99999999"),
        format!("{sid}x.1"),
        "%26a=b.2".to_owned(),
        ".2".to_owned(),
        "nobody.2".to_owned(),
    ] {
        for method in ["GET", "POST"] {
            let path = format!("/socket.io/?EIO=4&transport=polling&sid={id}");
            let answer = one.anonymous().request(method, &path).send().await.expect("an answer");
            assert_eq!(answer.status(), 400, "{method} {id}");
            assert_eq!(
                answer.text().await.expect("text"),
                r#"{"code":1,"message":"Session ID unknown"}"#,
                "{id}"
            );
        }
    }
    assert!(count(&one, "unknown").await >= 2, "a node that is not there");
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket&sid=nobody.2", one.address);
    let Err(Error::Http(refused)) = tokio_tungstenite::connect_async(url).await else { panic!("refused") };
    assert_eq!(refused.status(), 400);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_dead_node_are_unavailable_and_then_unknown() {
    let db = TestDb::sqlite();
    let one = node(&db, &[]).await;
    let url = db.url();
    let args = ["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET];
    let two = RunningServer::start(&[&args, &NODE[..]].concat(), "warn");
    let opened =
        reqwest::get(format!("{}/socket.io/?EIO=4&transport=polling", two.base)).await.expect("opened");
    let open: Value = serde_json::from_str(&opened.text().await.expect("text")[1..]).expect("JSON");
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", open["sid"].as_str().expect("an id"));
    // The first node does not know of the second one for its first two seconds, and waits.
    assert_eq!(
        one.anonymous().request("POST", &path).body("3").send().await.expect("an answer").status(),
        200
    );
    two.kill();
    let dead = one.anonymous().get(&path).await;
    dead.assert_problem(503, "unavailable");
    assert_eq!(dead.header("retry-after"), "2");
    assert_eq!(count(&one, "unreachable").await, 1);
    until("the node is out of the roster", async || one.anonymous().get(&path).await.status == 400).await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_of_the_client_at_the_node_that_has_the_session() {
    let db = TestDb::sqlite();
    let flags = ["--trusted-proxies", "127.0.0.1", "--max-connections-per-address", "1"];
    let (one, two) = (node(&db, &flags).await, node(&db, &flags).await);
    let nodes = [&one];
    let far = [&two];
    let mut held = Vec::new();
    for (client, expected) in [("203.0.113.1", 101), ("203.0.113.1", 503), ("203.0.113.2", 101)] {
        let session = Polling::open(&nodes, 4).await;
        let mut request = session.url(&two).into_client_request().expect("a request");
        request.headers_mut().insert("x-forwarded-for", client.parse().expect("a value"));
        match tokio_tungstenite::connect_async(request).await {
            Ok((mut socket, _)) => {
                assert_eq!(expected, 101, "{client}");
                socket.send(Message::text("2probe")).await.expect("sent");
                assert_eq!(text(&mut socket).await, "3probe");
                held.push(socket);
            }
            Err(Error::Http(refused)) => assert_eq!(refused.status(), expected, "{client}"),
            Err(error) => panic!("{error}"),
        }
    }
    // Bodies too have the limits of the node that reads them.
    let mut session = Polling::open(&nodes, 4).await;
    session.nodes = &far;
    let forwarded = session.request("POST", "4".repeat(70_000)).await;
    session.nodes = &nodes;
    let direct = session.request("POST", "4".repeat(70_000)).await;
    assert_eq!(forwarded.0, 413, "{}", forwarded.1);
    assert_eq!(forwarded, direct);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_poll_through_other_nodes() {
    const CLIENTS: usize = 50;
    let db = TestDb::sqlite();
    let (one, two) = (node(&db, &[]).await, node(&db, &[]).await);
    one.order("o1").await;
    let ways = [[&one, &two], [&two, &one]];
    let mut clients = join_all((0..CLIENTS).map(|number| {
        let nodes = &ways[number % 2];
        async move {
            let mut client = Polling::open(nodes, 4).await;
            client.join("customer", Role::Customer, json!({})).await;
            let answer = client.ask("subscribe:order", json!({"orderId": "o1"})).await;
            assert!(answer.contains("\"ok\":true"), "{answer}");
            client
        }
    }))
    .await;
    one.admin().status("o1", "accepted").await;
    join_all(clients.iter_mut().map(|client| client.hears("accepted"))).await;
    for server in [&one, &two] {
        assert!(count(server, "ok").await >= CLIENTS as u64);
        assert_eq!(count(server, "unreachable").await + count(server, "refused").await, 0);
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_loses_nobody_anything() {
    let db = TestDb::sqlite();
    let flags = ["--drain-ms", "300"];
    let (one, two, three) = (node(&db, &flags).await, node(&db, &flags).await, node(&db, &flags).await);
    one.order("o1").await;
    // A session on the first node, whose WebSocket is a tunnel through the second one.
    let nodes = [&one];
    let mut tunnelled = Polling::open(&nodes, 4).await;
    tunnelled.join("customer", Role::Customer, json!({})).await;
    let mut socket = tunnelled.upgrade(&two).await;
    two.stop().await;
    while !matches!(socket.next().await, None | Some(Err(_) | Ok(Message::Close(_)))) {}
    until("the session has ended too", async || presence(&one, "customer").await == 0).await;
    // A session on the first node, which stops while a poll waits at the third one.
    let far = [&three];
    let mut client = Polling::open(&nodes, 4).await;
    client.nodes = &far;
    client.join("customer", Role::Customer, json!({})).await;
    three.admin().status("o1", "accepted").await;
    let told = client.hears("accepted").await;
    let claim = json!({"pid": client.pid, "offset": told[2]});
    let waiting = three.anonymous().request("GET", &client.path());
    let polled = tokio::spawn(async move { waiting.send().await.expect("an answer").status().as_u16() });
    until("it waits", async || one.metrics().await.contains("ordercast_polls_waiting 1\n")).await;
    one.stop().await;
    // Any of these brings a client back.
    let status = polled.await.expect("no panic");
    assert!([200, 503].contains(&status), "{status}");
    three.admin().status("o1", "preparing").await;
    let mut again = Polling::open(&far, 4).await;
    assert_eq!(again.join("customer", Role::Customer, claim).await["recovered"], true);
    again.hears("preparing").await;
    three.stop().await;
}
