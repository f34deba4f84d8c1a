//! `ordercast doctor`: the real binary with a broken configuration of each kind. Each is named, with what to do about it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use ordercast::model::Role;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};

use crate::binary::{RunningServer, ordercast, run};
use crate::harness::{Api, TestDb};
use crate::on_both_databases;
use crate::redis_server::Redis;

/// Random enough.
const SECRET: &str = "7d1f0c9a4be8352619fd80ac73e5b1426c0d9e8f";

/// What the doctor found, and its exit code.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
    text: String,
}

impl Found {
    fn of(command: &mut Command) -> Self {
        let output = command.env_remove("ORDERCAST_LISTEN").arg("--json").output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut document: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr));
        });
        let findings = serde_json::from_value(document["findings"].take()).expect("findings");
        Self { code: output.status.code(), findings, text }
    }

    /// Asserts that one finding has this level and area, and these words in what it says, and says what to do with the last one.
    #[track_caller]
    fn has(&self, level: &str, area: &str, what: &str, mend: &str) {
        let fits = |finding: &&Value| {
            let says =
                |member: &str, words: &str| finding[member].as_str().unwrap_or_default().contains(words);
            finding["level"] == level && finding["area"] == area && says("what", what) && says("mend", mend)
        };
        assert!(
            self.findings.iter().any(|finding| fits(&finding)),
            "no {level} {area} {what:?}: {}",
            self.text
        );
    }

    #[track_caller]
    fn fails(&self, area: &str, what: &str, mend: &str) {
        assert_eq!(self.code, Some(1), "{}", self.text);
        self.has("fail", area, what, mend);
    }
}

fn doctor(args: &[&str]) -> Found {
    Found::of(&mut ordercast(
        &[&["doctor", "--listen", "127.0.0.1:0", "--jwt-secret", SECRET], args].concat(),
    ))
}

/// The name, content and time of every file in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let describe = |path: std::path::PathBuf| {
        let modified = std::fs::metadata(&path).and_then(|found| found.modified()).expect("a time");
        format!("{} {modified:?} {}", path.display(), std::fs::read(&path).expect("a file").len())
    };
    let mut all: Vec<_> = entries.map(describe).collect();
    all.sort();
    all
}

on_both_databases! {
    async fn what_is_well_is_said_so_and_nothing_is_changed(db: TestDb) {
        let url = db.url();
        let args = ["--database-url", &url];
        let new = doctor(&args);
        assert_eq!(new.code, Some(0), "{}", new.text);
        if let TestDb::Sqlite(folder) = &db {
            assert_eq!(files(folder.path()), Vec::<String>::new(), "no file is made");
        } else {
            new.has("ok", "database", "is empty", "");
        }
        let serving = ["--listen", "127.0.0.1:0", "--jwt-secret", SECRET];
        let running = RunningServer::start(&[&serving[..], &args].concat(), "info");
        let root = Api::signed(&running.base, SECRET, "root", Role::Admin);
        let made = root.post("/orders", crate::harness::new_order("o1")).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let beside = doctor(&args);
        assert_eq!(beside.code, Some(0), "{}", beside.text);
        beside.has("ok", "database", "1 server runs on this database", "");
        beside.has("ok", "database", "every migration is applied", "");
        tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
        let before = if let TestDb::Sqlite(folder) = &db { files(folder.path()) } else { Vec::new() };
        let after = doctor(&args);
        assert_eq!(after.code, Some(0), "{}", after.text);
        if let TestDb::Sqlite(folder) = &db {
            assert_eq!(files(folder.path()), before);
        }
        after.has("ok", "clock", "", "");
        assert!(!after.text.contains(SECRET));
    }

    async fn databases_of_other_versions_and_programs_are_told(db: TestDb) {
        let url = db.url();
        let args = ["--database-url", &url];
        let writer = Database::connect(&url).await.expect("the database");
        writer.execute_unprepared("CREATE TABLE invoice (id integer)").await.expect("a table");
        doctor(&args).fails("database", "tables of another program", "database for Ordercast alone");
        writer.execute_unprepared("DROP TABLE invoice").await.expect("dropped");
        assert!(crate::binary::run(&["migrate", "up", "--database-url", &url]).status.success());
        let sql = "DELETE FROM seaql_migrations WHERE version = 'm0021_webhooks'";
        writer.execute_unprepared(sql).await.expect("older");
        let older = doctor(&args);
        older.has("warn", "database", "pending", "backup");
        let add = |name: &str| format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{name}', 1)");
        writer.execute_unprepared(&add("m9997_other")).await.expect("of another line");
        doctor(&args).fails("database", "m9997_other", "run the version that made it");
        writer.execute_unprepared(&add("m0021_webhooks")).await.expect("newer");
        let newer = doctor(&args);
        assert_eq!(newer.code, Some(0), "{}", newer.text);
        newer.has("warn", "database", "a newer version has added", "newer version");
        writer.execute_unprepared(&add("m9998_gone_contract")).await.expect("much newer");
        doctor(&args).fails("database", "m9998_gone_contract", "run that newer version");
    }
}

#[test]
fn settings_that_cannot_be_used_are_weak_or_misspelt_are_named() {
    let mut command =
        ordercast(&["doctor", "--listen", "127.0.0.1:0", "--ping-interval-ms", "0", "--router", "x:y"]);
    let found =
        Found::of(command.args(["--database-url", "mysql://root:hidden-word@x", "--redis-prefix", "a b"]));
    for what in ["JWT_SECRET", "PING_INTERVAL_MS", "DATABASE_URL", "REDIS_PREFIX", "ROUTER"] {
        found.fails("settings", what, "docs/settings.md");
    }
    assert!(!found.text.contains("hidden-word"), "{}", found.text);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command =
        ordercast(&["doctor", "--listen", "127.0.0.1:0", "--cors-origin", "*", "--road-modes", "bike"]);
    command.env("DATABASEURL", "x").env("ORDERCAST_JWT_SECRET", "hidden-word").env("ORDERCAST_COLOUR", "red");
    command.env("REDIS_PREFIX", "mine").current_dir(folder.path());
    let found = Found::of(command.args(["--jwt-secret", "a secret that is long enough and known to many"]));
    assert_eq!(found.code, Some(0), "warnings do not fail: {}", found.text);
    found.has("warn", "settings", "JWT_SECRET looks", "openssl rand");
    found.has("warn", "settings", "CORS_ORIGIN is *", "https://");
    found.has("warn", "settings", "ROAD_MODES has no effect", "ROAD_NETWORK");
    found.has("warn", "settings", "REDIS_PREFIX has no effect", "REDIS_URL");
    found.has("warn", "settings", "DATABASEURL", "did you mean DATABASE_URL?");
    found.has("warn", "settings", "ORDERCAST_JWT_SECRET", "did you mean JWT_SECRET?");
    found.has("warn", "settings", "ORDERCAST_COLOUR", "docs/settings.md");
    assert!(!found.text.contains("known to many") && !found.text.contains("hidden-word"));
    let flags = run(&["doctor", "--no-such-flag"]);
    assert_eq!(flags.status.code(), Some(2), "{flags:?}");
    assert!(String::from_utf8_lossy(&flags.stderr).contains("--no-such-flag"));
}

#[test]
fn a_sqlite_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str, mode: &str| format!("sqlite://{}/{name}?mode={mode}", folder.path().display());
    std::fs::write(folder.path().join("text.db"), "this is no database at all").expect("written");
    for (url, what, mend) in [
        (at("nowhere/x.db", "rwc"), "nowhere/x.db", "make the folder"),
        (at("x.db", "rw"), "x.db is not there", "mode=rwc"),
        (at("text.db", "rwc"), "no file of SQLite", "of something else"),
    ] {
        doctor(&["--database-url", &url]).fails("database", what, mend);
    }
    assert_eq!(files(folder.path()).len(), 1, "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_is_away_is_silent_or_says_no_is_named() {
    // Accepts, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let at = |port: u16| format!("postgres://u:hidden-word@127.0.0.1:{port}/orders");
    let found = doctor(&["--database-url", &at(closed.port())]);
    found.fails("database", "cannot be reached: Connection refused", "host and port");
    found.has("ok", "ports", "is free", "");
    let port = silent.local_addr().expect("its address").port();
    let hung = doctor(&["--database-url", &at(port)]);
    hung.fails("database", "did not answer within 4 s", "firewall");
    for found in [&found, &hung] {
        assert!(!found.text.contains("hidden-word"), "{}", found.text);
    }
    let Some(db) = TestDb::postgres().await else { return };
    let url = db.url();
    doctor(&["--database-url", &format!("{url}_gone")]).fails("database", "does not exist", "createdb");
    let (before, after) = url.split_once('@').expect("a host");
    let stranger = format!("{}:wrong@{after}", before.rsplit_once(':').expect("a password").0);
    doctor(&["--database-url", &stranger]).fails("database", "password", "user and password");
    let greedy = doctor(&["--database-url", &url, "--database-max-connections", "5000"]);
    greedy.has("warn", "database", "may want 5000", "max_connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_full_or_of_others_is_named() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let url = db.url();
    let with = |redis: &str| doctor(&["--database-url", &url, "--redis-url", redis]);
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let away = with(&format!("redis://:hidden-word@{closed}"));
    away.fails("redis", "Redis number 1 does not answer", "start it");
    assert!(!away.text.contains("hidden-word"), "{}", away.text);
    crate::harness::until("Redis answers", async || {
        redis.client().get_multiplexed_async_connection().await.is_ok()
    })
    .await;
    let well = with(&redis.url());
    assert_eq!(well.code, Some(0), "{}", well.text);
    well.has("ok", "redis", "hands messages on", "");
    let mut full = redis::cmd("CONFIG");
    redis.send::<()>(full.arg("SET").arg("maxmemory").arg("100mb")).await;
    with(&redis.url()).has("warn", "redis", "noeviction", "volatile-ttl");
    assert!(run(&["migrate", "up", "--database-url", &url]).status.success());
    let writer = Database::connect(&url).await.expect("the database");
    let key = format!("INSERT INTO server_key (name, value) VALUES ('cluster', '{}')", "ab".repeat(32));
    writer.execute_unprepared(&key).await.expect("a key");
    redis
        .send::<()>(redis::cmd("SET").arg("ordercast1:p:0000000000000001").arg("a frame of somebody else"))
        .await;
    with(&redis.url()).fails("redis", "another Ordercast", "REDIS_PREFIX");
    redis.send::<()>(redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("word")).await;
    with(&redis.url()).fails("redis", "refuses this user", "user and password");
}

/// Makes a key and a certificate for it.
fn make_certificate(folder: &Path, name: &str) {
    let args = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=localhost -keyout {name}.key -out {name}.pem"
    );
    let made = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().expect("openssl");
    assert!(made.status.success(), "{made:?}");
}

/// A copy of a certificate whose last day was in the year 2020. Its signature is not looked at.
fn expired(folder: &Path, name: &str) -> String {
    let convert = |from: &str, to: &str, input: &str, output: &str| {
        let args = ["x509", "-inform", from, "-outform", to, "-in", input, "-out", output];
        assert!(Command::new("openssl").args(args).current_dir(folder).status().expect("openssl").success());
    };
    convert("PEM", "DER", &format!("{name}.pem"), "c.der");
    let file = folder.join("c.der");
    let mut der = std::fs::read(&file).expect("a certificate");
    // The two times follow each other, each as a UTCTime of 13 characters.
    let at = der.windows(2).position(|pair| pair == [0x17, 13]).expect("a time");
    for (time, text) in [(at + 2, b"190101000000Z"), (at + 17, b"200101000000Z")] {
        der[time..time + 13].copy_from_slice(text);
    }
    std::fs::write(&file, der).expect("written");
    convert("DER", "PEM", "c.der", "expired.pem");
    folder.join("expired.pem").display().to_string()
}

#[test]
fn keys_and_certificates_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["one", "two"] {
        make_certificate(folder.path(), name);
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let tls = |certificate: &str, key: &str| doctor(&["--tls-cert", certificate, "--tls-key", key]);
    tls(&file("one.pem"), &file("one.key")).has("ok", "keys", "is valid until", "");
    tls(&file("one.pem"), &file("two.key")).fails("keys", "cannot be used", "the key that it was made with");
    tls(&file("one.key"), &file("one.key")).fails("keys", "no certificate in PEM", "TLS_CERT");
    tls(&expired(folder.path(), "one"), &file("one.key")).fails(
        "keys",
        "has ended at 2020-01-01",
        "renew it",
    );
    doctor(&["--jwt-public-key-file", &file("one.key")]).fails("keys", "JWT_PUBLIC_KEY_FILE", "-pubout");
    doctor(&["--jwt-public-key-file", "/nowhere.pem"]).fails("keys", "/nowhere.pem", "public key");
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    doctor(&["--jwks-url", &format!("http://{closed}/keys?code=hidden-word")]).fails(
        "keys",
        "JWKS_URL",
        "open JWKS_URL",
    );
    std::fs::write(folder.path().join("fcm.json"), "{}").expect("written");
    let notify_key = "ab".repeat(32);
    let fcm = doctor(&["--fcm-key-file", &file("fcm.json"), "--notify-key", &notify_key]);
    fcm.fails("keys", "FCM_KEY_FILE", "service account");
    std::fs::write(folder.path().join("AuthKey.p8"), "-----BEGIN PRIVATE KEY-----\n").expect("written");
    let apns =
        ["--apns-key-file", &file("AuthKey.p8"), "--apns-key-id", "KEY0123456", "--notify-key", &notify_key];
    doctor(&apns).fails("settings", "APNS_TEAM_ID", "");
    let apns = doctor(&[&apns[..], &["--apns-team-id", "TEAM012345"]].concat());
    apns.fails("keys", "APNS_KEY_FILE", ".p8");
    apns.has("warn", "keys", "AuthKey.p8", "chmod 600");
    let traces = format!("http://{closed}");
    doctor(&["--otlp-endpoint", &traces]).has("warn", "traces", "OTLP_ENDPOINT", "4318");
    assert!(!fcm.text.contains(&notify_key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_open_what_is_sealed_is_named() {
    let db = TestDb::sqlite();
    let url = db.url();
    let (right, wrong) = ("ab".repeat(32), "cd".repeat(32));
    let args =
        ["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET, "--notify-key", &right];
    let running = RunningServer::start(&args, "info");
    let device = json!({"kind": "expo", "token": "ExponentPushToken[abcdefghijklmnopqrstuv]"});
    let registered =
        Api::signed(&running.base, SECRET, "root", Role::Admin).put("/devices/phone", device).await;
    assert!(registered.status < 300, "{}", registered.body);
    tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
    doctor(&["--database-url", &url, "--notify-key", &right]).has("ok", "keys", "opens the devices", "");
    doctor(&["--database-url", &url, "--notify-key", &wrong]).fails(
        "keys",
        "does not open",
        "NOTIFY_KEY_PREVIOUS",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_are_taken_or_unreachable_are_named() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("its address").to_string();
    let at = |listen: &str, more: &[&str]| {
        Found::of(&mut ordercast(&[&["doctor", "--listen", listen, "--jwt-secret", SECRET], more].concat()))
    };
    at(&taken, &[]).fails("ports", "held by another program", "ss -ltnp");
    at("192.0.2.1:9001", &[]).fails("ports", "192.0.2.1:9001", "ip addr");
    let db = TestDb::sqlite();
    let url = db.url();
    let args = ["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET];
    let running = RunningServer::start(&args, "info");
    let own = running.base.strip_prefix("http://").expect("an address").to_owned();
    let asked = at(&own, &["--database-url", &url]);
    assert_eq!(asked.code, Some(0), "{}", asked.text);
    asked.has("warn", "ports", "held by an Ordercast that answers", "--reuse-port");
    running.kill();
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    let nodes = ["--cluster-listen", &free, "--cluster-advertise"];
    at("127.0.0.1:0", &[&nodes[..], &[&free]].concat()).has("ok", "ports", "leads there", "");
    let closed =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    at("127.0.0.1:0", &[&nodes[..], &[&closed]].concat()).fails(
        "ports",
        "cannot be reached",
        "CLUSTER_ADVERTISE",
    );
}

#[test]
fn few_files_and_damaged_roads_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let roads = folder.path().join("roads");
    std::fs::write(&roads, "hello").expect("written");
    let mut limited = Command::new("sh");
    let script = format!(
        "ulimit -n 256; exec {} doctor --listen 127.0.0.1:0 --jwt-secret {SECRET} --road-network {} \"$@\"",
        env!("CARGO_BIN_EXE_ordercast"),
        roads.display()
    );
    limited.args(["-c", &script, "sh"]).current_dir(folder.path());
    let found = Found::of(&mut limited);
    found.has("warn", "process", "may open 256 files", "ulimit -n");
    found.fails("roads", "cannot be read", "ordercast roads build");
}

#[test]
fn findings_are_printed_line_by_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command =
        ordercast(&["doctor", "--listen", "127.0.0.1:0", "--jwt-secret", SECRET, "--tls-cert", "/nowhere"]);
    let output =
        command.args(["--tls-key", "/nowhere"]).current_dir(folder.path()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("ok    settings  every setting can be used\n"), "{text}");
    assert!(text.contains("FAIL  keys      cannot read /nowhere"), "{text}");
    assert!(text.contains("\n                mend: name the certificate"), "{text}");
    assert!(text.trim_end().ends_with(" 1 failed"), "{text}");
}
