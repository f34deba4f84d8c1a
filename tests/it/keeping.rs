//! What is kept, for how long, and what is forgotten.

use chrono::TimeDelta;
use ordercast::base::clock::Clock;
use ordercast::base::db::Db;
use ordercast::base::metrics::{Metrics, Words};
use ordercast::cluster::control::Control;
use ordercast::keeping::Keeping;
use ordercast::model::{Role, UserId};
use ordercast::recovery::{self, Recovery};
use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, DatabaseBackend, EntityTrait, Statement};
use serde_json::{Value, json};

use crate::harness::{Api, Server, TestDb, new_order, settings, until};
use crate::on_both_databases;
use crate::socket::Socket;

/// Every row of every table as text.
async fn dump(db: &Db) -> String {
    let backend = db.reader().get_database_backend();
    let texts = async |sql: String| {
        let rows = db.reader().query_all_raw(Statement::from_string(backend, sql)).await.expect("read");
        rows.iter().map(|row| row.try_get_by_index::<String>(0).expect("text")).collect::<Vec<_>>()
    };
    let is_sqlite = backend == DatabaseBackend::Sqlite;
    let tables = if is_sqlite {
        "SELECT name FROM sqlite_master WHERE type = 'table'"
    } else {
        "SELECT CAST(tablename AS text) FROM pg_tables WHERE schemaname = 'public'"
    };
    let mut all = String::new();
    for table in texts(tables.to_owned()).await {
        let row = if is_sqlite {
            let columns =
                texts(format!("SELECT 'quote(\"' || name || '\")' FROM pragma_table_info('{table}')")).await;
            columns.join(" || ',' || ")
        } else {
            "CAST(to_jsonb(t) AS text)".to_owned()
        };
        for row in texts(format!("SELECT {row} FROM \"{table}\" AS t")).await {
            all.extend([&table, ": ", &row, "\n"]);
        }
    }
    all
}

fn keeping(db: &Db, clock: &Clock, of: &TestDb, flags: &[&str]) -> Keeping {
    let limits = settings(of, flags).limits;
    let control = Control::new(db.clone(), clock.clone(), "test".to_owned());
    Keeping::new(db.clone(), clock.clone(), control, &limits, Metrics::new(Words::default()))
}

/// What is a person's in the order of [`personal`], and what of the driver's was reported.
const CUSTOMERS: [&str; 7] =
    ["Clara Quell", "555-0100", "Linden Lane", "no nuts please", "47.1512", "9.5334", "by the back door"];
const CHEFS: [&str; 6] = ["Chiara Herd", "Da Chiara", "Market Street", "47.1423", "9.5212", "fresh today"];
const DRIVERS: [&str; 4] = ["Dario Rad", "555-0199", "48.2345", "11.5678"];

fn personal(id: &str) -> Value {
    json!({
        "id": id, "items": [{"name": "Pizza", "quantity": 2}],
        "customer": {"id": "customer", "name": CUSTOMERS[0], "phone": CUSTOMERS[1]},
        "chef": {"id": "chef", "name": CHEFS[0], "businessName": CHEFS[1], "address": CHEFS[2], "latitude": 47.1423, "longitude": 9.5212},
        "delivery": {"address": CUSTOMERS[2], "latitude": 47.1512, "longitude": 9.5334}, "notes": CUSTOMERS[3],
    })
}

/// Makes an order that the driver `d1` had first, and `d2` has now.
async fn make_personal(server: &Server, id: &str) {
    let (admin, chef) = (server.admin(), server.api("chef", Role::Chef));
    assert_eq!(admin.post("/orders", personal(id)).await.status, 201);
    for (who, status, note) in [(&admin, "accepted", CUSTOMERS[6]), (&chef, "ready_for_pickup", CHEFS[5])] {
        let moved = who.patch(&format!("/orders/{id}/status"), json!({"status": status, "note": note})).await;
        assert_eq!(moved.status, 200, "{}", moved.body);
    }
    for driver in
        [json!({"id": "d1", "name": DRIVERS[0], "phone": DRIVERS[1]}), json!({"id": "d2", "name": "Dora"})]
    {
        let assigned = admin.post(&format!("/orders/{id}/assign"), json!({"driver": driver})).await;
        assert_eq!(assigned.status, 200, "{}", assigned.body);
    }
}

fn found<'a>(words: &[&'a str], text: &str) -> Vec<&'a str> {
    words.iter().copied().filter(|word| text.contains(word)).collect()
}

/// Asserts that no read of the two orders has any of these words.
async fn assert_reads_have_none_of(words: &[&str], api: &Api) {
    for path in [
        "/orders/o1",
        "/orders/o1/tracking",
        "/orders/o1/events",
        "/orders",
        "/api/orders/o1",
        "/api/v1/orders",
        "/orders/o2/tracking",
    ] {
        let read = api.get(path).await;
        assert_eq!((read.status, found(words, &read.body.to_string())), (200, vec![]), "{path}");
    }
}

on_both_databases! {
    async fn the_sessions_of_a_user_are_bounded_when_one_is_added(db: TestDb) {
        let server = Server::start(&db, &["--max-sessions-per-user", "3"]).await;
        let database = Db::connect(&db.url()).await.expect("database");
        server.order("o1").await;
        server.order("o2").await;
        let token = server.token("customer", Role::Customer);
        let mut sockets = Vec::new();
        for _ in 0..8 {
            let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
            for order in ["o1", "o2"] {
                assert_eq!(socket.ask("subscribe:order", json!({"orderId": order})).await["ok"], true);
                socket.event("order:status_update").await;
            }
            sockets.push(socket);
            let sessions = entity::socket_session::Entity::find().all(database.reader()).await.expect("rows");
            let orders = entity::session_order::Entity::find().all(database.reader()).await.expect("rows");
            assert!(sessions.len() <= 3 && orders.len() <= 6, "{} {}", sessions.len(), orders.len());
        }
        // A connected client without a row goes on as before.
        assert_eq!(sockets[0].ask("unsubscribe:order", json!({"orderId": "o1"})).await["ok"], true);
        assert_eq!(sockets[0].ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
        assert_eq!(entity::session_order::Entity::find().all(database.reader()).await.expect("rows").len(), 6);
        for (number, socket) in sockets.into_iter().enumerate() {
            let (_socket, recovered) = socket.reconnect(&server, &token).await;
            assert_eq!(recovered, number >= 5, "session {number}");
            if !recovered {
                break;
            }
        }
        database.close().await;
        server.stop().await;
    }

    async fn a_sweep_goes_on_until_everything_old_is_gone(db: TestDb) {
        let database = Db::open(&db.url(), 4, "test").await.expect("database");
        let (recovery, _work) = Recovery::open(database.clone(), Clock::System, settings(&db, &[]).limits, Control::new(database.clone(), Clock::System, "other".to_owned())).await.expect("opened");
        let at = Clock::System.now() - chrono::TimeDelta::days(2);
        let session = |number: usize| entity::socket_session::ActiveModel {
            id: Set(format!("s{number}")), user_id: Set("u".to_owned()), socket: Set(String::new()), node: Set(String::new()),
            began_at: Set(at), held_at: Set(None), ended_at: Set(Some(at)),
        };
        for first in (0..1_200).step_by(400) {
            entity::socket_session::Entity::insert_many((first..first + 400).map(session)).exec_without_returning(database.writer()).await.expect("written");
        }
        recovery::sweep(&recovery).await.expect("swept");
        assert!(entity::socket_session::Entity::find().one(database.reader()).await.expect("read").is_none());
        database.close().await;
    }

    async fn finished_orders_go_when_they_were_kept_long_enough(db: TestDb) {
        // It removes nothing itself.
        let server = Server::start_with_manual_clock(&db, &["--order-retention-days", "0"]).await;
        let database = Db::connect(&db.url()).await.expect("database");
        let admin = server.admin();
        for id in ["gone-1", "gone-2", "stays", "late"] {
            assert_eq!(admin.post("/orders", new_order(id)).await.status, 201);
        }
        let customer = Socket::connect(&server, "customer", Role::Customer).await;
        let mut follower = Socket::connect(&server, "backend", Role::Service).await;
        assert_eq!(follower.ask("subscribe:order", json!({"orderId": "gone-1"})).await["ok"], true);
        follower.event("order:status_update").await;
        let (pid, offset) = (follower.pid.clone(), follower.offset.clone());
        admin.status("gone-1", "ready_for_pickup").await;
        assert_eq!(admin.post("/orders/gone-1/assign", json!({"driver": {"id": "d", "name": "D"}})).await.status, 200);
        let session = json!({"order_id": "gone-1", "rider_id": "d"});
        assert_eq!(admin.post("/tracking/start", session).await.status, 200);
        for (id, status) in [("gone-1", "delivered"), ("gone-2", "cancelled"), ("stays", "accepted"), ("late", "cancelled")] {
            admin.status(id, status).await;
        }
        server.clock.advance(TimeDelta::days(2));
        let later = server.admin();
        later.status("stays", "preparing").await;
        let head = later.get("/stats").await.body["position"].clone();
        drop((customer, follower));

        let flags = ["--order-retention-days", "3"];
        let keep = keeping(&database, &server.clock, &db, &flags);
        server.clock.advance(TimeDelta::hours(20));
        assert_eq!(keep.remove_finished().await.expect("swept"), 0, "they are not old enough");
        server.clock.advance(TimeDelta::hours(5));
        assert_eq!(keeping(&database, &server.clock, &db, &["--order-retention-days", "0"]).remove_finished().await.expect("swept"), 0);
        // A consumer of the log that works has read everything up to an event of one of them.
        let cursor = |position| entity::outbox_cursor::ActiveModel {
            consumer: Set("c".to_owned()), position: Set(position), holder: Set(String::new()), lease_until: Set(server.clock.now()),
        };
        entity::outbox_cursor::Entity::insert(cursor(8)).exec_without_returning(database.writer()).await.expect("written");
        assert_eq!(keep.remove_finished().await.expect("swept"), 2);
        entity::outbox_cursor::Entity::delete_by_id("c").exec(database.writer()).await.expect("written");
        assert_eq!(keep.remove_finished().await.expect("swept"), 1);
        server.stop().await;

        let all = dump(&database).await;
        let rows = |word: &str| all.lines().filter(|row| row.contains(word) && !row.starts_with("session_order")).collect::<Vec<_>>();
        assert_eq!((rows("gone-"), rows("late")), (vec![], vec![]));
        assert_eq!(all.lines().filter(|row| row.starts_with("order_event") && row.contains("stays")).count(), 3);
        let audiences = entity::event_audience::Entity::find().all(database.reader()).await.expect("rows");
        let positions = entity::order_event::Entity::find().all(database.reader()).await.expect("rows");
        assert!(audiences.iter().all(|row| positions.iter().any(|event| event.position == row.position)));

        // What is left is told, and what is gone is not passed over in silence.
        let server = Server::start_with_manual_clock(&db, &["--recovery-window-ms", "999999999999"]).await;
        let admin = server.admin();
        for path in ["/orders/gone-1", "/orders/gone-1/events", "/orders/gone-1/tracking"] {
            admin.get(path).await.assert_problem(404, "not_found");
        }
        assert_eq!(admin.get("/orders").await.body["items"].as_array().expect("orders").len(), 1);
        let events = admin.get("/orders/stays/events").await.body;
        assert_eq!(events["events"].as_array().expect("events").len(), 3, "{events}");
        for (position, resync) in [(json!(0), true), (head.clone(), false)] {
            let auth = json!({"token": server.token("customer", Role::Customer), "position": position});
            let mut socket = Socket::connect_with_auth(&server, auth).await;
            assert_eq!(socket.event("connected").await["position"], head);
            if resync {
                assert_eq!(socket.event("resync").await, json!({"reason": "too_old"}));
            }
            assert!(socket.events_so_far().await.is_empty());
            let gone = socket.ask("subscribe:order", json!({"orderId": "gone-1", "since": 0})).await;
            assert_eq!(gone["error"]["code"], "not_found");
            let stays = socket.ask("subscribe:order", json!({"orderId": "stays", "since": 1})).await;
            assert_eq!(stays["seq"], 3);
            for seq in [2, 3] {
                assert_eq!(socket.event("order:status_update").await["seq"], seq);
            }
        }
        let auth = json!({"token": server.token("backend", Role::Service), "pid": pid, "offset": offset});
        let mut back = Socket::connect_with_auth(&server, auth).await;
        assert_eq!(back.event("connected").await["recovered"], false);
        assert_eq!(admin.status("stays", "ready_for_pickup").await["seq"], 4);
        database.close().await;
        server.stop().await;
    }

    async fn a_person_is_erased_from_tables_log_and_memory(db: TestDb) {
        let (here, elsewhere) = (Server::start(&db, &[]).await, Server::start(&db, &["--window-events", "4"]).await);
        let database = Db::connect(&db.url()).await.expect("database");
        for id in ["o1", "o2"] {
            make_personal(&here, id).await;
        }
        // The driver's positions are on disk, and all processes know the orders.
        let mut driver = Socket::connect(&here, "d1", Role::Driver).await;
        assert_eq!(here.admin().post("/orders/o2/assign", json!({"driver": {"id": "d1", "name": DRIVERS[0], "phone": DRIVERS[1]}})).await.status, 200);
        assert_eq!(driver.ask("driver:location", json!({"latitude": 48.2345, "longitude": 11.5678})).await["ok"], true);
        let tracking = here.admin().post("/tracking/start", json!({"order_id": "o2", "rider_id": "d1"})).await;
        assert_eq!(tracking.status, 200, "{}", tracking.body);
        until("the position is stored", async || {
            entity::driver_position::Entity::find().one(database.reader()).await.expect("read").is_some()
        })
        .await;
        let mut admins = Vec::new();
        let mut customers = Vec::new();
        for server in [&here, &elsewhere] {
            let mut admin = Socket::connect(server, "root", Role::Admin).await;
            for order in ["o1", "o2"] {
                assert_eq!(admin.ask("subscribe:order", json!({"orderId": order})).await["ok"], true);
            }
            admins.push(admin);
            customers.push(Socket::connect(server, "customer", Role::Customer).await);
        }
        let away = Socket::connect(&here, "customer", Role::Customer).await;
        let (pid, offset) = (away.pid.clone(), away.offset.clone());
        drop(away);
        here.admin().status("o1", "picked_up").await;
        let everything = [&CUSTOMERS[..], &CHEFS, &DRIVERS].concat();
        assert_eq!(found(&everything, &dump(&database).await), everything);
        let log = async || {
            let events = entity::order_event::Entity::find().all(database.reader()).await.expect("the log");
            let mut events: Vec<_> = events.into_iter().map(|event| (event.position, event.order_id, event.seq)).collect();
            events.sort();
            events
        };
        let before = (log().await, here.admin().get("/orders/o1").await);

        here.api("chef", Role::Chef).delete("/users/customer/data").await.assert_problem(403, "forbidden");
        let asked = here.admin().delete("/users/customer/data").await;
        assert_eq!((asked.status, &asked.body["userId"]), (202, &json!("customer")));
        for socket in &mut customers {
            socket.until_closed().await;
        }
        until("the customer is erased", async || found(&CUSTOMERS, &dump(&database).await).is_empty()).await;
        // What a process that is gone was asked for, another one carries out.
        assert_eq!(found(&CHEFS[..5], &dump(&database).await), CHEFS[..5]);
        let keep = keeping(&database, &Clock::System, &db, &[]);
        for user in ["chef", "d1"] {
            keep.ask_to_erase(&UserId::stored(user)).await.expect("asked");
        }
        until("everybody is erased", async || found(&everything, &dump(&database).await).is_empty()).await;
        driver.until_closed().await;
        until("all processes have forgotten them", async || {
            let erased = entity::erasure::Entity::find().all(database.reader()).await.expect("read");
            erased.len() == 3 && erased.iter().all(|erasure| erasure.redacted_at.is_some())
        })
        .await;
        assert_eq!(log().await, before.0);

        // Nothing comes back: what is read, what is replayed, and what happens next.
        for (server, mut admin) in [&here, &elsewhere].into_iter().zip(admins) {
            until("the memory is forgotten", async || {
                let heard = admin.ask("subscribe:order", json!({"orderId": "o1", "since": 0})).await;
                let missed = admin.events_so_far().await;
                let tracking = server.admin().get("/orders/o2/tracking").await.body;
                found(&everything, &format!("{heard}{missed:?}{tracking}")).is_empty()
            })
            .await;
            let api = server.admin();
            let now = api.get("/orders/o1").await;
            assert_ne!(now.header("etag"), before.1.header("etag"));
            assert_eq!((&now.body["status"], &now.body["seq"]), (&before.1.body["status"], &before.1.body["seq"]));
            assert_reads_have_none_of(&everything, &api).await;
            let moved = api.patch("/orders/o2/status", json!({"status": "picked_up"})).await;
            assert_eq!(moved.status, 200, "{}", moved.body);
            assert_eq!(found(&everything, &moved.body.to_string()), Vec::<&str>::new());
            let auth = json!({"token": server.token("customer", Role::Customer), "position": 0});
            let mut replayed = Socket::connect_with_auth(server, auth).await;
            replayed.event("connected").await;
            loop {
                let update = replayed.event("order:status_update").await;
                assert_eq!(found(&everything, &update.to_string()), Vec::<&str>::new());
                if update["orderId"] == "o2" && update["status"] == "picked_up" {
                    break;
                }
            }
        }
        let auth = json!({"token": here.token("customer", Role::Customer), "pid": pid, "offset": offset});
        let mut back = Socket::connect_with_auth(&here, auth).await;
        assert_eq!(back.event("connected").await["recovered"], true);
        let update = back.event("order:status_update").await;
        assert_eq!((&update["status"], found(&everything, &update.to_string())), (&json!("picked_up"), vec![]));
        for status in ["in_transit", "delivered"] {
            here.admin().status("o2", status).await;
        }
        assert_eq!(found(&everything, &dump(&database).await), Vec::<&str>::new());
        database.close().await;
        here.stop().await;
        elsewhere.stop().await;
    }
}
