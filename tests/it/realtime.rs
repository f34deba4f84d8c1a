//! Socket.IO: each client gets the right events, once and in order.

use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, assignment, new_order};
use crate::socket::{Incoming, Socket};

#[tokio::test]
async fn a_client_is_greeted_with_its_user_and_position() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut socket =
        Socket::connect_with_auth(&server, json!({"token": server.token("u1", Role::Customer)})).await;
    let hello = socket.event("connected").await;
    assert_eq!((hello["userId"].as_str(), hello["role"].as_str()), (Some("u1"), Some("customer")));
    assert_eq!((&hello["recovered"], &hello["position"]), (&json!(false), &json!(1)));
    assert!(
        hello["socketId"].is_string() && hello["serverTime"].as_str().is_some_and(|time| time.ends_with('Z'))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_refused_client_gets_the_reason() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    let stale = server.token("u1", Role::Customer);
    server.clock.advance(chrono::TimeDelta::hours(2));
    for (auth, begins) in [
        (json!({}), "unauthorized: "),
        (json!({"token": "x.y.z"}), "unauthorized: "),
        (json!({"token": 7}), "unauthorized: "),
        (json!({"token": stale}), "token_expired: "),
    ] {
        let mut socket = Socket::connect_with_auth(&server, auth.clone()).await;
        let why = socket
            .wait_for(|incoming| match incoming {
                Incoming::Refused(why) => Some(why.clone()),
                _ => None,
            })
            .await;
        assert!(why.starts_with(begins), "{auth}: {why}");
    }
    server.stop().await;
}

#[tokio::test]
async fn each_client_gets_its_own_events_once() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    let mut chef = Socket::connect(&server, "chef", Role::Chef).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut other = Socket::connect(&server, "other", Role::Driver).await;
    let mut admin = Socket::connect(&server, "root", Role::Admin).await;
    let mut stranger = Socket::connect(&server, "stranger", Role::Customer).await;
    let api = server.admin();
    api.post("/orders", new_order("o1")).await;
    // The admin is in two rooms of the event and also follows the order, but gets each event once.
    assert_eq!(admin.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    api.status("o1", "accepted").await;
    api.status("o1", "ready_for_pickup").await;
    api.post("/orders/o1/assign", assignment("driver")).await;
    api.post("/orders/o1/assign", assignment("other")).await;
    server.api("other", Role::Driver).status("o1", "delivered").await;

    let names =
        |events: &[crate::socket::Event]| events.iter().map(|event| event.name.clone()).collect::<Vec<_>>();
    let update = "order:status_update";
    assert_eq!(names(&customer.events_so_far().await), [update; 5]);
    assert_eq!(names(&chef.events_so_far().await), ["order:new", update, update, update, update, update]);
    let heard = admin.events_so_far().await;
    assert_eq!(
        names(&heard),
        ["order:new", update, update, update, update, update, update],
        "one is the snapshot"
    );
    let seqs: Vec<_> = heard[1..].iter().map(|event| event.data["seq"].as_i64().expect("seq")).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        names(&driver.events_so_far().await),
        ["order:available", "driver:new_assignment", "order:withdrawn", update, "driver:unassigned"]
    );
    assert_eq!(
        names(&other.events_so_far().await),
        ["order:available", "order:withdrawn", "driver:new_assignment", update, update]
    );
    assert!(stranger.events_so_far().await.is_empty());
    let last = &heard[6].data;
    assert_eq!(
        (last["status"].as_str(), last["previousStatus"].as_str()),
        (Some("delivered"), Some("assigned_to_driver"))
    );
    assert_eq!((last["position"].as_i64(), last["changedBy"].as_str()), (Some(6), Some("other")));
    assert_eq!(last["message"], "Your order has been delivered");
    server.stop().await;
}

#[tokio::test]
async fn the_drivers_phone_reaches_the_customer_only_on_the_way() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let api = server.admin();
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    let mut chef = Socket::connect(&server, "chef", Role::Chef).await;
    api.status("o1", "accepted").await;
    api.post("/orders/o1/assign", assignment("driver")).await;
    api.status("o1", "ready_for_pickup").await;
    api.status("o1", "delivered").await;
    let phones = |events: Vec<crate::socket::Event>| {
        events
            .into_iter()
            .map(|event| (event.data["status"].clone(), event.data["driver"]["phone"].clone()))
            .collect::<Vec<_>>()
    };
    let phone = json!("+1 555 0199");
    assert_eq!(
        phones(customer.events_so_far().await),
        [
            (json!("accepted"), Value::Null),
            (json!("accepted"), Value::Null),
            (json!("ready_for_pickup"), Value::Null),
            (json!("assigned_to_driver"), phone.clone()),
            (json!("delivered"), Value::Null),
        ]
    );
    assert_eq!(phones(chef.events_so_far().await)[1], (json!("accepted"), phone));
    let seen = server.api("customer", Role::Customer).get("/orders/o1/tracking").await.body;
    assert_eq!((&seen["driverPhone"], seen["driverName"].as_str()), (&Value::Null, Some("Dario")));
    server.stop().await;
}

#[tokio::test]
async fn requests_are_answered_in_the_order_sent() {
    let db = TestDb::sqlite();
    let server =
        Server::start(&db, &["--location-rate-per-second", "0", "--socket-requests-per-second", "0"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    // Mixes requests that need the database with requests that do not.
    let mut sent = Vec::new();
    for step in 0..100 {
        sent.push(match step % 4 {
            0 => driver.emit_ack("order:tracking", &json!({"orderId": "o1"})).await,
            1 => driver.emit_ack("driver:location", &json!({"latitude": 1, "longitude": step})).await,
            2 => driver.emit_ack("ping:latency", &json!({"t": step})).await,
            _ => driver.emit_ack("subscribe:order", &json!({"orderId": "o1"})).await,
        });
    }
    let mut answered = Vec::new();
    while answered.len() < sent.len() {
        answered.push(
            driver
                .wait_for(|incoming| match incoming {
                    Incoming::Ack(number, answer) => {
                        assert_eq!(answer["ok"], true, "{answer}");
                        Some(*number)
                    }
                    _ => None,
                })
                .await,
        );
    }
    assert_eq!(answered, sent);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_without_an_ack_is_an_error_event() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    customer.emit("order:status_update", &json!({"orderId": "o1", "status": "delivered"})).await;
    let error = customer.event("error").await;
    assert_eq!(
        (error["code"].as_str(), error["event"].as_str()),
        (Some("illegal_transition"), Some("order:status_update"))
    );
    let refused = customer.ask("order:status_update", json!({"orderId": "o1", "status": "delivered"})).await;
    assert_eq!((&refused["ok"], &refused["error"]["allowed"]), (&json!(false), &json!(["cancelled"])));
    let done = customer.ask("order:status_update", json!({"orderId": "o1", "status": "CANCELED"})).await;
    assert_eq!(done, json!({"ok": true, "orderId": "o1", "status": "cancelled", "seq": 2}));
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_events_at_once_reach_a_healthy_client() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let api = server.admin();
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..10 {
        let api = api.clone();
        senders.spawn(async move {
            for number in 0..100 {
                let body = json!({"role": "driver", "event": "n", "data": [sender, number]});
                assert_eq!(api.post("/announcements", body).await.status, 202);
            }
        });
    }
    while let Some(done) = senders.join_next().await {
        done.expect("no panic");
    }
    // The client has read nothing so far. No event is missing, and those of each sender are in order.
    let mut next = [0_i64; 10];
    for _ in 0..1_000 {
        let data = driver.event("n").await;
        let sender = usize::try_from(data[0].as_u64().expect("sender")).expect("small");
        assert_eq!(data[1], next[sender]);
        next[sender] += 1;
    }
    server.stop().await;
}
