//! Where drivers go: plans, kitchens, milestones, orders that will be late, and drivers who fall silent.

use std::time::Duration;

use chrono::TimeDelta;
use ordercast::base::clock::rfc3339;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::asyncapi::as_described;
use crate::harness::{Api, Server, assignment, until};
use crate::on_both_databases;
use crate::socket::Socket;

const FREE: [&str; 2] = ["--location-rate-per-second", "0"];

/// An order whose door is so many thousandths of a degree north of the restaurant: 111 m each.
async fn order(server: &Server, id: &str, north: f64, status: &str) {
    server.order_north(id, north).await;
    let admin = server.admin();
    admin.status(id, "accepted").await;
    assert_eq!(admin.post(&format!("/orders/{id}/assign"), assignment("driver")).await.status, 200);
    if status != "accepted" {
        admin.status(id, status).await;
    }
}

async fn put(api: &Api, path: &str, body: Value) -> crate::harness::Answer {
    Api::send(api.request("PUT", path).json(&body)).await
}

fn fix(north: f64) -> Value {
    json!({"latitude": 47.14 + north / 1_000.0, "longitude": 9.52})
}

async fn eta(server: &Server, id: &str) -> (Option<i64>, Option<i64>) {
    let tracking = server.admin().get(&format!("/orders/{id}/tracking")).await.body;
    (tracking["etaMinutes"].as_i64(), tracking["stopsBefore"].as_i64())
}

on_both_databases! {
    async fn an_eta_runs_through_all_stops_before(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        // 10, 20 and 30 minutes away at 30 km/h.
        for (id, north) in [("a", 45.0), ("b", 90.0), ("c", 135.0)] {
            order(&server, id, north, "picked_up").await;
        }
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let mut admin_socket = Socket::connect(&server, "root", Role::Admin).await;
        driver.ask("driver:location", fix(0.0)).await;
        // Two minutes at each door.
        assert_eq!(eta(&server, "a").await, (Some(10), Some(0)));
        assert_eq!(eta(&server, "b").await, (Some(22), Some(1)));
        assert_eq!(eta(&server, "c").await, (Some(34), Some(2)));
        let admin = server.admin();
        let plan = admin.get("/drivers/driver/plan").await.body;
        assert_eq!(plan["version"], 0);
        let stops = |plan: &Value| -> Vec<String> {
            plan["stops"].as_array().expect("stops").iter()
                .map(|stop| format!("{}:{}", stop["kind"].as_str().unwrap(), stop["orderId"].as_str().unwrap())).collect()
        };
        assert_eq!(stops(&plan), ["dropoff:a", "dropoff:b", "dropoff:c"]);
        // The driver goes to the last one first, and stays there for ten minutes.
        let mut customer = Socket::connect(&server, "customer-of-a", Role::Customer).await;
        let wanted = json!({"stops": [{"orderId": "c", "kind": "dropoff", "serviceSeconds": 600}, {"orderId": "b", "kind": "dropoff"}]});
        let own = server.api("driver", Role::Driver);
        let set = put(&own, "/drivers/driver/plan", wanted.clone()).await;
        assert_eq!((set.status, &set.body["version"]), (200, &json!(1)), "{}", set.body);
        assert_eq!(stops(&set.body), ["dropoff:c", "dropoff:b", "dropoff:a"]);
        for socket in [&mut driver, &mut admin_socket] {
            assert_eq!(socket.event("driver:plan_update").await, set.body);
        }
        let told = customer.event("order:eta_update").await;
        assert_eq!((&told["etaMinutes"], &told["stopsBefore"]), (&json!(62), &json!(2)), "30 + 10 + 10 + 2 + 10: {told}");
        assert!(!told.to_string().contains("Linden"));
        assert!(customer.events_so_far().await.iter().all(|event| event.name != "driver:plan_update"));
        // Foreign orders, stops that are there twice and other nonsense.
        order(&server, "own", 9.0, "accepted").await;
        for (stops, member) in [
            (json!([{"orderId": "a", "kind": "dropoff"}, {"orderId": "foreign", "kind": "dropoff"}]), "stops[1].orderId"),
            (json!([{"orderId": "a", "kind": "dropoff"}, {"orderId": "a", "kind": "dropoff"}]), "stops[1].orderId"),
            (json!([{"orderId": "own", "kind": "dropoff"}, {"orderId": "own", "kind": "pickup"}]), "stops[1].kind"),
            (json!([{"orderId": "a", "kind": "dropoff", "serviceSeconds": 86_401}]), "stops[0].serviceSeconds"),
            (json!([{"orderId": "a", "kind": "dropoff", "serviceSeconds": -1}]), "stops[0].serviceSeconds"),
            (json!([{"orderId": "a", "kind": "lunch"}]), "kind"),
            (json!("all"), "stops"),
        ] {
            let refused = put(&admin, "/drivers/driver/plan", json!({"stops": stops})).await;
            assert_eq!(refused.status, 422, "{}", refused.body);
            assert!(refused.body.to_string().contains(member), "{member}: {}", refused.body);
        }
        for (id, role, status) in [("other", Role::Driver, 403), ("customer-of-a", Role::Customer, 403), ("chef", Role::Chef, 403)] {
            let api = server.api(id, role);
            assert_eq!(api.get("/drivers/driver/plan").await.status, status);
            assert_eq!(put(&api, "/drivers/driver/plan", wanted.clone()).await.status, status);
        }
        assert_eq!(admin.get("/drivers/nobody/plan").await.body["stops"], json!([]));
        // What is delivered is no stop any more; after a restart the plan is the same.
        admin.status("c", "delivered").await;
        let before = admin.get("/drivers/driver/plan").await.body;
        assert_eq!(stops(&before), ["dropoff:b", "pickup:own", "dropoff:a", "dropoff:own"]);
        server.stop().await;
        let server = Server::start(&db, &FREE).await;
        assert_eq!(server.admin().get("/drivers/driver/plan").await.body, before);
        server.stop().await;
    }

    async fn the_kitchen_says_when_it_is_ready(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        order(&server, "a", 45.0, "accepted").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        driver.ask("driver:location", fix(0.0)).await;
        // 15 minutes in the kitchen, 3 there, 10 on the way.
        assert_eq!(eta(&server, "a").await, (Some(28), Some(0)));
        let mut customer = Socket::connect(&server, "customer-of-a", Role::Customer).await;
        let chef = server.api("chef", Role::Chef);
        let said = chef.post("/orders/a/prep", json!({"prepMinutes": 40})).await;
        assert_eq!((said.status, &said.body["seq"]), (200, &json!(3)), "{}", said.body);
        assert_eq!(customer.event("order:eta_update").await["etaMinutes"], 53);
        let ready_at = rfc3339(server.clock.now() + TimeDelta::minutes(20));
        assert_eq!(server.api("svc", Role::Service).post("/orders/a/prep", json!({"readyAt": ready_at})).await.status, 200);
        assert_eq!(eta(&server, "a").await.0, Some(33));
        for (body, member) in [
            (json!({}), "prepMinutes"),
            (json!({"prepMinutes": -1}), "prepMinutes"),
            (json!({"prepMinutes": 1, "readyAt": ready_at}), "prepMinutes"),
            (json!({"readyAt": "soon"}), "readyAt"),
            (json!({"readyAt": "2020-01-01T00:00:00Z"}), "readyAt"),
            (json!({"readyAt": "2120-01-01T00:00:00Z"}), "readyAt"),
        ] {
            let refused = chef.post("/orders/a/prep", body.clone()).await;
            assert_eq!((refused.status, &refused.body["member"]), (422, &json!(member)), "{body} {}", refused.body);
        }
        let body = json!({"prepMinutes": 5});
        assert_eq!(server.api("customer-of-a", Role::Customer).post("/orders/a/prep", body.clone()).await.status, 403);
        assert_eq!(server.api("other", Role::Chef).post("/orders/a/prep", body.clone()).await.status, 404);
        server.stop().await;
        // It is remembered, also by the writer of changes.
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        assert!(eta(&server, "a").await.0.is_some_and(|minutes| (31..=33).contains(&minutes)));
        server.admin().status("a", "preparing").await;
        assert!(eta(&server, "a").await.0.is_some_and(|minutes| (31..=33).contains(&minutes)));
        server.admin().status("a", "ready_for_pickup").await;
        assert_eq!(eta(&server, "a").await.0, Some(13));
        let late = server.api("chef", Role::Chef).post("/orders/a/prep", body).await;
        assert_eq!((late.status, &late.body["code"]), (409, &json!("illegal_transition")), "{}", late.body);
        server.stop().await;
    }

    async fn milestones_are_told_once_and_kept(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        order(&server, "a", 45.0, "ready_for_pickup").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let mut customer = Socket::connect(&server, "customer-of-a", Role::Customer).await;
        let mut chef = Socket::connect(&server, "chef", Role::Chef).await;
        let mut stranger = Socket::connect(&server, "stranger", Role::Customer).await;
        let admin = server.admin();
        let mut go = async |places: &[f64]| {
            for north in places {
                server.clock.advance(TimeDelta::seconds(10));
                assert_eq!(driver.ask("driver:location", fix(*north)).await["shown"], true);
            }
        };
        go(&[-20.0, -3.0, 0.1, 0.0, 0.1]).await;
        for milestone in ["arriving", "arrived"] {
            for socket in [&mut customer, &mut chef] {
                let told = socket.event("order:milestone").await;
                assert_eq!((&told["orderId"], &told["stop"], &told["milestone"]), (&json!("a"), &json!("pickup"), &json!(milestone)));
                assert!(told["distanceMeters"].is_number() && told["evidence"].is_string() && told["at"].is_string());
            }
        }
        assert!(stranger.events_so_far().await.is_empty());
        admin.status("a", "picked_up").await;
        go(&[0.0, 2.0, 4.0, 20.0, 43.0, 45.0]).await;
        server.stop().await;
        // After a restart, what was told is not told again.
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        server.clock.advance(TimeDelta::minutes(10));
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let mut customer = Socket::connect(&server, "customer-of-a", Role::Customer).await;
        customer.ask("subscribe:order", json!({"orderId": "a"})).await;
        customer.discard_received();
        let mut go = async |places: &[f64]| {
            for north in places {
                server.clock.advance(TimeDelta::seconds(10));
                driver.ask("driver:location", fix(*north)).await;
            }
        };
        go(&[43.0, 45.0, 45.1, 45.0]).await;
        let told = customer.event("order:milestone").await;
        assert_eq!((&told["stop"], &told["milestone"]), (&json!("dropoff"), &json!("arrived")), "{told}");
        go(&[50.0, 60.0]).await;
        assert_eq!(customer.event("order:milestone").await["milestone"], "departed");
        let words = |tracking: &Value| -> Vec<String> {
            tracking["milestones"].as_array().expect("a list").iter()
                .map(|past| format!("{} {}", past["stop"].as_str().unwrap(), past["milestone"].as_str().unwrap())).collect()
        };
        let expected = ["pickup arriving", "pickup arrived", "pickup departed", "dropoff arriving", "dropoff arrived", "dropoff departed"];
        let tracking = server.admin().get("/orders/a/tracking").await.body;
        assert_eq!(words(&tracking), expected, "{tracking}");
        let subscribed = customer.ask("subscribe:order", json!({"orderId": "a"})).await;
        assert_eq!(words(&subscribed["tracking"]), expected);
        server.admin().status("a", "delivered").await;
        // A driver who comes by later has nothing to do with it.
        go(&[45.0, 45.0, 45.0]).await;
        assert_eq!(words(&server.admin().get("/orders/a/tracking").await.body), expected);
        server.stop().await;
    }

    async fn an_order_that_will_be_late_says_so_and_why(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        order(&server, "a", 45.0, "accepted").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let mut customer = Socket::connect(&server, "customer-of-a", Role::Customer).await;
        let mut admin_socket = Socket::connect(&server, "root", Role::Admin).await;
        driver.ask("driver:location", fix(0.0)).await;
        let admin = server.admin();
        until("the promise", async || admin.get("/orders/a/tracking").await.body["risk"] == "on_time").await;
        // Promised within 28 minutes × 1.57, which is 44. It is at risk when it is late twice in a row, and delayed when it is late
        // even at the earliest.
        for (minutes, risk) in [(40, "at_risk"), (90, "delayed")] {
            server.api("chef", Role::Chef).post("/orders/a/prep", json!({"prepMinutes": minutes})).await;
            // It is looked at every ten seconds, by a timer.
            let is_so = async || admin.get("/orders/a/tracking").await.body["risk"] == risk;
            for _ in 0..8 {
                server.clock.advance(TimeDelta::seconds(11));
                driver.ask("driver:location", fix(0.0)).await;
                if tokio::time::timeout(Duration::from_millis(1_500), until("the risk", is_so)).await.is_ok() {
                    break;
                }
            }
            for socket in [&mut customer, &mut admin_socket] {
                let told = socket.event("order:risk").await;
                assert_eq!((&told["orderId"], &told["risk"], &told["reason"]), (&json!("a"), &json!(risk), &json!("prep_late")), "{told}");
                for time in ["promisedFrom", "promisedTo", "etaLow", "etaHigh"] {
                    assert!(told[time].is_string(), "{time}: {told}");
                }
            }
        }
        server.stop().await;
        // What was promised is kept.
        let server = Server::start(&db, &FREE).await;
        assert_eq!(server.admin().get("/orders/a/tracking").await.body["risk"], "delayed");
        server.stop().await;
    }

    async fn a_driver_who_falls_silent_is_told_of(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        order(&server, "a", 45.0, "picked_up").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        driver.ask("driver:location", fix(0.0)).await;
        let seen = rfc3339(server.clock.now());
        let mut customer = Socket::connect(&server, "customer-of-a", Role::Customer).await;
        let mut service = Socket::connect(&server, "svc", Role::Service).await;
        let mut chef = Socket::connect(&server, "chef", Role::Chef).await;
        server.clock.advance(TimeDelta::seconds(61));
        for socket in [&mut customer, &mut service] {
            let told = socket.event("order:signal").await;
            as_described("SignalUpdate", &told);
            assert_eq!(told, json!({"orderId": "a", "state": "lost", "lastSeen": seen}));
        }
        let stale = customer.event("order:eta_update").await;
        assert_eq!((&stale["stale"], &stale["etaMinutes"]), (&json!(true), &json!(9)), "{stale}");
        // It moves on with the clock: never in the past.
        server.clock.advance(TimeDelta::minutes(20));
        let moved = customer.event("order:eta_update").await;
        assert!(moved["estimatedDeliveryTime"].as_str() > Some(&rfc3339(server.clock.now())), "{moved}");
        driver.ask("driver:location", fix(9.0)).await;
        let back = rfc3339(server.clock.now());
        assert_eq!(customer.event("order:signal").await, json!({"orderId": "a", "state": "regained", "lastSeen": back}));
        let fresh = customer.event("order:eta_update").await;
        assert_eq!((&fresh["stale"], &fresh["etaMinutes"]), (&json!(null), &json!(8)), "{fresh}");
        assert!(chef.events_so_far().await.iter().all(|event| event.name != "order:signal"));
        server.stop().await;
    }
}
