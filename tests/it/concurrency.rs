//! Concurrent requests: one of several conflicting changes wins, positions have no gaps, and retries are harmless.

use std::collections::HashMap;

use ordercast::base::db::Db;
use ordercast::event::log;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Server, assignment};
use crate::on_both_databases;

on_both_databases! {
    async fn one_of_several_concurrent_changes_wins(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        server.order("o1").await;
        let mut racing = tokio::task::JoinSet::new();
        for status in ["accepted", "preparing", "ready_for_pickup", "picked_up", "in_transit", "delivered", "cancelled", "payment_confirmed"] {
            let admin = admin.clone();
            racing.spawn(async move {
                admin.patch("/orders/o1/status", json!({"status": status, "expectedSeq": 1})).await
            });
        }
        let mut won: Vec<Value> = Vec::new();
        while let Some(answer) = racing.join_next().await {
            let answer = answer.expect("no panic");
            match answer.status {
                200 => won.push(answer.body),
                _ => answer.assert_problem(409, "stale_seq"),
            }
        }
        assert_eq!(won.len(), 1, "{won:?}");
        let order = admin.get("/orders/o1").await.body;
        assert_eq!((&order["status"], order["seq"].as_i64()), (&won[0]["status"], Some(2)));
        server.stop().await;
    }

    async fn repeated_changes_count_once(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order("o1").await;
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let admin = server.admin();
            racing.spawn(async move { admin.patch("/orders/o1/status", json!({"status": "accepted"})).await });
        }
        while let Some(answer) = racing.join_next().await {
            assert_eq!(answer.expect("no panic").status, 200);
        }
        let admin = server.admin();
        assert_eq!(admin.get("/orders/o1").await.body["seq"], 2);
        // A repeated assignment or cancellation counts once, too.
        for _ in 0..2 {
            assert_eq!(admin.post("/orders/o1/assign", assignment("d")).await.body["seq"], 3);
        }
        for _ in 0..2 {
            assert_eq!(admin.post("/orders/o1/cancel", json!({"reason": "rain"})).await.body["seq"], 4);
        }
        server.stop().await;
    }

    async fn positions_are_dense_and_in_order(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let admin = server.admin();
            let id = server.order(&format!("o{writer}")).await;
            writers.spawn(async move {
                for status in ["payment_confirmed", "accepted", "preparing", "ready_for_pickup", "assigned_to_driver", "picked_up", "in_transit", "delivered"] {
                    admin.status(&id, status).await;
                }
            });
        }
        while let Some(done) = writers.join_next().await {
            done.expect("no panic");
        }
        server.stop().await;
        let database = Db::connect(&db.url()).await.expect("database");
        let events = log::after(database.reader(), 0).await.expect("events").events();
        assert_eq!(events.len(), 72);
        let mut seqs: HashMap<String, i64> = HashMap::new();
        for (event, position) in events.iter().zip(1..) {
            assert_eq!(event.position, position);
            let seq = seqs.entry(event.order.id.to_string()).or_default();
            *seq += 1;
            assert_eq!(event.order.seq, *seq);
        }
        assert_eq!(log::head(database.reader()).await.expect("head"), 72);
        database.close().await;
    }

    async fn customer_and_chef_cannot_both_win(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order("o1").await;
        let (customer, chef) = (server.api("customer", Role::Customer), server.api("chef", Role::Chef));
        // The customer cancels while the chef starts to cook. The second request gets the current status and what is
        // allowed.
        let (cancelled, cooking) = tokio::join!(
            customer.post("/orders/o1/cancel", json!({})),
            chef.patch("/orders/o1/status", json!({"status": "preparing"})),
        );
        let won = [cancelled.status, cooking.status].iter().filter(|status| **status == 200).count();
        assert_eq!(won, 1, "{cancelled:?} {cooking:?}");
        let lost = if cancelled.status == 200 { cooking } else { cancelled };
        lost.assert_problem(409, "illegal_transition");
        assert!(lost.body["allowed"].is_array());
        server.stop().await;
    }
}
