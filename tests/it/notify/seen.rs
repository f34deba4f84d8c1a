//! Nobody is pushed what they have just seen.

use chrono::TimeDelta;
use ordercast::model::Role;
use serde_json::json;

use super::Reached;
use crate::harness::until;
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn who_watches_is_not_pushed(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        let mut customer = Socket::connect(server, "customer", Role::Customer).await;
        let mut chef = Socket::connect(server, "chef", Role::Chef).await;
        server.order("o1").await;
        admin.status("o1", "accepted").await;
        // The client reads, and so answers the ping behind the event.
        customer.event("order:status_update").await;
        let mut line = json!(null);
        until("the proof", async || {
            customer.ask("ping:latency", json!({})).await;
            line = reached.lines("o1").await.into_iter().find(|line| line["kind"] == "order.accepted" && line["channel"] == "fcm").unwrap_or_default();
            line["state"] == "suppressed"
        }).await;
        assert_eq!(line["reason"], "watching", "{line}");
        server.clock.advance(TimeDelta::seconds(30));
        // The chef hears what the customer has, and then what the customer has seen.
        let receipt = chef.event("order:receipt").await;
        assert_eq!((&receipt["userId"], &receipt["receivedSeq"], &receipt["seenSeq"]), (&json!("customer"), &json!(2), &json!(0)), "{receipt}");
        assert_eq!(customer.ask("order:seen", json!({"orderId": "o1", "seq": 2})).await["ok"], true);
        let receipt = chef.event("order:receipt").await;
        assert_eq!((&receipt["seenSeq"], &receipt["role"]), (&json!(2), &json!("customer")), "{receipt}");
        assert!(reached.providers.asked("messages:send").is_empty());
        for (body, code) in [(json!({"orderId": "o1", "seq": 9}), "invalid_payload"), (json!({"orderId": "o9", "seq": 1}), "not_found"), (json!({"orderId": "o1", "seq": 0}), "invalid_payload")] {
            assert_eq!(customer.ask("order:seen", body).await["error"]["code"], code);
        }
        let receipts = chef_receipts(&reached).await;
        let mine = receipts["items"].as_array().expect("a list").iter().find(|one| one["userId"] == "customer");
        assert_eq!(mine.map(|one| &one["seenSeq"]), Some(&json!(2)), "{receipts}");
        assert_eq!(server.api("customer", Role::Customer).get("/orders/o1/receipts").await.status, 403);
        reached.server.stop().await;
    }

    async fn a_full_server_asks_later_what_has_come(db: TestDb) {
        let reached = Reached::start(&db, &["--full-at", "0"]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        let mut customer = Socket::connect(server, "customer", Role::Customer).await;
        let mut chef = Socket::connect(server, "chef", Role::Chef).await;
        until("a full server", async || server.metrics().await.contains("ordercast_full 1\n")).await;
        server.order("o1").await;
        for status in ["accepted", "preparing", "ready_for_pickup"] {
            admin.status("o1", status).await;
            customer.event("order:status_update").await;
        }
        loop {
            // The customer reads on, and so answers.
            let receipt = tokio::select! {
                receipt = chef.event("order:receipt") => receipt,
                _ = customer.event("nothing that there is") => continue,
            };
            assert_eq!(receipt["userId"], "customer", "{receipt}");
            if receipt["receivedSeq"] == 4 {
                break;
            }
        }
        reached.server.stop().await;
    }

    async fn who_does_not_prove_it_is_pushed(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        // Connected, but it reads nothing: as a phone in a pocket.
        let customer = Socket::connect(server, "customer", Role::Customer).await;
        server.order("o1").await;
        admin.status("o1", "accepted").await;
        reached.line("o1", "customer", "order.accepted", "held").await;
        server.clock.advance(TimeDelta::seconds(7));
        assert_eq!(reached.line("o1", "customer", "order.accepted", "held").await["tries"], 0);
        server.clock.advance(TimeDelta::seconds(2));
        reached.providers.nth("messages:send", 1).await;
        drop(customer);
        reached.server.stop().await;
    }

    async fn an_app_in_the_background_is_pushed_at_once(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        let mut customer = Socket::connect(server, "customer", Role::Customer).await;
        assert_eq!(customer.ask("app:state", json!({"state": "background"})).await["ok"], true);
        server.order("o1").await;
        admin.status("o1", "accepted").await;
        customer.event("order:status_update").await;
        reached.providers.nth("messages:send", 1).await;
        // Held back, and then the app goes away: it goes out.
        customer.ask("app:state", json!({"state": "foreground"})).await;
        admin.status("o1", "picked_up").await;
        reached.line("o1", "customer", "order.on_the_way", "held").await;
        drop(customer);
        reached.providers.nth("messages:send", 2).await;
        let mut again = Socket::connect(server, "customer", Role::Customer).await;
        assert_eq!(again.ask("app:state", json!({"state": "asleep"})).await["error"]["member"], "state");
        reached.server.stop().await;
    }
}

async fn chef_receipts(reached: &Reached) -> serde_json::Value {
    reached.server.api("chef", Role::Chef).get("/orders/o1/receipts").await.body
}
