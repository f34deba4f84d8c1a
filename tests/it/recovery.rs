//! Recovery of sessions: clients get missed events from the window or the database, but only for a day.

use chrono::TimeDelta;
use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database, DatabaseBackend, Statement, TransactionTrait};
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, assignment, until};
use crate::on_both_databases;
use crate::socket::{Event, Socket};

fn names_and_seqs(events: &[Event]) -> Vec<(String, i64)> {
    events.iter().map(|event| (event.name.clone(), event.data["seq"].as_i64().unwrap_or(0))).collect()
}

fn updates(seqs: impl IntoIterator<Item = i64>) -> Vec<(String, i64)> {
    seqs.into_iter().map(|seq| ("order:status_update".to_owned(), seq)).collect()
}

/// Assigns an order to two drivers in turn. Each assignment is a durable event.
async fn reassign(server: &Server, order: &str, count: usize) {
    let admin = server.admin();
    for number in 0..count {
        let driver = if number % 2 == 0 { "d1" } else { "d2" };
        assert_eq!(admin.post(&format!("/orders/{order}/assign"), assignment(driver)).await.status, 200);
    }
}

on_both_databases! {
    // The window holds four events and the clients miss thirty. So most events come from the database, where each role
    // reads its own share.
    async fn events_older_than_the_window_are_read_from_the_database(db: TestDb) {
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
        reassign(&server, "mine", 40).await;
        for (mut socket, token) in away {
            let live = socket.events_so_far().await;
            // Sets the offset of the tenth event, as if the connection had been cut right after it.
            socket.offset = live.iter().filter(|event| event.name == "order:status_update").nth(9).expect("ten").offset.clone();
            let (mut socket, recovered) = socket.reconnect(&server, &token).await;
            assert!(recovered);
            assert_eq!(socket.ask("subscribe:order", json!({"orderId": "mine"})).await["ok"], true);
            let mut again = socket.events_so_far().await;
            assert_eq!(again.pop().expect("the snapshot").data["snapshot"], true);
            assert_eq!(names_and_seqs(&again), updates(13..=42));
            // The replayed payloads are equal to the live ones.
            let same: Vec<&Value> = live.iter().filter(|event| event.name == "order:status_update").skip(10).map(|event| &event.data).collect();
            assert_eq!(again.iter().map(|event| &event.data).collect::<Vec<_>>(), same);
        }
        server.stop().await;
    }

    async fn a_session_that_the_database_refuses_costs_no_other(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order("mine").await;
        db.refuse_poison("socket_session", "user_id").await;
        let poison = Socket::connect(&server, "poison", Role::Customer).await;
        let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
        until("the subscription", async || socket.ask("subscribe:order", json!({"orderId": "mine"})).await["ok"] == true).await;
        let (mut socket, recovered) = socket.reconnect(&server, &server.token("customer", Role::Customer)).await;
        assert!(recovered);
        server.admin().status("mine", "accepted").await;
        assert_eq!(socket.event("order:status_update").await["status"], "accepted");
        drop((poison, socket));
        server.stop().await;
    }

    async fn a_position_is_enough_to_catch_up(db: TestDb) {
        let server = Server::start(&db, &["--replay-limit", "20", "--window-events", "4"]).await;
        server.order("mine").await;
        let admin = server.admin();
        admin.status("mine", "accepted").await;
        reassign(&server, "mine", 20).await;
        let token = server.token("customer", Role::Customer);
        let mut socket = Socket::connect_with_auth(&server, json!({"token": token, "position": 2})).await;
        let greeting = socket.event("connected").await;
        assert_eq!((&greeting["recovered"], &greeting["position"]), (&json!(false), &json!(2)));
        for seq in 3..=22 {
            let heard = socket.event("order:status_update").await;
            assert_eq!((&heard["seq"], &heard["replayed"]), (&json!(seq), &json!(true)));
        }
        reassign(&server, "mine", 1).await;
        let next = socket.event("order:status_update").await;
        assert_eq!((&next["seq"], &next["replayed"]), (&json!(23), &Value::Null));
        for (position, reason) in [(2, "too_many_events"), (1_000, "unknown_position")] {
            let mut socket = Socket::connect_with_auth(&server, json!({"token": token, "position": position})).await;
            assert_eq!(socket.event("connected").await["position"], 23);
            assert_eq!(socket.event("resync").await, json!({"reason": reason}));
            assert!(socket.events_so_far().await.is_empty());
        }
        server.stop().await;
    }

    async fn a_session_can_be_recovered_for_a_day(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        server.order("mine").await;
        let customer = || server.token("customer", Role::Customer);
        let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
        assert_eq!(socket.ask("subscribe:order", json!({"orderId": "mine"})).await["ok"], true);
        socket.event("order:status_update").await;
        let disk = Database::connect(db.url()).await.expect("the database");
        let is_open = async || {
            let open = "SELECT id FROM socket_session WHERE ended_at IS NULL";
            let open = Statement::from_string(disk.get_database_backend(), open);
            disk.query_one_raw(open).await.expect("an answer").is_some()
        };
        // The recovery window counts from the disconnect, not from the connect.
        server.clock.advance(TimeDelta::minutes(59));
        socket.ask("token:refresh", json!({"token": customer()})).await;
        let mut later = TimeDelta::zero();
        for (away, comes_back) in [(TimeDelta::hours(24), true), (TimeDelta::hours(24) + TimeDelta::minutes(1), false)] {
            // Begin and end of the connection must be on disk before the clock moves.
            let (pid, offset) = (socket.pid.clone(), socket.offset.clone());
            until("the session is open on disk", async || is_open().await).await;
            drop(socket);
            until("its end is on disk", async || !is_open().await).await;
            server.clock.advance(away);
            later += away;
            let auth = json!({"token": customer(), "pid": pid, "offset": offset});
            socket = Socket::connect_with_auth(&server, auth).await;
            assert_eq!(socket.event("connected").await["recovered"], comes_back, "after {later}");
        }
        server.stop().await;
    }
}

/// Missed events are read once, however many clients reconnect at the same time.
#[tokio::test]
async fn missed_events_are_read_once_for_many_clients() {
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
    // Starts a new server, so that no events are in memory.
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
            let mut socket = Socket::connect_with_auth(server, auth).await;
            assert_eq!(socket.event("connected").await["recovered"], true);
            assert_eq!(names_and_seqs(&socket.events_so_far().await), updates([2; 5]));
            socket
        }
    });
    let sockets = futures_util::future::join_all(back).await;
    // One read for the missed events and one for each followed order. In addition, the relay reads once per second.
    let read = reads(&server).await - before;
    assert!(read <= 1 + 5 + 10, "{read} reads for {} clients", sockets.len());
    server.stop().await;
}

async fn reads(server: &Server) -> u64 {
    let metrics = server.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("ordercast_log_reads_total")).expect("a metric");
    line.split_whitespace().last().expect("a figure").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_that_come_back_at_once_one_has_the_session() {
    let Some(db) = TestDb::postgres().await else { return };
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut lost = Socket::connect(&server, "customer", Role::Customer).await;
    assert_eq!(lost.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    let auth = json!({"token": server.token("customer", Role::Customer), "pid": lost.pid});
    drop(lost);
    let database = Database::connect(db.url()).await.expect("the database");
    // Both have come before the session is read, as they do when the database stands still and the client tries again.
    let standstill = database.begin().await.expect("a transaction");
    let sessions = "LOCK TABLE socket_session IN ACCESS EXCLUSIVE MODE";
    standstill.execute_unprepared(sessions).await.expect("locked");
    let come = || Socket::connect_with_auth(&server, auth.clone());
    let both = async { tokio::join!(come(), come()) };
    let go_on = async {
        let waiting = "SELECT 1 FROM pg_locks WHERE NOT granted";
        until("they wait", async || {
            let waiting = Statement::from_string(DatabaseBackend::Postgres, waiting);
            !database.query_all_raw(waiting).await.expect("read").is_empty()
        })
        .await;
        standstill.commit().await.expect("unlocked");
    };
    let ((mut one, mut two), ()) = tokio::join!(both, go_on);
    let mut kept = tokio::select! {
        () = one.until_closed() => two,
        () = two.until_closed() => one,
    };
    let followed = kept.ask("subscribe:order", json!({"orderId": "o1"})).await;
    assert_eq!(followed["ok"], true, "{followed}");
    server.stop().await;
}

on_both_databases! {
    async fn nothing_is_acknowledged_to_a_holder_that_was_superseded(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        for order in ["o1", "o2"] {
            server.order(order).await;
        }
        let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
        assert_eq!(socket.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
        let database = Database::connect(db.url()).await.expect("the database");
        // Another connection has got the session, and this node has not heard of it yet.
        let taken = "UPDATE socket_session SET socket = 'another'";
        assert_eq!(database.execute_unprepared(taken).await.expect("taken").rows_affected(), 1);
        let refused = socket.ask("subscribe:order", json!({"orderId": "o2"})).await;
        assert_eq!((&refused["ok"], &refused["error"]["code"]), (&json!(false), &json!("unavailable")), "{refused}");
        server.stop().await;
    }
}
