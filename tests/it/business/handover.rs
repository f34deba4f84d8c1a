//! Proofs, the customer's number, ratings, and links for strangers.

use chrono::TimeDelta;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{Api, Server, assignment, new_order};
use crate::on_both_databases;
use crate::socket::Socket;

/// An order that asks for proofs, in transit with its driver.
async fn on_the_way(server: &Server, id: &str, proofs: Value) {
    let mut order = new_order(id);
    order["proofRequired"] = proofs;
    let admin = server.admin();
    assert_eq!(admin.post("/orders", order).await.status, 201);
    admin.status(id, "ready_for_pickup").await;
    assert_eq!(admin.post(&format!("/orders/{id}/assign"), assignment("driver")).await.status, 200);
    admin.status(id, "in_transit").await;
}

fn photo(at: &str) -> Value {
    json!({"kind": "photo", "reference": "s3://proofs/1.jpg", "sha256": "AB".repeat(32), "mediaType": "image/jpeg", "capturedAt": at, "latitude": 47.15, "longitude": 9.53})
}

on_both_databases! {
    async fn nothing_is_delivered_without_its_proofs(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        on_the_way(&server, "o1", json!(["pin", "photo"])).await;
        let (driver, customer) = (server.api("driver", Role::Driver), server.api("customer", Role::Customer));
        let shown = customer.get("/orders/o1").await.body;
        assert_eq!(shown["proofRequired"], json!(["photo", "pin"]));
        let pin = customer.get("/orders/o1/pin").await.body["pin"].as_str().expect("a PIN").to_owned();
        assert_eq!((pin.len(), customer.get("/orders/o1/pin").await.body["pin"].as_str()), (4, Some(&*pin)));
        for who in [&driver, &server.admin(), &server.api("chef", Role::Chef)] {
            who.get("/orders/o1/pin").await.assert_problem(403, "forbidden");
        }
        // On every door.
        let refused = driver.patch("/orders/o1/status", json!({"status": "delivered"})).await;
        refused.assert_problem(409, "proof_required");
        assert_eq!(refused.body["missing"], json!(["photo", "pin"]));
        let mut socket = Socket::connect(&server, "driver", Role::Driver).await;
        let refused = socket.ask("order:status_update", json!({"orderId": "o1", "status": "delivered"})).await;
        assert_eq!((&refused["error"]["code"], &refused["error"]["missing"]), (&json!("proof_required"), &json!(["photo", "pin"])));
        let admin = server.admin();
        admin.put("/api/orders/o1/status", json!({"status": "delivered"})).await.assert_problem(409, "proof_required");
        admin.patch("/api/v1/orders/o1/status", json!({"status": "DELIVERED"})).await.assert_problem(409, "proof_required");
        let session = driver.post("/tracking/start", json!({"order_id": "o1"})).await.body["tracking_id"].clone();
        let update = json!({"lat": 47.15, "lng": 9.53, "status": "DELIVERED"});
        driver.post(&format!("/tracking/update/{}", session.as_str().expect("an id")), update).await.assert_problem(409, "proof_required");

        let at = ordercast::base::clock::rfc3339(server.clock.now());
        for (change, member) in [
            (json!({"sha256": "xyz"}), "sha256"), (json!({"reference": ""}), "reference"), (json!({"mediaType": "jpeg"}), "mediaType"),
            (json!({"capturedAt": "2999-01-01T00:00:00Z"}), "capturedAt"), (json!({"longitude": null}), "longitude"), (json!({"kind": "song"}), "kind"),
        ] {
            let mut body = photo(&at);
            body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
            let refused = driver.post("/orders/o1/proof", body).await;
            refused.assert_problem(422, "invalid_payload");
            assert_eq!(refused.body["member"], member, "{}", refused.body);
        }
        customer.post("/orders/o1/proof", photo(&at)).await.assert_problem(403, "forbidden");
        server.api("other", Role::Driver).post("/orders/o1/proof", photo(&at)).await.assert_problem(404, "not_found");
        let proven = driver.post("/orders/o1/proof", photo(&at)).await;
        assert_eq!(proven.status, 200, "{}", proven.body);
        assert_eq!(driver.post("/orders/o1/proof", photo(&at)).await.body["seq"], proven.body["seq"], "again");
        let wrong = if pin == "0000" { "0001" } else { "0000" };
        let refused = driver.post("/orders/o1/proof", json!({"kind": "pin", "pin": wrong})).await;
        refused.assert_problem(422, "wrong_pin");
        assert_eq!(refused.body["attemptsLeft"], 4);
        assert_eq!(driver.post("/orders/o1/proof", json!({"kind": "pin", "pin": pin})).await.status, 200);
        assert_eq!(driver.post("/orders/o1/proof", json!({"kind": "pin", "pin": pin})).await.status, 200);
        let proofs = customer.get("/orders/o1/proof").await.body;
        assert_eq!((&proofs["missing"], proofs["items"].as_array().map(Vec::len)), (&json!([]), Some(2)), "{proofs}");
        assert_eq!((&proofs["items"][0]["sha256"], &proofs["items"][0]["latitude"]), (&json!("ab".repeat(32)), &json!(47.15)));
        driver.status("o1", "delivered").await;
        server.stop().await;
    }

    async fn a_number_is_not_guessed(db: TestDb) {
        let server = Server::start(&db, &[]).await;
        on_the_way(&server, "o1", json!(["pin"])).await;
        let (driver, admin) = (server.api("driver", Role::Driver), server.admin());
        let pin = server.api("customer", Role::Customer).get("/orders/o1/pin").await.body["pin"].as_str().expect("a PIN").to_owned();
        let wrong = if pin == "0000" { "0001" } else { "0000" };
        let guesses = (0..40).map(|_| driver.post("/orders/o1/proof", json!({"kind": "pin", "pin": wrong})));
        let answers = futures_util::future::join_all(guesses).await;
        let mut left: Vec<_> = answers.iter().filter(|answer| answer.status == 422).map(|answer| answer.body["attemptsLeft"].as_i64().expect("a number")).collect();
        left.sort_unstable();
        // Two that are counted at once may both see the lower number.
        assert_eq!((left.len(), left[0]), (5, 0), "{left:?}");
        answers.iter().filter(|answer| answer.status != 422).for_each(|answer| answer.assert_problem(409, "pin_locked"));
        driver.post("/orders/o1/proof", json!({"kind": "pin", "pin": pin})).await.assert_problem(409, "pin_locked");
        // Staff may pass, and say why.
        admin.patch("/orders/o1/status", json!({"status": "delivered"})).await.assert_problem(409, "proof_required");
        let passed = admin.patch("/orders/o1/status", json!({"status": "delivered", "note": "the customer called"})).await;
        assert_eq!((passed.status, &passed.body["status"]), (200, &json!("delivered")));
        // An order that asks for no number has none.
        server.order("o2").await;
        server.api("customer", Role::Customer).get("/orders/o2/pin").await.assert_problem(404, "not_found");
        server.stop().await;
    }

    async fn customers_say_how_it_was(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &[]).await;
        server.order_with_driver("o1", "in_transit").await;
        let customer = server.api("customer", Role::Customer);
        let good = json!({"subject": "driver", "stars": 5, "comment": "quick"});
        customer.put("/orders/o1/rating", good.clone()).await.assert_problem(409, "illegal_transition");
        server.admin().status("o1", "delivered").await;
        for (body, member) in [(json!({"subject": "driver", "stars": 6}), "stars"), (json!({"subject": "food", "stars": 5}), "subject"), (json!({"subject": "order", "stars": 5, "comment": "x".repeat(501)}), "comment")] {
            let refused = customer.put("/orders/o1/rating", body).await;
            refused.assert_problem(422, "invalid_payload");
            assert_eq!(refused.body["member"], member);
        }
        for who in [server.admin(), server.api("driver", Role::Driver), server.api("chef", Role::Chef)] {
            who.put("/orders/o1/rating", good.clone()).await.assert_problem(403, "forbidden");
        }
        server.api("other", Role::Customer).put("/orders/o1/rating", good.clone()).await.assert_problem(404, "not_found");
        assert_eq!(customer.put("/orders/o1/rating", good).await.status, 200);
        let changed = customer.put("/orders/o1/rating", json!({"subject": "driver", "stars": 4})).await;
        assert_eq!((changed.status, &changed.body["stars"], changed.body.get("comment")), (200, &json!(4), None));
        customer.put("/orders/o1/rating", json!({"subject": "order", "stars": 3})).await;
        let all = server.admin().get("/orders/o1/rating").await.body;
        assert_eq!(all["items"].as_array().map(Vec::len), Some(2));
        server.clock.advance(TimeDelta::days(15));
        let late = server.api("customer", Role::Customer);
        late.put("/orders/o1/rating", json!({"subject": "chef", "stars": 1})).await.assert_problem(410, "expired");
        server.stop().await;
    }

    async fn a_stranger_with_a_link_sees_one_order_and_nobody(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &["--gps-filter", "off"]).await;
        server.order_with_driver("o1", "in_transit").await;
        server.order("o2").await;
        let (customer, driver) = (server.api("customer", Role::Customer), server.api("driver", Role::Driver));
        let link = async |scope: &str| {
            let made = customer.post("/orders/o1/share-links", json!({"expiresInSeconds": 7_200, "scope": scope})).await;
            assert_eq!(made.status, 201, "{}", made.body);
            made.body
        };
        let (place, status) = (link("location").await, link("status").await);
        let token = place["token"].as_str().expect("a token").to_owned();
        assert_eq!((token.len(), &place["url"]), (22, &json!(format!("/share/{token}"))));
        driver.ask_location(&server).await;
        let join = async |token: &Value| {
            let mut socket = Socket::connect_with_auth(&server, json!({"share": token})).await;
            socket.event("connected").await;
            let snapshot = socket.event("order:status_update").await;
            assert_eq!((&snapshot["orderId"], &snapshot["status"], &snapshot["snapshot"]), (&json!("o1"), &json!("in_transit"), &json!(true)));
            socket
        };
        let (mut with_place, mut without) = (join(&place["token"]).await, join(&status["token"]).await);
        server.clock.advance(TimeDelta::seconds(5));
        driver.ask_location(&server).await;
        let moved = with_place.event("driver:location_update").await;
        assert_eq!((&moved["latitude"], moved.get("driverId")), (&json!(47.14), None), "{moved}");
        // They may look, at this one order.
        assert_eq!(with_place.ask("subscribe:order", json!({"orderId": "o2"})).await["error"]["code"], "not_found");
        assert_eq!(with_place.ask("order:tracking", json!({"orderId": "o2"})).await["error"]["code"], "not_found");
        for (event, body) in [("order:status_update", json!({"orderId": "o1", "status": "delivered"})), ("driver:location", json!({"latitude": 1, "longitude": 1})), ("subscribe:fleet", json!({}))] {
            assert_eq!(with_place.ask(event, body).await["error"]["code"], "forbidden", "{event}");
        }
        let seen = with_place.ask("order:tracking", json!({"orderId": "o1"})).await;
        assert_eq!((&seen["driverLatitude"], &seen["status"]), (&json!(47.14), &json!("in_transit")), "{seen}");
        let unseen = without.ask("order:tracking", json!({"orderId": "o1"})).await;
        assert!(unseen.get("driverLatitude").is_none(), "{unseen}");
        let read = async |token: &Value| server.anonymous().get(&format!("/share/{}", token.as_str().expect("a token"))).await;
        let json_of_link = read(&place["token"]).await;
        assert_eq!((json_of_link.status, json_of_link.header("cache-control"), json_of_link.header("referrer-policy")), (200, "no-store", "no-referrer"));
        // Something that somebody wrote, and everything that a stranger hears until the end.
        server.admin().patch("/orders/o1/status", json!({"status": "failed", "reason": "nobody_home", "note": "Clara is away"})).await;
        driver.status("o1", "in_transit").await;
        assert_eq!(without.event("order:status_update").await["message"], "Your order could not be delivered");
        let mut heard = format!("{seen}{}{moved}", json_of_link.body);
        for socket in [&mut with_place, &mut without] {
            for event in socket.events_so_far().await {
                heard += &event.name;
                heard += &event.data.to_string();
            }
        }
        for secret in ["Clara", "Chiara", "Dario", "555", "Linden", "Market", "\"driver\"", "\"customer\"", "\"chef\"", "root", "ring twice"] {
            assert!(!heard.contains(secret), "{secret} in {heard}");
        }
        assert!(!without.events_so_far().await.iter().any(|event| event.name == "driver:location_update"));

        // Whose link it is, and when it ends.
        driver.delete(&format!("/orders/o1/share-links/{}", place["id"].as_str().expect("an id"))).await.assert_problem(404, "not_found");
        server.api("other", Role::Customer).post("/orders/o1/share-links", json!({"scope": "status"})).await.assert_problem(404, "not_found");
        assert_eq!(driver.get("/orders/o1/share-links").await.body["items"], json!([]));
        let listed = server.admin().get("/orders/o1/share-links").await.body;
        assert_eq!((listed["items"].as_array().map(Vec::len), listed.to_string().contains(&token)), (Some(2), false));
        assert_eq!(customer.delete(&format!("/orders/o1/share-links/{}", place["id"].as_str().expect("an id"))).await.status, 204);
        with_place.until_closed().await;
        read(&place["token"]).await.assert_problem(410, "expired");
        let again = Socket::connect_with_auth(&server, json!({"share": place["token"]})).await.refusal().await;
        assert!(again.starts_with("expired:"), "{again}");
        let guessed = Socket::connect_with_auth(&server, json!({"share": "A".repeat(22)})).await.refusal().await;
        assert!(guessed.starts_with("not_found:"), "{guessed}");
        for token in ["A".repeat(22), "x".to_owned(), "A".repeat(500)] {
            read(&json!(token)).await.assert_problem(404, "not_found");
        }
        for (body, member) in [(json!({"expiresInSeconds": 0}), "expiresInSeconds"), (json!({"expiresInSeconds": 604_801}), "expiresInSeconds"), (json!({"scope": "all"}), "scope")] {
            let refused = customer.post("/orders/o1/share-links", body).await;
            refused.assert_problem(422, "invalid_payload");
            assert_eq!(refused.body["member"], member);
        }
        // An hour after the delivery.
        driver.status("o1", "delivered").await;
        assert_eq!(read(&status["token"]).await.status, 200);
        server.clock.advance(TimeDelta::minutes(59));
        assert_eq!(read(&status["token"]).await.body["status"], "delivered");
        server.clock.advance(TimeDelta::minutes(2));
        read(&status["token"]).await.assert_problem(410, "expired");
        without.until_closed().await;
        let page = Api::send(server.anonymous().request("GET", &format!("/share/{}", status["token"].as_str().expect("a token"))).header("accept", "text/html,*/*")).await;
        assert_eq!((page.status, page.header("content-type"), page.header("cache-control")), (410, "text/html; charset=utf-8", "no-store"));
        server.stop().await;
    }
}

impl Api {
    /// The driver reports a place.
    async fn ask_location(&self, server: &Server) {
        let at = ordercast::base::clock::rfc3339(server.clock.now());
        let body = json!({"latitude": 47.14, "longitude": 9.52, "recordedAt": at});
        let reported = self.post("/drivers/driver/locations", body).await;
        assert_eq!(reported.status, 200, "{}", reported.body);
    }
}
