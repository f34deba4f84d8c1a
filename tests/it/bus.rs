//! Two servers on one `PostgreSQL` and one Redis: what one of them is told live, clients of the other hear.

use std::time::Duration;

use chrono::TimeDelta;
use ordercast::base::clock::instant;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, assignment, until};
use crate::redis_server::Redis;
use crate::socket::Socket;
use crate::tracking::{Watcher, start};

/// The value of a metric.
pub async fn metric(server: &Server, name: &str) -> i64 {
    let text = server.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
}

pub async fn hears_itself(server: &Server) {
    until("the node hears itself", async || metric(server, "ordercast_bus_up{shard=\"0\"}").await >= 1).await;
}

/// Two nodes that know each other and hear themselves.
pub async fn two_nodes(db: &TestDb, redis: &str) -> (Server, Server) {
    two_nodes_with(db, redis, &["--location-rate-per-second", "0"]).await
}

pub async fn two_nodes_with(db: &TestDb, redis: &str, flags: &[&str]) -> (Server, Server) {
    let flags = [&["--redis-url", redis], flags].concat();
    let (a, b) = (Server::start(db, &flags).await, Server::start(db, &flags).await);
    for server in [&a, &b] {
        hears_itself(server).await;
        until("both nodes are known", async || {
            server.admin().get("/cluster").await.body["nodes"]
                .as_array()
                .is_some_and(|nodes| nodes.len() == 2)
        })
        .await;
    }
    (a, b)
}

pub fn fix(latitude: f64) -> Value {
    json!({"latitude": latitude, "longitude": 9.53})
}

/// A follower of an order, once Redis tells its node of it.
pub async fn follower(server: &Server, redis: &Redis, order: &str) -> Socket {
    let mut socket = Socket::connect(server, "customer", Role::Customer).await;
    let followed = socket.ask("subscribe:order", json!({"orderId": order})).await;
    assert_eq!(followed["ok"], true, "{followed}");
    until("the node listens", async || !redis.channels().await.is_empty()).await;
    socket
}

/// How many positions the client has got.
pub async fn positions(socket: &mut Socket) -> usize {
    let events = socket.events_so_far().await;
    events.iter().filter(|event| event.name == "driver:location_update").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_on_another_node_see_the_driver_move() {
    let Some(db) = TestDb::postgres().await else { return };
    // Orders are spread over both.
    let (Some(one), Some(other)) = (Redis::start(), Redis::start()) else { return };
    let (a, b) = two_nodes(&db, &format!("{},{}", one.url(), other.url())).await;
    let orders = ["o1", "o2", "o3", "o4", "o5", "o6"];
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    for order in orders {
        a.order_with_driver(order, "in_transit").await;
    }
    let mut here = Socket::connect(&a, "customer", Role::Customer).await;
    let mut there = Socket::connect(&b, "customer", Role::Customer).await;
    for order in orders {
        for socket in [&mut here, &mut there] {
            assert_eq!(socket.ask("subscribe:order", json!({"orderId": order})).await["ok"], true);
        }
    }
    // Nothing is waited for: what is told before the other node listens, it looks up.
    let sent = json!({"latitude": 47.14, "longitude": 9.53, "heading": 90, "speed": 8.5, "accuracy": 5});
    assert_eq!(driver.ask("driver:location", sent).await["ok"], true);
    for name in ["driver:location_update", "order:eta_update"] {
        let mut told = [Vec::new(), Vec::new()];
        for (told, socket) in told.iter_mut().zip([&mut here, &mut there]) {
            for _ in orders {
                let mut event = socket.event(name).await;
                // A location says how old it was when it was told here.
                event.as_object_mut().expect("an object").remove("ageMs");
                told.push(event);
            }
            told.sort_by_key(|event| event["orderId"].to_string());
        }
        assert_eq!(told[1], told[0], "{name}");
        assert_eq!(told[0].iter().map(|event| &event["orderId"]).collect::<Vec<_>>(), orders);
    }
    // An ETA set by hand is known on all nodes: no later fix changes it on any.
    assert_eq!(b.admin().post("/orders/o1/eta", json!({"etaMinutes": 90})).await.status, 200);
    assert_eq!(here.event("order:eta_update").await["etaMinutes"], 90);
    assert_eq!(there.event("order:eta_update").await["etaMinutes"], 90);
    // Fixes change all other ETAs.
    driver.ask("driver:location", fix(47.0)).await;
    for socket in [&mut here, &mut there] {
        for _ in 1..orders.len() {
            assert_ne!(socket.event("order:eta_update").await["orderId"], "o1");
        }
    }
    a.stop().await;
    b.stop().await;
}

/// A customer is told the ETA of their orders without following them, and reads where the driver is, on whatever node.
#[tokio::test(flavor = "multi_thread")]
async fn customers_hear_and_read_of_their_orders_on_every_node() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let (a, b) = two_nodes(&db, &redis.url()).await;
    a.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    driver.ask("driver:location", fix(47.10)).await;
    let read = async || b.admin().get("/orders/o1/tracking").await.body;
    // The other node listens to nobody yet, and finds the position all the same.
    until("the position is read", async || read().await["driverLatitude"] == 47.10).await;
    assert!(redis.channels().await.is_empty());
    let mut customer = Socket::connect(&b, "customer", Role::Customer).await;
    until("the node listens", async || redis.channels().await.len() == 1).await;
    driver.ask("driver:location", fix(46.90)).await;
    let told = customer.event("order:eta_update").await;
    assert_eq!((&told["orderId"], &told["etaSource"]), (&json!("o1"), &json!("geodesic")));
    assert!(told["etaMinutes"].as_i64().is_some_and(|minutes| minutes > 50), "{told}");
    assert_eq!(positions(&mut customer).await, 0, "only followers see the driver");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_only_live_events_wait() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(mut redis) = Redis::start() else { return };
    let (a, b) = two_nodes(&db, &redis.url()).await;
    a.order_with_driver("o1", "picked_up").await;
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    let mut customer = follower(&b, &redis, "o1").await;
    driver.ask("driver:location", fix(47.10)).await;
    assert_eq!(customer.event("driver:location_update").await["latitude"], 47.10);
    redis.kill();
    until("both are deaf", async || {
        metric(&a, "ordercast_bus_up{shard=\"0\"}").await + metric(&b, "ordercast_bus_up{shard=\"0\"}").await
            == 0
    })
    .await;
    // What is in the log is told all the same, and own clients see the driver.
    let mut here = Socket::connect(&a, "customer", Role::Customer).await;
    here.ask("subscribe:order", json!({"orderId": "o1"})).await;
    assert_eq!(driver.ask("driver:location", fix(47.11)).await["ok"], true);
    assert_eq!(here.event("driver:location_update").await["latitude"], 47.11);
    customer.discard_received();
    a.admin().status("o1", "in_transit").await;
    assert_eq!(customer.event("order:status_update").await["status"], "in_transit");
    for server in [&a, &b] {
        assert_eq!(server.anonymous().get("/ready").await.status, 200);
    }
    customer.discard_received();
    // A new server without Redis starts, and hears when it is back.
    let late = Server::start(&db, &["--redis-url", &redis.url()]).await;
    redis.start_again();
    for server in [&a, &b, &late] {
        hears_itself(server).await;
    }
    driver.ask("driver:location", fix(47.12)).await;
    // The newest of what waited for Redis comes first.
    while customer.event("driver:location_update").await["latitude"] != 47.12 {}
    // Connections that listen are cut, and nobody says so.
    let _: i64 = redis.send(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub")).await;
    until("positions come again", async || {
        driver.ask("driver:location", fix(47.13)).await;
        positions(&mut customer).await > 0
    })
    .await;
    for server in [a, b, late] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_and_figures_are_those_of_all_nodes() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(mut redis) = Redis::start() else { return };
    let (a, b) = two_nodes(&db, &redis.url()).await;
    let mut here = Socket::connect(&a, "customer", Role::Customer).await;
    let mut there = Socket::connect(&b, "customer", Role::Customer).await;
    let mut again = Socket::connect(&b, "customer", Role::Customer).await;
    let _driver = Socket::connect(&b, "driver", Role::Driver).await;
    let tracked = start(&a, "tracked").await;
    let (_watcher, _other) = (Watcher::new(&a, &tracked).await, Watcher::new(&b, &tracked).await);
    for server in [&a, &b] {
        until("both watchers are counted", async || {
            let stats = server.admin().get("/stats/tracking").await.body;
            stats["total_websocket_connections"] == 2 && stats["partial"] == Value::Null
        })
        .await;
        let presence = server.admin().get("/users/customer/presence").await.body;
        assert_eq!(presence, json!({"userId": "customer", "online": true, "connections": 3}));
        let presence = server.admin().get("/users/nobody/presence").await.body;
        assert_eq!(presence, json!({"userId": "nobody", "online": false, "connections": 0}));
        until("the figures are the sum", async || {
            let stats = server.admin().get("/stats").await.body;
            let sockets = &stats["connections"];
            sockets["total"] == 6
                && sockets["byRole"]["customer"] == 3
                && sockets["byClient"]["realtime"] == 4
                && stats["drivers"] == 2
                && stats["partial"] == Value::Null
        })
        .await;
    }
    let ended = a.admin().delete("/users/customer/sessions").await.body;
    assert_eq!(ended, json!({"userId": "customer", "disconnected": 3}));
    for socket in [&mut here, &mut there, &mut again] {
        socket.until_closed().await;
    }
    // Without Redis nobody is said to be away who may be on another node.
    redis.kill();
    b.admin().get("/users/nobody/presence").await.assert_problem(503, "unavailable");
    let presence = b.admin().get("/users/driver/presence").await.body;
    assert_eq!(presence, json!({"userId": "driver", "online": true, "connections": 1, "partial": true}));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_have_no_redis_say_that_they_do_not_know_everything() {
    let Some(db) = TestDb::postgres().await else { return };
    let (a, b) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
    let _there = Socket::connect(&a, "customer", Role::Customer).await;
    let presence = b.admin().get("/users/customer/presence").await.body;
    assert_eq!(presence, json!({"userId": "customer", "online": false, "connections": 0, "partial": true}));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_listened_to_when_nobody_listens() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let server = Server::start_with_manual_clock(&db, &["--redis-url", &redis.url()]).await;
    server.order_with_driver("o1", "in_transit").await;
    hears_itself(&server).await;
    let customer = follower(&server, &redis, "o1").await;
    assert_eq!(redis.channels().await.len(), 1);
    drop(customer);
    until("the follower is gone", async || {
        server.admin().get("/users/customer/presence").await.body["connections"] == 0
    })
    .await;
    server.clock.advance(TimeDelta::seconds(61));
    until("no subscription is left", async || redis.channels().await.is_empty()).await;
    assert_eq!(metric(&server, "ordercast_interest").await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_nodes_write_is_told_at_once() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let flags = ["--redis-url", &redis.url(), "--cluster-poll-ms", "1000", "--rights-lease-ms", "5000"];
    let (a, b) = (Server::start(&db, &flags).await, Server::start(&db, &flags).await);
    hears_itself(&a).await;
    hears_itself(&b).await;
    let mut customer = Socket::connect(&b, "customer", Role::Customer).await;
    let mut waited = Duration::ZERO;
    for order in ["o1", "o2"] {
        a.order(order).await;
        for status in ["accepted", "preparing", "ready_for_pickup"] {
            a.admin().status(order, status).await;
            let answered = instant();
            assert_eq!(customer.event("order:status_update").await["status"], status);
            waited += answered.elapsed();
        }
    }
    // A poll comes a second after the last look into the log, so six changes would wait for about as many.
    assert!(waited < Duration::from_millis(1_500), "{waited:?}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_the_way_is_told_on_every_node() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let (a, b) = two_nodes(&db, &redis.url()).await;
    a.order_with_driver("o1", "assigned_to_driver").await;
    a.order_with_driver("o2", "picked_up").await;
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    let mut customer = follower(&b, &redis, "o1").await;
    let mut admin = Socket::connect(&b, "root", Role::Admin).await;
    // At the restaurant.
    let there = json!({"latitude": 47.14, "longitude": 9.52});
    for _ in 0..3 {
        assert_eq!(driver.ask("driver:location", there.clone()).await["ok"], true);
    }
    for milestone in ["arriving", "arrived"] {
        let told = customer.event("order:milestone").await;
        assert_eq!((&told["orderId"], &told["milestone"]), (&json!("o1"), &json!(milestone)), "{told}");
    }
    let eta = customer.event("order:eta_update").await;
    assert!(eta["stopsBefore"].is_number() && eta["etaLow"].is_string(), "{eta}");
    // A plan that is made on one node counts on the other one, and is told on both.
    let wanted =
        json!({"stops": [{"orderId": "o2", "kind": "dropoff"}, {"orderId": "o1", "kind": "pickup"}]});
    let made =
        crate::harness::Api::send(b.admin().request("PUT", "/drivers/driver/plan").json(&wanted)).await;
    assert_eq!((made.status, &made.body["version"]), (200, &json!(1)), "{}", made.body);
    for socket in [&mut driver, &mut admin] {
        assert_eq!(socket.event("driver:plan_update").await, made.body);
    }
    until("the plan", async || a.admin().get("/drivers/driver/plan").await.body == made.body).await;
    // So does what a kitchen says.
    a.order("o3").await;
    a.admin().status("o3", "accepted").await;
    assert_eq!(a.admin().post("/orders/o3/assign", assignment("driver")).await.status, 200);
    let said = b.api("chef", Role::Chef).post("/orders/o3/prep", json!({"prepMinutes": 90})).await;
    assert_eq!(said.status, 200, "{}", said.body);
    until("the ETA", async || {
        a.admin().get("/orders/o3/tracking").await.body["etaMinutes"].as_i64() > Some(90)
    })
    .await;
    a.stop().await;
    b.stop().await;
}
