//! The `ordercast` binary: flags, exit codes and logs.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use migration::MigratorTrait;

use crate::harness::{SECRET, Server, TestDb, assignment, new_order};
use crate::on_both_databases;

pub fn ordercast(args: &[&str]) -> Command {
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
    let document: Value = serde_json::from_slice(&run(&["asyncapi"]).stdout).expect("JSON");
    assert_eq!(document["asyncapi"], "3.0.0");
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

    pub fn of(command: &mut Command, log: &str) -> Self {
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
