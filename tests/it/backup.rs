//! Backups that are made while orders change, and their way back, on both databases.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database, Statement};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::binary::run;
use crate::harness::{Api, Server, TestDb, new_order, until};
use crate::on_both_databases;
use crate::postgres::program_path;
use crate::socket::Socket;

/// Makes a backup with the program that the documents name.
fn back_up(db: &TestDb, file: &Path) {
    let (url, file) = (db.url(), file.display().to_string());
    let made = match db {
        TestDb::Sqlite(_) => run(&["backup", "--database-url", &url, "--to", &file]),
        TestDb::Postgres { .. } => postgres_program("pg_dump", &["--format=custom", "--file", &file, &url]),
    };
    assert!(made.status.success(), "{made:?}");
}

/// Takes it back into a database of its own.
async fn take_back(db: &TestDb, file: &Path) -> TestDb {
    let file = file.display().to_string();
    let (new, restored) = match db {
        TestDb::Sqlite(_) => {
            let new = TestDb::sqlite();
            let restored = restore(&new.url(), &file);
            (new, restored)
        }
        TestDb::Postgres { .. } => {
            let new = TestDb::postgres().await.expect("as before");
            let restored = postgres_program("pg_restore", &["--no-owner", "--dbname", &new.url(), &file]);
            (new, restored)
        }
    };
    assert!(restored.status.success(), "{restored:?}");
    new
}

fn postgres_program(name: &str, args: &[&str]) -> Output {
    Command::new(program_path(name)).args(args).output().expect("a program of PostgreSQL")
}

fn restore(url: &str, file: &str) -> Output {
    run(&["restore", "--database-url", url, "--from", file])
}

/// The events of an order by status and seq.
async fn events(api: &Api, order: &str) -> Vec<(i64, String)> {
    let answer = api.get(&format!("/orders/{order}/events")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let events = answer.body["events"].as_array().expect("events").clone();
    let short = |event: Value| {
        (event["seq"].as_i64().expect("a seq"), event["status"].as_str().expect("a status").to_owned())
    };
    events.into_iter().map(short).collect()
}

async fn positions(db: &TestDb) -> Vec<i64> {
    let disk = Database::connect(db.url()).await.expect("the database");
    let all = "SELECT position FROM order_event ORDER BY position";
    let rows =
        disk.query_all_raw(Statement::from_string(disk.get_database_backend(), all)).await.expect("rows");
    rows.iter().map(|row| row.try_get("", "position").expect("a position")).collect()
}

/// Makes orders and moves them on, one after the other, until it is told to stop. Returns the ids.
async fn keep_ordering(admin: Api, stop: CancellationToken) -> Vec<String> {
    let mut made = Vec::new();
    while !stop.is_cancelled() {
        let id = format!("w{}", made.len());
        assert_eq!(admin.post("/orders", new_order(&id)).await.status, 201);
        admin.status(&id, "accepted").await;
        made.push(id);
    }
    made
}

on_both_databases! {
    async fn what_was_backed_up_while_orders_change_is_served_again(db: TestDb) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("backup");
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        server.order("mine").await;
        let stop = CancellationToken::new();
        let ordering = tokio::spawn(keep_ordering(server.admin(), stop.clone()));
        until("orders before the backup", async || admin.get("/orders/w3").await.status == 200).await;
        let before = events(&admin, "w2").await;
        let (from, to) = (db, file.clone());
        let db = tokio::task::spawn_blocking(move || { back_up(&from, &to); from }).await.expect("no panic");
        stop.cancel();
        let all = ordering.await.expect("no panic");
        // What follows is in no backup. A client and a poller hear of it.
        let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
        assert_eq!(socket.ask("subscribe:order", json!({"orderId": "mine"})).await["ok"], true);
        admin.status("mine", "accepted").await;
        admin.status("mine", "preparing").await;
        let ahead = loop {
            let heard = socket.event("order:status_update").await;
            if heard["seq"] == 3 {
                break heard;
            }
        };
        let (pid, offset, position) = (socket.pid.clone(), socket.offset.clone(), ahead["position"].clone());
        let old = admin.get("/orders/mine").await;
        let token = server.token("customer", Role::Customer);
        drop(socket);
        server.stop().await;

        let new = take_back(&db, &file).await;
        let kept = positions(&new).await;
        assert!(kept.iter().copied().eq(1..=kept.last().copied().expect("events")), "a gap: {kept:?}");
        let server = Server::start(&new, &[]).await;
        let admin = server.admin();
        assert_eq!(events(&admin, "w2").await, before);
        let mut is_there = Vec::new();
        for id in &all {
            let order = admin.get(&format!("/orders/{id}")).await;
            is_there.push(order.status == 200);
            if order.status == 200 {
                let seqs: Vec<_> = events(&admin, id).await.into_iter().map(|(seq, _)| seq).collect();
                assert_eq!(seqs, (1..=order.body["seq"].as_i64().expect("a seq")).collect::<Vec<_>>(), "{id}");
            }
        }
        assert!(is_there.is_sorted_by(|earlier, later| earlier >= later), "an order is missing before another: {is_there:?}");
        assert_eq!(events(&admin, "mine").await, [(1, "pending".to_owned())]);

        // Who is ahead is told so, also once the log has grown beyond the place that they know.
        let auth = json!({"token": token, "position": position});
        for round in ["at once", "later"] {
            let mut socket = Socket::connect_with_auth(&server, auth.clone()).await;
            assert_eq!(socket.event("connected").await["recovered"], false, "{round}");
            assert_eq!(socket.event("resync").await, json!({"reason": "too_old"}), "{round}");
            let seq = events(&admin, "mine").await.len();
            let since = json!({"orderId": "mine", "since": 99});
            let answer = socket.ask("subscribe:order", since).await;
            assert_eq!((&answer["ok"], &answer["seq"]), (&json!(true), &json!(seq)), "{round}");
            let polled = admin.get("/orders/mine/events?after=99&wait=30").await;
            assert_eq!(polled.body, json!({"events": [], "seq": seq}), "{round}");
            if round == "at once" {
                admin.status("mine", "cancelled").await;
                assert_eq!(socket.event("order:status_update").await["status"], "cancelled");
                for id in 0..10 {
                    server.order(&format!("later{id}")).await;
                }
            }
        }
        let mut back = Socket::connect_with_auth(&server, json!({"token": token, "pid": pid, "offset": offset})).await;
        assert_eq!(back.event("connected").await["recovered"], false);
        // The same seq stood for something else before.
        let order = admin.get("/orders/mine").await;
        assert_ne!(order.header("etag"), old.header("etag"));
        server.stop().await;

        // It is restored once, not at each start.
        let server = Server::start(&new, &[]).await;
        let newest = positions(&new).await.last().copied().expect("events");
        let mut socket = Socket::connect_with_auth(&server, json!({"token": token, "position": newest})).await;
        assert_eq!(socket.event("connected").await["position"], newest);
        assert!(socket.events_so_far().await.is_empty(), "who has everything misses nothing");
        server.stop().await;
    }

    async fn a_backup_of_an_older_version_is_migrated(db: TestDb) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("backup");
        let url = db.url();
        let server = Server::start(&db, &[]).await;
        server.order("mine").await;
        server.stop().await;
        assert!(crate::binary::run(&["migrate", "down", "--yes", "--database-url", &url]).status.success());
        back_up(&db, &file);
        let new = take_back(&db, &file).await;
        let server = Server::start(&new, &[]).await;
        assert_eq!(events(&server.admin(), "mine").await, [(1, "pending".to_owned())]);
        server.stop().await;
    }

    async fn a_backup_of_a_newer_version_is_refused_and_stays(db: TestDb) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("backup");
        let server = Server::start(&db, &[]).await;
        server.order("mine").await;
        server.stop().await;
        let disk = Database::connect(db.url()).await.expect("the database");
        let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_gone_contract', 1)";
        disk.execute_unprepared(newer).await.expect("newer");
        back_up(&db, &file);
        let refused = if let TestDb::Sqlite(_) = &db {
            let new = TestDb::sqlite();
            let refused = restore(&new.url(), &file.display().to_string());
            assert!(!file_of(&new).exists());
            refused
        } else {
            let (url, new) = (db.url(), take_back(&db, &file).await);
            let secret = ["--listen", "127.0.0.1:0", "--jwt-secret", crate::harness::SECRET, "--database-url"];
            let refused = crate::binary::run(&[&secret[..], &[&new.url()]].concat());
            assert_ne!(url, new.url());
            assert_eq!(positions(&new).await, [1], "nothing is lost");
            refused
        };
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let line = String::from_utf8_lossy(&refused.stderr);
        assert!(line.contains("m9999_gone_contract") && line.contains("version"), "{line}");
        // What it was restored from is as it was, for the version that can use it.
        assert_eq!(positions(&db).await, [1]);
    }
}

/// `PostgreSQL` itself was taken back to an earlier time (PITR): its tables are the same, and its timeline is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_was_taken_back_in_time_is_noticed() {
    let Some(db) = TestDb::postgres().await else { return };
    let server = Server::start(&db, &[]).await;
    server.order("mine").await;
    let token = server.token("customer", Role::Customer);
    server.stop().await;
    let disk = Database::connect(db.url()).await.expect("the database");
    let back = "UPDATE log_head SET timeline = '0000000A'; UPDATE server_node SET seen_at = seen_at - interval '1 hour'";
    disk.execute_unprepared(back).await.expect("taken back");
    let server = Server::start(&db, &[]).await;
    // Nothing is written until that is settled.
    let admin = server.admin();
    until("changes are accepted", async || admin.post("/orders", new_order("later")).await.status == 201)
        .await;
    until("/ready", async || server.anonymous().get("/ready").await.status == 200).await;
    let kept = positions(&db).await;
    assert!(kept.len() == 2 && kept[1] > 1_000_000_000, "{kept:?}");
    let mut socket = Socket::connect_with_auth(&server, json!({"token": token, "position": 1})).await;
    socket.event("connected").await;
    assert_eq!(socket.event("resync").await, json!({"reason": "too_old"}));
    server.stop().await;
}

fn file_of(db: &TestDb) -> PathBuf {
    let TestDb::Sqlite(folder) = db else { panic!("SQLite only") };
    folder.path().join("test.db")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_and_nothing_else_is_taken_for_a_backup() {
    let db = TestDb::sqlite();
    let (url, folder) = (db.url(), tempfile::tempdir().expect("a folder"));
    let at = |name: &str| folder.path().join(name).display().to_string();
    let server = Server::start(&db, &[]).await;
    server.order("mine").await;
    let backup = |file: &str| run(&["backup", "--database-url", &url, "--to", file]);
    assert!(backup(&at("good")).status.success());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(at("good")).expect("a file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "it holds names and addresses");
    let says = |output: &Output, words: &str| {
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains(words) && line.trim_end().lines().count() == 1, "{words}: {line}");
    };
    says(&backup(&at("good")), "is there already");
    says(&restore(&url, &at("good")), "a server has");
    assert_eq!(server.admin().get("/orders/mine").await.status, 200);
    server.stop().await;
    says(&restore(&url, &at("good")), "nothing is overwritten");
    let elsewhere = format!("sqlite://{}?mode=rwc", at("new.db"));
    std::fs::write(at("text"), "no database").expect("written");
    let mut damaged = std::fs::read(at("good")).expect("read");
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0xff);
    std::fs::write(at("damaged"), damaged).expect("written");
    let other = Database::connect(format!("sqlite://{}?mode=rwc", at("other"))).await.expect("a database");
    other.execute_unprepared("CREATE TABLE invoice (id integer)").await.expect("a table");
    for (file, words) in [
        ("nowhere", "is not there"),
        ("text", "cannot be read"),
        ("damaged", "damaged"),
        ("other", "no backup of Ordercast"),
    ] {
        says(&restore(&elsewhere, &at(file)), words);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("one").file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("new.db")), "{left:?}");
    assert!(restore(&elsewhere, &at("good")).status.success());
    says(&run(&["backup", "--database-url", "postgres://x", "--to", &at("x")]), "pg_dump");
    says(&run(&["restore", "--database-url", "postgres://x", "--from", &at("x")]), "pg_restore");
}
