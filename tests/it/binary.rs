//! The `ordercast` binary: flags, exit codes and logs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{SECRET, assignment, new_order, until};

fn ordercast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordercast"));
    for name in ["JWT_SECRET", "DATABASE_URL", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
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
        (&["--no-such-flag"], "--no-such-flag"),
        (&["token", "--sub", "u1", "--role", "king", "--jwt-secret", SECRET], "--role"),
        (&["token", "--sub", "u1", "--role", "driver"], "JWT_SECRET"),
    ] {
        let output = run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(error.contains(names) && !error.contains(SECRET), "{args:?}: {error}");
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
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/m.db?mode=rwc", folder.path().display());
    let list = |direction| {
        String::from_utf8(run(&["migrate", direction, "--database-url", &url]).stdout).expect("text")
    };
    assert_eq!(list("status").matches("pending").count(), 8);
    assert_eq!(list("up").matches("applied").count(), 8);
    assert_eq!(list("down").matches("applied").count(), 7);
}

/// A running binary and the address that it printed.
struct RunningServer {
    child: Child,
    base: String,
}

impl RunningServer {
    fn start(args: &[&str], log: &str) -> Self {
        let mut child = ordercast(args).env("RUST_LOG", log).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        let base =
            line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned();
        Self { child, base }
    }

    /// Stops the binary with SIGTERM. Returns its exit code and its log.
    fn terminate(mut self) -> (Option<i32>, String) {
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
