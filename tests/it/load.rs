//! `ordercast load`: what it counts is what happened, whatever becomes of the server.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;
use ordercast::base::clock::Clock;
use ordercast::cli::{Cli, Subcommand};
use ordercast::load::{self, LoadError, Summary};
use ordercast::model::Role;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::binary::{RunningServer, ordercast, run};
use crate::harness::{Api, PATIENCE, SECRET, Server, TestDb};

/// A run in this process, with what it says.
struct Load {
    running: JoinHandle<Result<Summary, LoadError>>,
    stop: CancellationToken,
    lines: UnboundedReceiver<String>,
}

impl Load {
    fn start(base: &str, flags: &str) -> Self {
        let args = ["ordercast", "load", "--jwt-secret", SECRET, "--url", base];
        let cli = Cli::try_parse_from(args.into_iter().chain(flags.split(' '))).expect("flags");
        let Some(Subcommand::Load(options)) = cli.command else { unreachable!("it says load") };
        let (stop, (said, lines)) = (CancellationToken::new(), unbounded_channel());
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            let every = Duration::from_millis(50);
            load::run(&options, Clock::System, stopped, every, |line| drop(said.send(line.to_owned()))).await
        });
        Self { running, stop, lines }
    }

    /// Waits until it says something with these words.
    async fn says(&mut self, words: &str) {
        let said = async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it ended and never said {words}");
        };
        tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("timeout: {words}"));
    }

    async fn end(self) -> Summary {
        self.running.await.expect("no panic").expect("a summary")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_is_what_the_server_has() {
    let server = Server::start(&TestDb::sqlite(), &[]).await;
    let base = format!("http://{}", server.address);
    let flags = "--drivers 3 --watchers 12 --orders 4 --rate 100/s --positions 2/s --for 1500ms";
    let summary = Load::start(&base, flags).end().await;
    assert!(summary.passed && !summary.interrupted && summary.errors.is_empty(), "{summary}");
    assert_eq!((summary.watchers.connected, summary.drivers.connected), (12, 3), "{summary}");
    let (changes, deliveries) = (&summary.changes, &summary.deliveries);
    assert!(changes.made > 30, "several orders live: {summary}");
    assert_eq!(deliveries.expected, changes.made * 3, "each order has three watchers: {summary}");
    assert_eq!(deliveries.expected, deliveries.received + deliveries.missed);
    let latency = summary.latency_ms.expect("something was received");
    assert!(0.0 < latency.p50 && latency.p50 <= latency.p99 && latency.p99 <= latency.max, "{summary}");
    let positions = &summary.positions;
    assert!(positions.sent > 0 && positions.received > 0 && positions.latency_ms.is_some(), "{summary}");

    let orders = server.admin().get("/orders?limit=200").await.body;
    let orders = orders["items"].as_array().expect("a list");
    assert_eq!((orders.len() as u64, summary.orders.left), (summary.orders.created, 0));
    let mut written = 0;
    for order in orders {
        assert!(order["id"].as_str().is_some_and(|id| id.starts_with(&summary.prefix)), "{order}");
        let cancelled = order["status"] == "cancelled";
        assert!(cancelled || order["status"] == "delivered", "{order}");
        // Without its creation and its end by the run.
        written += order["seq"].as_u64().expect("a seq") - 1 - u64::from(cancelled);
    }
    // Each of the first four was made ready and assigned before the run.
    assert_eq!(written, changes.made + 4 * 2, "{summary}");

    let flags = "--drivers 1 --watchers 1 --orders 1 --rate 0 --positions 60/s --for 500ms";
    let limited = Load::start(&base, flags).end().await;
    assert!(limited.errors["rate_limited"] > 0 && limited.passed, "which is no end: {limited}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_come_back_to() {
    let db = TestDb::sqlite();
    let url = db.url();
    let serve = |listen: &str| {
        RunningServer::start(&["--listen", listen, "--database-url", &url, "--jwt-secret", SECRET], "error")
    };
    let server = serve("127.0.0.1:0");
    let base = server.base.clone();
    let mut load = Load::start(&base, "--drivers 2 --watchers 6 --orders 3 --rate 100/s --for 1h");
    load.says("watchers 6/6  drivers 2/2").await;
    server.kill();
    load.says("watchers 0/6").await;
    let server = serve(base.trim_start_matches("http://"));
    load.says("watchers 6/6  drivers 2/2").await;
    let status = Api::at(&base, "root", Role::Admin).get("/stats").await.status;
    assert_eq!(status, 200, "it is back");
    load.says("watchers 6/6").await;
    load.stop.cancel();
    let summary = load.end().await;
    assert!(summary.passed && summary.interrupted, "nothing was missed: {summary}");
    assert_eq!((summary.watchers.reconnects, summary.drivers.reconnects, summary.orders.left), (6, 2, 0));
    assert!(summary.errors["connection_lost"] >= 8 && summary.errors["unreachable"] > 0, "{summary}");

    let mut load = Load::start(&base, "--drivers 1 --watchers 2 --orders 1 --rate 50/s --for 1h");
    load.says("watchers 2/2").await;
    server.kill();
    load.says("watchers 0/2").await;
    load.stop.cancel();
    let summary = load.end().await;
    assert!(!summary.passed && summary.watchers.connected == 0 && summary.orders.left == 1, "{summary}");
    assert_eq!(summary.deliveries.expected, summary.deliveries.received + summary.deliveries.missed);
}

#[test]
fn a_run_that_cannot_be_is_refused_in_one_line() {
    let secret = ["--jwt-secret", SECRET];
    for (flags, names) in [
        (&[][..], "JWT_SECRET"),
        (&["--jwt-secret", "short"], "JWT_SECRET"),
        (&["--url", "http://127.0.0.1:1", secret[0], secret[1]], "does not answer"),
        (&["--url", "https://shop.example", secret[0], secret[1]], "--yes"),
        (&["--url", "http://192.0.2.1", secret[0], secret[1]], "--yes"),
        (&["--url", "shop", secret[0], secret[1]], "--url"),
        (&["--url", "http://me:word@127.0.0.1", secret[0], secret[1]], "--url"),
        (&["--tokens", "/nowhere"], "/nowhere"),
        (&["--rate", "5/h", secret[0], secret[1]], "--rate"),
        (&["--for", "0s", secret[0], secret[1]], "--for"),
        (&["--orders", "0", secret[0], secret[1]], "--orders"),
    ] {
        let output = run(&[&["load"], flags].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(
            error.contains(names) && !error.contains(SECRET) && !error.contains("word"),
            "{flags:?}: {error}"
        );
        assert!(output.stdout.is_empty());
    }
    let few = Command::new("sh")
        .args(["-c", "ulimit -n 200; exec \"$0\" load --watchers 500", env!("CARGO_BIN_EXE_ordercast")])
        .env("JWT_SECRET", SECRET)
        .output()
        .expect("it runs");
    assert_eq!(few.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&few.stderr).contains("ulimit -n 638"), "{few:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_ends_with_a_summary_when_it_is_interrupted() {
    let server = Server::start(&TestDb::sqlite(), &[]).await;
    let base = format!("http://{}", server.address);
    let wrong = vec!["load", "--url", &base, "--jwt-secret", "another secret of thirty-two bytes or more"];
    let wrong: Vec<_> = wrong.into_iter().map(str::to_owned).collect();
    let refused =
        tokio::task::spawn_blocking(move || run(&wrong.iter().map(String::as_str).collect::<Vec<_>>()));
    let refused = refused.await.expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("refuses the token"), "{refused:?}");

    // With tokens of a file: this server's, and nobody else's.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let tokens = [("s", Role::Service), ("d", Role::Driver), ("c", Role::Customer)];
    let tokens = tokens.map(|(id, role)| server.token(id, role)).join("\n");
    std::fs::write(file.path(), tokens).expect("written");
    let interrupted = tokio::task::spawn_blocking(move || {
        let mut load =
            ordercast(&["load", "--url", &base, "--drivers", "1", "--watchers", "4", "--orders", "2"]);
        load.args(["--rate", "50/s", "--for", "1h", "--json", "--tokens"]).arg(file.path());
        let mut load = load.stdin(Stdio::null()).spawn().expect("it starts");
        let lines = BufReader::new(load.stderr.take().expect("piped")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        assert!(lines.any(|line| line.contains("watchers 4/4")), "it says how it goes");
        let killed = Command::new("kill").args(["-INT", &load.id().to_string()]).status().expect("kill");
        assert!(killed.success());
        let mut summary = String::new();
        load.stdout.take().expect("piped").read_to_string(&mut summary).expect("text");
        (load.wait().expect("its end").code(), summary)
    });
    let (code, summary) = interrupted.await.expect("no panic");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(
        (code, &summary["passed"], &summary["interrupted"]),
        (Some(0), &true.into(), &true.into()),
        "{summary}"
    );
    assert_eq!(summary["deliveries"]["expected"], summary["deliveries"]["received"]);
    server.stop().await;
}
