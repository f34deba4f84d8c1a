//! Coming back: with what was missed, from the window or from the database; for a day; and not for ever.

use chrono::TimeDelta;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, assignment};
use crate::on_both_databases;
use crate::socket::{Event, Socket};

/// Names and seqs of what came.
fn told(events: &[Event]) -> Vec<(String, i64)> {
    events.iter().map(|event| (event.name.clone(), event.data["seq"].as_i64().unwrap_or(0))).collect()
}

fn updates(seqs: impl IntoIterator<Item = i64>) -> Vec<(String, i64)> {
    seqs.into_iter().map(|seq| ("order:status_update".to_owned(), seq)).collect()
}

/// Takes an order from one driver to the other and back: a durable event each time.
async fn turns(server: &Server, order: &str, count: usize) {
    let admin = server.admin();
    for turn in 0..count {
        let driver = if turn % 2 == 0 { "d1" } else { "d2" };
        assert_eq!(admin.post(&format!("/orders/{order}/assign"), assignment(driver)).await.status, 200);
    }
}

// In the first the window holds four events, and thirty are missed: all but the last come from the database, to each role
// its own share.
on_both_databases! {
    async fn what_the_window_has_forgotten_is_read_from_the_database(db: TestDb) {
        let server = Server::start(&db, &["--window-events", "4"]).await;
        server.order("mine").await;
        server.admin().status("mine", "accepted").await;
        server.order("other").await;
        let mut away = Vec::new();
        for (id, role) in
            [("customer", Role::Customer), ("chef", Role::Chef), ("root", Role::Admin), ("backend", Role::Service)]
        {
            let mut socket = Socket::connect(&server, id, role).await;
            assert_eq!(socket.ask("subscribe:order", json!({"orderId": "mine"})).await["ok"], true);
            socket.event("order:status_update").await;
            away.push((socket, server.token(id, role)));
        }
        turns(&server, "mine", 40).await;
        for (mut socket, token) in away {
            let live = socket.so_far().await;
            // As if the line had been cut right after the tenth.
            socket.offset = live.iter().filter(|event| event.name == "order:status_update").nth(9).expect("ten").offset.clone();
            let (mut socket, recovered) = socket.back(&server, &token).await;
            assert!(recovered);
            assert_eq!(socket.ask("subscribe:order", json!({"orderId": "mine"})).await["ok"], true);
            let mut again = socket.so_far().await;
            assert_eq!(again.pop().expect("the snapshot").data["snapshot"], true);
            assert_eq!(told(&again), updates(13..=42));
            // Said in the same words, up to what the ETA was then.
            let same: Vec<&Value> = live.iter().filter(|event| event.name == "order:status_update").skip(10).map(|event| &event.data).collect();
            assert_eq!(again.iter().map(|event| &event.data).collect::<Vec<_>>(), same);
        }
        server.stop().await;
    }

    async fn a_position_is_enough(db: TestDb) {
        let server = Server::start(&db, &["--replay-limit", "20", "--window-events", "4"]).await;
        server.order("mine").await;
        let admin = server.admin();
        admin.status("mine", "accepted").await;
        turns(&server, "mine", 20).await;
        let token = server.token("customer", Role::Customer);
        let mut socket = Socket::knock(&server, json!({"token": token, "position": 2})).await;
        let greeting = socket.event("connected").await;
        assert_eq!((&greeting["recovered"], &greeting["position"]), (&json!(false), &json!(2)));
        for seq in 3..=22 {
            let heard = socket.event("order:status_update").await;
            assert_eq!((&heard["seq"], &heard["replayed"]), (&json!(seq), &json!(true)));
        }
        turns(&server, "mine", 1).await;
        let next = socket.event("order:status_update").await;
        assert_eq!((&next["seq"], &next["replayed"]), (&json!(23), &Value::Null));
        for (position, reason) in [(2, "too_many_events"), (1_000, "unknown_position")] {
            let mut socket = Socket::knock(&server, json!({"token": token, "position": position})).await;
            assert_eq!(socket.event("connected").await["position"], 23);
            assert_eq!(socket.event("resync").await, json!({"reason": reason}));
            assert!(socket.so_far().await.is_empty());
        }
        server.stop().await;
    }

    async fn for_a_day_and_no_longer(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        server.order("mine").await;
        let customer = || server.token("customer", Role::Customer);
        let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
        assert_eq!(socket.ask("subscribe:order", json!({"orderId": "mine"})).await["ok"], true);
        socket.event("order:status_update").await;
        // Connected for longer than that: what counts is when it left.
        server.clock.advance(TimeDelta::minutes(59));
        socket.ask("token:refresh", json!({"token": customer()})).await;
        let mut later = TimeDelta::zero();
        for (away, comes_back) in [(TimeDelta::hours(24), true), (TimeDelta::hours(24) + TimeDelta::minutes(1), false)] {
            // It must be written down that it left before the clock moves.
            let (pid, offset) = (socket.pid.clone(), socket.offset.clone());
            drop(socket);
            crate::harness::until("it has left", async || {
                server.metrics().await.contains("ordercast_connections{role=\"customer\",client=\"realtime\"} 0")
            })
            .await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            server.clock.advance(away);
            later += away;
            let auth = json!({"token": customer(), "pid": pid, "offset": offset});
            socket = Socket::knock(&server, auth).await;
            assert_eq!(socket.event("connected").await["recovered"], comes_back, "after {later}");
        }
        server.stop().await;
    }
}

/// However many come back at once, what they missed is read once.
#[tokio::test]
async fn many_come_back_for_the_price_of_one() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    for order in 0..5 {
        server.order(&format!("o{order}")).await;
    }
    let mut away = Vec::new();
    for client in 0..200 {
        let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
        let order = format!("o{}", client % 5);
        assert_eq!(socket.ask("subscribe:order", json!({"orderId": order})).await["ok"], true);
        socket.event("order:status_update").await;
        away.push((socket.pid.clone(), socket.offset.clone()));
    }
    server.stop().await;
    // A new process: nothing is in memory.
    let server = Server::start(&db, &[]).await;
    for order in 0..5 {
        server.admin().status(&format!("o{order}"), "accepted").await;
    }
    server.stop().await;
    let server = Server::start(&db, &[]).await;
    let before = reads(&server).await;
    let token = server.token("customer", Role::Customer);
    let back = away.into_iter().map(|(pid, offset)| {
        let (server, auth) = (&server, json!({"token": token, "pid": pid, "offset": offset}));
        async move {
            let mut socket = Socket::knock(server, auth).await;
            assert_eq!(socket.event("connected").await["recovered"], true);
            assert_eq!(told(&socket.so_far().await), updates([2; 5]));
            socket
        }
    });
    let sockets = futures_util::future::join_all(back).await;
    // One for what was missed, one for each order that is followed; the relay looks once a second besides.
    let read = reads(&server).await - before;
    assert!(read <= 1 + 5 + 10, "{read} reads for {} clients", sockets.len());
    server.stop().await;
}

async fn reads(server: &Server) -> u64 {
    let metrics = server.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("ordercast_log_reads_total")).expect("a metric");
    line.split_whitespace().last().expect("a figure").parse().expect("a number")
}
