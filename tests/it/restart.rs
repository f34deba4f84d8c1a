//! Stopping and starting again: what was acknowledged is there, and those who come back are told how things stand.

use ordercast::model::Role;
use serde_json::json;

use crate::harness::Server;
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn in_the_middle_of_a_delivery(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order_with_driver("o1", "picked_up").await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
        let waiting = server.api("customer", Role::Customer);
        let poll = tokio::spawn(async move { waiting.get("/orders/o1/events?after=4&wait=30").await });
        server.admin().get("/health").await;
        server.stop().await;
        customer.closed().await;
        assert!(poll.await.is_ok(), "a long poll is let go");

        let server = Server::start(&db, &[]).await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let answer = customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
        assert_eq!((answer["seq"].as_i64(), answer["status"].as_str()), (Some(4), Some("picked_up")));
        let snapshot = customer.event("order:status_update").await;
        assert_eq!((&snapshot["snapshot"], &snapshot["seq"]), (&json!(true), &json!(4)));
        // The live state was built anew: the driver carries the order, the customer sees them move.
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
