//! Live Activities show the state of an order until it is over.

use chrono::TimeDelta;
use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};

use super::Reached;
use super::apple::Apple;
use crate::harness::until;
use crate::on_both_databases;
use crate::socket::Socket;

const APP: &str = "com.example.orders";

/// The customer's phone shows an order.
async fn show(reached: &Reached, order: &str, token: &str) {
    let body = json!({"kind": "apns", "token": token, "app": APP, "orderId": order});
    let made =
        reached.server.api("customer", Role::Customer).put(&format!("/devices/live-{order}"), body).await;
    assert!(made.status == 201, "{}", made.body);
    assert_eq!(made.body["orderId"], order);
}

async fn devices(reached: &Reached) -> Vec<Value> {
    let list = reached.server.api("customer", Role::Customer).get("/devices").await.body;
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Waits until an activity shows this; returns the request and its `aps`.
async fn shown(apple: &Apple, token: &str, what: impl Fn(&Value) -> bool) -> (usize, Value) {
    let mut found = None;
    until(&format!("an update of {token}"), async || {
        let all = apple.asked(token).into_iter().map(|asked| asked.json()["aps"].clone());
        found = all.enumerate().find(|(_, aps)| what(aps));
        found.is_some()
    })
    .await;
    found.expect("found")
}

fn has_status(status: &'static str) -> impl Fn(&Value) -> bool {
    move |aps| aps["content-state"]["status"] == status
}

on_both_databases! {
    async fn an_activity_shows_each_status_until_the_last(db: TestDb) {
        let (reached, apple) = Reached::start_with_apple(&db).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        // Somebody watches: that holds nothing back here.
        let _watching = Socket::connect(server, "customer", Role::Customer).await;
        server.order("o1").await;
        show(&reached, "o1", "aa").await;
        // How things are at first: they may have changed since the app started it.
        let first = apple.nth("aa", 1).await;
        let of = ["apns-topic", "apns-push-type", "apns-priority", "apns-collapse-id"].map(|name| first.header(name));
        assert_eq!(of, ["com.example.orders.push-type.liveactivity", "liveactivity", "10", ""]);
        let now = server.clock.now();
        let number = admin.get("/orders/o1").await.body["orderNumber"].clone();
        let aps = json!({"timestamp": now.timestamp(), "event": "update", "stale-date": (now + TimeDelta::hours(2)).timestamp(),
            "content-state": {"orderId": "o1", "orderNumber": number, "status": "pending", "seq": 1}});
        assert_eq!(first.json(), json!({ "aps": aps }));
        // Also what the alerts are silent about.
        for (seq, status) in [(2, "accepted"), (3, "preparing"), (4, "ready_for_pickup"), (5, "picked_up")] {
            admin.status("o1", status).await;
            let (_, aps) = shown(&apple, "aa", has_status(status)).await;
            assert_eq!((&aps["event"], &aps["content-state"]["seq"]), (&json!("update"), &json!(seq)), "{aps}");
        }
        admin.status("o1", "delivered").await;
        let (index, aps) = shown(&apple, "aa", has_status("delivered")).await;
        assert_eq!((&aps["event"], &aps["content-state"]["seq"]), (&json!("end"), &json!(6)), "{aps}");
        assert_eq!(aps["dismissal-date"], (server.clock.now() + TimeDelta::minutes(15)).timestamp());
        assert!(aps.get("stale-date").is_none(), "{aps}");
        until("the activity to go", async || devices(&reached).await.is_empty()).await;
        // It was told nothing else, each status once, and nobody's inbox has it.
        let asked = apple.asked("aa");
        assert_eq!((index, asked.len()), (5, 6));
        assert!(asked.iter().all(|asked| asked.header("apns-push-type") == "liveactivity" && asked.json()["aps"].get("alert").is_none()));
        let lines = reached.lines("o1").await;
        let live: Vec<_> = lines.iter().filter(|line| line["kind"] == "order.live").map(|line| (&line["state"], &line["channel"])).collect();
        assert_eq!(live, vec![(&json!("sent"), &json!("apns")); 6], "{lines:?}");
        assert!(lines.iter().filter(|line| line["kind"] == "order.accepted").all(|line| line["channel"] != "apns"), "{lines:?}");
        let inbox = server.api("customer", Role::Customer).get("/notifications").await.body;
        assert!(inbox["items"].as_array().is_some_and(|items| !items.is_empty() && items.iter().all(|item| item["kind"] != "order.live")), "{inbox}");
        let metrics = server.metrics().await;
        assert!(metrics.contains(r#"devices_removed_total{reason="ended"} 1"#), "{metrics}");
        reached.server.stop().await;
    }

    async fn after_an_outage_an_activity_shows_the_newest(db: TestDb) {
        let (reached, apple) = Reached::start_with_apple(&db).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        server.order("o1").await;
        show(&reached, "o1", "aa").await;
        reached.line("o1", "customer", "order.live", "sent").await;
        apple.answers(503, Some(30), "ServiceUnavailable");
        admin.status("o1", "accepted").await;
        reached.tried("o1", "customer", "order.live").await;
        admin.status("o1", "preparing").await;
        reached.line("o1", "customer", "order.live", "superseded").await;
        shown(&apple, "aa", has_status("preparing")).await;
        server.clock.advance(TimeDelta::seconds(31));
        // A device that is gone is forgotten, also when it is an activity.
        apple.answers(410, None, "ExpiredToken");
        admin.status("o1", "ready_for_pickup").await;
        assert_eq!(reached.line("o1", "customer", "order.live", "failed").await["reason"], "ExpiredToken");
        until("the activity to go", async || devices(&reached).await.is_empty()).await;
        let statuses: Vec<_> = apple.asked("aa").iter().map(|asked| asked.json()["aps"]["content-state"]["status"].clone()).collect();
        assert_eq!(statuses, ["pending", "accepted", "preparing", "ready_for_pickup"]);
        // One that begins after the end ends at once.
        admin.status("o1", "cancelled").await;
        show(&reached, "o1", "bb").await;
        assert_eq!(apple.nth("bb", 1).await.json()["aps"]["event"], "end");
        until("the second activity to go", async || devices(&reached).await.is_empty()).await;
        reached.server.stop().await;
    }

    async fn firebase_passes_activities_on(db: TestDb) {
        let reached = Reached::start(&db, &[]).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        reached.device("customer", Role::Customer, "fcm-1").await;
        server.order("o1").await;
        let body = json!({"kind": "fcm", "token": "fcm-1", "liveActivityToken": "abcd", "orderId": "o1"});
        let made = server.api("customer", Role::Customer).post("/devices", body).await;
        assert_eq!((made.status, &made.body["address"]), (201, &json!("…abcd")), "{}", made.body);
        admin.status("o1", "accepted").await;
        admin.status("o1", "delivered").await;
        until("the activity to go", async || devices(&reached).await.len() == 1).await;
        reached.line("o1", "customer", "order.delivered", "sent").await;
        let all: Vec<Value> = reached.providers.asked("messages:send").iter().map(|asked| asked.json()["message"].clone()).collect();
        let (live, alerts): (Vec<_>, Vec<_>) = all.iter().partition(|message| message["apns"]["liveActivityToken"] == "abcd");
        let last = live.last().expect("an update");
        assert_eq!((&last["token"], &last["apns"]["payload"]["aps"]["event"]), (&json!("fcm-1"), &json!("end")), "{last}");
        assert_eq!(last["apns"]["headers"]["apns-priority"], "10", "{last}");
        assert!(live.iter().all(|message| message.get("notification").is_none() && message.get("android").is_none()), "{live:?}");
        // The device beside it is alerted as ever, once each.
        let kinds: Vec<_> = alerts.iter().map(|message| &message["data"]["kind"]).collect();
        assert!(kinds.contains(&&json!("order.delivered")) && kinds.len() <= 2, "{kinds:?}");
        reached.server.stop().await;
    }

    async fn an_activity_shows_when_the_order_is_expected(db: TestDb) {
        let (reached, apple) = Reached::start_with_apple(&db).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        for (order, token) in [("o1", "aa"), ("o2", "bb")] {
            server.order(order).await;
            admin.status(order, "accepted").await;
            show(&reached, order, token).await;
            apple.nth(token, 1).await;
        }
        let eta = async |order: &str, minutes: i64| {
            let set = admin.post(&format!("/orders/{order}/eta"), json!({"etaMinutes": minutes})).await;
            assert_eq!(set.status, 200, "{}", set.body);
        };
        let minutes = |minutes: i64| move |aps: &Value| aps["content-state"]["etaMinutes"] == minutes;
        eta("o1", 30).await;
        let (index, aps) = shown(&apple, "aa", minutes(30)).await;
        assert_eq!((apple.asked("aa")[index].header("apns-priority"), &aps["event"]), ("5", &json!("update")), "{aps}");
        let at = server.clock.now() + TimeDelta::minutes(30);
        assert_eq!(aps["content-state"]["estimatedDeliveryTime"], admin.get("/orders/o1").await.body["estimatedDeliveryTime"]);
        assert_eq!(aps["stale-date"], (at + TimeDelta::minutes(15)).timestamp());
        // A minute is no news. What is set after it, and told, shows that it was looked at.
        eta("o1", 31).await;
        eta("o2", 20).await;
        shown(&apple, "bb", minutes(20)).await;
        assert_eq!(apple.asked("aa").len(), index + 1);
        eta("o1", 35).await;
        shown(&apple, "aa", minutes(35)).await;
        reached.line("o1", "customer", "order.live", "sent").await;
        // 13 more in this hour, and then no other one.
        let raw = Database::connect(db.url()).await.expect("the database");
        for index in 0..13 {
            let copy = format!("INSERT INTO notification (key, source, recipient, kind, order_id, seq, args, at, expires_at)
                SELECT 'k{index}', 'l:o1:k{index}', recipient, kind, order_id, seq, args, at, expires_at FROM notification
                WHERE id = (SELECT max(id) FROM notification WHERE order_id = 'o1' AND kind = 'order.live')");
            raw.execute_unprepared(&copy).await.expect("copied");
        }
        let before = apple.asked("aa").len();
        eta("o1", 50).await;
        eta("o2", 40).await;
        shown(&apple, "bb", minutes(40)).await;
        assert_eq!(apple.asked("aa").len(), before);
        // A status tells it all the same.
        admin.status("o1", "preparing").await;
        let (index, aps) = shown(&apple, "aa", has_status("preparing")).await;
        assert_eq!((apple.asked("aa")[index].header("apns-priority"), &aps["content-state"]["etaMinutes"]), ("10", &json!(50)), "{aps}");
        reached.server.stop().await;
    }

    async fn who_has_lost_an_order_is_shown_nothing(db: TestDb) {
        let (reached, apple) = Reached::start_with_apple(&db).await;
        let (server, admin) = (&reached.server, reached.server.admin());
        server.order_with_driver("o1", "assigned_to_driver").await;
        let driver = server.api("driver", Role::Driver);
        let live = json!({"kind": "apns", "token": "dd", "app": APP, "orderId": "o1"});
        assert_eq!(driver.put("/devices/live", live).await.status, 201);
        apple.nth("dd", 1).await;
        let to = json!({"driver": {"id": "dora", "name": "Dora"}});
        assert_eq!(admin.post("/orders/o1/assign", to).await.status, 200);
        admin.status("o1", "picked_up").await;
        assert_eq!(reached.line("o1", "driver", "order.live", "failed").await["reason"], "not_a_party");
        until("the activity to be disabled", async || driver.get("/devices").await.body["items"][0]["reason"] == "not_a_party").await;
        assert_eq!(apple.asked("dd").len(), 1);
        reached.server.stop().await;
    }

    async fn activities_are_of_ones_own_orders(db: TestDb) {
        let (reached, _apple) = Reached::start_with_apple(&db).await;
        let server = &reached.server;
        server.order("o1").await;
        let live = json!({"kind": "apns", "token": "aa", "app": APP, "orderId": "o1"});
        for (user, role) in [("other", Role::Customer), ("driver", Role::Driver)] {
            server.api(user, role).post("/devices", live.clone()).await.assert_problem(404, "not_found");
        }
        server.admin().put("/users/other/devices/x", live.clone()).await.assert_problem(404, "not_found");
        let customer = server.api("customer", Role::Customer);
        for order in ["o9", "?"] {
            let body = json!({"kind": "apns", "token": "aa", "app": APP, "orderId": order});
            customer.post("/devices", body).await.assert_problem(404, "not_found");
        }
        for (body, member) in [
            (json!({"kind": "fcm", "token": "a", "orderId": "o1"}), "liveActivityToken"),
            (json!({"kind": "fcm", "token": "a", "liveActivityToken": "ab"}), "orderId"),
            (json!({"kind": "fcm", "liveActivityToken": "ab", "orderId": "o1"}), "token"),
            (json!({"kind": "fcm", "token": "a", "liveActivityToken": "x y", "orderId": "o1"}), "liveActivityToken"),
            (json!({"kind": "fcm", "token": "a", "fid": "b", "liveActivityToken": "ab", "orderId": "o1"}), "fid"),
            (json!({"kind": "apns", "token": "ab", "app": APP, "liveActivityToken": "ab", "orderId": "o1"}), "liveActivityToken"),
            (json!({"kind": "expo", "token": "ExponentPushToken[abc]", "orderId": "o1"}), "orderId"),
        ] {
            let refused = customer.put("/devices/x", body).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!(member)), "{}", refused.body);
        }
        // Nobody chooses how it is shown.
        let wanted = json!({"kinds": {"order.live": ["sms"]}});
        assert_eq!(customer.put("/users/customer/notification-preferences", wanted).await.status, 422);
        reached.server.stop().await;
    }
}
