//! Orders that are offered to drivers.

use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Api, Server, assignment};
use crate::on_both_databases;
use crate::socket::Socket;

async fn ready(server: &Server, id: &str) {
    server.order(id).await;
    server.admin().status(id, "ready_for_pickup").await;
}

/// The orders that a driver is offered.
async fn offered(driver: &Api) -> Vec<Value> {
    let list = driver.get("/offers").await;
    assert_eq!(list.status, 200, "{}", list.body);
    list.body["items"].as_array().expect("items").iter().map(|offer| offer["orderId"].clone()).collect()
}

on_both_databases! {
    async fn the_first_of_two_claims_wins(db: TestDb) {
        let server = Server::start(&db, &["--driver-claims"]).await;
        let mut late = Socket::connect(&server, "late", Role::Driver).await;
        ready(&server, "o1").await;
        late.event("order:available").await;
        let drivers: Vec<_> = (0..8).map(|n| server.api(&format!("d{n}"), Role::Driver)).collect();
        let answers = futures_util::future::join_all(drivers.iter().map(|driver| driver.post("/orders/o1/claim", json!({})))).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((won.len(), lost.len()), (1, 7));
        for answer in lost {
            answer.assert_problem(409, "taken");
        }
        assert_eq!(won[0].body["status"], "assigned_to_driver");
        let winner = won[0].body["driver"]["id"].as_str().expect("an id").to_owned();
        // Again is no mistake, and nobody sees anything new.
        let again = server.api(&winner, Role::Driver).post("/orders/o1/claim", json!({})).await;
        assert_eq!((again.status, &again.body["seq"]), (200, &won[0].body["seq"]));
        assert_eq!(late.event("order:withdrawn").await, json!({"orderId": "o1", "reason": "taken"}));
        // Cancelled while it was offered.
        ready(&server, "o2").await;
        late.event("order:available").await;
        server.admin().status("o2", "cancelled").await;
        assert_eq!(late.event("order:withdrawn").await, json!({"orderId": "o2", "reason": "cancelled"}));
        server.api("late", Role::Driver).post("/orders/o2/claim", json!({})).await.assert_problem(409, "taken");
        // What was never offered is not known to exist.
        server.order("o3").await;
        for id in ["o3", "o4"] {
            server.api("late", Role::Driver).post(&format!("/orders/{id}/claim"), json!({})).await.assert_problem(404, "not_found");
        }
        for who in [server.admin(), server.api("customer", Role::Customer)] {
            who.post("/orders/o3/claim", json!({})).await.assert_problem(403, "forbidden");
        }
        server.stop().await;
    }

    async fn who_declines_is_not_asked_again(db: TestDb) {
        let server = Server::start(&db, &["--driver-claims"]).await;
        let (admin, dan, dora) = (server.admin(), server.api("dan", Role::Driver), server.api("dora", Role::Driver));
        ready(&server, "o1").await;
        assert_eq!(offered(&dan).await, ["o1"]);
        let mut socket = Socket::connect(&server, "dan", Role::Driver).await;
        assert_eq!(admin.post("/orders/o1/assign", assignment("dan")).await.status, 200);
        socket.event("driver:new_assignment").await;
        dora.post("/orders/o1/decline", json!({})).await.assert_problem(404, "not_found");
        admin.post("/orders/o1/decline", json!({})).await.assert_problem(403, "forbidden");
        let mut other = Socket::connect(&server, "dora", Role::Driver).await;
        let declined = dan.post("/orders/o1/decline", json!({"reason": "too far"})).await;
        assert_eq!((declined.status, &declined.body["status"]), (200, &json!("ready_for_pickup")), "{}", declined.body);
        assert_eq!(other.event("order:available").await["orderId"], "o1");
        // Once more changes nothing.
        assert_eq!(dan.post("/orders/o1/decline", json!({})).await.body["seq"], declined.body["seq"]);
        assert_eq!((offered(&dan).await, offered(&dora).await), (vec![], vec![json!("o1")]));
        dan.post("/orders/o1/claim", json!({})).await.assert_problem(404, "not_found");
        // The driver hears that it is gone, and of no offer: the next one is another order.
        socket.event("driver:unassigned").await;
        ready(&server, "o2").await;
        assert_eq!(socket.event("order:available").await["orderId"], "o2");
        // With the goods in the hand it is too late.
        assert_eq!(dora.post("/orders/o1/claim", json!({})).await.status, 200);
        dora.status("o1", "picked_up").await;
        dora.post("/orders/o1/decline", json!({})).await.assert_problem(409, "illegal_transition");
        assert_eq!(dan.post("/orders/o1/decline", json!({})).await.status, 200, "it is another's by now");
        assert_eq!(admin.get("/orders/o1").await.body["driver"]["id"], "dora");
        server.stop().await;
    }

    async fn offers_have_pages_and_distances(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        for id in ["o1", "o2", "o3"] {
            ready(&server, id).await;
        }
        let driver = server.api("dan", Role::Driver);
        let first = driver.get("/offers?limit=2").await.body;
        assert!(first["items"][0].get("distanceMeters").is_none());
        assert_eq!(first["items"][0]["pickup"], json!({"address": "Market Street 3", "latitude": 47.14, "longitude": 9.52}));
        let cursor = first["nextCursor"].as_str().expect("a cursor");
        let second = driver.get(&format!("/offers?limit=2&cursor={cursor}")).await.body;
        assert_eq!((&second["items"][0]["orderId"], second.get("nextCursor")), (&json!("o3"), None));
        let mut socket = Socket::connect(&server, "dan", Role::Driver).await;
        socket.ask("driver:location", json!({"latitude": 47.14, "longitude": 9.53})).await;
        let near = driver.get("/offers").await.body;
        let metres = near["items"][0]["distanceMeters"].as_f64().expect("metres");
        assert!((700.0..800.0).contains(&metres), "{metres}");
        // Nobody else has offers, and claims are off.
        server.admin().get("/offers").await.assert_problem(403, "forbidden");
        driver.post("/orders/o1/claim", json!({})).await.assert_problem(403, "forbidden");
        driver.get("/offers?cursor=x").await.assert_problem(422, "invalid_payload");
        server.stop().await;
    }
}
