//! Pushes by Firebase, Expo and Web Push.

use std::collections::{HashMap, HashSet};

use chrono::TimeDelta;
use ordercast::model::Role;
use serde_json::json;

use super::providers::{Providers, key_file};
use super::{KEY, Reached};
use crate::binary::RunningServer;
use crate::harness::{Api, SECRET, Server, new_order, until};
use crate::on_both_databases;

/// What Firebase says of a device or of itself.
fn fcm_error(status: u16, code: &str) -> serde_json::Value {
    json!({"error": {"code": status, "status": code, "message": "…", "details": [
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
    ]}})
}

on_both_databases! {
    async fn each_channel_is_reached(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let server = &reached.server;
        reached.device("customer", Role::Customer, "fcm-1").await;
        let chef = server.api("chef", Role::Chef);
        let expo = chef.put("/devices/tablet", json!({"kind": "expo", "token": "ExponentPushToken[abc]", "locale": "de-CH"})).await;
        assert_eq!(expo.status, 201, "{}", expo.body);
        let key = server.anonymous().get("/push/vapid-key").await.body["publicKey"].as_str().expect("a key").to_owned();
        assert_eq!(key.len(), 87);
        let subscription = json!({"endpoint": format!("{}/wpush/1", reached.providers.url), "keys": {
            "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "auth": "BTBZMqHH6r4Tts7J_aSIgg"}});
        let web = server.api("driver", Role::Driver).post("/devices", json!({"kind": "webpush", "subscription": subscription})).await;
        assert_eq!(web.status, 201, "{}", web.body);

        server.order("o1").await;
        let to_chef = reached.providers.nth("/push/send", 1).await.json();
        assert_eq!((&to_chef[0]["to"], &to_chef[0]["data"]["kind"]), (&json!("ExponentPushToken[abc]"), &json!("order.new")), "{to_chef}");
        assert!(to_chef[0]["title"].as_str().is_some_and(|title| title.starts_with("Neue Bestellung RND-")), "{to_chef}");
        let admin = server.admin();
        admin.status("o1", "accepted").await;
        let asked = reached.providers.nth("messages:send", 1).await;
        assert_eq!(asked.path, "/v1/projects/demo-project/messages:send");
        assert_eq!(asked.headers["authorization"], "Bearer ya29.token");
        let message = asked.json()["message"].clone();
        assert_eq!((&message["token"], &message["data"]["kind"], &message["data"]["seq"]), (&json!("fcm-1"), &json!("order.accepted"), &json!("2")), "{message}");
        assert_eq!(message["android"]["ttl"], "7200s");
        assert_eq!((&message["android"]["notification"]["tag"], &message["android"]["collapseKey"]), (&json!("order:o1"), &json!("order:o1")));
        assert!(!message.to_string().contains("Clara") && !message.to_string().contains("Linden"), "{message}");
        let line = reached.line("o1", "customer", "order.accepted", "sent").await;
        assert_eq!((&line["channel"], &line["tries"]), (&json!("fcm"), &json!(1)));

        admin.status("o1", "ready_for_pickup").await;
        admin.post("/orders/o1/assign", json!({"driver": {"id": "driver", "name": "Dario"}})).await;
        let push = reached.providers.nth("/wpush/1", 1).await;
        let header = |name: &str| push.headers[name].to_str().unwrap_or_default().to_owned();
        assert_eq!([header("content-encoding"), header("urgency"), header("ttl")], ["aes128gcm", "high", "900"]);
        assert!(push.headers["authorization"].to_str().is_ok_and(|text| text.starts_with("vapid t=ey") && text.ends_with(&key)));
        assert!(push.body.len() > 150 && push.body.len() <= 4_096);

        // One's own changes are no news, and each is planned once.
        server.api("driver", Role::Driver).status("o1", "picked_up").await;
        reached.line("o1", "customer", "order.on_the_way", "sent").await;
        let lines = reached.lines("o1").await;
        let count = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
        assert_eq!((count("order.new"), count("order.accepted"), count("driver.assignment"), count("order.on_the_way")), (1, 1, 1, 2), "{lines:?}");
        // The inbox of the customer.
        let inbox = server.api("customer", Role::Customer).get("/notifications").await.body;
        let kinds: Vec<_> = inbox["items"].as_array().expect("a list").iter().map(|item| item["kind"].clone()).collect();
        assert_eq!(kinds, [json!("order.accepted"), json!("order.on_the_way")]);
        let id = inbox["items"][1]["id"].as_str().expect("an id");
        let customer = server.api("customer", Role::Customer);
        assert_eq!(customer.post(&format!("/notifications/{id}/ack"), json!({"state": "opened"})).await.status, 200);
        reached.line("o1", "customer", "order.on_the_way", "delivered").await;
        assert_eq!(server.api("driver", Role::Driver).post(&format!("/notifications/{id}/ack"), json!({"state": "opened"})).await.status, 404);
        // An opened one was seen.
        let mut receipts = json!(null);
        until("the receipt", async || {
            receipts = server.api("chef", Role::Chef).get("/orders/o1/receipts").await.body;
            receipts["items"][0]["seenSeq"].is_i64()
        }).await;
        assert_eq!(receipts["items"][0]["userId"], "customer", "{receipts}");
        let metrics = server.metrics().await;
        assert!(metrics.contains("ordercast_notifications_total{channel=\"fcm\",state=\"sent\"}"), "{metrics}");
        reached.server.stop().await;
    }

    async fn a_provider_that_fails_is_asked_again_and_dead_devices_go(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        server.order("o1").await;
        reached.providers.answers(503, Some(7), fcm_error(503, "UNAVAILABLE"));
        admin.status("o1", "accepted").await;
        reached.providers.nth("messages:send", 1).await;
        let line = reached.tried("o1", "customer", "order.accepted").await;
        assert_eq!((&line["reason"], &line["tries"]), (&json!("UNAVAILABLE"), &json!(1)), "{line}");
        // As late as Google says, and with the same id.
        server.clock.advance(TimeDelta::seconds(8));
        let again = reached.providers.nth("messages:send", 2).await.json();
        assert_eq!(again["message"]["data"]["id"], reached.providers.asked("messages:send")[0].json()["message"]["data"]["id"]);
        reached.line("o1", "customer", "order.accepted", "sent").await;

        // A token that ended early is renewed once.
        reached.providers.answers(401, None, json!({"error": {"status": "UNAUTHENTICATED"}}));
        admin.status("o1", "picked_up").await;
        reached.line("o1", "customer", "order.on_the_way", "sent").await;
        assert_eq!(reached.providers.asked("/oauth").len(), 2);

        // A device that Firebase finds wrong once may be our fault; twice it gets nothing any more.
        reached.device("chef", Role::Chef, "wrong").await;
        for (id, disabled) in [("w1", false), ("w2", true)] {
            reached.providers.answers(400, None, fcm_error(400, "INVALID_ARGUMENT"));
            server.order(id).await;
            reached.line(id, "chef", "order.new", "failed").await;
            until("the device to be looked at", async || {
                let device = server.api("chef", Role::Chef).get("/devices").await.body["items"][0].clone();
                device["reason"] == "INVALID_ARGUMENT" && device["disabledAt"].is_string() == disabled
            })
            .await;
        }
        // No such device.
        reached.providers.answers(404, None, fcm_error(404, "UNREGISTERED"));
        admin.status("o1", "delivered").await;
        let line = reached.line("o1", "customer", "order.delivered", "failed").await;
        assert_eq!(line["reason"], "UNREGISTERED");
        until("the device to go", async || {
            server.api("customer", Role::Customer).get("/devices").await.body["items"] == json!([])
        }).await;
        reached.server.stop().await;
    }

    async fn a_busy_provider_pauses_its_channel_only(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        let chef = server.api("chef", Role::Chef);
        chef.put("/devices/tablet", json!({"kind": "expo", "token": "ExponentPushToken[abc]"})).await;
        server.order("o1").await;
        reached.providers.nth("/push/send", 1).await;
        // Google's quota answer without an error code of Firebase's.
        reached.providers.answers(429, None, json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}));
        admin.status("o1", "accepted").await;
        reached.tried("o1", "customer", "order.accepted").await;
        assert!(server.metrics().await.contains("ordercast_channels_paused 1"));
        // Everybody waits, but not at Expo.
        server.order("o2").await;
        reached.providers.nth("/push/send", 2).await;
        admin.status("o2", "accepted").await;
        reached.line("o2", "customer", "order.accepted", "due").await;
        assert_eq!(reached.providers.asked("messages:send").len(), 1);
        server.clock.advance(TimeDelta::seconds(61));
        reached.line("o1", "customer", "order.accepted", "sent").await;
        reached.line("o2", "customer", "order.accepted", "sent").await;
        reached.server.stop().await;
    }

    async fn a_late_ticket_removes_the_device(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let server = &reached.server;
        let chef = server.api("chef", Role::Chef);
        for index in 0..3 {
            let token = format!("ExponentPushToken[{index}{index}]");
            chef.put(&format!("/devices/{index}"), json!({"kind": "expo", "token": token})).await;
        }
        // One of three is refused at once.
        reached.providers.answers(200, None, json!({"data": [
            {"status": "ok", "id": "t0"}, {"status": "error", "message": "…", "details": {"error": "DeviceNotRegistered"}},
            {"status": "ok", "id": "t2"},
        ]}));
        reached.providers.receipts.lock().unwrap().insert("t2".to_owned(), json!({"status": "error", "details": {"error": "DeviceNotRegistered"}}));
        server.order("o1").await;
        let asked = reached.providers.nth("/push/send", 1).await;
        assert_eq!(asked.json().as_array().map(Vec::len), Some(3));
        let count = async || chef.get("/devices").await.body["items"].as_array().map_or(0, Vec::len);
        until("the first device to go", async || count().await == 2).await;
        server.clock.advance(TimeDelta::minutes(16));
        until("the second device to go", async || count().await == 1).await;
        assert_eq!(chef.get("/devices").await.body["items"][0]["id"], "0");
        reached.server.stop().await;
    }

    async fn after_an_outage_only_the_newest_is_told(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        server.order("o1").await;
        for _ in 0..2 {
            reached.providers.answers(503, Some(30), fcm_error(503, "UNAVAILABLE"));
        }
        for status in ["accepted", "picked_up"] {
            admin.status("o1", status).await;
            let kind = if status == "accepted" { "order.accepted" } else { "order.on_the_way" };
            reached.tried("o1", "customer", kind).await;
        }
        reached.line("o1", "customer", "order.accepted", "superseded").await;
        admin.status("o1", "delivered").await;
        reached.line("o1", "customer", "order.delivered", "sent").await;
        reached.line("o1", "customer", "order.on_the_way", "superseded").await;
        server.clock.advance(TimeDelta::seconds(31));
        let kinds: Vec<_> = reached.providers.asked("messages:send").iter().map(|asked| asked.json()["message"]["data"]["kind"].clone()).collect();
        assert_eq!(kinds, [json!("order.accepted"), json!("order.on_the_way"), json!("order.delivered")]);
        reached.server.stop().await;
    }

    async fn preferences_and_quiet_hours_are_kept(db: TestDb) {
        let reached = Reached::start(&db, &["--rating-prompt-minutes", "0"]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        let customer = server.api("customer", Role::Customer);
        // Quiet all day but for a minute that is not now.
        let hour = |minutes: i64| (server.clock.now() + TimeDelta::minutes(minutes)).format("%H:%M").to_string();
        let wanted = json!({"locale": "fr", "timeZone": "UTC", "quietHours": {"from": hour(-60), "to": hour(60)}, "kinds": {"order.accepted": []}});
        let set = customer.put("/users/customer/notification-preferences", wanted.clone()).await;
        assert_eq!((set.status, &set.body), (200, &wanted));
        assert_eq!(customer.get("/users/customer/notification-preferences").await.body, wanted);
        assert_eq!(customer.get("/users/chef/notification-preferences").await.status, 403);
        server.order("o1").await;
        admin.status("o1", "accepted").await;
        let line = reached.line("o1", "customer", "order.accepted", "suppressed").await;
        assert_eq!((&line["reason"], &line["channel"]), (&json!("preferences"), &json!(null)), "{line}");
        // A delivery is told at once, without a sound; the question how it was waits.
        admin.status("o1", "delivered").await;
        reached.line("o1", "customer", "order.delivered", "sent").await;
        let told = reached.providers.nth("messages:send", 1).await.json();
        assert_eq!(told["message"]["android"]["notification"]["channelId"], "quiet", "{told}");
        let line = reached.line("o1", "customer", "rating.prompt", "due").await;
        let due = line["dueAt"].as_str().expect("a time");
        assert!(due.contains(&format!("T{}:00", hour(60))), "{due}");
        for (body, member) in [
            (json!({"kinds": {"order.eaten": []}}), "kinds.order.eaten"), (json!({"kinds": {"order.new": ["fax"]}}), "kinds.order.new"),
            (json!({"timeZone": "Mars/Base"}), "timeZone"), (json!({"locale": "?"}), "locale"),
            (json!({"quietHours": {"from": "25:00", "to": "07:00"}}), "quietHours.from"),
        ] {
            let refused = customer.put("/users/customer/notification-preferences", body).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!(member)), "{}", refused.body);
        }
        reached.server.stop().await;
    }

    async fn devices_are_their_users(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let server = &reached.server;
        let (customer, other) = (server.api("customer", Role::Customer), server.api("other", Role::Customer));
        let device = json!({"kind": "fcm", "token": "secret-token-1", "platform": "android", "locale": "de", "timeZone": "Europe/Zurich"});
        assert_eq!(customer.put("/devices/phone", device.clone()).await.status, 201);
        assert_eq!(customer.put("/devices/phone", device.clone()).await.status, 200);
        let listed = customer.get("/devices").await.body;
        assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["address"]), (&json!("phone"), &json!("…en-1")), "{listed}");
        assert!(!listed.to_string().contains("secret-token"));
        // The phone is somebody else's now.
        assert_eq!(other.put("/devices/phone", device.clone()).await.status, 201);
        assert_eq!(customer.get("/devices").await.body["items"], json!([]));
        server.order("o1").await;
        server.admin().status("o1", "accepted").await;
        let line = reached.line("o1", "customer", "order.accepted", "suppressed").await;
        assert_eq!(line["reason"], "no_device");
        assert!(reached.providers.asked("messages:send").is_empty());
        // Staff may do it for a user; others may not.
        assert_eq!(server.admin().put("/users/customer/devices/d", json!({"kind": "fcm", "fid": "installation"})).await.status, 201);
        assert_eq!(other.get("/users/customer/devices").await.status, 403);
        assert_eq!(server.admin().delete("/users/customer/devices/d").await.status, 204);
        assert_eq!(customer.delete("/devices/phone").await.status, 404);
        for index in 0..25 {
            customer.put(&format!("/devices/{index}"), json!({"kind": "fcm", "token": format!("t{index}")})).await;
        }
        assert_eq!(customer.get("/devices").await.body["items"].as_array().map(Vec::len), Some(20));
        for (body, member) in [
            (json!({"kind": "pager", "token": "x"}), "kind"), (json!({"kind": "fcm"}), "token"), (json!({"kind": "expo", "token": "abc"}), "token"),
            (json!({"kind": "fcm", "token": "a", "fid": "b"}), "fid"), (json!({"kind": "fcm", "token": "a b"}), "token"),
            (json!({"kind": "webpush"}), "subscription"),
            (json!({"kind": "webpush", "subscription": {"endpoint": "https://10.0.0.1/x", "keys": {"p256dh": "", "auth": ""}}}), "subscription.endpoint"),
            (json!({"kind": "fcm", "token": "a", "timeZone": "Mars"}), "timeZone"),
        ] {
            let refused = customer.put("/devices/x", body).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!(member)), "{}", refused.body);
        }
        reached.server.stop().await;
    }

    async fn a_delivery_that_failed_can_be_sent_again_or_given_up(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        server.order("o1").await;
        reached.providers.answers(400, None, json!({"error": {"status": "INVALID_ARGUMENT", "details": [{"fieldViolations": []}]}}));
        admin.status("o1", "accepted").await;
        let line = reached.line("o1", "customer", "order.accepted", "dead").await;
        let id = line["id"].as_i64().expect("an id");
        let dead = admin.get("/deliveries?state=dead&channel=fcm").await.body;
        assert_eq!((&dead["items"][0]["id"], dead["items"].as_array().map(Vec::len)), (&json!(id), Some(1)), "{dead}");
        assert_eq!(server.api("chef", Role::Chef).get("/deliveries").await.status, 403);
        assert_eq!(admin.post(&format!("/deliveries/{id}/retry"), json!({})).await.status, 200);
        reached.line("o1", "customer", "order.accepted", "sent").await;
        let tried = admin.get(&format!("/deliveries/{id}")).await.body;
        let statuses: Vec<_> = tried["attempts"].as_array().into_iter().flatten().map(|one| &one["status"]).collect();
        assert_eq!((statuses, &tried["state"]), (vec![&json!(400), &json!(200)], &json!("sent")), "{tried}");
        assert!(tried["attempts"][0]["excerpt"].as_str().is_some_and(|text| text.contains("INVALID_ARGUMENT")), "{tried}");
        assert_eq!(server.api("chef", Role::Chef).get(&format!("/deliveries/{id}")).await.status, 403);
        assert_eq!(admin.get("/deliveries/99999").await.status, 404);
        admin.post(&format!("/deliveries/{id}/discard"), json!({})).await.assert_problem(409, "already_exists");
        assert_eq!(admin.post("/deliveries/99999/retry", json!({})).await.status, 404);
        reached.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_channel_nothing_is_planned() {
    let db = crate::harness::TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    server.admin().post("/orders", new_order("o1")).await;
    server.admin().status("o1", "accepted").await;
    assert_eq!(server.admin().get("/orders/o1/notifications").await.body["items"], json!([]));
    assert_eq!(server.anonymous().get("/push/vapid-key").await.status, 404);
    server.stop().await;
}

/// A server that is killed again and again, while orders are made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_plans_each_once() {
    const ROUNDS: usize = 6;
    const ORDERS: usize = 25;
    let providers = Providers::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let database = format!("sqlite://{}/k.db?mode=rwc", folder.path().display());
    let file = key_file(folder.path(), &providers.url);
    let start = || {
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            &database,
            "--jwt-secret",
            SECRET,
            "--notify-key",
            KEY,
            "--fcm-key-file",
            &file,
            "--fcm-url",
            &providers.url,
        ];
        RunningServer::start(&flags, "warn")
    };
    let id = |round: usize, index: usize| format!("r{round}-{index}");
    for round in 0..ROUNDS {
        let running = start();
        let admin = Api::at(&running.base, "root", Role::Admin);
        Api::at(&running.base, "customer", Role::Customer)
            .put("/devices/phone", json!({"kind": "fcm", "token": "t"}))
            .await;
        for index in 0..ORDERS {
            let id = id(round, index);
            assert_eq!(admin.post("/orders", new_order(&id)).await.status, 201);
            admin.status(&id, "accepted").await;
        }
        // In the middle of planning and sending.
        running.kill();
    }
    let running = start();
    let admin = Api::at(&running.base, "root", Role::Admin);
    for (round, index) in (0..ROUNDS).flat_map(|round| (0..ORDERS).map(move |index| (round, index))) {
        let path = format!("/orders/{}/notifications", id(round, index));
        let mut kinds = Vec::new();
        until(&path, async || {
            let list = admin.get(&path).await.body["items"].as_array().cloned().unwrap_or_default();
            kinds = list.iter().map(|line| line["kind"].as_str().unwrap_or_default().to_owned()).collect();
            kinds.len() >= 2
        })
        .await;
        kinds.sort_unstable();
        assert_eq!(kinds, ["order.accepted", "order.new"], "{path}");
    }
    // What came twice has the same id.
    let mut of_order: HashMap<String, HashSet<String>> = HashMap::new();
    for asked in providers.asked("messages:send") {
        let data = asked.json()["message"]["data"].clone();
        of_order.entry(data["orderId"].to_string()).or_default().insert(data["id"].to_string());
    }
    assert!(!of_order.is_empty() && of_order.values().all(|ids| ids.len() == 1), "{of_order:?}");
    running.kill();
}

/// Two nodes on one database: each notification is planned and sent once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_plans_and_one_sends() {
    let Some(db) = crate::harness::TestDb::postgres().await else { return };
    let providers = Providers::start().await;
    let one = Reached::start_node(&db, providers.clone()).await;
    let other = Reached::start_node(&db, providers.clone()).await;
    one.device("customer", Role::Customer, "fcm-1").await;
    for index in 0..10 {
        let id = format!("o{index}");
        let server = if index % 2 == 0 { &one.server } else { &other.server };
        server.order(&id).await;
        server.admin().status(&id, "accepted").await;
    }
    for index in 0..10 {
        one.line(&format!("o{index}"), "customer", "order.accepted", "sent").await;
    }
    let mut sent: Vec<String> = providers
        .asked("messages:send")
        .iter()
        .map(|asked| asked.json()["message"]["data"]["orderId"].to_string())
        .collect();
    assert_eq!(sent.len(), 10, "{sent:?}");
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 10, "{sent:?}");
    other.server.stop().await;
    one.server.stop().await;
}
