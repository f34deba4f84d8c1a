//! What nodes tell each other by the control log: every node hears it soon, once.

use ordercast::model::Role;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::harness::{Server, TestDb, until};
use crate::on_both_databases;
use crate::socket::Socket;

/// The `n` of the announcements among the events so far.
async fn announced(socket: &mut Socket) -> Vec<Value> {
    let events = socket.events_so_far().await.into_iter().filter(|event| event.name == "menu:changed");
    events.map(|event| event.data["n"].clone()).collect()
}

fn announcement(n: i64) -> Value {
    json!({"role": "customer", "event": "menu:changed", "data": {"n": n}})
}

/// Tells something after which everything that was told before has arrived.
async fn mark(server: &Server, sockets: &mut [&mut Socket]) {
    let mark = json!({"role": "customer", "event": "mark", "data": {}});
    assert_eq!(server.admin().post("/announcements", mark).await.status, 202);
    for socket in sockets {
        socket.event("mark").await;
    }
}

on_both_databases! {
    async fn announcements_reach_the_sockets_of_all_nodes_once(db: TestDb) {
        let (a, b) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        let mut here = Socket::connect(&a, "ann", Role::Customer).await;
        let mut there = Socket::connect(&b, "bob", Role::Customer).await;
        let mut expected = Vec::new();
        for n in 0..6 {
            let server = if n % 2 == 0 { &a } else { &b };
            assert_eq!(server.admin().post("/announcements", announcement(n)).await.status, 202);
            expected.push(json!(n));
        }
        mark(&a, &mut [&mut here, &mut there]).await;
        assert_eq!(announced(&mut here).await, expected);
        assert_eq!(announced(&mut there).await, expected);
        a.stop().await;
        b.stop().await;
    }

    async fn an_eta_that_is_set_by_hand_is_known_to_all_nodes(db: TestDb) {
        let (a, b) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        a.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&b, "driver", Role::Driver).await;
        let mut customer = Socket::connect(&b, "customer", Role::Customer).await;
        until("the driver is known there", async || {
            driver.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.53})).await["shown"] == true
        })
        .await;
        customer.events_so_far().await;
        let at = "2036-01-01T00:00:00.000Z";
        assert_eq!(a.admin().post("/orders/o1/eta", json!({"estimatedDeliveryTime": at})).await.status, 200);
        // An ETA from before may still have been on its way.
        let mut told = customer.event("order:eta_update").await;
        while told["etaSource"] != "override" {
            told = customer.event("order:eta_update").await;
        }
        assert_eq!(told["orderId"], "o1");
        // Fixes do not change it there, either.
        driver.ask("driver:location", json!({"latitude": 47.10, "longitude": 9.50})).await;
        let etas = customer.events_so_far().await.into_iter().filter(|event| event.name == "order:eta_update");
        assert_eq!(etas.filter(|event| event.data["etaSource"] != "override").count(), 0);
        a.stop().await;
        b.stop().await;
    }

    async fn what_a_node_cannot_read_is_skipped(db: TestDb) {
        let (a, b) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        let mut there = Socket::connect(&b, "bob", Role::Customer).await;
        let database = ordercast::base::db::Db::connect(&db.url()).await.expect("database");
        for (kind, body) in [("teleport", "{}"), ("takeover", "[1]"), ("announcement", "no JSON")] {
            let tx = database.begin().await.expect("a transaction");
            for statement in [
                "UPDATE control_head SET position = position + 1".to_owned(),
                format!("INSERT INTO control (position, kind, node, body, at) SELECT position, '{kind}', 'other', '{body}', \
                         '2026-01-01 00:00:00+00:00' FROM control_head"),
            ] {
                tx.execute_unprepared(&statement).await.expect("written");
            }
            tx.commit().await.expect("committed");
        }
        assert_eq!(a.admin().post("/announcements", announcement(1)).await.status, 202);
        mark(&a, &mut [&mut there]).await;
        assert_eq!(announced(&mut there).await, [1]);
        database.close().await;
        a.stop().await;
        b.stop().await;
    }

    async fn a_session_that_is_resumed_elsewhere_ends_where_it_was(db: TestDb) {
        let (a, b) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        a.order("o1").await;
        let mut before = Socket::connect(&a, "customer", Role::Customer).await;
        a.admin().status("o1", "accepted").await;
        assert_eq!(before.event("order:status_update").await["seq"], 2);
        let auth = json!({"token": b.token("customer", Role::Customer), "pid": before.pid, "offset": before.offset});
        let mut after = Socket::connect_with_auth(&b, auth).await;
        assert_eq!(after.event("connected").await["recovered"], true);
        before.until_closed().await;
        until("the takeover is counted", async || a.metrics().await.contains("ordercast_takeovers_total 1")).await;
        a.admin().status("o1", "preparing").await;
        assert_eq!(after.event("order:status_update").await["seq"], 3);
        // It is still there, and it can be resumed again where it was first.
        let token = a.token("customer", Role::Customer);
        let (mut again, recovered) = after.reconnect(&a, &token).await;
        assert!(recovered);
        a.admin().status("o1", "ready_for_pickup").await;
        assert_eq!(again.event("order:status_update").await["seq"], 4);
        a.stop().await;
        b.stop().await;
    }

    async fn of_two_nodes_that_resume_a_session_at_once_one_has_it(db: TestDb) {
        let (a, b) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        a.order("o1").await;
        for round in 0..5 {
            let first = Socket::connect(&a, "customer", Role::Customer).await;
            let auth = json!({"token": a.token("customer", Role::Customer), "pid": first.pid, "offset": first.offset});
            drop(first);
            let (mut here, mut there) =
                tokio::join!(Socket::connect_with_auth(&a, auth.clone()), Socket::connect_with_auth(&b, auth));
            here.event("connected").await;
            there.event("connected").await;
            // Both are resumed, and the one that got it first is ended within the second.
            let sessions = async || {
                let mut count = 0;
                for server in [&a, &b] {
                    let seen = server.admin().get("/users/customer/presence").await.body;
                    count += seen["connections"].as_u64().expect("a number");
                }
                count
            };
            until("one of them has ended", async || sessions().await == 1).await;
            let on_a = a.admin().get("/users/customer/presence").await.body["connections"] == 1;
            let winner = if on_a { &mut here } else { &mut there };
            assert_eq!(winner.ask("ping:latency", json!({})).await["ok"], true, "round {round}");
            drop((here, there));
            until("both are gone", async || sessions().await == 0).await;
        }
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_the_sockets_of_all_nodes() {
    let Some(db) = TestDb::postgres().await else { return };
    let (a, b) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
    let mut there = Socket::connect(&b, "bob", Role::Customer).await;
    let asked = ordercast::base::clock::instant();
    assert_eq!(a.admin().delete("/users/bob/sessions").await.status, 200);
    there.until_closed().await;
    assert!(asked.elapsed() < std::time::Duration::from_secs(1), "{:?}", asked.elapsed());
    a.stop().await;
    b.stop().await;
}
