//! The database goes away and comes back: clients are told to try again, and nothing has to be restarted.

use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use serde_json::json;

use crate::harness::{Server, TestDb, until};
use crate::socket::Socket;

/// Lets nobody into the test's database, or everybody again.
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
async fn of_postgresql() {
    let Some(db) = TestDb::postgres().await else { return };
    let TestDb::Postgres { base, name } = &db else { unreachable!("asked for PostgreSQL") };
    let admin = Database::connect(format!("{base}postgres")).await.expect("PostgreSQL");
    let server = Server::start(&db, &[]).await;
    server.order("o1").await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    // In no room of the order's events: it hears of the order only because it follows it.
    let mut service = Socket::connect(&server, "backend", Role::Service).await;
    assert_eq!(service.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    service.event("order:status_update").await;
    set_reachable(&admin, name, false).await;
    until_ready_answers(&server, 503).await;
    // At the handshake, where a client tries again by itself; never as a connect_error.
    let handshake = server.anonymous().get("/socket.io/?EIO=4&transport=polling").await;
    handshake.assert_problem(503, "unavailable");
    assert!(!handshake.header("retry-after").is_empty());
    let refused = server.admin().patch("/orders/o1/status", json!({"status": "accepted"})).await;
    refused.assert_problem(503, "unavailable");
    // Who is connected stays, and what needs no database works.
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
