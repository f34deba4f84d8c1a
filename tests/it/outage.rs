//! An outage of the database: clients are told to try again, and the server recovers without a restart.

use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use serde_json::json;

use crate::harness::{Server, TestDb, new_order, until};
use crate::postgres::{Postgres, SmallDisk, give_to_postgres, hold};
use crate::socket::Socket;

/// Blocks or allows connections to the database of the test.
async fn set_reachable(admin: &DatabaseConnection, name: &str, reachable: bool) {
    admin
        .execute_unprepared(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {reachable}"))
        .await
        .expect("altered");
    if !reachable {
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        admin.execute_unprepared(&cut).await.expect("cut");
    }
}

async fn until_ready_answers(server: &Server, status: u16) {
    until("/ready", async || server.anonymous().get("/ready").await.status == status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_survives_an_outage_of_postgresql() {
    let Some(db) = TestDb::postgres().await else { return };
    let TestDb::Postgres { base, name } = &db else { unreachable!("asked for PostgreSQL") };
    let admin = Database::connect(format!("{base}postgres")).await.expect("PostgreSQL");
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    // A service is in no room that gets the events of an order. This one gets them only because it follows the order.
    let mut service = Socket::connect(&server, "backend", Role::Service).await;
    assert_eq!(service.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    service.event("order:status_update").await;
    set_reachable(&admin, name, false).await;
    until_ready_answers(&server, 503).await;
    // The handshake is refused, because clients retry it by themselves. They do not retry after a connect_error.
    let handshake = server.anonymous().get("/socket.io/?EIO=4&transport=polling").await;
    handshake.assert_problem(503, "unavailable");
    assert!(!handshake.header("retry-after").is_empty());
    let refused = server.admin().patch("/orders/o1/status", json!({"status": "accepted"})).await;
    refused.assert_problem(503, "unavailable");
    // Connected clients stay, and requests that need no database work.
    assert_eq!(customer.ask("ping:latency", json!({})).await["ok"], true);
    assert_eq!(
        customer.ask("order:tracking", json!({"orderId": "o1"})).await["error"]["code"],
        "unavailable"
    );
    let again = service.ask("subscribe:order", json!({"orderId": "o1"})).await;
    assert_eq!(again["error"]["code"], "unavailable");
    set_reachable(&admin, name, true).await;
    until_ready_answers(&server, 200).await;
    assert_eq!(server.admin().status("o1", "accepted").await["seq"], 2);
    assert_eq!(customer.event("order:status_update").await["seq"], 2);
    assert_eq!(service.event("order:status_update").await["seq"], 2, "it follows the order as before");
    server.stop().await;
}

/// What holds while the database can be read but not written: clients are told to try again, and may read.
async fn refuses_writes_and_says_so(server: &Server, customer: &mut Socket) {
    let admin = server.admin();
    let (changed, created, asked) = tokio::join!(
        admin.patch("/orders/o1/status", json!({"status": "accepted"})),
        admin.post("/orders", new_order("o2")),
        customer.ask("order:status_update", json!({"orderId": "o1", "status": "cancelled"})),
    );
    changed.assert_problem(503, "unavailable");
    created.assert_problem(503, "unavailable");
    assert!(!created.header("retry-after").is_empty());
    assert_eq!(asked["error"]["code"], "unavailable");
    until_ready_answers(server, 503).await;
    server.anonymous().get("/socket.io/?EIO=4&transport=polling").await.assert_problem(503, "unavailable");
    assert_eq!(customer.ask("order:tracking", json!({"orderId": "o1"})).await["ok"], true, "reads go on");
    assert_eq!(server.admin().get("/orders/o1").await.body["seq"], 1);
}

/// What holds afterwards, without a restart: the log has what was acknowledged and nothing else.
async fn goes_on(server: &Server, customer: &mut Socket) {
    until_ready_answers(server, 200).await;
    for (status, seq) in [("accepted", 2), ("preparing", 3), ("ready_for_pickup", 4)] {
        assert_eq!(server.admin().status("o1", status).await["seq"], seq);
        assert_eq!(customer.event("order:status_update").await["seq"], seq);
    }
    assert_eq!(server.admin().get("/orders/o2").await.status, 404);
    assert_eq!(server.admin().post("/orders", new_order("o2")).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_postgresql_is_an_outage() {
    let Some(db) = TestDb::postgres().await else { return };
    let TestDb::Postgres { base, name } = &db else { unreachable!("asked for PostgreSQL") };
    let admin = Database::connect(format!("{base}postgres")).await.expect("PostgreSQL");
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    // The setting is that of a connection from its start on, as the standby is that a pool still has connections to.
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    admin.execute_unprepared(&read_only).await.expect("set");
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    admin.execute_unprepared(&cut).await.expect("cut");
    until_ready_answers(&server, 503).await;
    refuses_writes_and_says_so(&server, &mut customer).await;
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    admin.execute_unprepared(&reset).await.expect("reset");
    goes_on(&server, &mut customer).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgresql_acknowledged_survives_its_crashes() {
    let Some(postgres) = Postgres::start(&[]) else { return };
    let server = Server::start(&postgres.db(), &[]).await;
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    for (mode, status, seq) in [("immediate", "accepted", 2), ("fast", "preparing", 3)] {
        postgres.down(mode);
        until_ready_answers(&server, 503).await;
        postgres.up();
        until_ready_answers(&server, 200).await;
        // No connection from before the crash is used any more: not one request fails.
        assert_eq!(server.admin().status("o1", status).await["seq"], seq);
        let reads = (0..20).map(async |_| server.admin().get("/orders/o1").await.body["seq"].as_i64());
        assert_eq!(futures_util::future::join_all(reads).await, vec![Some(seq); 20]);
        assert_eq!(customer.event("order:status_update").await["seq"], seq);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_another_process_is_an_outage() {
    let sqlite = TestDb::sqlite();
    let mut cases = vec![(sqlite.url(), sqlite, "BEGIN IMMEDIATE")];
    if let Some(db) = TestDb::postgres().await {
        cases.push((db.url(), db, "BEGIN; LOCK TABLE log_head IN EXCLUSIVE MODE"));
    }
    let tests = cases.iter().map(async |(url, db, lock)| {
        let server = Server::start(db, &[]).await;
        server.order("o1").await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        let other = hold(url, lock).await;
        // No change is needed for it to be noticed.
        until_ready_answers(&server, 503).await;
        refuses_writes_and_says_so(&server, &mut customer).await;
        other.execute_unprepared("ROLLBACK").await.expect("released");
        goes_on(&server, &mut customer).await;
        server.stop().await;
    });
    futures_util::future::join_all(tests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_sqlite_is_an_outage() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::at(folder.path()) else { return };
    let db = TestDb::Sqlite(folder);
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    disk.fill();
    until_ready_answers(&server, 503).await;
    refuses_writes_and_says_so(&server, &mut customer).await;
    disk.free();
    goes_on(&server, &mut customer).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_postgresql_is_an_outage() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::at(folder.path()) else { return };
    let Some(postgres) = Postgres::start(&[]) else { return };
    let server = Server::start(&postgres.db(), &[]).await;
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    // The tables are on the small disk, the log of PostgreSQL itself is not: that it cannot be written is a crash.
    let tables = folder.path().join("tables");
    std::fs::create_dir(&tables).expect("a folder");
    give_to_postgres(&tables);
    let admin = postgres.admin().await;
    for statement in [
        &*format!("CREATE TABLESPACE small LOCATION '{}'", tables.display()),
        // The server connects again at once, and nobody may be connected while the tables move.
        "ALTER DATABASE postgres ALLOW_CONNECTIONS false",
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'postgres'",
        "ALTER DATABASE postgres SET TABLESPACE small",
        "ALTER DATABASE postgres ALLOW_CONNECTIONS true",
    ] {
        admin.execute_unprepared(statement).await.expect("moved");
    }
    until_ready_answers(&server, 200).await;
    disk.fill();
    // Rows still fit into pages that are there, until one does not.
    let admin = server.admin();
    let mut numbers = 0..;
    until("a full disk", async || {
        let made = numbers.by_ref().take(32).map(|number| {
            let (admin, order) = (admin.clone(), new_order(&format!("filler-{number}")));
            async move { admin.post("/orders", order).await.status }
        });
        futures_util::future::join_all(made).await.contains(&503)
    })
    .await;
    until_ready_answers(&server, 503).await;
    disk.free();
    until_ready_answers(&server, 200).await;
    assert_eq!(server.admin().status("o1", "accepted").await["seq"], 2);
    assert_eq!(customer.event("order:status_update").await["seq"], 2);
    server.stop().await;
}
