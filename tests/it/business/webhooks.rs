//! Other systems are told of orders.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use aws_lc_rs::{hmac, signature};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use http::{HeaderMap, StatusCode, Uri};
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, new_order, until};
use crate::on_both_databases;

const FLAGS: [&str; 2] = ["--outbound-allow", "127.0.0.0/8"];

/// A message that came.
#[derive(Clone, Debug)]
struct Told {
    path: String,
    headers: HeaderMap,
    text: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text")
    }

    /// The signatures of a kind.
    fn signatures(&self, kind: &str) -> Vec<Vec<u8>> {
        let all = self.header("webhook-signature").split(' ');
        all.filter_map(|one| one.strip_prefix(&format!("{kind},")))
            .map(|text| STANDARD.decode(text).expect("base64"))
            .collect()
    }

    fn signed(&self) -> String {
        format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.text)
    }

    fn is_signed_with(&self, secret: &str) -> bool {
        let secret = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        self.signatures("v1").iter().any(|tag| hmac::verify(&key, self.signed().as_bytes(), tag).is_ok())
    }

    fn is_signed_by(&self, public_key: &str) -> bool {
        let key = STANDARD.decode(public_key.strip_prefix("whpk_").expect("a key")).expect("base64");
        let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
        self.signatures("v1a").iter().any(|tag| key.verify(self.signed().as_bytes(), tag).is_ok())
    }
}

/// The other systems, as one server: each path is one of them.
#[derive(Clone, Default)]
struct Others {
    url: String,
    told: Arc<Mutex<Vec<Told>>>,
    /// What a path answers next, instead of 200. 0: nothing, for ever.
    moods: Arc<Mutex<HashMap<String, VecDeque<u16>>>>,
}

impl Others {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let others = Self { url, ..Self::default() };
        let router = Router::new().fallback(answer).with_state(others.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        others
    }

    fn answers(&self, path: &str, statuses: &[u16]) {
        self.moods.lock().unwrap().entry(path.to_owned()).or_default().extend(statuses);
    }

    fn told(&self, path: &str) -> Vec<Told> {
        self.told.lock().unwrap().iter().filter(|told| told.path == path).cloned().collect()
    }

    async fn nth(&self, path: &str, n: usize) -> Told {
        until(&format!("message {n} to {path}"), async || self.told(path).len() >= n).await;
        self.told(path)[n - 1].clone()
    }

    /// The types of messages so far, with the order's seq.
    fn types(&self, path: &str) -> Vec<(String, i64)> {
        let brief = |told: &Told| {
            let body = told.json();
            (body["type"].as_str().expect("a type").to_owned(), body["data"]["seq"].as_i64().unwrap_or(-1))
        };
        self.told(path).iter().map(brief).collect()
    }

    async fn hook(&self, server: &Server, path: &str, events: &[&str]) -> Value {
        let made = server
            .admin()
            .post("/webhooks", json!({"url": format!("{}{path}", self.url), "events": events}))
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body
    }
}

async fn answer(State(others): State<Others>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let text = String::from_utf8(body.to_vec()).expect("text");
    others.told.lock().unwrap().push(Told { path: path.clone(), headers, text });
    let mood = others.moods.lock().unwrap().get_mut(&path).and_then(VecDeque::pop_front);
    match mood {
        Some(0) => std::future::pending().await,
        Some(302) => (StatusCode::FOUND, [("location", format!("{}/elsewhere", others.url))]).into_response(),
        Some(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        None => StatusCode::OK.into_response(),
    }
}

on_both_databases! {
    async fn an_endpoint_is_told_everything_in_order_and_can_verify_it(db: TestDb) {
        let (server, others) = (Server::start(&db, &FLAGS).await, Others::start().await);
        server.order("before").await;
        let hook = others.hook(&server, "/a", &["order.*", "proof.captured", "rating.created"]).await;
        let (secret, key) = (hook["secret"].as_str().expect("a secret"), hook["publicKey"].as_str().expect("a key"));
        others.hook(&server, "/only-status", &["order.status_changed"]).await;
        let chefs = server.admin().post("/webhooks", json!({"url": format!("{}/chef", others.url), "events": ["*"], "chefId": "another"})).await;
        assert_eq!(chefs.status, 201);
        let mut order = new_order("o1");
        order["proofRequired"] = json!(["photo"]);
        let (admin, driver, customer) = (server.admin(), server.api("driver", Role::Driver), server.api("customer", Role::Customer));
        admin.post("/orders", order).await;
        admin.post("/orders/o1/payment/verify", json!({})).await;
        admin.status("o1", "ready_for_pickup").await;
        admin.post("/orders/o1/assign", crate::harness::assignment("driver")).await;
        driver.post("/orders/o1/decline", json!({"reason": "too far"})).await;
        admin.post("/orders/o1/assign", crate::harness::assignment("driver")).await;
        admin.patch("/orders/o1", json!({"notes": "at the back"})).await;
        driver.status("o1", "in_transit").await;
        let at = ordercast::base::clock::rfc3339(server.clock.now());
        let photo = json!({"kind": "photo", "reference": "r", "sha256": "0".repeat(64), "mediaType": "image/png", "capturedAt": at});
        assert_eq!(driver.post("/orders/o1/proof", photo).await.status, 200);
        driver.status("o1", "delivered").await;
        customer.put("/orders/o1/rating", json!({"subject": "order", "stars": 4})).await;
        admin.post("/orders/o1/correct", json!({"status": "in_transit", "note": "not yet"})).await;
        let expected = [
            ("order.created", 1), ("order.payment", 2), ("order.status_changed", 3), ("order.assigned", 4), ("order.unassigned", 5),
            ("order.assigned", 6), ("order.updated", 7), ("order.status_changed", 8), ("proof.captured", 9), ("order.status_changed", 10),
            ("order.corrected", 11),
        ].map(|(r#type, seq)| (r#type.to_owned(), seq));
        others.nth("/a", expected.len() + 1).await;
        let types = others.types("/a");
        let of_log: Vec<_> = types.iter().filter(|(_, seq)| *seq > 0).cloned().collect();
        assert_eq!(of_log, expected);
        assert!(types.contains(&("rating.created".to_owned(), -1)), "{types:?}");
        let mut ids = std::collections::BTreeSet::new();
        for told in others.told("/a") {
            assert!(told.is_signed_with(secret) && told.is_signed_by(key), "{told:?}");
            assert!(!told.is_signed_with("whsec_AAAA"));
            assert_eq!(told.header("content-type"), "application/json");
            assert!(ids.insert(told.header("webhook-id").to_owned()), "each has an id of its own");
        }
        let of = |seq: i64| others.told("/a").iter().map(Told::json).find(|body| body["data"]["seq"] == seq).expect("it");
        let first = of(1);
        assert_eq!((&first["data"]["order"]["id"], &first["data"]["position"], first["data"].get("previousStatus")), (&json!("o1"), &json!(2), None));
        let declined = of(5);
        assert_eq!((&declined["data"]["reason"], &declined["data"]["formerDriverId"]), (&json!("too far"), &json!("driver")));
        // Somebody who wants statuses hears of all that changed, whatever changed them.
        others.nth("/only-status", 7).await;
        let statuses: Vec<_> = others.told("/only-status").iter().map(|told| told.json()["data"]["order"]["status"].clone()).collect();
        assert_eq!(statuses, ["payment_confirmed", "ready_for_pickup", "assigned_to_driver", "ready_for_pickup", "assigned_to_driver", "in_transit", "delivered"].map(Value::from).into_iter().chain(statuses.get(7).cloned()).collect::<Vec<_>>());
        assert!(others.told("/chef").is_empty());
        let list = admin.get(&format!("/webhooks/{}/deliveries", hook["id"].as_str().expect("an id"))).await.body;
        assert_eq!((&list["items"][0]["state"], &list["items"][0]["attempts"]), (&json!("delivered"), &json!(1)), "{list}");
        server.stop().await;
    }

    async fn a_failing_endpoint_is_tried_by_the_schedule_and_keeps_its_order(db: TestDb) {
        let (server, others) = (Server::start_with_manual_clock(&db, &FLAGS).await, Others::start().await);
        others.answers("/bad", &[500, 200, 302]);
        let hook = others.hook(&server, "/bad", &["order.*"]).await;
        others.hook(&server, "/good", &["order.*"]).await;
        server.order("o1").await;
        server.admin().status("o1", "accepted").await;
        others.nth("/good", 2).await;
        let first = others.nth("/bad", 1).await;
        let path = format!("/webhooks/{}/deliveries", hook["id"].as_str().expect("an id"));
        until("the failure", async || server.admin().get(&path).await.body["items"][1]["attempts"] == 1).await;
        let failing = server.admin().get(&format!("/webhooks/{}", hook["id"].as_str().expect("an id"))).await.body;
        assert!(failing["failingSince"].is_string(), "{failing}");
        // The next one of the order waits for it, and another order does not.
        server.order("o2").await;
        assert_eq!(others.nth("/bad", 2).await.json()["data"]["order"]["id"], "o2");
        server.clock.advance(TimeDelta::seconds(6));
        let again = others.nth("/bad", 3).await;
        assert_eq!((again.header("webhook-id"), &again.text), (first.header("webhook-id"), &first.text), "the same id and body");
        assert_ne!(again.header("webhook-timestamp"), first.header("webhook-timestamp"));
        // A redirect is not followed: it is a failure like another.
        until("the second failure", async || server.admin().get(&path).await.body["items"].as_array().is_some_and(|items| items.iter().any(|item| item["attempts"] == 2 && item["status"] == 302))).await;
        assert!(others.told("/elsewhere").is_empty());
        server.clock.advance(TimeDelta::minutes(5));
        assert_eq!(others.nth("/bad", 4).await.header("webhook-id"), first.header("webhook-id"));
        assert_eq!(others.nth("/bad", 5).await.json()["data"]["seq"], 2);
        server.stop().await;
    }

    async fn who_is_gone_is_called_no_more_and_the_others_hear_of_it(db: TestDb) {
        let (server, others) = (Server::start_with_manual_clock(&db, &FLAGS).await, Others::start().await);
        let admin = server.admin();
        others.answers("/gone", &[410]);
        let gone = others.hook(&server, "/gone", &["order.*"]).await;
        others.hook(&server, "/watch", &["webhook.*"]).await;
        server.order("o1").await;
        let told = others.nth("/watch", 1).await.json();
        assert_eq!((&told["type"], &told["data"]["reason"], &told["data"]["webhookId"]), (&json!("webhook.disabled"), &json!("gone"), &gone["id"]));
        let path = format!("/webhooks/{}", gone["id"].as_str().expect("an id"));
        let state = admin.get(&path).await.body;
        assert_eq!((&state["enabled"], &state["reason"], state.get("secret")), (&json!(false), &json!("gone"), None));
        server.order("o2").await;
        // Enabled again it begins with what comes, and what was missed is told on demand.
        let since = ordercast::base::clock::rfc3339(server.clock.now() - TimeDelta::hours(1));
        assert_eq!(admin.patch(&path, json!({"enabled": true})).await.body["enabled"], true);
        server.order("o3").await;
        assert_eq!(others.nth("/gone", 2).await.json()["data"]["order"]["id"], "o3");
        let replayed = admin.post(&format!("{path}/replay"), json!({"since": since})).await;
        assert_eq!((replayed.status, &replayed.body), (202, &json!({"after": 0, "until": 3})));
        until("everything once more", async || {
            let ids: std::collections::BTreeSet<_> = others.told("/gone").iter().map(|told| told.json()["data"]["order"]["id"].as_str().expect("an id").to_owned()).collect();
            ids.len() == 3 && others.told("/gone").len() >= 5
        }).await;
        let third: Vec<_> = others.told("/gone").into_iter().filter(|told| told.json()["data"]["order"]["id"] == "o3").collect();
        assert!(third.len() == 2 && third[0].header("webhook-id") == third[1].header("webhook-id"), "with the same id");
        // Five days of failure do the same.
        others.answers("/gone", &[500; 64]);
        server.order("o4").await;
        others.nth("/gone", 6).await;
        for _ in 0..12 {
            server.clock.advance(TimeDelta::hours(25));
            let seen = others.told("/gone").len();
            until("another attempt, or the end", async || others.told("/gone").len() > seen || server.admin().get(&path).await.body["enabled"] == false).await;
            if server.admin().get(&path).await.body["enabled"] == false {
                break;
            }
        }
        assert_eq!(server.admin().get(&path).await.body["reason"], "failing");
        assert_eq!(server.admin().delete(&path).await.status, 204);
        server.admin().get(&path).await.assert_problem(404, "not_found");
        server.stop().await;
    }

    async fn two_secrets_sign_after_a_rotation(db: TestDb) {
        let (server, others) = (Server::start_with_manual_clock(&db, &FLAGS).await, Others::start().await);
        let hook = others.hook(&server, "/a", &["*"]).await;
        let path = format!("/webhooks/{}", hook["id"].as_str().expect("an id"));
        let old = hook["secret"].as_str().expect("a secret");
        let rotated = server.admin().post(&format!("{path}/rotate"), json!({})).await.body;
        let new = rotated["secret"].as_str().expect("a secret");
        assert!(old != new && rotated["previousSecretUntil"].is_string());
        let tested = server.admin().post(&format!("{path}/test"), json!({})).await.body;
        assert_eq!((&tested["ok"], &tested["status"]), (&json!(true), &json!(200)));
        let told = others.nth("/a", 1).await;
        assert!(told.is_signed_with(old) && told.is_signed_with(new) && told.is_signed_by(rotated["publicKey"].as_str().expect("a key")));
        server.clock.advance(TimeDelta::hours(25));
        server.admin().post(&format!("{path}/test"), json!({})).await;
        let told = others.nth("/a", 2).await;
        assert!(!told.is_signed_with(old) && told.is_signed_with(new));
        server.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_endpoint_is_refused() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    let admin = server.admin();
    for url in [
        "http://127.0.0.1/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/",
        "https://0/",
        "https://user:secret@example.com/",
        "https://example.com:22/",
        "gopher://example.com/",
        "nonsense",
    ] {
        let refused = admin.post("/webhooks", json!({"url": url, "events": ["order.*"]})).await;
        refused.assert_problem(422, "invalid_payload");
        assert_eq!(refused.body["member"], "url", "{url}");
    }
    for (events, member) in [
        (json!([]), "events"),
        (json!(["order.cooked"]), "events[0]"),
        (json!(["order.*", "x*"]), "events[1]"),
        (json!("order.*"), "events"),
    ] {
        let refused = admin.post("/webhooks", json!({"url": "https://example.com/", "events": events})).await;
        refused.assert_problem(422, "invalid_payload");
        assert_eq!(refused.body["member"], member);
    }
    for who in [
        server.api("driver", Role::Driver),
        server.api("customer", Role::Customer),
        server.api("chef", Role::Chef),
    ] {
        who.get("/webhooks").await.assert_problem(403, "forbidden");
        who.post("/webhooks", json!({"url": "https://example.com/", "events": ["*"]}))
            .await
            .assert_problem(403, "forbidden");
    }
    admin.get("/webhooks/none").await.assert_problem(404, "not_found");
    admin
        .post("/webhooks/none/replay", json!({"since": "2026-01-01T00:00:00Z"}))
        .await
        .assert_problem(404, "not_found");
    server.stop().await;
}

#[tokio::test]
async fn one_that_hangs_delays_no_other() {
    let db = TestDb::sqlite();
    let (server, others) = (Server::start(&db, &FLAGS).await, Others::start().await);
    others.answers("/hangs", &[0; 64]);
    others.hook(&server, "/hangs", &["order.*"]).await;
    others.hook(&server, "/fine", &["order.*"]).await;
    for number in 0..20 {
        server.order(&format!("o{number}")).await;
    }
    others.nth("/fine", 20).await;
    assert!(others.told("/hangs").len() <= 4, "and it is not called with everything at once");
    server.stop().await;
}
