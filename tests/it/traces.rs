//! Traces, as a collector gets them: real OTLP over HTTP, read with the types of the standard.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::binary::RunningServer;
use crate::harness::{Api, SECRET, Server, TestDb, assignment, new_order, until};
use crate::socket::Socket;

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    keys: Arc<Mutex<Vec<String>>>,
    text: Arc<Mutex<String>>,
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> &'static str {
    let request: ExportTraceServiceRequest = serde_json::from_slice(&body).expect("OTLP");
    let scopes = request.resource_spans.into_iter().flat_map(|of_resource| of_resource.scope_spans);
    collector.spans.lock().unwrap().extend(scopes.flat_map(|of_scope| of_scope.spans));
    let key = headers.get("x-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    collector.keys.lock().unwrap().push(key.to_owned());
    collector.text.lock().unwrap().push_str(&String::from_utf8_lossy(&body));
    "{}"
}

impl Collector {
    /// A collector, and its address.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, format!("http://{address}"))
    }

    /// The span with this name, as soon as it is here.
    async fn span(&self, name: &str) -> Span {
        until(name, async || self.find(name).is_some()).await;
        self.find(name).expect("it is here")
    }

    fn find(&self, name: &str) -> Option<Span> {
        self.spans.lock().unwrap().iter().find(|span| span.name == name).cloned()
    }

    /// The part with this name of a span.
    async fn part(&self, of: &Span, name: &str) -> Span {
        let find = || {
            let spans = self.spans.lock().unwrap();
            spans.iter().find(|span| span.name == name && span.parent_span_id == of.span_id).cloned()
        };
        until(name, async || find().is_some()).await;
        let part = find().expect("it is here");
        assert_eq!(part.trace_id, of.trace_id, "{name}");
        assert!(of.start_time_unix_nano <= part.start_time_unix_nano, "{name}");
        assert!(part.start_time_unix_nano <= part.end_time_unix_nano, "{name}");
        part
    }
}

fn says(span: &Span, key: &str) -> Option<Any> {
    span.attributes.iter().find(|said| said.key == key)?.value.clone()?.value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_followed_from_its_request_to_its_answer() {
    let (collector, url) = Collector::start().await;
    let flags = ["--otlp-endpoint", &url, "--otlp-sample", "1", "--otlp-headers", "x-key=hidden-word"];
    let server = Server::start(&TestDb::sqlite(), &flags).await;
    let order = server.order("o1").await;
    let mut follower = Socket::connect(&server, "customer", Role::Customer).await;
    assert_eq!(follower.ask("subscribe:order", json!({"orderId": order})).await["ok"], true);
    // Through HTTP, as part of the caller's own trace.
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = server.admin().request("PATCH", "/orders/o1/status").json(&json!({"status": "accepted"}));
    let answer = Api::send(request.header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let root = collector.span("PATCH /orders/{id}/status").await;
    assert_eq!(hex::encode(&root.trace_id), trace);
    assert_eq!(hex::encode(&root.parent_span_id), "b7ad6b7169203331");
    assert_eq!(root.kind(), SpanKind::Server);
    assert_eq!(says(&root, "http.response.status_code"), Some(Any::IntValue(200)));
    let write = collector.part(&root, "database write").await;
    let relay = collector.part(&root, "relay").await;
    let deliver = collector.part(&root, "deliver").await;
    assert!(write.start_time_unix_nano <= relay.start_time_unix_nano);
    assert_eq!(says(&relay, "ordercast.position"), Some(Any::IntValue(2)));
    assert_eq!(says(&deliver, "ordercast.position"), Some(Any::IntValue(2)));
    // Through a socket, as a trace of its own.
    let mut chef = Socket::connect(&server, "chef", Role::Chef).await;
    let changed = chef.ask("order:status_update", json!({"orderId": order, "status": "preparing"})).await;
    assert_eq!(changed["ok"], true, "{changed}");
    let root = collector.span("order:status_update").await;
    assert!(root.parent_span_id.is_empty());
    for part in ["database write", "relay", "deliver", "answer"] {
        collector.part(&root, part).await;
    }
    // A position, from the phone to the followers.
    let admin = server.admin();
    admin.status("o1", "ready_for_pickup").await;
    admin.post("/orders/o1/assign", assignment("driver")).await;
    admin.status("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let heard = driver.ask("driver:location", json!({"latitude": 47.141, "longitude": 9.521})).await;
    assert_eq!(heard["ok"], true, "{heard}");
    let root = collector.span("driver:location").await;
    collector.part(&root, "publish").await;
    collector.part(&root, "answer").await;
    // Neither persons nor tokens.
    let text = collector.text.lock().unwrap().clone();
    let token = server.token("driver", Role::Driver);
    for private in [SECRET, "hidden-word", "Clara", "Linden Lane", "555 0100", "o1", "47.141", &token[..20]] {
        assert!(!text.contains(private), "{private}: {text}");
    }
    assert!(collector.keys.lock().unwrap().iter().all(|key| key == "hidden-word"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_is_not_sent() {
    let (collector, url) = Collector::start().await;
    let server = Server::start(&TestDb::sqlite(), &["--otlp-endpoint", &url, "--otlp-sample", "0"]).await;
    server.order("o1").await;
    let from = |flag: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flag}");
    for flag in ["00", "01"] {
        let request = server.admin().request("GET", "/orders/o1").header("traceparent", from(flag));
        assert_eq!(Api::send(request).await.status, 200);
    }
    collector.span("GET /orders/{id}").await;
    server.stop().await;
    assert_eq!(
        collector.spans.lock().unwrap().len(),
        1,
        "the caller that is sampled itself, and nothing else"
    );
}

/// A collector that takes connections and never answers, and none at all: neither delays a change, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_or_is_absent_holds_up_nothing() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    for address in [hanging.local_addr().expect("its address"), closed] {
        let url = format!("http://{address}");
        let server = Server::start(&TestDb::sqlite(), &["--otlp-endpoint", &url, "--otlp-sample", "1"]).await;
        let admin = server.admin();
        let changes = (0..100).map(|id| admin.post("/orders", new_order(&format!("o{id}"))));
        let made = futures_util::future::join_all(changes).await;
        assert!(made.iter().all(|answer| answer.status == 201));
        let listed = admin.get("/orders?limit=100").await;
        assert_eq!(listed.body["items"].as_array().map_or(0, Vec::len), 100, "{}", listed.body);
        if address == closed {
            until("spans are given up", async || {
                server.metrics().await.contains("ordercast_otlp_spans_total{outcome=\"failed\"}")
            })
            .await;
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_name_the_trace_while_tracing_is_on() {
    let (_collector, url) = Collector::start().await;
    let db = TestDb::sqlite();
    let database = db.url();
    let args = ["--listen", "127.0.0.1:0", "--database-url", &database, "--jwt-secret", SECRET];
    for (flags, is_on) in [(&["--otlp-endpoint", url.as_str()][..], true), (&[][..], false)] {
        let running = RunningServer::start(&[&args[..], flags].concat(), "info");
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let request = Api::at(&running.base, "root", Role::Admin).request("GET", "/orders");
        Api::send(request.header("traceparent", format!("00-{trace}-b7ad6b7169203331-00"))).await;
        let (_, log) = tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let answered = lines.into_iter().find(|line| line["message"] == "answered").expect("a line");
        assert_eq!(answered["span"]["trace_id"] == trace, is_on, "{answered}");
        assert_eq!(log.contains("trace_id"), is_on, "{log}");
    }
}
