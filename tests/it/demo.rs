//! The demo, as `ordercast --demo` starts it.

use ordercast::model::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::binary::{RunningServer, ordercast};
use crate::harness::{SECRET, until};

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
