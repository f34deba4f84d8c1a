//! Alerts by Apple's own push service.

use chrono::TimeDelta;
use ordercast::model::Role;
use serde_json::{Value, json};

use super::Reached;
use super::apple::Apple;
use crate::harness::{TestDb, until};
use crate::on_both_databases;

const APP: &str = "com.example.orders";

/// A server that sends to Apple, and a customer with a phone.
async fn reached(db: &TestDb) -> (Reached, Apple) {
    let (reached, apple) = Reached::start_with_apple(db).await;
    phone(&reached, "phone", "a0").await;
    (reached, apple)
}

async fn phone(reached: &Reached, id: &str, token: &str) {
    let customer = reached.server.api("customer", Role::Customer);
    let made = customer
        .put(
            &format!("/devices/{id}"),
            json!({"kind": "apns", "token": token, "app": APP, "locale": "de-CH"}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
}

async fn devices(reached: &Reached) -> Vec<Value> {
    let list = reached.server.api("customer", Role::Customer).get("/devices").await.body;
    list["items"].as_array().cloned().unwrap_or_default()
}

on_both_databases! {
    async fn a_phone_is_alerted(db: TestDb) {
        let (reached, apple) = reached(&db).await;
        let server = &reached.server;
        server.order("o1").await;
        server.admin().status("o1", "accepted").await;
        let asked = apple.nth("a0", 1).await;
        let line = reached.line("o1", "customer", "order.accepted", "sent").await;
        assert_eq!((&line["channel"], &line["tries"]), (&json!("apns"), &json!(1)), "{line}");
        let of = ["apns-topic", "apns-push-type", "apns-priority", "apns-collapse-id"].map(|name| asked.header(name));
        assert_eq!(of, [APP, "alert", "10", "order:o1"]);
        assert_eq!(asked.header("apns-id"), line["notificationId"].as_str().unwrap_or_default());
        assert_eq!(asked.header("apns-expiration"), (server.clock.now() + TimeDelta::hours(2)).timestamp().to_string());
        let body = asked.json();
        assert!(body["aps"]["alert"]["title"].as_str().is_some_and(|title| title.contains("RND-")), "{body}");
        assert_eq!((&body["aps"]["thread-id"], &body["aps"]["sound"]), (&json!("o1"), &json!("default")), "{body}");
        assert_eq!((&body["kind"], &body["orderId"], &body["seq"]), (&json!("order.accepted"), &json!("o1"), &json!("2")), "{body}");
        assert!(!body.to_string().contains("Clara") && !body.to_string().contains("Linden"), "{body}");
        let listed = server.admin().get("/deliveries?channel=apns&state=sent").await.body;
        assert_eq!(listed["items"][0]["kind"], "order.accepted", "{listed}");
        let metrics = server.metrics().await;
        assert!(metrics.contains(r#"notifications_total{channel="apns",state="sent"} 1"#), "{metrics}");
        reached.server.stop().await;
    }

    async fn each_answer_of_apple_has_its_outcome(db: TestDb) {
        let (reached, apple) = reached(&db).await;
        let server = &reached.server;
        let order = async |id: &str| {
            server.order(id).await;
            server.admin().status(id, "accepted").await;
        };
        // Busy: again when Apple says so, and meanwhile others are reached.
        apple.answers(429, Some(30), "TooManyRequests");
        order("busy").await;
        assert_eq!(reached.tried("busy", "customer", "order.accepted").await["reason"], "TooManyRequests");
        order("other").await;
        reached.line("other", "customer", "order.accepted", "sent").await;
        server.clock.advance(TimeDelta::seconds(31));
        reached.line("busy", "customer", "order.accepted", "sent").await;
        // Too large: never.
        apple.answers(413, None, "PayloadTooLarge");
        order("large").await;
        let line = reached.line("large", "customer", "order.accepted", "dead").await;
        assert_eq!(line["reason"], "PayloadTooLarge");
        // A token that may be of the other environment: the second time in a row the device is disabled.
        for (id, is_disabled) in [("bad1", false), ("bad2", true)] {
            apple.answers(400, None, "BadDeviceToken");
            order(id).await;
            assert_eq!(reached.line(id, "customer", "order.accepted", "failed").await["reason"], "BadDeviceToken");
            until("the device to be judged", async || devices(&reached).await[0]["disabledAt"].is_string() == is_disabled).await;
        }
        // Another app's: disabled at once.
        phone(&reached, "tablet", "b0").await;
        apple.answers(400, None, "DeviceTokenNotForTopic");
        order("topic").await;
        reached.line("topic", "customer", "order.accepted", "failed").await;
        until("the tablet to be disabled", async || {
            devices(&reached).await.iter().any(|device| device["id"] == "tablet" && device["reason"] == "DeviceTokenNotForTopic")
        }).await;
        // Gone: forgotten.
        phone(&reached, "watch", "c0").await;
        apple.answers(410, None, "Unregistered");
        order("gone").await;
        reached.line("gone", "customer", "order.accepted", "failed").await;
        until("the watch to go", async || devices(&reached).await.iter().all(|device| device["id"] != "watch")).await;
        // Too many tokens of ours: all wait.
        phone(&reached, "phone2", "d0").await;
        apple.answers(429, None, "TooManyProviderTokenUpdates");
        order("tokens").await;
        reached.tried("tokens", "customer", "order.accepted").await;
        order("waits").await;
        reached.line("waits", "customer", "order.accepted", "due").await;
        assert_eq!(apple.asked("d0").len(), 1);
        server.clock.advance(TimeDelta::seconds(301));
        reached.line("tokens", "customer", "order.accepted", "sent").await;
        reached.line("waits", "customer", "order.accepted", "sent").await;
        // A customer gets only so many in an hour.
        server.clock.advance(TimeDelta::minutes(61));
        // Our key is wrong: five times, then nothing goes there for a while.
        for _ in 0..5 {
            apple.answers(403, None, "InvalidProviderToken");
        }
        for index in 0..5 {
            order(&format!("key{index}")).await;
            reached.tried(&format!("key{index}"), "customer", "order.accepted").await;
        }
        let metrics = server.metrics().await;
        assert!(metrics.contains("channels_paused 1"), "{metrics}");
        assert_eq!(devices(&reached).await.len(), 3, "nobody is forgotten for that");
        reached.server.stop().await;
    }

    async fn a_device_that_registers_anew_stays(db: TestDb) {
        let (reached, apple) = reached(&db).await;
        let server = &reached.server;
        let customer = server.api("customer", Role::Customer);
        let order = async |id: &str| {
            server.order(id).await;
            server.admin().status(id, "accepted").await;
        };
        let register = async |token: &str| {
            let new = json!({"kind": "apns", "token": token, "app": APP});
            assert_eq!(customer.put("/devices/phone", new).await.status, 200);
        };
        // It has another token by the time that Apple says that the one before is gone.
        let answer = apple.holds();
        apple.answers(410, None, "Unregistered");
        order("o1").await;
        apple.nth("a0", 1).await;
        register("b0").await;
        answer.notify_one();
        reached.line("o1", "customer", "order.accepted", "failed").await;
        order("o2").await;
        apple.nth("b0", 1).await;
        reached.line("o2", "customer", "order.accepted", "sent").await;
        // The app was removed, and has come back since with the same token.
        let removed = server.clock.now();
        server.clock.advance(TimeDelta::minutes(1));
        register("b0").await;
        apple.unregistered(removed.timestamp_millis());
        order("o3").await;
        reached.line("o3", "customer", "order.accepted", "failed").await;
        order("o4").await;
        reached.line("o4", "customer", "order.accepted", "sent").await;
        // Now it is removed.
        server.clock.advance(TimeDelta::minutes(1));
        apple.unregistered(server.clock.now().timestamp_millis());
        order("o5").await;
        reached.line("o5", "customer", "order.accepted", "failed").await;
        until("the phone to go", async || devices(&reached).await.is_empty()).await;
        reached.server.stop().await;
    }

    async fn a_token_is_renewed(db: TestDb) {
        let (reached, apple) = reached(&db).await;
        let server = &reached.server;
        let order = async |id: &str| {
            server.order(id).await;
            server.admin().status(id, "accepted").await;
        };
        for id in ["o1", "o2"] {
            order(id).await;
            reached.line(id, "customer", "order.accepted", "sent").await;
        }
        assert_eq!(apple.tokens(), 1);
        // By itself, before it is an hour old.
        server.clock.advance(TimeDelta::minutes(41));
        order("o3").await;
        reached.line("o3", "customer", "order.accepted", "sent").await;
        assert_eq!(apple.tokens(), 2);
        // Apple finds it old: it is renewed once, and the same push goes out.
        server.clock.advance(TimeDelta::minutes(21));
        apple.answers(403, None, "ExpiredProviderToken");
        order("o4").await;
        assert_eq!(reached.line("o4", "customer", "order.accepted", "sent").await["tries"], 1);
        assert_eq!(apple.tokens(), 3);
        // One that is new cannot be old. Apple would not take another one so soon.
        apple.answers(403, None, "ExpiredProviderToken");
        order("o5").await;
        assert_eq!(reached.tried("o5", "customer", "order.accepted").await["reason"], "ExpiredProviderToken");
        assert_eq!(apple.tokens(), 3);
        server.clock.advance(TimeDelta::seconds(31));
        reached.line("o5", "customer", "order.accepted", "sent").await;
        assert_eq!(apple.tokens(), 3);
        reached.server.stop().await;
    }

    async fn devices_of_apple_are_checked(db: TestDb) {
        let (reached, _apple) = reached(&db).await;
        let customer = reached.server.api("customer", Role::Customer);
        for (body, member) in [
            (json!({"kind": "apns", "app": APP}), "token"),
            (json!({"kind": "apns", "token": "../../x", "app": APP}), "token"),
            (json!({"kind": "apns", "token": "a1"}), "app"),
            (json!({"kind": "apns", "token": "a1", "app": "my app"}), "app"),
        ] {
            let refused = customer.put("/devices/x", body).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!(member)), "{}", refused.body);
        }
        reached.server.stop().await;
    }
}
