//! Starts a separate server for each test, with a REST client for it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;
use ordercast::auth::mint;
use ordercast::base::clock::{Clock, from_millis, instant};
use ordercast::base::config::Serve;
use ordercast::cli::Cli;
use ordercast::model::Role;
use ordercast::server;
use ordercast::server::ServerError;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const SECRET: &str = "a secret of at least thirty-two bytes";
/// Timeout for anything that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A separate database for one test. The `SQLite` file is deleted after the test.
pub enum TestDb {
    Sqlite(tempfile::TempDir),
    Postgres { base: String, name: String },
}

impl TestDb {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a folder"))
    }

    /// Creates a database in the `PostgreSQL` that `tests/run` started. Without one, prints a note and returns `None`.
    pub async fn postgres() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(base) = std::env::var("ORDERCAST_TEST_POSTGRES") else {
            eprintln!("skipped: ORDERCAST_TEST_POSTGRES is not set (tests/run sets it)");
            return None;
        };
        let name = format!("it_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let admin = Database::connect(format!("{base}postgres")).await.expect("PostgreSQL");
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
        Some(Self::Postgres { base, name })
    }

    /// From now on the database refuses rows of a table in which this column says `poison`.
    pub async fn refuse_poison(&self, table: &str, column: &str) {
        let begins = format!("CREATE TRIGGER trap BEFORE INSERT ON {table}");
        let is_poison = format!("NEW.{column} = 'poison'");
        let trap = match self {
            Self::Sqlite(_) => format!("{begins} WHEN {is_poison} BEGIN SELECT RAISE(ABORT, 'poison'); END"),
            Self::Postgres { .. } => format!(
                "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
                {begins} FOR EACH ROW WHEN ({is_poison}) EXECUTE FUNCTION poison()"
            ),
        };
        let db = Database::connect(self.url()).await.expect("the database");
        db.execute_unprepared(&trap).await.expect("a trap");
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}/test.db?mode=rwc", folder.path().display()),
            Self::Postgres { base, name } => format!("{base}{name}"),
        }
    }
}

/// Runs the same test on both databases.
#[macro_export]
macro_rules! on_both_databases {
    ($(async fn $name:ident($db:ident: $type:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn run($db: $crate::harness::$type) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                run($crate::harness::TestDb::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                if let Some(db) = $crate::harness::TestDb::postgres().await {
                    run(db).await;
                }
            }
        }
    )+};
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub clock: Clock,
    /// Shared by everything that asks this server: to make a client takes longer than most requests.
    http: reqwest::Client,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServerError>>,
}

/// Parses the settings of a test server from command-line flags.
pub fn settings(db: &TestDb, flags: &[&str]) -> Serve {
    let url = db.url();
    let mut args = vec!["ordercast", "--database-url", &url];
    if !flags.iter().any(|flag| flag.starts_with("--jwt") || flag.starts_with("--jwks")) {
        args.extend(["--jwt-secret", SECRET]);
    }
    args.extend(flags);
    Cli::try_parse_from(args).expect("flags").serve.check().expect("settings")
}

impl Server {
    /// Starts a server with the system clock.
    pub async fn start(db: &TestDb, flags: &[&str]) -> Self {
        Self::start_with(db, flags, Clock::System).await
    }

    /// Starts a server with a clock that the test moves. The clock starts at the current time, so that tokens made with
    /// it are valid.
    pub async fn start_with_manual_clock(db: &TestDb, flags: &[&str]) -> Self {
        let now = from_millis(Clock::System.now().timestamp_millis());
        Self::start_with(db, flags, Clock::manual(now)).await
    }

    /// Starts when it is later by so much.
    pub async fn start_later(db: &TestDb, flags: &[&str], by: chrono::TimeDelta) -> Self {
        let now = from_millis(Clock::System.now().timestamp_millis()) + by;
        Self::start_with(db, flags, Clock::manual(now)).await
    }

    async fn start_with(db: &TestDb, flags: &[&str], clock: Clock) -> Self {
        let config = settings(db, flags);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let stop = CancellationToken::new();
        let running = tokio::spawn(server::run(config, clock.clone(), listener, stop.clone(), || ()));
        let server = Self { address, clock, http: reqwest::Client::new(), stop, running };
        // The kernel accepts connections before the server is up. The first answer shows that it is up.
        assert_eq!(server.anonymous().get("/ready").await.status, 200);
        server
    }

    /// Stops the server as SIGTERM does, and waits until it has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
    }

    pub fn token(&self, id: &str, role: Role) -> String {
        mint(SECRET, id, role, None, self.clock.now(), Duration::from_secs(3_600)).expect("a token")
    }

    pub fn anonymous(&self) -> Api {
        self.with_token(None)
    }

    pub fn api(&self, id: &str, role: Role) -> Api {
        self.with_token(Some(self.token(id, role)))
    }

    pub fn with_token(&self, token: Option<String>) -> Api {
        Api { base: format!("http://{}", self.address), token, http: self.http.clone() }
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let answer = self.anonymous().request("GET", "/metrics").send().await.expect("metrics");
        answer.text().await.expect("text")
    }

    pub fn admin(&self) -> Api {
        self.api("root", Role::Admin)
    }

    /// Creates an order of `customer` at `chef` and returns its id.
    pub async fn order(&self, id: &str) -> String {
        let made = self.admin().post("/orders", new_order(id)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["id"].as_str().expect("an id").to_owned()
    }

    /// Creates an order of a customer of its own, whose door is so many thousandths of a degree north of the restaurant: 111 m each.
    pub async fn order_north(&self, id: &str, north: f64) {
        let mut new = new_order(id);
        new["customer"]["id"] = json!(format!("customer-of-{id}"));
        (new["delivery"]["latitude"], new["delivery"]["longitude"]) =
            (json!(47.14 + north / 1_000.0), json!(9.52));
        let made = self.admin().post("/orders", new).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }

    /// Creates an order, assigns it to `driver` and moves it to a status. Returns its id.
    pub async fn order_with_driver(&self, id: &str, status: &str) -> String {
        let id = self.order(id).await;
        let admin = self.admin();
        admin.status(&id, "ready_for_pickup").await;
        let assigned = admin.post(&format!("/orders/{id}/assign"), assignment("driver")).await;
        assert_eq!(assigned.status, 200, "{}", assigned.body);
        if status != "assigned_to_driver" {
            admin.status(&id, status).await;
        }
        id
    }
}

pub fn new_order(id: &str) -> Value {
    json!({
        "id": id,
        "customer": {"id": "customer", "name": "Clara", "phone": "+1 555 0100"},
        "chef": {"id": "chef", "name": "Chiara", "businessName": "Da Chiara", "address": "Market Street 3",
                 "latitude": 47.14, "longitude": 9.52},
        "delivery": {"address": "Linden Lane 12", "latitude": 47.15, "longitude": 9.53},
        "items": [{"name": "Pizza", "quantity": 2, "unitPrice": 11.5}, {"name": "Salad", "quantity": 1}],
        "total": 30.5, "currency": "CHF", "notes": "ring twice"
    })
}

pub fn assignment(driver: &str) -> Value {
    json!({"driver": {"id": driver, "name": "Dario", "phone": "+1 555 0199"}})
}

/// A REST client with the token of one user.
#[derive(Clone)]
pub struct Api {
    base: String,
    pub token: Option<String>,
    http: reqwest::Client,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Asserts that the answer is a problem with this status and code, including the members for older clients.
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["statusCode"], self.body["status"]);
        assert_eq!(self.body["message"], self.body["detail"]);
        assert_eq!(self.body["error"], self.body["title"]);
        assert!(self.body["type"].is_string());
    }
}

impl Api {
    /// A client of the server at this address, which reads the real clock.
    pub fn at(base: &str, id: &str, role: Role) -> Self {
        Self::signed(base, SECRET, id, role)
    }

    /// The same for a server with another secret.
    pub fn signed(base: &str, secret: &str, id: &str, role: Role) -> Self {
        let token =
            mint(secret, id, role, None, Clock::System.now(), Duration::from_secs(3_600)).expect("a token");
        Self { base: base.to_owned(), token: Some(token), http: reqwest::Client::new() }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let request = self.http.request(method, format!("{}{path}", self.base)).timeout(PATIENCE * 2);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn send(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("a body");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Self::send(self.request("GET", path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request("POST", path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request("PUT", path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request("PATCH", path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request("DELETE", path)).await
    }

    /// Changes the status of an order and returns the order. Panics if that is refused.
    pub async fn status(&self, id: &str, status: &str) -> Value {
        let moved = self.patch(&format!("/orders/{id}/status"), json!({"status": status})).await;
        assert_eq!(moved.status, 200, "{}", moved.body);
        moved.body
    }
}

/// Polls until a condition is true, for changes without an event.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = instant() + PATIENCE;
    while !condition().await {
        assert!(instant() < deadline, "timeout: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
