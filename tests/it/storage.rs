//! What both databases store, and what is deleted.

use migration::{Migrator, MigratorTrait};
use ordercast::base::clock::rfc3339;
use ordercast::base::db::Db;
use ordercast::model::Role;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, EntityTrait};
use serde_json::{Value, json};

use crate::harness::{Server, assignment, new_order};
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn migrations_go_up_and_down_and_up(db: TestDb) {
        let database = Db::open(&db.url(), 4, "test").await.expect("migrated");
        let count = u32::try_from(Migrator::migrations().len()).expect("few");
        Migrator::down(database.writer(), None).await.expect("down");
        let pending = Migrator::get_pending_migrations(database.writer()).await.expect("listed");
        assert_eq!(pending.len(), count as usize);
        assert!(entity::order::Entity::find().one(database.reader()).await.is_err(), "the table is gone");
        Migrator::up(database.writer(), None).await.expect("up again");
        assert!(entity::order::Entity::find().one(database.reader()).await.expect("the table").is_none());
        database.close().await;
    }

    async fn text_is_stored_unchanged(db: TestDb) {
        const TEXTS: [&str; 8] = [
            r#"a "quote", a \ and a \u0041"#, "two\nlines\tand a tab", "Zoë 🍕 東京 \u{202e}", "it's; DROP TABLE orders; --",
            "null", "1e5", "[1,{\"a\":2}]", "$1 ? :a @b %s",
        ];
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        for (index, text) in TEXTS.iter().enumerate() {
            let id = format!("o{index}");
            let mut new = new_order(&id);
            new["customer"]["name"] = json!(text);
            new["customer"]["id"] = json!(format!("a:b|c@{index}.-_"));
            assert_eq!(admin.post("/orders", new).await.status, 201, "{text}");
            for status in ["payment_confirmed", "accepted", "ready_for_pickup"] {
                let body = json!({"status": status, "note": text});
                assert_eq!(admin.patch(&format!("/orders/{id}/status"), body).await.status, 200, "{text}");
            }
            let driver = json!({"id": format!("d@{index}"), "name": text, "phone": text});
            assert_eq!(admin.post(&format!("/orders/{id}/assign"), json!({"driver": driver})).await.status, 200, "{text}");
        }
        server.stop().await;

        // A new server reads the text from disk, not from memory.
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        let database = Db::connect(&db.url()).await.expect("database");
        let rows = entity::status_history::Entity::find().all(database.reader()).await.expect("rows");
        for (index, text) in TEXTS.iter().enumerate() {
            let id = format!("o{index}");
            let tracking = admin.get(&format!("/orders/{id}/tracking")).await.body;
            for member in ["customerName", "driverName", "driverPhone"] {
                assert_eq!(tracking[member], *text, "{member}");
            }
            let noted = rows.iter().filter(|row| row.order_id == id && row.note.as_deref() == Some(text));
            assert_eq!(noted.count(), 3, "{text}");
            let events = admin.get(&format!("/orders/{id}/events")).await.body;
            let told = events["events"].as_array().expect("events").iter().filter(|event| event["driver"]["name"] == *text);
            assert_eq!(told.count(), 1, "{events}");
            let theirs = server.api(&format!("a:b|c@{index}.-_"), Role::Customer);
            assert_eq!(theirs.get("/orders").await.body["items"][0]["id"], id);
            // Missed events are found by their recipient.
            let auth = json!({"token": theirs.token, "position": 0});
            let mut socket = Socket::connect_with_auth(&server, auth).await;
            for seq in 2..=5 {
                assert_eq!(socket.event("order:status_update").await["seq"], seq, "{text}");
            }
        }
        database.close().await;
        server.stop().await;
    }

    async fn each_user_gets_their_share_of_a_long_log(db: TestDb) {
        let mut positions = Vec::new();
        let chain = ["payment_confirmed", "accepted", "preparing", "ready_for_pickup", "picked_up", "in_transit"];
        for (index, gap) in [0_i64, 510, 1, 511, 14_900, 512, 40_000].into_iter().enumerate() {
            let database = Db::open(&db.url(), 4, "test").await.expect("migrated");
            // Moves the head of the log, as if other orders had changed in between.
            let head = entity::log_head::Entity::find_by_id(1).one(database.reader()).await.expect("read").expect("the head");
            let position = Set(head.position + gap);
            entity::log_head::ActiveModel { position, ..head.clone().into() }.update(database.writer()).await.expect("moved");
            database.close().await;
            positions.push(head.position + gap + 1);
            let server = Server::start(&db, &[]).await;
            match index.checked_sub(1) {
                None => assert_eq!(server.admin().post("/orders", new_order("o1")).await.status, 201),
                Some(step) => drop(server.admin().status("o1", chain[step]).await),
            }
            server.stop().await;
        }
        // Reverting and applying the last migration must keep all rows.
        let database = Db::connect(&db.url()).await.expect("database");
        let rows = async || {
            let mut rows = entity::event_audience::Entity::find().all(database.reader()).await.expect("rows");
            rows.sort_by_key(|row| (row.stretch, row.audience.clone(), row.position));
            rows
        };
        let before = rows().await;
        assert_eq!(before.len(), 2 * positions.len() + 2, "chef and customer, and drivers when it is offered and when it is gone");
        Migrator::down(database.writer(), Some(1)).await.expect("down");
        Migrator::up(database.writer(), None).await.expect("up again");
        assert_eq!(rows().await, before);
        database.close().await;

        let server = Server::start(&db, &["--window-events", "1"]).await;
        for (told, position) in positions.iter().enumerate() {
            for user in [("customer", Role::Customer), ("chef", Role::Chef)] {
                let auth = json!({"token": server.api(user.0, user.1).token, "position": position});
                let mut socket = Socket::connect_with_auth(&server, auth).await;
                for seq in told + 2..=positions.len() {
                    assert_eq!(socket.event("order:status_update").await["seq"], seq, "{user:?} after {position}");
                }
            }
        }
        server.stop().await;
    }

    async fn the_whole_life_of_an_order_is_stored(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        let made = admin.post("/orders", new_order("o1")).await;
        assert_eq!(made.status, 201);
        admin.post("/orders/o1/payment/verify", json!({"reference": "r-1"})).await;
        // The order is already paid, so this request accepts it and does not change the payment.
        let again = server.api("customer", Role::Customer).post("/api/v1/orders/o1/payment/verify", json!({"reference": "r-2"})).await;
        assert_eq!(again.body["data"]["status"], "CONFIRMED", "{}", again.body);
        server.api("chef", Role::Chef).status("o1", "accepted").await;
        // An early assignment keeps the status. The status advances by itself when the order is ready.
        let early = admin.post("/orders/o1/assign", assignment("driver")).await;
        assert_eq!((early.status, early.body["status"].as_str()), (200, Some("accepted")));
        let ready = server.api("chef", Role::Chef).status("o1", "ready_for_pickup").await;
        assert_eq!(ready["status"], "assigned_to_driver");
        let again = admin.post("/orders/o1/assign", assignment("driver2")).await;
        assert_eq!(again.body["driver"]["id"], "driver2");
        for status in ["picked_up", "in_transit", "delivered"] {
            server.api("driver2", Role::Driver).status("o1", status).await;
        }
        let tracking = admin.get("/orders/o1/tracking").await.body;
        let statuses: Vec<_> = tracking["statusHistory"].as_array().expect("history").iter()
            .map(|past| past["status"].as_str().expect("a word").to_owned()).collect();
        assert_eq!(statuses, ["pending", "payment_confirmed", "accepted", "ready_for_pickup", "assigned_to_driver",
                              "picked_up", "in_transit", "delivered"], "preparing was skipped: no row");
        assert!(tracking["deliveredAt"].is_string() && tracking["paymentConfirmedAt"].is_string());
        assert_eq!(tracking["seq"], 10);
        let events = admin.get("/orders/o1/events").await.body;
        let seqs: Vec<_> = events["events"].as_array().expect("events").iter().map(|event| event["seq"].as_i64().expect("seq")).collect();
        assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
        server.stop().await;

        let database = Db::connect(&db.url()).await.expect("database");
        let assignments = entity::driver_assignment::Entity::find().all(database.reader()).await.expect("rows");
        let of = |id: &str| assignments.iter().find(|row| row.driver_id == id).expect("a row").clone();
        assert!(of("driver").ended_at.is_some() && of("driver").ended_at <= of("driver2").ended_at);
        assert_eq!(of("driver2").assigned_by.as_deref(), Some("root"));
        let order = entity::order::Entity::find_by_id("o1").one(database.reader()).await.expect("read").expect("row");
        assert_eq!(order.payment_reference.as_deref(), Some("r-1"));
        assert_eq!(order.seq, 10);
        database.close().await;
    }

    async fn idempotency_keys_make_one_order(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let admin = server.admin();
        let mut body = new_order("x");
        body.as_object_mut().expect("object").remove("id");
        let ask = |body: Value, key: &'static str| {
            let request = admin.request("POST", "/orders").header("idempotency-key", key).json(&body);
            crate::harness::Api::send(request)
        };
        let first = ask(body.clone(), "k1").await;
        assert_eq!(first.status, 201);
        admin.status(first.body["id"].as_str().expect("id"), "accepted").await;
        let again = ask(body.clone(), "k1").await;
        assert_eq!((again.status, &again.body), (201, &first.body), "the first answer, not the present state");
        let mut other = body.clone();
        other["notes"] = json!("something else");
        ask(other, "k1").await.assert_problem(422, "idempotency_key_reused");
        // Two concurrent requests create one order.
        let (a, b) = tokio::join!(ask(body.clone(), "k2"), ask(body.clone(), "k2"));
        assert_eq!((a.status, b.status), (201, 201));
        assert_eq!(a.body["id"], b.body["id"]);
        // Keys of different users are independent.
        let theirs = server.api("customer", Role::Customer).request("POST", "/orders").header("idempotency-key", "k1").json(&body);
        assert_ne!(crate::harness::Api::send(theirs).await.body["id"], first.body["id"]);
        // After a day the key is deleted.
        server.clock.advance(chrono::TimeDelta::hours(25));
        let admin = server.admin();
        let request = admin.request("POST", "/orders").header("idempotency-key", "k1").json(&body);
        let later = crate::harness::Api::send(request).await;
        assert_eq!(later.status, 201);
        assert_ne!(later.body["id"], first.body["id"]);
        server.stop().await;
    }

    async fn order_numbers_are_unique(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let admin = server.admin();
        let day = server.clock.now().format("%Y%m%d");
        // The first number of the day is already taken by hand.
        let mut by_hand = new_order("a");
        by_hand["orderNumber"] = json!(format!("RND-{day}-0001"));
        assert_eq!(admin.post("/orders", by_hand.clone()).await.status, 201);
        let made = admin.post("/orders", new_order("b")).await.body;
        assert_eq!(made["orderNumber"], format!("RND-{day}-0002"));
        by_hand["id"] = json!("c");
        admin.post("/orders", by_hand).await.assert_problem(409, "already_exists");
        admin.post("/orders", new_order("b")).await.assert_problem(409, "already_exists");
        server.stop().await;
    }

    async fn positions_are_stored_and_deleted_in_time(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &["--location-rate-per-second", "0", "--socket-requests-per-second", "0"]).await;
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        for step in 0..600 {
            let longitude = 9.52 + f64::from(step) / 100_000.0;
            let measured = server.clock.now() - chrono::TimeDelta::seconds(600 - i64::from(step));
            let fix = json!({"latitude": 47.14, "longitude": longitude, "speed": 8.0, "recordedAt": rfc3339(measured)});
            let answer = driver.ask("driver:location", fix).await;
            assert_eq!(answer["ok"], true, "{answer}");
        }
        // A clean stop writes what is still in memory.
        server.stop().await;
        let database = Db::connect(&db.url()).await.expect("database");
        let trail = entity::position_trail::Entity::find().all(database.reader()).await.expect("rows");
        assert_eq!(trail.len(), 600);
        let last = entity::driver_position::Entity::find_by_id("driver").one(database.reader()).await.expect("read").expect("row");
        assert!((last.longitude - 9.525_99).abs() < 1e-9, "{}", last.longitude);
        database.close().await;
        // A restarted server knows the position of the driver.
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let tracking = server.admin().get("/orders/o1/tracking").await.body;
        assert_eq!(tracking["driverLongitude"], last.longitude);
        assert!(tracking["etaMinutes"].is_i64(), "{tracking}");
        server.stop().await;
        let database = Db::connect(&db.url()).await.expect("database");
        let cutoff = trail[0].received_at + chrono::TimeDelta::days(1);
        assert_eq!(ordercast::driver::trail::delete_batch(&database, cutoff).await.expect("removed"), 600);
        assert_eq!(ordercast::driver::trail::delete_batch(&database, cutoff).await.expect("removed"), 0);
        database.close().await;
    }
}
