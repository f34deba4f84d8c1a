//! The `ordercast` binary: flags, exit codes and logs.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use migration::MigratorTrait;
use ordercast::model::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{SECRET, Server, TestDb, assignment, new_order, until};
use crate::on_both_databases;

fn ordercast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordercast"));
    for name in ["JWT_SECRET", "DATABASE_URL", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn run(args: &[&str]) -> Output {
    ordercast(args).output().expect("it runs")
}

#[test]
fn an_invalid_setting_is_refused_in_one_line() {
    for (args, names) in [
        (&[][..], "JWT_SECRET"),
        (&["serve", "--jwt-secret", "short"], "JWT_SECRET"),
        (&["--demo", "--listen", "0.0.0.0:0"], "loopback"),
        (&["--jwt-secret", SECRET, "--listen", "127.0.0.1:http"], "--listen"),
        (&["--jwt-secret", SECRET, "--database-url", "mysql://x"], "DATABASE_URL"),
        (
            &[
                "--jwt-secret",
                SECRET,
                "--listen",
                "127.0.0.1:0",
                "--database-url",
                "sqlite:///nowhere/x.db?mode=rwc",
            ],
            "database",
        ),
        (&["--jwt-public-key-file", "/nowhere.pem"], "/nowhere.pem"),
        (&["--jwt-secret", SECRET, "--redis-url", "redis://:secret-word@127.0.0.1"], "PostgreSQL"),
        (
            &["--jwt-secret", SECRET, "--redis-url", "http://127.0.0.1", "--database-url", "postgres://x"],
            "REDIS_URL",
        ),
        (&["--jwt-secret", SECRET, "--redis-prefix", "a b"], "REDIS_PREFIX"),
        (&["--jwt-secret", SECRET, "--cluster-listen", "0.0.0.0:9002"], "CLUSTER_ADVERTISE"),
        (&["--jwt-secret", SECRET, "--cluster-advertise", "host:1"], "--cluster-listen"),
        (
            &["--jwt-secret", SECRET, "--cluster-listen", "127.0.0.1:9002", "--cluster-advertise", "host"],
            "CLUSTER_ADVERTISE",
        ),
        (&["--jwt-secret", SECRET, "--rights-lease-ms", "0"], "RIGHTS_LEASE_MS"),
        (&["--jwt-secret", SECRET, "--database-max-connections", "1"], "DATABASE_MAX_CONNECTIONS"),
        (&["--jwt-secret", SECRET, "--tls-cert", "/nowhere.pem"], "--tls-key"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["token", "--sub", "u1", "--role", "king", "--jwt-secret", SECRET], "--role"),
        (&["token", "--sub", "u1", "--role", "driver"], "JWT_SECRET"),
    ] {
        let output = run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(error.contains(names) && !error.contains(SECRET), "{args:?}: {error}");
        assert!(!error.contains("secret-word"), "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn each_subcommand_prints_its_result() {
    let help = String::from_utf8(run(&["--help"]).stdout).expect("text");
    for flag in ["--listen", "DATABASE_URL", "--location-rate-per-second", "POSITION_RETENTION_DAYS"] {
        assert!(help.contains(flag), "{flag}");
    }
    let token = run(&[
        "token",
        "--sub",
        "u1",
        "--role",
        "courier",
        "--name",
        "N",
        "--ttl",
        "90s",
        "--jwt-secret",
        SECRET,
    ]);
    let claims =
        jsonwebtoken::dangerous::insecure_decode::<Value>(token.stdout.trim_ascii()).expect("a JWT").claims;
    assert_eq!(
        (&claims["sub"], &claims["role"], &claims["name"]),
        (&json!("u1"), &json!("driver"), &json!("N"))
    );
    assert_eq!(claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"), 90);
    assert!(run(&["openapi"]).stdout.len() > 1 << 16, "more than the buffer of a pipe, for the check below");
    let document: Value = serde_json::from_slice(&run(&["openapi"]).stdout).expect("JSON");
    assert_eq!(document["info"]["title"], "Ordercast");
    let mut pipe = Command::new("sh");
    let cut = pipe
        .args(["-c", "\"$0\" openapi | head -c 1", env!("CARGO_BIN_EXE_ordercast")])
        .output()
        .expect("it runs");
    assert_eq!(
        (&*cut.stdout, &*String::from_utf8_lossy(&cut.stderr)),
        (&b"{"[..], ""),
        "a reader that closes the pipe early is no error"
    );
    let open = ordercast(&[]).env("LEGACY_OPEN", "1").output().expect("it runs");
    assert!(String::from_utf8_lossy(&open.stderr).contains("JWT_SECRET"), "LEGACY_OPEN=1 is valid: {open:?}");
}

/// A running binary and the address that it printed.
pub struct RunningServer {
    child: Child,
    pub base: String,
}

impl RunningServer {
    pub fn start(args: &[&str], log: &str) -> Self {
        Self::of(&mut ordercast(args), log)
    }

    fn of(command: &mut Command, log: &str) -> Self {
        let mut child = command.env("RUST_LOG", log).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        let base =
            line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned();
        Self { child, base }
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("its end");
    }

    /// Stops the binary with SIGTERM. Returns its exit code and its log.
    pub fn terminate(mut self) -> (Option<i32>, String) {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(killed.success());
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
        (self.child.wait().expect("its end").code(), log)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_hold_the_request_and_nothing_private() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/l.db?mode=rwc", folder.path().display());
    let running = RunningServer::start(
        &["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET],
        "trace",
    );
    let token =
        String::from_utf8(run(&["token", "--sub", "root", "--role", "admin", "--jwt-secret", SECRET]).stdout)
            .expect("text");
    let token = token.trim();
    let http = reqwest::Client::new();
    let made = http
        .post(format!("{}/orders?token={token}", running.base))
        .header("x-request-id", "seen-in-the-log")
        .json(&new_order("o1"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (made.status().as_u16(), made.headers()["x-request-id"].to_str().expect("text")),
        (201, "seen-in-the-log")
    );
    http.post(format!("{}/orders/o1/assign", running.base))
        .bearer_auth(token)
        .json(&assignment("d"))
        .send()
        .await
        .expect("an answer");
    let socket =
        format!("{}/socket.io/?EIO=4&transport=websocket&token={token}", running.base.replace("http", "ws"));
    let (mut socket, _) = tokio_tungstenite::connect_async(socket).await.expect("a WebSocket");
    let hello = format!("40/realtime,{}", json!({"token": token}));
    futures_util::SinkExt::send(&mut socket, tokio_tungstenite::tungstenite::Message::text(hello))
        .await
        .expect("sent");
    while let Some(Ok(message)) = futures_util::StreamExt::next(&mut socket).await {
        if message.to_string().contains("\"connected\"") {
            break;
        }
    }
    let (code, log) = tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("seen-in-the-log") && log.contains("/orders/{id}/assign"), "{log}");
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "not JSON: {line}");
    }
    for private in [token, SECRET, "555 0100", "555 0199", "Linden Lane", "Market Street", "ring twice"] {
        assert!(!log.contains(private), "{private} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_whether_the_server_is_ready() {
    let server = Server::start(&TestDb::sqlite(), &[]).await;
    let listen = server.address.to_string();
    let ask = async |listen: &str| {
        let listen = listen.to_owned();
        tokio::task::spawn_blocking(move || run(&["health", "--listen", &listen])).await.expect("it runs")
    };
    assert_eq!(ask(&listen).await.status.code(), Some(0));
    let everywhere = format!("0.0.0.0:{}", server.address.port());
    assert_eq!(ask(&everywhere).await.status.code(), Some(0));
    server.stop().await;
    let gone = ask(&listen).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("does not answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_signs_its_users_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/d.db?mode=rwc", folder.path().display());
    let running =
        RunningServer::start(&["--demo", "--listen", "127.0.0.1:0", "--database-url", &url], "info");
    let http = reqwest::Client::new();
    let login = async |password: &str| {
        let body = json!({"email": "admin@martly.dev", "password": password});
        http.post(format!("{}/api/v1/auth/login", running.base)).json(&body).send().await.expect("an answer")
    };
    assert_eq!(login("wrong").await.status().as_u16(), 401);
    let signed_in: Value = login("admin123").await.json().await.expect("JSON");
    let token = signed_in["data"]["accessToken"].as_str().expect("a token");
    until("the demo's first order", async || {
        let orders =
            http.get(format!("{}/orders", running.base)).bearer_auth(token).send().await.expect("an answer");
        let orders: Value = orders.json().await.expect("JSON");
        orders["items"][0]["status"] == "delivered"
    })
    .await;
    let page = http.get(format!("{}/", running.base)).send().await.expect("the page");
    assert!(page.headers()["content-security-policy"].to_str().expect("text").contains("script-src 'self'"));
    assert!(page.text().await.expect("text").contains("<html"));
    let config: Value = http
        .get(format!("{}/page-config", running.base))
        .send()
        .await
        .expect("config")
        .json()
        .await
        .expect("JSON");
    assert_eq!(
        (&config["demo"], config["accounts"]["driver"]["user"]["role"].as_str()),
        (&json!(true), Some("driver"))
    );
    let (code, log) = tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_takes_no_key_and_no_database_of_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = ordercast(&["serve", "--demo", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", folder.path()).env("JWT_SECRET", SECRET).env("LEGACY_OPEN", "1");
    for (name, elsewhere) in [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"),
        ("JWKS_URL", "http://127.0.0.1:1/keys"),
        ("JWT_PUBLIC_KEY_FILE", "/nowhere.pem"),
        ("JWT_ISSUER", "someone"),
        ("ORDER_SERVICE_URL", "http://127.0.0.1:1/"),
        ("CORS_ORIGIN", "*"),
    ] {
        command.env(name, elsewhere);
    }
    let running = RunningServer::of(&mut command, "info");
    assert!(folder.path().join("ordercast-demo.db").exists());
    let http = reqwest::Client::new();
    let orders =
        |token: &str| http.get(format!("{}/orders", running.base)).bearer_auth(token.to_owned()).send();
    let in_earnest = ordercast::auth::mint(
        SECRET,
        "root",
        Role::Admin,
        None,
        ordercast::base::clock::Clock::System.now(),
        std::time::Duration::from_secs(60),
    );
    assert_eq!(orders(&in_earnest.expect("a token")).await.expect("an answer").status(), 401);
    let login = json!({"email": "admin@martly.dev", "password": "admin123"});
    let login = http
        .post(format!("{}/api/v1/auth/login", running.base))
        .json(&login)
        .header("origin", "http://a.test");
    let login = login.send().await.expect("an answer");
    assert!(!login.headers().contains_key("access-control-allow-origin"));
    let login: Value = login.json().await.expect("JSON");
    assert_eq!(
        orders(login["data"]["accessToken"].as_str().expect("a token")).await.expect("an answer").status(),
        200
    );
    tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
}

/// The status of an answer to a request that is written by hand.
async fn status_of(base: &str, request: &str) -> String {
    let mut stream =
        tokio::net::TcpStream::connect(base.trim_start_matches("http://")).await.expect("connected");
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_only_at_names_of_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/d.db?mode=rwc", folder.path().display());
    let running =
        RunningServer::start(&["--demo", "--listen", "127.0.0.1:0", "--database-url", &url], "info");
    let websocket = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";
    for (target, headers, good) in [
        ("/", "", "200"),
        ("/page-config", "", "200"),
        ("/health", "", "200"),
        ("/nothing", "", "404"),
        ("/socket.io/?EIO=4&transport=polling", "", "200"),
        ("/socket.io/?EIO=4&transport=websocket", websocket, "101"),
        ("/orders/track", websocket, "101"),
    ] {
        for (host, expected) in [
            ("localhost", good),
            ("shop.localhost:9001", good),
            ("127.1.2.3", good),
            ("[::1]:80", good),
            ("rebound.example", "421"),
            ("127.0.0.1.rebound.example", "421"),
            ("10.0.0.1", "421"),
        ] {
            let request = format!("GET {target} HTTP/1.1\nHost: {host}\n{headers}\n");
            assert_eq!(status_of(&running.base, &request).await, expected, "{host} {target}");
        }
    }
    for request in [
        "GET /page-config HTTP/1.0\n\n",
        "GET http://rebound.example/page-config HTTP/1.1\nHost: localhost\n\n",
        "GET /page-config HTTP/1.1\nHost: localhost\nHost: rebound.example\n\n",
        "OPTIONS /orders HTTP/1.1\nHost: rebound.example\n\n",
        "POST /api/v1/auth/login HTTP/1.1\nHost: rebound.example\nContent-Length: 0\n\n",
    ] {
        let status = status_of(&running.base, request).await;
        assert!(status == "421" || status == "400", "{status}: {request}");
    }
    tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
}

on_both_databases! {
    async fn a_migration_is_reverted_only_on_purpose_and_without_a_server(db: TestDb) {
        let url = db.url();
        let migrate = |args: &[&str]| crate::binary::run(&[&["migrate", "--database-url", &url], args].concat());
        let applied = || String::from_utf8(migrate(&["status"]).stdout).expect("text").matches("applied").count();
        let all = migration::Migrator::migrations().len();
        assert_eq!(applied(), 0);
        assert!(migrate(&["up"]).status.success());
        assert_eq!(applied(), all);
        let asked = migrate(&["down"]);
        assert_eq!(asked.status.code(), Some(2), "{asked:?}");
        assert!(String::from_utf8_lossy(&asked.stderr).contains("--yes"), "{asked:?}");
        let args = ["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET];
        let running = RunningServer::start(&args, "info");
        let refused = migrate(&["down", "--yes"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("a server runs"), "{refused:?}");
        assert!(migrate(&["up"]).status.success(), "which is harmless");
        assert_eq!(applied(), all);
        // A server that was killed does not stand in the way.
        running.kill();
        let reverted = migrate(&["down", "--yes"]);
        assert!(reverted.status.success(), "{reverted:?}");
        assert_eq!(applied(), all - 1);
        let again = RunningServer::start(&args, "info");
        assert_eq!(applied(), all);
        again.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_read_the_files_of_the_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let mode = |name: &str| {
        let file =
            std::fs::metadata(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        file.permissions().mode() & 0o777
    };
    let start = |name: &str| {
        let url = format!("sqlite://{}/{name}?mode=rwc", folder.path().display());
        RunningServer::start(
            &["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET],
            "info",
        )
    };
    for round in ["new", "as an older version left it"] {
        let running = start("p.db");
        for file in ["p.db", "p.db-wal", "p.db-shm"] {
            assert_eq!(mode(file), 0o600, "{file}, {round}");
        }
        running.kill();
        for file in ["p.db", "p.db-wal", "p.db-shm"] {
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(folder.path().join(file), open).expect("its mode");
        }
    }
    std::fs::set_permissions(folder.path().join("p.db"), std::fs::Permissions::from_mode(0o640))
        .expect("its mode");
    start("p.db").kill();
    assert_eq!(mode("p.db"), 0o640, "an operator may let a group read it");
}
