//! Who may still see: ids of different roles, former drivers, and callers whose rights end while they wait.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::{SinkExt, StreamExt};
use ordercast::auth::mint;
use ordercast::model::Role;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{PATIENCE, SECRET, Server, TestDb, assignment, new_order, until};
use crate::on_both_databases;
use crate::socket::Socket;

/// A WebSocket of any door.
pub struct Wire(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Wire {
    pub async fn open(server: &Server, path: &str, first: Option<String>) -> Self {
        let url = format!("ws://{}{path}", server.address);
        let mut wire = Self(tokio_tungstenite::connect_async(url).await.expect("a WebSocket").0);
        if let Some(first) = first {
            wire.0.send(Message::text(first)).await.expect("sent");
        }
        wire
    }

    pub async fn text(&mut self) -> String {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something in time");
            if let Message::Text(text) = message.expect("a message").expect("a message") {
                return text.to_string();
            }
        }
    }

    /// Everything up to the first message that mentions an order.
    async fn until_mentioned(&mut self, order: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.text().await);
            if heard.last().is_some_and(|text| text.contains(order)) {
                return heard;
            }
        }
    }
}

fn order_of(id: &str, customer: &str, chef: &str) -> Value {
    let mut order = new_order(id);
    order["customer"]["id"] = json!(customer);
    order["chef"]["id"] = json!(chef);
    order
}

/// Updates up to this seq, as text.
async fn updates_up_to(socket: &mut Socket, seq: &Value) -> String {
    let mut updates = String::new();
    loop {
        let update = socket.event("order:status_update").await;
        updates += &update.to_string();
        if update["seq"] == *seq {
            return updates;
        }
    }
}

async fn deliver(server: &Server, order: Value, driver: &str, statuses: &[&str]) {
    let admin = server.admin();
    let id = order["id"].as_str().expect("an id").to_owned();
    assert_eq!(admin.post("/orders", order).await.status, 201);
    admin.status(&id, "ready_for_pickup").await;
    assert_eq!(admin.post(&format!("/orders/{id}/assign"), assignment(driver)).await.status, 200);
    for status in statuses {
        admin.status(&id, status).await;
    }
}

const ROLES: [(Role, &str); 3] =
    [(Role::Customer, "the-customers"), (Role::Chef, "the-chefs"), (Role::Driver, "the-drivers")];

on_both_databases! {
    // Customer 7, chef 7 and driver 7 are three people, each with an order of their own.
    async fn the_same_id_in_another_role_is_somebody_else(db: TestDb) {
        let server = Server::start(&db, &["--window-events", "4"]).await;
        let mut sockets = Vec::new();
        for (role, own) in ROLES {
            let token = server.token("7", role);
            let auth = json!({"token": token});
            sockets.push((own, "/realtime", Wire::open(&server, "/socket.io/?EIO=4&transport=websocket", Some(format!("40/realtime,{auth}"))).await));
            sockets.push((own, "/", Wire::open(&server, "/socket.io/?EIO=4&transport=websocket", Some(format!("40{auth}"))).await));
            if role != Role::Driver {
                sockets.push((own, "/ws", Wire::open(&server, &format!("/ws?token={token}"), None).await));
            }
        }
        let (mut followers, watcher) = (Vec::new(), server.admin());
        for (role, _) in ROLES {
            followers.push(Socket::connect(&server, "7", role).await);
        }
        deliver(&server, order_of("the-customers", "7", "c1"), "d1", &["in_transit", "delivered"]).await;
        deliver(&server, order_of("the-chefs", "u1", "7"), "d1", &["in_transit", "delivered"]).await;
        let mut driver = Socket::connect(&server, "7", Role::Driver).await;
        deliver(&server, order_of("the-drivers", "u1", "c1"), "7", &["in_transit"]).await;
        assert_eq!(driver.ask("driver:location", json!({"latitude": 47.1, "longitude": 9.5})).await["ok"], true);
        watcher.status("the-drivers", "delivered").await;
        deliver(&server, order_of("the-last", "7", "7"), "7", &["delivered"]).await;
        for (own, door, mut socket) in sockets {
            let heard = socket.until_mentioned("the-last").await;
            for (_, other) in ROLES.iter().filter(|(_, other)| *other != own) {
                // Every driver hears what they may take, and when it is gone.
                let offer = |text: &&String| text.contains("order:available") || text.contains("order:withdrawn");
                let mut told = heard.iter().filter(|text| text.contains(other) && !offer(text));
                assert_eq!(told.next(), None, "{door}: {own} hears of {other}");
            }
            assert!(heard.iter().any(|text| text.contains(own)), "{door}: {own} hears nothing");
        }
        // The same of what they missed, and of single orders.
        for ((role, own), mut follower) in ROLES.into_iter().zip(followers) {
            let auth = json!({"token": server.token("7", role), "position": 0});
            let mut missed = Socket::connect_with_auth(&server, auth).await;
            missed.event("connected").await;
            loop {
                let update = missed.event("order:status_update").await;
                let order = update["orderId"].as_str().expect("an id");
                assert!(order == own || order == "the-last", "{role:?} is told of {order}");
                if order == "the-last" {
                    break;
                }
            }
            for (_, other) in ROLES {
                let answer = follower.ask("subscribe:order", json!({"orderId": other})).await;
                assert_eq!(answer["ok"], other == own, "{role:?} follows {other}");
                let read = server.api("7", role).get(&format!("/orders/{other}/events")).await;
                assert_eq!(read.status == 200, other == own, "{role:?} reads {other}");
            }
        }
        assert_eq!(watcher.get("/users/7/presence").await.body["online"], true);
        assert_eq!(watcher.delete("/users/7/sessions").await.status, 200);
        until("all roles of the user are disconnected", async || {
            watcher.get("/users/7/presence").await.body["connections"] == 0
        })
        .await;
        server.stop().await;
    }

    // After the delivery, and when another driver has the order, its past events do not show the driver's phone number to
    // the customer. While the order is on its way with that driver, they do.
    async fn past_events_show_a_driver_as_the_order_is_now(db: TestDb) {
        const PHONE: &str = "+1 555 0199";
        let other = json!({"driver": {"id": "d2", "name": "Dora", "phone": "+1 555 0200"}});
        for window in ["1000", "1"] {
            let (server, order) = (Server::start(&db, &["--window-events", window]).await, format!("o{window}"));
            let (admin, customer) = (server.admin(), server.api("customer", Role::Customer));
            deliver(&server, order_of(&order, "customer", "chef"), "d1", &["picked_up"]).await;
            let begin = admin.get("/stats").await.body["position"].as_i64().expect("a position");
            let away = Socket::connect(&server, "customer", Role::Customer).await;
            let token = server.token("customer", Role::Customer);
            for (step, shown) in [("in_transit", true), ("reassigned", false), ("delivered", false)] {
                match step {
                    "reassigned" => assert_eq!(admin.post(&format!("/orders/{order}/assign"), other.clone()).await.status, 200),
                    status => drop(admin.status(&order, status).await),
                }
                let events = customer.get(&format!("/orders/{order}/events")).await.body.to_string();
                assert_eq!(events.contains(PHONE), shown, "{step}: {events}");
                assert_eq!(events.contains("+1 555 0200"), step == "reassigned", "{step}: {events}");
                assert!(admin.get(&format!("/orders/{order}/events")).await.body.to_string().contains(PHONE));
                let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
                socket.ask("subscribe:order", json!({"orderId": order, "since": 0})).await;
                let auth = json!({"token": token, "position": begin - 2});
                let mut replayed = Socket::connect_with_auth(&server, auth).await;
                replayed.event("connected").await;
                let seq = &admin.get(&format!("/orders/{order}")).await.body["seq"];
                for (how, socket) in [("since", &mut socket), ("position", &mut replayed)] {
                    let told = updates_up_to(socket, seq).await;
                    assert_eq!(told.contains(PHONE), shown, "{how}, {step}, {window}: {told}");
                }
            }
            let (mut away, recovered) = away.reconnect(&server, &token).await;
            assert!(recovered);
            let told = updates_up_to(&mut away, &admin.get(&format!("/orders/{order}")).await.body["seq"]).await;
            assert!(!told.contains(PHONE), "{told}");
            server.stop().await;
        }
    }
}

/// Waits until so many long polls have arrived and wait.
async fn polls_wait(server: &Server, count: u32) {
    let line = format!("ordercast_polls_waiting {count}\n");
    until("the polls wait", async || server.metrics().await.contains(&line)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_does_not_outlive_its_token() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    server.order("mine").await;
    let admin = server.admin();
    let poll = |id: &'static str, role| {
        let token =
            mint(SECRET, id, role, None, server.clock.now(), Duration::from_secs(600)).expect("a token");
        let api = server.with_token(Some(token));
        tokio::spawn(async move { api.get("/orders/mine/events?after=1&wait=30").await })
    };
    let (revoked, waits) = (poll("customer", Role::Customer), poll("chef", Role::Chef));
    polls_wait(&server, 2).await;
    assert_eq!(admin.delete("/users/customer/sessions").await.status, 200);
    admin.status("mine", "accepted").await;
    revoked.await.expect("an answer").assert_problem(401, "unauthorized");
    assert_eq!(waits.await.expect("an answer").body["seq"], 2);
    let waits = {
        let api = server.api("root", Role::Admin);
        tokio::spawn(async move { api.get("/orders/mine/events?after=2&wait=30").await })
    };
    polls_wait(&server, 1).await;
    server.clock.advance(TimeDelta::seconds(3_601));
    server.admin().status("mine", "preparing").await;
    waits.await.expect("an answer").assert_problem(401, "token_expired");
    server.stop().await;
}

/// How a client comes in: it gets what it needs from the server's address, the user's token and a tracking session.
const DOORS: [&str; 8] =
    ["realtime", "default", "realtime-3", "default-3", "polling", "/orders/track", "/ws", "/ws/tracking"];

/// Comes in through a door, and stays until the server ends it.
async fn come_in(server: &Server, door: &str, tracking: &str, token: &str) {
    let auth = json!({"token": token});
    let (path, first) = match door {
        "realtime" => {
            ("/socket.io/?EIO=4&transport=websocket".to_owned(), Some(format!("40/realtime,{auth}")))
        }
        "default" => ("/socket.io/?EIO=4&transport=websocket".to_owned(), Some(format!("40{auth}"))),
        "realtime-3" => {
            ("/socket.io/?EIO=3&transport=websocket".to_owned(), Some(format!("40/realtime?token={token},")))
        }
        "default-3" => (format!("/socket.io/?EIO=3&transport=websocket&token={token}"), None),
        "polling" => return poll(server, &auth).await,
        "/ws/tracking" => (format!("/ws/tracking/{tracking}?token={token}"), None),
        path => (format!("{path}?token={token}"), None),
    };
    let url = format!("ws://{}{path}", server.address);
    let Ok((stream, _)) = tokio_tungstenite::connect_async(url).await else { return };
    let mut wire = Wire(stream);
    if let Some(first) = first {
        let _ = wire.0.send(Message::text(first)).await;
    }
    tokio::spawn(async move { while let Some(Ok(_)) = wire.0.next().await {} });
}

async fn poll(server: &Server, auth: &Value) {
    let api = server.anonymous();
    let opened = api.request("GET", "/socket.io/?EIO=4&transport=polling").send().await.expect("opened");
    let text = opened.text().await.expect("text");
    let open: Value = serde_json::from_str(&text[1..]).expect("the open packet");
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", open["sid"].as_str().expect("an id"));
    let joins =
        api.request("POST", &path).header("content-type", "text/plain").body(format!("40/realtime,{auth}"));
    let _ = joins.send().await;
    tokio::spawn(async move {
        while let Ok(polled) = api.request("GET", &path).send().await
            && polled.status() == 200
            && polled.text().await.is_ok_and(|text| text != "1")
        {}
    });
}

/// A token is revoked while its client connects: whatever comes first, the client is not there afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_survives_a_revocation_while_connecting() {
    const ROUNDS: usize = 1_000;
    const AT_ONCE: usize = 40;
    const MOMENTS: usize = 10;
    let db = TestDb::sqlite();
    // The clock stands still: a token that is first seen when it is seconds old may be one of a login after the revocation.
    let server = Server::start_with_manual_clock(&db, &[]).await;
    server.order_with_driver("watched", "in_transit").await;
    let session = json!({"order_id": "watched", "rider_id": "driver"});
    let started = server.admin().post("/tracking/start", session).await;
    let tracking = started.body["tracking_id"].as_str().expect("a tracking id").to_owned();
    let (admin, anonymous) = (server.admin(), server.anonymous());
    for first in (0..ROUNDS).step_by(AT_ONCE) {
        let rounds = (first..first + AT_ONCE).map(|round| {
            let (server, admin, anonymous, tracking) = (&server, &admin, &anonymous, &tracking);
            async move {
                let user = format!("u{round}");
                let token = server.token(&user, Role::Customer);
                let revoked = async {
                    // The moments of connecting, one after the other, at each door: as long as so many requests take.
                    for _ in 0..(round / DOORS.len()) % MOMENTS {
                        assert_eq!(anonymous.get("/health").await.status, 200);
                    }
                    admin.delete(&format!("/users/{user}/sessions")).await
                };
                let ((), revoked) =
                    tokio::join!(come_in(server, DOORS[round % DOORS.len()], tracking, &token), revoked);
                assert_eq!(revoked.status, 200);
            }
        });
        futures_util::future::join_all(rounds).await;
        until("everybody is disconnected", async || {
            admin.get("/stats").await.body["connections"]["total"] == 0
        })
        .await;
    }
    server.stop().await;
}
