//! Subscriptions to an order have no gaps and no duplicates, whenever they begin.

use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Api, Server, TestDb, assignment};
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn a_subscription_has_no_gap_while_the_order_changes(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order("o1").await;
        let admin = server.admin();
        admin.status("o1", "accepted").await;
        // Assigns the order to two drivers in turn until the end of the test. Each assignment is a durable event.
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let writer = tokio::spawn(async move {
            let mut turn = 0_u32;
            while matches!(stopped.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty)) {
                turn += 1;
                let answer = admin.post("/orders/o1/assign", assignment(if turn.is_multiple_of(2) { "d1" } else { "d2" })).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
            i64::from(turn) + 2
        });
        // The admin and the customer get the events of this order anyway. Now their sockets also subscribe to it.
        for round in 0..12 {
            let (id, role) = if round % 2 == 0 { ("root", Role::Admin) } else { ("customer", Role::Customer) };
            let mut socket = Socket::connect(&server, id, role).await;
            let since = (round % 4 >= 2).then_some(1);
            let mut ask = json!({"orderId": "o1"});
            if let Some(since) = since {
                ask["since"] = json!(since);
            }
            let number = socket.emit_ack("subscribe:order", &ask).await;
            check(&mut socket, number, since, 40).await;
        }
        stop.send(()).expect("the writer waits for it");
        let newest = writer.await.expect("no panic");
        assert_eq!(server.admin().get("/orders/o1").await.body["seq"], newest);
        server.stop().await;
    }
}

/// Reads updates after the answer and checks that the seq rises by exactly one.
async fn check(socket: &mut Socket, number: u64, since: Option<i64>, updates: usize) {
    let answer = socket.answer_to(number).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let at = answer["seq"].as_i64().expect("seq");
    assert_eq!(answer["tracking"]["seq"], at);
    // Events from other rooms before the answer are not part of the subscription.
    socket.discard_received();
    for expected in (since.map_or(at, |since| since + 1)..).take(updates) {
        let update = socket.event("order:status_update").await;
        assert_eq!(update["seq"], expected, "since {since:?}, answered at {at}");
        assert_eq!(update["replayed"] == true, since.is_some() && expected <= at);
        assert_eq!(update["snapshot"] == true, since.is_none() && expected == at);
    }
}

#[tokio::test]
async fn subscriptions_can_end_and_are_limited() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--max-subscriptions", "2", "--socket-requests-per-second", "0"]).await;
    for id in ["o1", "o2", "o3"] {
        server.order(id).await;
    }
    let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
    for id in ["o1", "o2", "o1"] {
        let answer = socket.ask("subscribe:order", json!({"orderId": id})).await;
        assert_eq!((answer["ok"].as_bool(), answer["orderId"].as_str()), (Some(true), Some(id)));
    }
    let refused = socket.ask("subscribe:order", json!({"orderId": "o3"})).await;
    assert_eq!(refused["error"]["code"], "too_many");
    for order in ["nowhere", "o3"] {
        assert_eq!(socket.ask("unsubscribe:order", json!({"orderId": order})).await, json!({"ok": true}));
    }
    socket.ask("unsubscribe:order", json!({"orderId": "o2"})).await;
    assert_eq!(socket.ask("subscribe:order", json!({"orderId": "o3"})).await["ok"], true);
    let mut stranger = Socket::connect(&server, "stranger", Role::Customer).await;
    for order in ["o1", "nowhere"] {
        let refused = stranger.ask("subscribe:order", json!({"orderId": order})).await;
        assert_eq!(refused["error"]["code"], "not_found", "{order}");
    }
    server.admin().status("o1", "accepted").await;
    assert!(stranger.events_so_far().await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn an_unassigned_driver_gets_no_more_events() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order_with_driver("o1", "assigned_to_driver").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    assert_eq!(driver.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    let admin: Api = server.admin();
    assert_eq!(admin.post("/orders/o1/assign", assignment("other")).await.status, 200);
    admin.status("o1", "picked_up").await;
    let heard: Vec<(String, Value)> = driver
        .events_so_far()
        .await
        .into_iter()
        .map(|event| (event.name, event.data["seq"].clone()))
        .collect();
    let names: Vec<_> = heard.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["order:status_update", "driver:unassigned"],
        "a snapshot and the end: the driver does not learn who has the order now"
    );
    assert_eq!(driver.ask("order:tracking", json!({"orderId": "o1"})).await["error"]["code"], "not_found");
    server.stop().await;
}

#[tokio::test]
async fn a_seq_in_the_future_hides_no_events() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut service = Socket::connect(&server, "backend", Role::Service).await;
    let answer = service.ask("subscribe:order", json!({"orderId": "o1", "since": 1_000_000})).await;
    assert_eq!(answer["seq"], 1);
    server.admin().status("o1", "accepted").await;
    let update = service.event("order:status_update").await;
    assert_eq!((&update["seq"], &update["replayed"]), (&json!(2), &Value::Null));
    server.stop().await;
}
