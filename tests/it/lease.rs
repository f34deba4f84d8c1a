//! The rights lease: a node that cannot read the logs tells nobody anything, and goes on where it was.

use std::sync::Arc;

use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::bus::{fix, hears_itself};
use crate::harness::{Server, TestDb, until};
use crate::poller::Polling;
use crate::redis_server::Redis;
use crate::socket::Socket;

/// A way to the database that can be cut without either end noticing: bytes wait in it.
struct Way {
    open: Arc<watch::Sender<bool>>,
    db: TestDb,
}

impl Way {
    async fn to(db: &TestDb) -> Self {
        let TestDb::Postgres { base, name } = db else { unreachable!("asked for PostgreSQL") };
        let (login, address) = base.rsplit_once('@').expect("an address");
        let target = address.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("{login}@{}/", listener.local_addr().expect("its address"));
        let open = Arc::new(watch::Sender::new(true));
        let gate = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, gate) = (target.clone(), Arc::clone(&gate));
                tokio::spawn(async move {
                    let server = TcpStream::connect(target).await.expect("PostgreSQL");
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(
                        pass(from_client, to_server, gate.subscribe()),
                        pass(from_server, to_client, gate.subscribe())
                    );
                });
            }
        });
        Self { open, db: TestDb::Postgres { base, name: name.clone() } }
    }

    fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut open: watch::Receiver<bool>,
) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn until_they_know_each_other(servers: &[&Server]) {
    for server in servers {
        until("the nodes know each other", async || {
            server.admin().get("/cluster").await.body["nodes"]
                .as_array()
                .is_some_and(|nodes| nodes.len() == servers.len())
        })
        .await;
    }
}

async fn until_fresh_is(server: &Server, fresh: u8) {
    until("the lease", async || server.metrics().await.contains(&format!("ordercast_fresh {fresh}\n"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_tells_nobody_anything() {
    let Some(db) = TestDb::postgres().await else { return };
    let way = Way::to(&db).await;
    let cut_off = Server::start(&way.db, &["--location-rate-per-second", "0"]).await;
    let other = Server::start(&db, &[]).await;
    until_they_know_each_other(&[&cut_off, &other]).await;
    other.order_with_driver("o1", "picked_up").await;
    let mut driver = Socket::connect(&cut_off, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&cut_off, "customer", Role::Customer).await;
    let mut chef = Socket::connect(&cut_off, "chef", Role::Chef).await;
    for follower in [&mut customer, &mut chef] {
        assert_eq!(follower.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    }
    let fix = |latitude: f64| json!({"latitude": latitude, "longitude": 9.53});
    until("the driver is known here", async || {
        driver.ask("driver:location", fix(47.14)).await["shown"] == true
    })
    .await;
    for follower in [&mut customer, &mut chef] {
        follower.event("driver:location_update").await;
    }
    // What was on its way is there.
    for follower in [&mut customer, &mut chef] {
        follower.events_so_far().await;
    }
    way.set(false);
    until_fresh_is(&cut_off, 0).await;
    assert_eq!(other.admin().delete("/users/customer/sessions").await.status, 200);
    assert_eq!(other.admin().status("o1", "in_transit").await["seq"], 5);
    // The driver reports as before: it needs no database.
    assert_eq!(driver.ask("driver:location", fix(47.141)).await["ok"], true);
    assert_eq!(driver.ask("driver:location", fix(47.142)).await["ok"], true);
    for follower in [&mut customer, &mut chef] {
        let told: Vec<_> = follower.events_so_far().await.into_iter().map(|event| event.name).collect();
        assert!(told.is_empty(), "{told:?}");
    }
    // Nor may anybody read what this node has in memory.
    let refused = customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
    assert_eq!(refused["error"]["code"], "unavailable");
    way.set(true);
    // The customer has lost the right; everybody else is told what they missed, and where the driver is now.
    let mut seen = Vec::new();
    loop {
        use crate::socket::Incoming;
        let next = customer.wait_for(|incoming| match incoming {
            Incoming::Event(event) if event.name == "driver:location_update" => {
                Some(Some(event.data.clone()))
            }
            Incoming::Closed | Incoming::Disconnected => Some(None),
            _ => None,
        });
        match next.await {
            Some(location) => seen.push(location),
            None => break,
        }
    }
    assert!(seen.is_empty(), "{seen:?}");
    let told = chef.event("order:status_update").await;
    assert_eq!((&told["seq"], &told["status"]), (&json!(5), &json!("in_transit")));
    let place = chef.event("driver:location_update").await;
    assert_eq!((&place["latitude"], &place["conflated"]), (&json!(47.142), &json!(1)));
    until_fresh_is(&cut_off, 1).await;
    assert!(!cut_off.metrics().await.contains("ordercast_muted_seconds_total 0.0\n"));
    cut_off.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_polled_when_the_lease_has_ended_is_not_told() {
    let Some(db) = TestDb::postgres().await else { return };
    let way = Way::to(&db).await;
    let cut_off = Server::start(&way.db, &[]).await;
    let other = Server::start(&db, &[]).await;
    until_they_know_each_other(&[&cut_off, &other]).await;
    other.order("o1").await;
    let nodes = [&cut_off];
    let mut customer = Polling::open(&nodes, 4).await;
    customer.join("customer", Role::Customer, json!({})).await;
    let mut chef = Socket::connect(&cut_off, "chef", Role::Chef).await;
    other.admin().status("o1", "accepted").await;
    // The customer is told of it too, and does not poll.
    assert_eq!(chef.event("order:status_update").await["seq"], 2);
    way.set(false);
    until_fresh_is(&cut_off, 0).await;
    let (status, body) = customer.request("GET", String::new()).await;
    assert_eq!(status, 503, "{body}");
    // They come back elsewhere, and have missed nothing.
    let nodes = [&other];
    let pid = customer.pid.take();
    let mut customer = Polling::open(&nodes, 4).await;
    let greeting = customer.join("customer", Role::Customer, json!({"pid": pid, "offset": "0"})).await;
    assert_eq!(greeting["recovered"], true);
    assert_eq!(customer.hears("accepted").await[1]["seq"], 2);
    way.set(true);
    cut_off.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_hear_each_other_go_on_without_the_database_until_a_right_is_taken() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let (here, there) = (Way::to(&db).await, Way::to(&db).await);
    let url = redis.url();
    let flags = ["--redis-url", &url, "--location-rate-per-second", "0"];
    let (a, b) = (Server::start(&here.db, &flags).await, Server::start(&there.db, &flags).await);
    until_they_know_each_other(&[&a, &b]).await;
    hears_itself(&a).await;
    hears_itself(&b).await;
    a.order_with_driver("o1", "picked_up").await;
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&b, "customer", Role::Customer).await;
    assert_eq!(customer.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    until("the node listens", async || !redis.channels().await.is_empty()).await;
    here.set(false);
    there.set(false);
    for server in [&a, &b] {
        until("the outage is noticed", async || server.anonymous().get("/ready").await.status == 503).await;
    }
    // The lease of a node that is cut off has ended long ago.
    for latitude in [47.14, 47.15] {
        assert_eq!(driver.ask("driver:location", fix(latitude)).await["shown"], true);
        assert_eq!(customer.event("driver:location_update").await["latitude"], latitude);
    }
    for server in [&a, &b] {
        assert!(server.metrics().await.contains("ordercast_fresh 1\n"));
    }
    // One of them reaches the database again, and takes the right of a user of the other one.
    here.set(true);
    until("the database", async || a.anonymous().get("/ready").await.status == 200).await;
    a.admin().delete("/orders/o1/assign").await;
    until_fresh_is(&b, 0).await;
    let driver_there = customer.events_so_far().await;
    assert!(driver_there.iter().all(|event| event.name != "order:driver_unassigned"), "nobody can read it");
    there.set(true);
    until_fresh_is(&b, 1).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_for_long_sends_its_clients_to_others() {
    let Some(db) = TestDb::postgres().await else { return };
    let way = Way::to(&db).await;
    let cut_off = Server::start(&way.db, &[]).await;
    let other = Server::start(&db, &[]).await;
    until_they_know_each_other(&[&cut_off, &other]).await;
    other.order("o1").await;
    let mut customer = Socket::connect(&cut_off, "customer", Role::Customer).await;
    other.admin().status("o1", "accepted").await;
    assert_eq!(customer.event("order:status_update").await["seq"], 2);
    way.set(false);
    until_fresh_is(&cut_off, 0).await;
    other.admin().status("o1", "preparing").await;
    until("/ready", async || cut_off.anonymous().get("/ready").await.status == 503).await;
    let token = other.token("customer", Role::Customer);
    // The node lets go of it by itself.
    customer.until_closed().await;
    let (mut customer, recovered) = customer.reconnect(&other, &token).await;
    assert!(recovered);
    assert_eq!(customer.event("order:status_update").await["seq"], 3);
    way.set(true);
    until("/ready", async || cut_off.anonymous().get("/ready").await.status == 200).await;
    assert_eq!(customer.ask("ping:latency", json!({})).await["ok"], true, "it is with the other node");
    cut_off.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_alone_goes_on_for_a_while() {
    let Some(db) = TestDb::postgres().await else { return };
    let way = Way::to(&db).await;
    let server = Server::start(&way.db, &["--location-rate-per-second", "0"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    assert_eq!(customer.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    way.set(false);
    until("the outage is noticed", async || server.anonymous().get("/ready").await.status == 503).await;
    // Longer than the lease of a node that has others.
    assert_eq!(
        driver.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.53})).await["shown"],
        true
    );
    assert_eq!(customer.event("driver:location_update").await["latitude"], 47.14);
    // Who starts meanwhile waits until this one is silent.
    let other = Server::start(&db, &[]).await;
    assert!(server.metrics().await.contains("ordercast_fresh 0\n"));
    driver.ask("driver:location", json!({"latitude": 47.15, "longitude": 9.53})).await;
    assert!(customer.events_so_far().await.iter().all(|event| event.name != "driver:location_update"));
    way.set(true);
    assert_eq!(customer.event("driver:location_update").await["latitude"], 47.15);
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_starts_on_what_a_newer_one_has_migrated() {
    for url in [Some(TestDb::sqlite()), TestDb::postgres().await].iter().flatten().map(TestDb::url) {
        let opened = ordercast::base::db::Db::open(&url, 4, "test").await.expect("migrated");
        opened.close().await;
        let admin = Database::connect(&url).await.expect("the database");
        let applied = |version: &str| {
            format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{version}', 0)")
        };
        admin.execute_unprepared(&applied("m0998_something_new")).await.expect("applied");
        let opened = ordercast::base::db::Db::open(&url, 4, "test").await.expect("it is all there");
        opened.close().await;
        admin.execute_unprepared(&applied("m0999_something_gone_contract")).await.expect("applied");
        let refused =
            ordercast::base::db::Db::open(&url, 4, "test").await.expect_err("something is gone").to_string();
        assert!(refused.contains("m0999_something_gone_contract"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_older_nodes_cannot_stand_waits_for_them() {
    let Some(db) = TestDb::postgres().await else { return };
    let opened = ordercast::base::db::Db::open(&db.url(), 4, "test").await.expect("migrated");
    opened.close().await;
    let admin = Database::connect(db.url()).await.expect("the database");
    let node = |schema: &str| {
        format!(
            "INSERT INTO server_node (id, seen_at, schema) VALUES ('old', now(), {schema})
            ON CONFLICT (id) DO UPDATE SET schema = {schema}, seen_at = now()"
        )
    };
    // As if the last rewrite were still to come.
    admin
        .execute_unprepared("DELETE FROM seaql_migrations WHERE version >= 'm0011'")
        .await
        .expect("reverted");
    for schema in ["NULL", "10"] {
        admin.execute_unprepared(&node(schema)).await.expect("a node");
        let refused = crate::binary::run(&[
            "--jwt-secret",
            crate::harness::SECRET,
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            &db.url(),
        ]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{error}");
        let line = error.lines().last().unwrap_or_default();
        assert!(line.contains("m0011_quantities") && line.contains("stop them first"), "{error}");
    }
    // One that only adds something runs beside them. The table is there already.
    admin
        .execute_unprepared(
            "DROP TABLE control, control_head; INSERT INTO seaql_migrations (version, applied_at)
        VALUES ('m0011_quantities', 0), ('m0012_nodes', 0), ('m0014_timeline', 0),
            ('m0015_provenance', 0), ('m0016_plans', 0), ('m0017_shown_etas', 0), ('m0018_calibration', 0), ('m0019_notifications', 0), ('m0020_business', 0), ('m0021_webhooks', 0), ('m0022_live_activities', 0)",
        )
        .await
        .expect("applied");
    admin.execute_unprepared(&node("11")).await.expect("a node");
    let opened = ordercast::base::db::Db::open(&db.url(), 4, "test").await.expect("migrated");
    admin.execute_unprepared("SELECT * FROM control").await.expect("the table");
    opened.close().await;
}
