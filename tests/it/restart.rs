//! Restarts: acknowledged changes are still there, and clients that reconnect get the current state.

use ordercast::model::Role;
use serde_json::json;

use crate::harness::Server;
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn a_delivery_continues_after_a_restart(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order_with_driver("o1", "picked_up").await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
        let waiting = server.api("customer", Role::Customer);
        let poll = tokio::spawn(async move { waiting.get("/orders/o1/events?after=4&wait=30").await });
        server.admin().get("/health").await;
        server.stop().await;
        customer.until_closed().await;
        assert!(poll.await.is_ok(), "the stop ends a long poll");

        let server = Server::start(&db, &[]).await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let answer = customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
        assert_eq!((answer["seq"].as_i64(), answer["status"].as_str()), (Some(4), Some("picked_up")));
        let snapshot = customer.event("order:status_update").await;
        assert_eq!((&snapshot["snapshot"], &snapshot["seq"]), (&json!(true), &json!(4)));
        // The live state was rebuilt: the driver carries the order, and the customer sees the driver move.
        assert_eq!(driver.ask("driver:location", json!({"latitude": 47.1, "longitude": 9.5})).await["ok"], true);
        assert_eq!(customer.event("driver:location_update").await["orderId"], "o1");
        let done = driver.ask("order:status_update", json!({"orderId": "o1", "status": "delivered"})).await;
        assert_eq!(done["seq"], 5);
        assert_eq!(customer.event("order:status_update").await["seq"], 5);
        let tracking = server.admin().get("/orders/o1/tracking").await.body;
        assert_eq!((tracking["seq"].as_i64(), tracking["status"].as_str()), (Some(5), Some("delivered")));
        server.stop().await;
    }
}
