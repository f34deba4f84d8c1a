//! Group commits: changes that arrive while the database is busy share one commit, and each one gets its own answer.

use std::collections::BTreeMap;

use ordercast::base::db::Db;
use ordercast::event::log;
use ordercast::model::OrderId;
use ordercast::model::Role;
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Answer, Api, Server, TestDb, new_order, until};
use crate::on_both_databases;
use crate::socket::Socket;

async fn metric(server: &Server, name: &str) -> u64 {
    let metrics = server.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("a metric").parse().expect("a number")
}

/// Blocks all writes to the log until the returned transaction ends.
async fn hold_log(db: &TestDb) -> DatabaseTransaction {
    let other = Db::connect(&db.url()).await.expect("the database");
    let tx = other.begin().await.expect("a transaction");
    tx.execute_unprepared("UPDATE log_head SET position = position").await.expect("held");
    tx
}

/// Concurrent requests. Their answers are returned in the order of the requests.
struct ConcurrentRequests(JoinSet<(usize, Answer)>);

impl ConcurrentRequests {
    fn ask(&mut self, request: reqwest::RequestBuilder) {
        let index = self.0.len();
        self.0.spawn(async move { (index, Api::send(request).await) });
    }

    async fn answers(self) -> Vec<Answer> {
        let mut answers = self.0.join_all().await;
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

on_both_databases! {
    async fn changes_in_one_commit_each_get_their_own_answer(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        for index in 0..20 {
            server.order(&format!("o{index}")).await;
        }
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        let change = |id: &str, body| admin.request("PATCH", &format!("/orders/{id}/status")).json(&body);
        let (commits, events) =
            (metric(&server, "ordercast_commit_seconds_count").await, metric(&server, "ordercast_events_committed_total").await);

        let held = hold_log(&db).await;
        let mut requests = ConcurrentRequests(JoinSet::new());
        for index in 0..20 {
            requests.ask(change(&format!("o{index}"), json!({"status": "accepted"})));
        }
        requests.ask(admin.request("POST", "/orders/o1/payment/verify").json(&json!({})));
        requests.ask(change("o2", json!({"status": "preparing", "expectedSeq": 7})));
        requests.ask(change("nobody", json!({"status": "accepted"})));
        let stranger = server.api("stranger", Role::Customer);
        requests.ask(stranger.request("PATCH", "/orders/o3/status").json(&json!({"status": "accepted"})));
        for _ in 0..3 {
            requests.ask(admin.request("POST", "/orders").header("idempotency-key", "once").json(&new_order("new")));
        }
        requests.ask(admin.request("POST", "/orders").json(&new_order("o4")));
        until("all to wait", async || metric(&server, "ordercast_writes_waiting").await == 28).await;
        held.rollback().await.expect("released");

        let answers = requests.answers().await;
        for answer in &answers[..20] {
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        assert_eq!(answers[20].status, 200, "{}", answers[20].body);
        answers[21].assert_problem(409, "stale_seq");
        answers[22].assert_problem(404, "not_found");
        answers[23].assert_problem(404, "not_found");
        for answer in &answers[24..27] {
            assert_eq!((answer.status, &answer.body["id"]), (201, &json!("new")), "{}", answer.body);
        }
        answers[27].assert_problem(409, "already_exists");
        let made = metric(&server, "ordercast_events_committed_total").await - events;
        assert_eq!(made, 22, "20 accepted, one paid, one new");
        let shared = metric(&server, "ordercast_commit_seconds_count").await - commits;
        assert!(shared <= 3, "{made} events in {shared} commits");
        assert_eq!(admin.get("/orders/o1").await.body["seq"], 3);
        let mut last = BTreeMap::new();
        for _ in 0..21 {
            let update = customer.event("order:status_update").await;
            let seq = update["seq"].as_i64().expect("a seq");
            let before = last.insert(update["orderId"].to_string(), seq).unwrap_or(1);
            assert_eq!(seq, before + 1, "out of order: {update}");
        }
        server.stop().await;
    }

    async fn a_failing_statement_affects_one_change_only(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        for index in 0..6 {
            server.order(&format!("o{index}")).await;
        }
        db.refuse_poison("status_history", "note").await;
        let admin = server.admin();
        let held = hold_log(&db).await;
        let mut requests = ConcurrentRequests(JoinSet::new());
        for index in 0..6 {
            let note = if index == 3 { "poison" } else { "good" };
            let body = json!({"status": "accepted", "note": note});
            requests.ask(admin.request("PATCH", &format!("/orders/o{index}/status")).json(&body));
            if index == 0 {
                // The first request waits for the log, and the others wait for the first. So the others become a group.
                until("the first to wait", async || metric(&server, "ordercast_writes_waiting").await == 1).await;
            }
        }
        until("all to wait", async || metric(&server, "ordercast_writes_waiting").await == 6).await;
        held.rollback().await.expect("released");
        for (index, answer) in requests.answers().await.into_iter().enumerate() {
            if index == 3 {
                answer.assert_problem(500, "internal_error");
            } else {
                assert_eq!((answer.status, answer.body["seq"].as_i64()), (200, Some(2)), "{}", answer.body);
            }
            let order = admin.get(&format!("/orders/o{index}")).await.body;
            assert_eq!(order["seq"], if index == 3 { 1 } else { 2 });
        }
        // The failed change left nothing behind: without the poison it works.
        assert_eq!(admin.status("o3", "accepted").await["seq"], 2);
        server.stop().await;
    }

    async fn changes_of_another_node_are_read_again(db: TestDb) {
        let (here, there) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        let (admin, other) = (here.admin(), there.admin());
        here.order("o").await;
        assert_eq!(admin.status("o", "accepted").await["seq"], 2);
        assert_eq!(other.status("o", "preparing").await["seq"], 3);
        assert_eq!(admin.status("o", "ready_for_pickup").await["seq"], 4);
        // An ETA that is set by hand does not change the seq.
        let at = "2030-01-01T12:00:00.000Z";
        assert_eq!(other.post("/orders/o/eta", json!({"estimatedDeliveryTime": at})).await.status, 200);
        let moved = admin.status("o", "in_transit").await;
        assert_eq!((&moved["seq"], &moved["estimatedDeliveryTime"]), (&json!(5), &json!(at)), "{moved}");

        let db = Db::connect(&db.url()).await.expect("the database");
        let events = log::of_order(db.reader(), &OrderId::stored("o"), 4, 1).await.expect("the log").events();
        let seqs: Vec<_> = events[0].history.iter().map(|past| past.seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 5]);
        assert_eq!(events[0].order.items.len(), 2);
        here.stop().await;
        there.stop().await;
    }
}
