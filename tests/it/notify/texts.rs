//! SMS.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine;
use chrono::TimeDelta;
use ordercast::model::Role;
use serde_json::json;

use super::Reached;
use crate::harness::{new_order, until};
use crate::on_both_databases;

const PHONE: &str = "+41790000001";

/// An order of somebody with a phone that can be called.
async fn order(reached: &Reached, id: &str) {
    let mut order = new_order(id);
    order["customer"]["phone"] = json!("+41 79 000 00 01");
    assert_eq!(reached.server.admin().post("/orders", order).await.status, 201);
}

/// The texts that were sent.
fn texts(reached: &Reached) -> Vec<BTreeMap<String, String>> {
    reached.providers.asked("/Messages.json").iter().map(|asked| asked.form().into_iter().collect()).collect()
}

/// A call that Twilio signs.
async fn twilio(reached: &Reached, path: &str, form: &[(&str, &str)], secret: &str) -> u16 {
    let mut sorted = form.to_vec();
    sorted.sort_unstable();
    let mut text = format!("https://track.example.com{path}");
    text.extend(sorted.iter().flat_map(|(name, value)| [*name, *value]));
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let request = reached.server.anonymous().request("POST", path).header("X-Twilio-Signature", signature);
    request.form(form).send().await.expect("an answer").status().as_u16()
}

on_both_databases! {
    async fn a_tracking_session_sends_its_link(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let driver = reached.server.api("driver", Role::Driver);
        let started = driver.post("/tracking/start", json!({"order_id": "t1", "dropoff_lat": 47.1, "dropoff_lng": 9.5, "phone": PHONE})).await;
        assert_eq!(started.status, 200, "{}", started.body);
        reached.providers.nth("/Messages.json", 1).await;
        let text = &texts(&reached)[0];
        assert_eq!((text["To"].as_str(), text["From"].as_str()), (PHONE, "+15550000"));
        let id = started.body["tracking_id"].as_str().expect("an id");
        assert!(text["Body"].contains(&format!("https://track.example.com/tracking/{id}")), "{text:?}");
        let seen = reached.server.anonymous().get(&format!("/tracking/{id}")).await;
        assert_eq!(seen.status, 200);
        // Once for each session, and nothing without a phone.
        driver.post("/tracking/start", json!({"order_id": "t1", "phone": PHONE})).await;
        driver.post("/tracking/start", json!({"order_id": "t2", "dropoff_lat": 47.1, "dropoff_lng": 9.5})).await;
        let lines = reached.lines("t2").await;
        assert!(lines.iter().all(|line| line["kind"] != "tracking.started"), "{lines:?}");
        assert_eq!(texts(&reached).len(), 1);

        // What the provider says of it.
        let path = text["StatusCallback"].strip_prefix("https://track.example.com").expect("our address").to_owned();
        let line = reached.lines("t1").await[0].clone();
        assert_eq!((&line["state"], &line["channel"], &line["segments"]), (&json!("sent"), &json!("sms"), &json!(1)), "{line}");
        assert!(!line.to_string().contains("79000"), "{line}");
        let forged = path.replace("sig=", "sig=x");
        assert_eq!(reached.server.anonymous().request("POST", &forged).form(&[("MessageStatus", "delivered")]).send().await.expect("an answer").status(), 404);
        for _ in 0..2 {
            let called = reached.server.anonymous().request("POST", &path).form(&[("MessageStatus", "delivered")]).send().await.expect("an answer");
            assert_eq!(called.status(), 200);
        }
        assert_eq!(reached.lines("t1").await[0]["state"], "delivered");
        reached.server.stop().await;
    }

    async fn a_report_may_come_before_the_answer(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        *reached.providers.hasty.lock().unwrap() = Some(format!("http://{}", reached.server.address));
        order(&reached, "o1").await;
        reached.server.admin().status("o1", "picked_up").await;
        // The answer is written down, too, and takes nothing back.
        until("what the text cost", async || reached.lines("o1").await.iter().any(|line| line["segments"] == 1)).await;
        reached.line("o1", "customer", "order.on_the_way", "delivered").await;
        reached.server.stop().await;
    }

    async fn stop_and_start(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let admin = reached.server.admin();
        let path = "/hooks/sms/twilio/inbound";
        assert_eq!(twilio(&reached, path, &[("From", PHONE), ("Body", "Stop")], "wrong").await, 404);
        assert_eq!(twilio(&reached, path, &[("From", PHONE), ("Body", "Stop")], "secret").await, 200);
        order(&reached, "o1").await;
        admin.status("o1", "picked_up").await;
        reached.line("o1", "customer", "order.on_the_way", "opted_out").await;
        assert!(texts(&reached).is_empty());
        assert_eq!(twilio(&reached, path, &[("From", PHONE), ("Body", "start")], "secret").await, 200);
        order(&reached, "o2").await;
        admin.status("o2", "picked_up").await;
        reached.line("o2", "customer", "order.on_the_way", "sent").await;
        // The provider knows of another one.
        reached.providers.answers(400, None, json!({"code": 21610, "message": "…"}));
        order(&reached, "o3").await;
        admin.status("o3", "picked_up").await;
        reached.line("o3", "customer", "order.on_the_way", "opted_out").await;
        order(&reached, "o4").await;
        admin.status("o4", "picked_up").await;
        reached.line("o4", "customer", "order.on_the_way", "opted_out").await;
        assert_eq!(texts(&reached).len(), 2);
        reached.server.stop().await;
    }

    async fn a_text_follows_a_push_that_nobody_acknowledged(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        for id in ["o1", "o2"] {
            order(&reached, id).await;
            admin.status(id, "picked_up").await;
        }
        reached.providers.nth("messages:send", 2).await;
        // The device says of the second one that it is there, without a token.
        let message = reached.providers.asked("messages:send").into_iter().map(|asked| asked.json()["message"].clone())
            .find(|message| message["data"]["orderId"] == "o2").expect("it");
        let url = message["data"]["ackUrl"].as_str().expect("an address").strip_prefix("https://track.example.com").expect("ours").to_owned();
        reached.line("o2", "customer", "order.on_the_way", "sent").await;
        let acked = server.anonymous().post(&url, json!({"state": "delivered"})).await;
        assert_eq!(acked.status, 200, "{}", acked.body);
        assert_eq!(server.anonymous().post(&url.replace("sig=", "sig=x"), json!({"state": "delivered"})).await.status, 404);
        server.clock.advance(TimeDelta::seconds(58));
        assert!(texts(&reached).is_empty());
        server.clock.advance(TimeDelta::seconds(4));
        reached.providers.nth("/Messages.json", 1).await;
        let lines = reached.lines("o2").await;
        let sms = lines.iter().find(|line| line["channel"] == "sms").expect("a line");
        assert_eq!((&sms["state"], &sms["reason"]), (&json!("suppressed"), &json!("acknowledged")), "{lines:?}");
        assert_eq!(texts(&reached).len(), 1);
        reached.server.stop().await;
    }

    async fn a_pin_is_sent_at_once_and_never_shown_on_a_lock_screen(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        let customer = server.api("customer", Role::Customer);
        // Nights are quiet, but the driver comes now.
        let hour = |minutes: i64| (server.clock.now() + TimeDelta::minutes(minutes)).format("%H:%M").to_string();
        let quiet = json!({"timeZone": "UTC", "quietHours": {"from": hour(-60), "to": hour(60)}});
        assert_eq!(customer.put("/users/customer/notification-preferences", quiet).await.status, 200);
        let mut new = new_order("o1");
        new["customer"]["phone"] = json!(PHONE);
        new["proofRequired"] = json!(["pin"]);
        assert_eq!(admin.post("/orders", new).await.status, 201);
        let pin = customer.get("/orders/o1/pin").await.body["pin"].as_str().expect("a PIN").to_owned();
        admin.status("o1", "picked_up").await;
        reached.providers.nth("/Messages.json", 1).await;
        assert!(texts(&reached)[0]["Body"].contains(&format!("PIN {pin} ")), "{:?}", texts(&reached));
        let pushes = [reached.providers.nth("messages:send", 1).await.json(), reached.providers.nth("messages:send", 2).await.json()];
        let of_pin = pushes.iter().find(|push| push["message"]["data"]["kind"] == "delivery.pin").expect("a push");
        assert!(!of_pin["message"]["notification"].to_string().contains(&pin), "{of_pin}");
        until("both ways", async || {
            let lines = reached.lines("o1").await;
            lines.iter().filter(|line| line["kind"] == "delivery.pin" && line["state"] == "sent").count() == 2
        }).await;
        // It is on the way only once.
        admin.status("o1", "in_transit").await;
        reached.line("o1", "customer", "order.on_the_way", "sent").await;
        let of_pin = reached.lines("o1").await.into_iter().filter(|line| line["kind"] == "delivery.pin").count();
        assert_eq!(of_pin, 2);
        reached.server.stop().await;
    }

    async fn there_are_limits_to_texts(db: TestDb) {
        let reached = Reached::start(&db, &["--sms-prefixes", "+41,+49"]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        for index in 0..6 {
            let id = format!("o{index}");
            order(&reached, &id).await;
            admin.status(&id, "picked_up").await;
            let state = if index < 5 { "sent" } else { "capped" };
            let line = reached.line(&id, "customer", "order.on_the_way", state).await;
            assert!(index < 5 || line["reason"] == "per_day", "{line}");
        }
        // A number of a country that is far away and dear.
        let mut dear = new_order("dear");
        dear["customer"] = json!({"id": "other", "name": "Olga", "phone": "+8835100000001"});
        admin.post("/orders", dear).await;
        admin.status("dear", "picked_up").await;
        let line = reached.line("dear", "other", "order.on_the_way", "dead").await;
        assert_eq!(line["reason"], "prefix_not_allowed");
        // Nobody knows whether this one was sent: it is not sent again.
        let mut lost = new_order("lost");
        lost["customer"] = json!({"id": "third", "name": "Tom", "phone": "+41790000009"});
        reached.providers.answers(200, None, json!({"hang": true}));
        admin.post("/orders", lost).await;
        admin.status("lost", "picked_up").await;
        reached.line("lost", "third", "order.on_the_way", "sent").await;
        until("the count", async || server.metrics().await.contains("ordercast_sms_segments_total 6")).await;
        reached.server.stop().await;
    }
}
