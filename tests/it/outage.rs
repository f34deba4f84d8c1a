//! An outage of the database: clients are told to try again, and the server recovers without a restart.

use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use serde_json::json;

use crate::harness::{Server, TestDb, until};
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
