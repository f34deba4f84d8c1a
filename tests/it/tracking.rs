//! Tracking sessions: their lifetime, their stats, and the calls to the order service.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use chrono::TimeDelta;
use futures_util::StreamExt;
use ordercast::model::Role;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{PATIENCE, Server, until};
use crate::on_both_databases;
use crate::socket::Socket;

/// Starts a tracking session for an order that does not exist yet, and returns the id of the session.
pub async fn start(server: &Server, order: &str) -> String {
    let rider = server.api("rider", Role::Driver);
    let body = json!({"order_id": order, "rider_id": "rider", "dropoff_lat": 5.6037, "dropoff_lng": -0.1869});
    let session = rider.post("/tracking/start", body).await;
    assert_eq!(session.status, 200, "{}", session.body);
    session.body["tracking_id"].as_str().expect("an id").to_owned()
}

/// A client that watches a tracking session.
pub struct Watcher(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Watcher {
    pub async fn new(server: &Server, id: &str) -> Self {
        let url = format!("ws://{}/ws/tracking/{id}", server.address);
        Self(tokio_tungstenite::connect_async(url).await.expect("a WebSocket").0)
    }

    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something in time");
        next.expect("a message").expect("no error")
    }

    async fn hears(&mut self, kind: &str) -> Value {
        let text = self.next().await.into_text().expect("text");
        let message: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    async fn hears_the_end(&mut self) {
        assert_eq!(self.hears("error").await["message"], "Tracking session expired");
        let Message::Close(Some(close)) = self.next().await else { panic!("a close frame") };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "Session expired"));
    }
}

on_both_databases! {
    async fn a_session_ends_a_day_after_its_start_or_an_hour_after_the_delivery(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let anyone = server.anonymous();
        for (delivered, lasts) in [(false, TimeDelta::hours(24)), (true, TimeDelta::hours(1))] {
            let id = start(&server, &format!("order-{delivered}")).await;
            let path = format!("/tracking/{id}");
            let mut watcher = Watcher::new(&server, &id).await;
            watcher.hears("initial_state").await;
            if delivered {
                let body = json!({"lat": 5.6037, "lng": -0.1869, "status": "DELIVERED"});
                let rider = server.api("rider", Role::Driver);
                assert_eq!(rider.post(&format!("/tracking/update/{id}"), body).await.status, 200);
                for kind in ["location_update", "location_update", "status_change"] {
                    watcher.hears(kind).await;
                }
            }
            server.clock.advance(lasts - TimeDelta::seconds(1));
            if delivered {
                // A late payment does not count as a delivery.
                let paid = server.admin().post("/orders/order-true/payment/verify", json!({})).await;
                assert_eq!(paid.status, 200, "{}", paid.body);
            }
            assert_eq!(anyone.get(&path).await.status, 200);
            server.clock.advance(TimeDelta::seconds(1));
            anyone.get(&path).await.assert_problem(410, "expired");
            watcher.hears_the_end().await;
            let mut late = Watcher::new(&server, &id).await;
            late.hears_the_end().await;
            let rider = server.api("rider", Role::Driver);
            let body = json!({"lat": 5.6, "lng": -0.18});
            rider.post(&format!("/tracking/update/{id}"), body).await.assert_problem(410, "expired");
            rider.get("/tracking/rider/rider").await.assert_problem(404, "not_found");
        }
        server.stop().await;
    }

    async fn a_refused_status_does_not_move_the_rider(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let id = start(&server, "o").await;
        let (rider, path) = (server.api("rider", Role::Driver), format!("/tracking/update/{id}"));
        let body = |lat: f64, status: &str| json!({"lat": lat, "lng": -0.18, "status": status});
        assert_eq!(rider.post(&path, body(5.61, "PICKED_UP")).await.status, 200);
        let mut watcher = Watcher::new(&server, &id).await;
        watcher.hears("initial_state").await;
        rider.post(&path, body(45.9, "ASSIGNED")).await.assert_problem(409, "illegal_transition");
        assert_eq!(rider.post(&path, body(5.62, "IN_TRANSIT")).await.status, 200);
        assert_eq!(watcher.hears("location_update").await["data"]["current_location"]["lat"], 5.62);
        server.stop().await;
    }

    async fn a_session_ends_when_its_order_is_cancelled_or_reassigned(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let admin = server.admin();
        for (order, change) in [
            ("cancelled", ("/orders/cancelled/cancel", json!({}))),
            ("reassigned", ("/orders/reassigned/assign", json!({"driver": {"id": "other", "name": "O"}}))),
        ] {
            let id = start(&server, order).await;
            let mut watcher = Watcher::new(&server, &id).await;
            watcher.hears("initial_state").await;
            assert_eq!(admin.post(change.0, change.1).await.status, 200);
            watcher.hears_the_end().await;
            server.anonymous().get(&format!("/tracking/{id}")).await.assert_problem(410, "expired");
        }
        server.stop().await;
    }

    // After a restart the position of a driver comes from the database, even if the driver gets an order only then.
    async fn a_driver_without_fixes_since_the_start_has_the_stored_position(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let fix = json!({"latitude": 47.141, "longitude": 9.531});
        assert_eq!(driver.ask("driver:location", fix).await["ok"], true);
        server.admin().status("o1", "delivered").await;
        server.stop().await;
        let server = Server::start(&db, &[]).await;
        server.order_with_driver("o2", "assigned_to_driver").await;
        let session = json!({"order_id": "o2", "rider_id": "driver"});
        let session = server.admin().post("/tracking/start", session).await.body;
        let mut watcher = Watcher::new(&server, session["tracking_id"].as_str().expect("an id")).await;
        let place = watcher.hears("initial_state").await["data"]["current_location"].clone();
        assert_eq!((&place["lat"], &place["lng"]), (&json!(47.141), &json!(9.531)));
        server.admin().status("o2", "picked_up").await;
        assert_eq!(watcher.hears("location_update").await["data"]["current_location"], place);
        server.stop().await;
    }

    async fn stats_count_sessions_and_watchers(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        let first = start(&server, "one").await;
        start(&server, "two").await;
        let rider = server.api("rider", Role::Driver);
        let body = json!({"lat": 5.6037, "lng": -0.1869, "status": "PICKED_UP"});
        assert_eq!(rider.post(&format!("/tracking/update/{first}"), body).await.status, 200);
        rider.get("/stats/tracking").await.assert_problem(403, "forbidden");
        let mut watcher = Watcher::new(&server, &first).await;
        watcher.hears("initial_state").await;
        let stats = server.admin().get("/stats/tracking").await.body;
        assert_eq!(stats, json!({
            "total_active_sessions": 2,
            "total_websocket_connections": 1,
            "status_distribution": {"ASSIGNED": 1, "PICKED_UP": 1, "IN_TRANSIT": 0, "DELIVERED": 0},
            "sessions_by_recency": {"last_5_min": 2, "last_hour": 0, "older": 0},
        }));
        for (minutes, recency) in [(30, [0, 2, 0]), (60, [0, 0, 2])] {
            server.clock.advance(TimeDelta::minutes(minutes));
            let found = server.admin().get("/stats/tracking").await.body["sessions_by_recency"].clone();
            assert_eq!(found, json!({"last_5_min": recency[0], "last_hour": recency[1], "older": recency[2]}));
        }
        server.stop().await;
    }

    async fn concurrent_starts_make_one_order_and_one_session(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        let starts = (0..8).map(|_| start(&server, "one"));
        let ids: std::collections::HashSet<_> = futures_util::future::join_all(starts).await.into_iter().collect();
        assert_eq!(ids.len(), 1, "the same rider has one session: {ids:?}");
        let events = server.admin().get("/orders/one/events").await.body;
        assert_eq!(events["seq"], 2, "{events}");
        server.stop().await;
    }
}

/// A fake order service: its queued answers, and the calls it received.
#[derive(Clone, Default)]
struct OrderService {
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
    calls: Arc<Mutex<Vec<(String, Value, String)>>>,
}

impl OrderService {
    async fn start(&self) -> String {
        async fn status(
            State(service): State<OrderService>,
            Path(id): Path<String>,
            headers: HeaderMap,
            Json(body): Json<Value>,
        ) -> StatusCode {
            let key = headers["idempotency-key"].to_str().expect("text").to_owned();
            service.calls.lock().expect("a lock").push((id, body, key));
            service.answers.lock().expect("a lock").pop_front().unwrap_or(StatusCode::OK)
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/base/", listener.local_addr().expect("an address"));
        let router = Router::new().route("/base/orders/{id}/status", post(status)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("to serve") });
        url
    }

    fn call_count(&self) -> usize {
        self.calls.lock().expect("a lock").len()
    }
}

on_both_databases! {
    // Calls are repeated across restarts with the same idempotency key, until one is accepted.
    async fn deliveries_are_sent_to_the_order_service_until_it_accepts(db: TestDb) {
        let service = OrderService::default();
        let refusals = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_REQUEST, StatusCode::FOUND];
        service.answers.lock().expect("a lock").extend(refusals);
        let url = service.start().await;
        let flags = ["--order-service-url", url.as_str()];
        let mut server = Server::start_with_manual_clock(&db, &flags).await;
        start(&server, "a|b").await;
        let now = server.clock.now();
        server.admin().status("a|b", "delivered").await;
        until("the first try", async || service.call_count() == 1).await;
        // The second call comes after one second, the third after two more.
        for (tries, wait) in [(2, 1), (3, 2)] {
            server.clock.advance(TimeDelta::seconds(wait));
            until("another try", async || service.call_count() == tries).await;
        }
        server.stop().await;
        server = Server::start_with_manual_clock(&db, &flags).await;
        server.clock.advance(TimeDelta::seconds(10));
        until("the last try", async || service.call_count() == 4).await;
        until("the call is accepted", async || {
            server.metrics().await.contains("order_service_calls_total{outcome=\"accepted\"} 1")
        })
        .await;
        server.clock.advance(TimeDelta::hours(1));
        // The order service is not called for an order without a tracking session.
        server.order("plain").await;
        server.admin().status("plain", "delivered").await;
        start(&server, "next").await;
        server.admin().status("next", "delivered").await;
        until("the next order", async || service.call_count() == 5).await;
        let calls = service.calls.lock().expect("a lock").clone();
        for (id, body, key) in &calls[..4] {
            assert_eq!((id.as_str(), key.as_str()), ("a|b", "delivered:a|b"));
            assert_eq!(*body, json!({"status": "DELIVERED", "delivered_at": now.timestamp()}));
        }
        assert_eq!(calls[4].0, "next");
        server.stop().await;
    }
}
