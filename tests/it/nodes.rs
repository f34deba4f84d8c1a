//! Several processes on one database, and processes of different versions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use ordercast::base::clock::{Clock, from_millis};
use ordercast::base::db::Db;
use ordercast::cluster::control::Control;
use ordercast::dialect::Dialect;
use ordercast::model::{OrderId, Principal, Role, TokenId, UserId};
use ordercast::recovery::pid::Pid;
use ordercast::recovery::store::RecoveryWorker;
use ordercast::recovery::{Follow, Recovery, SessionOwner};
use sea_orm::{ConnectionTrait, EntityTrait};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, TestDb, new_order, settings, until};
use crate::on_both_databases;
use crate::socket::Socket;

/// Logs an event as another version does: the newest event of the order with other members. `edit` gets the event.
async fn log_as_newer_version(db: &Db, order: &str, edit: impl FnOnce(&mut Value)) {
    let row =
        entity::order::Entity::find_by_id(order).one(db.reader()).await.expect("read").expect("the order");
    let events = entity::order_event::Entity::find().all(db.reader()).await.expect("the log");
    let newest = events.iter().rfind(|event| event.order_id == order).expect("an event");
    let mut body: Value = serde_json::from_str(&newest.body).expect("JSON");
    let (position, seq) = (events.len() + 1, row.seq + 1);
    body["order"]["seq"] = json!(seq);
    edit(&mut body);
    let body = body.to_string().replace('\'', "''");
    let tx = db.begin().await.expect("a transaction");
    for statement in [
        format!("UPDATE log_head SET position = {position}"),
        format!("UPDATE orders SET seq = {seq} WHERE id = '{order}'"),
        format!(
            "INSERT INTO event_audience (stretch, audience, position) VALUES (0, 'user:customer', {position})"
        ),
        format!(
            "INSERT INTO order_event (position, order_id, seq, body) VALUES ({position}, '{order}', {seq}, '{body}')"
        ),
    ] {
        tx.execute_unprepared(&statement).await.expect("written");
    }
    tx.commit().await.expect("committed");
}

async fn recovery(db: &Db, clock: &Clock, limits: &TestDb) -> (Recovery, RecoveryWorker) {
    Recovery::open(
        db.clone(),
        clock.clone(),
        settings(limits, &[]).limits,
        Control::new(db.clone(), clock.clone(), clock.uuid().to_string()),
    )
    .await
    .expect("opened")
}

on_both_databases! {
    async fn processes_that_start_together_take_turns_at_migrating(db: TestDb) {
        let starting: Vec<_> = (0..4).map(|_| { let url = db.url(); tokio::spawn(async move { Db::open(&url, 4, "test").await }) }).collect();
        for opened in starting {
            let opened = opened.await.expect("no panic").expect("migrated");
            assert!(entity::order::Entity::find().one(opened.reader()).await.expect("the table").is_none());
            opened.close().await;
        }
    }

    // An event of a kind that is not known here is told as any other. One that cannot be read is skipped. Neither stops
    // what comes after it.
    async fn events_of_a_newer_version_do_not_stop_an_older_one(db: TestDb) {
        let server = Server::start(&db, &["--window-events", "4"]).await;
        let database = Db::connect(&db.url()).await.expect("database");
        server.order("o1").await;
        server.order("o2").await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        log_as_newer_version(&database, "o1", |body| body["kind"] = json!("teleported")).await;
        let told = customer.event("order:status_update").await;
        assert_eq!((&told["orderId"], &told["seq"], &told["position"]), (&json!("o1"), &json!(2), &json!(3)));
        log_as_newer_version(&database, "o1", |body| body["order"]["status"] = json!("beamed_up")).await;
        server.admin().status("o2", "accepted").await;
        let told = customer.event("order:status_update").await;
        assert_eq!((&told["orderId"], &told["seq"], &told["position"]), (&json!("o2"), &json!(2), &json!(5)));
        assert_eq!(server.admin().status("o1", "accepted").await["seq"], 4);
        assert_eq!(customer.event("order:status_update").await["seq"], 4);
        for status in ["preparing", "ready_for_pickup", "assigned_to_driver", "picked_up"] {
            server.admin().status("o2", status).await;
        }
        assert_eq!(server.anonymous().get("/ready").await.status, 200);
        // Those who missed it are told what can be read, from the database and from the window.
        for position in [2, 6] {
            let auth = json!({"token": server.token("customer", Role::Customer), "position": position});
            let mut late = Socket::connect_with_auth(&server, auth).await;
            late.event("connected").await;
            for expected in [3, 5, 6, 7, 8, 9, 10].into_iter().filter(|at| *at > position) {
                assert_eq!(late.event("order:status_update").await["position"], expected);
            }
        }
        let events = server.admin().get("/orders/o1/events").await.body;
        let seqs: Vec<_> = events["events"].as_array().expect("events").iter().map(|event| event["seq"].as_i64().expect("a seq")).collect();
        assert_eq!(seqs, [1, 2, 4]);
        database.close().await;
        server.stop().await;
    }

    // The client left a process that could not write that it was there, and is with another one by now.
    async fn what_waited_for_the_database_does_not_undo_what_came_later(db: TestDb) {
        let database = Db::open(&db.url(), 4, "test").await.expect("database");
        let clock = Clock::manual(from_millis(1_800_000_000_000));
        let who = Principal { id: UserId::stored("customer"), role: Role::Customer, expires_at: clock.now(), issued_at: None, token: TokenId::default(), contact: None, share: None };
        let (waits, its_work) = recovery(&database, &clock, &db).await;
        let (later, later_work) = recovery(&database, &clock, &db).await;
        let made = Pid { position: 0, made_at: clock.now() };
        let pid = later.signer().make(&who, Dialect::Realtime, made, clock.random());
        let owner = |socket: &str| SessionOwner { pid: pid.as_str().into(), socket: socket.into(), held_at: clock.now() };
        let order = OrderId::stored("o1");
        waits.began(Some(&owner("first")), &who, Dialect::Realtime, false);
        waits.note(Some(&owner("first")), &order, Follow::No);
        clock.advance(TimeDelta::seconds(3));
        later.began(Some(&owner("second")), &who, Dialect::Realtime, true);
        let stop = CancellationToken::new();
        let later_runs = tokio::spawn(later_work.run(stop.clone()));
        later.set(Some(&owner("second")), &order, Follow::Yes(None)).await.expect("written");
        let it_runs = tokio::spawn(its_work.run(stop.clone()));
        // The end writes what still waits.
        stop.cancel();
        it_runs.await.expect("ended");
        later_runs.await.expect("ended");
        let row = entity::socket_session::Entity::find_by_id(&pid).one(database.reader()).await.expect("read").expect("a row");
        assert_eq!((row.socket.as_str(), row.ended_at), ("second", None));
        let orders = entity::session_order::Entity::find().all(database.reader()).await.expect("read");
        assert_eq!(orders.len(), 1, "it still follows the order");
        database.close().await;
    }
}

on_both_databases! {
    async fn every_node_has_a_number_and_knows_the_others(db: TestDb) {
        let first = Server::start(&db, &["--cluster-listen", "127.0.0.1:0", "--cluster-advertise", "one.example:9002"]).await;
        let second = Server::start(&db, &[]).await;
        first.api("customer", Role::Customer).get("/cluster").await.assert_problem(403, "forbidden");
        until("the first node sees the second", async || {
            first.admin().get("/cluster").await.body["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
        })
        .await;
        let seen = second.admin().get("/cluster").await.body;
        assert_eq!((&seen["this"], &seen["nodes"][0]["number"], &seen["nodes"][1]["number"]), (&json!(2), &json!(1), &json!(2)));
        assert_eq!((&seen["nodes"][0]["address"], &seen["nodes"][1]["address"]), (&json!("one.example:9002"), &Value::Null));
        assert_eq!(seen["nodes"][0]["version"], env!("CARGO_PKG_VERSION"));
        first.stop().await;
        until("the second node is alone", async || {
            second.admin().get("/cluster").await.body["nodes"].as_array().is_some_and(|nodes| nodes.len() == 1)
        })
        .await;
        // The number is free again, because its node has left.
        let third = Server::start(&db, &[]).await;
        assert_eq!(third.admin().get("/cluster").await.body["this"], 1);
        second.stop().await;
        third.stop().await;
    }
}

/// Two nodes that know of each other.
async fn two_nodes(db: &TestDb) -> [Server; 2] {
    let nodes = [Server::start(db, &[]).await, Server::start(db, &[]).await];
    for node in &nodes {
        until("the nodes see each other", async || {
            node.admin().get("/cluster").await.body["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
        })
        .await;
    }
    nodes
}

async fn until_somebody_waits(database: &Db) {
    until("a statement waits for a lock", async || {
        let waiting =
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, waiting);
        !database.reader().query_all_raw(statement).await.expect("read").is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counter_of_order_numbers_is_free_while_a_creation_waits_for_the_log() {
    let Some(db) = TestDb::postgres().await else { return };
    let [server, other] = two_nodes(&db).await;
    server.order("first").await;
    let database = Db::connect(&db.url()).await.expect("database");
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("UPDATE log_head SET position = position").await.expect("held");
    let admin = server.admin();
    let made = tokio::spawn(async move { admin.post("/orders", new_order("second")).await });
    until_somebody_waits(&database).await;
    let counter = database.begin().await.expect("a transaction");
    counter
        .execute_unprepared("SELECT * FROM order_number FOR UPDATE NOWAIT")
        .await
        .expect("nobody holds it");
    counter.rollback().await.expect("released");
    held.rollback().await.expect("released");
    assert_eq!(made.await.expect("no panic").status, 201);
    database.close().await;
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_free_while_another_node_creates() {
    let Some(db) = TestDb::postgres().await else { return };
    let [server, other] = two_nodes(&db).await;
    server.order("first").await;
    let database = Db::connect(&db.url()).await.expect("database");
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared("LOCK TABLE order_item IN EXCLUSIVE MODE").await.expect("held");
    let admin = server.admin();
    let made = tokio::spawn(async move { admin.post("/orders", new_order("second")).await });
    until_somebody_waits(&database).await;
    assert_eq!(other.admin().status("first", "accepted").await["status"], "accepted");
    assert!(!made.is_finished(), "the creation waited all the time");
    held.rollback().await.expect("released");
    assert_eq!(made.await.expect("no panic").status, 201);
    database.close().await;
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_create_at_the_same_time_make_different_numbers() {
    const EACH: usize = 50;
    let Some(db) = TestDb::postgres().await else { return };
    let nodes = two_nodes(&db).await;
    // Staff brought a number of the first block from another system.
    let day = Clock::System.now().format("%Y%m%d");
    let mut by_hand = new_order("by-hand");
    by_hand["orderNumber"] = json!(format!("RND-{day}-0005"));
    assert_eq!(nodes[0].admin().post("/orders", by_hand).await.status, 201);
    let creations = (0..2 * EACH).map(|n| {
        let admin = nodes[n % 2].admin();
        async move { (n % 2, admin.post("/orders", new_order(&format!("o{n}"))).await) }
    });
    let mut numbers = BTreeSet::from([5]);
    let mut blocks = [BTreeSet::new(), BTreeSet::new()];
    for (node, made) in futures_util::future::join_all(creations).await {
        assert_eq!(made.status, 201, "{}", made.body);
        let number = made.body["orderNumber"].as_str().expect("a number");
        let number: i64 =
            number.rsplit('-').next().and_then(|last| last.parse().ok()).expect("RND-day-number");
        assert!(numbers.insert(number), "{number} is given twice");
        blocks[node].insert((number - 1) / 32);
    }
    assert_eq!(numbers.len(), 2 * EACH + 1);
    assert!(blocks.iter().all(|blocks| blocks.len() >= 2), "each node has used a block up: {blocks:?}");
    for node in nodes {
        node.stop().await;
    }
}

// As when a proxy sends to another node what the first one was slow to answer.
#[tokio::test(flavor = "multi_thread")]
async fn retries_that_cross_each_other_on_two_nodes_make_one_order_each() {
    const KEYS: usize = 12;
    let Some(db) = TestDb::postgres().await else { return };
    let nodes = two_nodes(&db).await;
    for round in 0..10 {
        let create = |node: &Server, key: usize| {
            let mut body = new_order("any");
            body.as_object_mut().expect("an object").remove("id");
            let key_header = format!("round-{round}-key-{key}");
            let request = node.admin().request("POST", "/orders").header("idempotency-key", key_header);
            async move { (key, crate::harness::Api::send(request.json(&body)).await) }
        };
        let there = (0..KEYS).map(|key| create(&nodes[0], key));
        let back = (0..KEYS).rev().map(|key| create(&nodes[1], key));
        let mut orders = BTreeMap::new();
        for (key, made) in futures_util::future::join_all(there.chain(back)).await {
            assert!(matches!(made.status, 200 | 201), "{}: {}", made.status, made.body);
            let id = made.body["id"].clone();
            assert_eq!(orders.entry(key).or_insert_with(|| id.clone()), &id, "one order for key {key}");
        }
    }
    for node in nodes {
        node.stop().await;
    }
}
