//! `SHOW_DRIVER_WITHIN_STOPS`: as long as others come first, customers and strangers hear nowhere where the driver is.

use ordercast::model::Role;
use serde_json::{Value, json};

use crate::bus::two_nodes_with;
use crate::harness::{Api, Server, TestDb, assignment, until};
use crate::on_both_databases;
use crate::redis_server::Redis;
use crate::rights::Wire;
use crate::socket::Socket;

const FLAGS: [&str; 5] =
    ["--show-driver-within-stops", "1", "--legacy-open", "--location-rate-per-second", "0"];

/// An order of one driver whose door is so many thousandths of a degree north of the restaurant.
async fn order(server: &Server, id: &str, north: f64) {
    server.order_north(id, north).await;
    let admin = server.admin();
    admin.status(id, "ready_for_pickup").await;
    assert_eq!(admin.post(&format!("/orders/{id}/assign"), assignment("driver")).await.status, 200);
    admin.status(id, "picked_up").await;
}

/// Something that is in no other number.
fn place(mark: &str) -> Value {
    json!({"latitude": format!("47.14{mark}").parse::<f64>().expect("a number"), "longitude": 9.52})
}

/// Every door at which a customer or a stranger may hear of the order `b`, without those that never show a place (`/ws`).
struct Doors {
    wires: Vec<(&'static str, Wire)>,
    sockets: Vec<(&'static str, Socket)>,
}

impl Doors {
    async fn open(server: &Server, session: &str, share: &Value) -> Self {
        let token = server.token("customer-of-b", Role::Customer);
        let mut wires = Vec::new();
        for (door, path, first) in [
            (
                "default",
                "/socket.io/?EIO=4&transport=websocket".to_owned(),
                Some(format!("40{}", json!({"token": token}))),
            ),
            ("default, open", "/socket.io/?EIO=4&transport=websocket".to_owned(), Some("40".to_owned())),
            (
                "/orders/track",
                format!("/orders/track?token={token}"),
                Some(json!({"type": "subscribe", "order_id": "b"}).to_string()),
            ),
            (
                "/orders/track, open",
                "/orders/track".to_owned(),
                Some(json!({"type": "subscribe", "order_id": "b"}).to_string()),
            ),
            ("/ws/tracking", format!("/ws/tracking/{session}"), None),
        ] {
            wires.push((door, Wire::open(server, &path, first).await));
        }
        let mut customer = Socket::connect(server, "customer-of-b", Role::Customer).await;
        let subscribed = customer.ask("subscribe:order", json!({"orderId": "b"})).await;
        assert_eq!(subscribed["ok"], true, "{subscribed}");
        let mut stranger = Socket::connect_with_auth(server, json!({"share": share})).await;
        stranger.event("connected").await;
        stranger.event("order:status_update").await;
        Self { wires, sockets: vec![("/realtime", customer), ("link", stranger)] }
    }

    /// What each door says until it has said enough.
    async fn hear(&mut self, is_enough: impl Fn(&str, &str) -> bool) -> Vec<(&'static str, String)> {
        let mut heard = Vec::new();
        for (door, wire) in &mut self.wires {
            let mut all = String::new();
            while !is_enough(door, &all) {
                // The open namespace tells of all orders, and the other one is next.
                let text = wire.text().await;
                if !text.contains("\"orderId\":\"a\"") {
                    all += &text;
                }
            }
            heard.push((*door, all));
        }
        for (door, socket) in &mut self.sockets {
            let mut all = String::new();
            while !is_enough(door, &all) {
                for event in socket.events_so_far().await {
                    all += &(event.name + &event.data.to_string());
                }
            }
            heard.push((*door, all));
        }
        heard
    }
}

/// What customers and strangers read of the order `b`.
async fn read(server: &Server, session: &str, share: &Value) -> Vec<(&'static str, Value)> {
    let customer = server.api("customer-of-b", Role::Customer);
    let share = format!("/share/{}", share.as_str().expect("a token"));
    let mut all = Vec::new();
    for (what, api, path) in [
        ("tracking", &customer, "/orders/b/tracking".to_owned()),
        ("/api", &customer, "/api/orders/b".to_owned()),
        ("/api, open", &server.anonymous(), "/api/orders/b".to_owned()),
        ("session", &server.anonymous(), format!("/tracking/{session}")),
        ("link", &server.anonymous(), share),
    ] {
        let answer = api.get(&path).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
        all.push((what, answer.body));
    }
    let mut socket = Socket::connect(server, "customer-of-b", Role::Customer).await;
    all.push(("subscribe:order", socket.ask("subscribe:order", json!({"orderId": "b"})).await));
    all.push(("order:tracking", socket.ask("order:tracking", json!({"orderId": "b"})).await));
    all
}

async fn put_plan(admin: &Api, ids: &[&str]) {
    let stops: Vec<_> = ids.iter().map(|id| json!({"orderId": id, "kind": "dropoff"})).collect();
    assert_eq!(admin.put("/drivers/driver/plan", json!({"stops": stops})).await.status, 200);
}

/// The driver reports to one node, and the customer is on another.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_hides_the_driver_as_well() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let (a, b) = two_nodes_with(&db, &redis.url(), &FLAGS).await;
    for (id, north) in [("a", 45.0), ("b", 90.0)] {
        order(&a, id, north).await;
    }
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&b, "customer-of-b", Role::Customer).await;
    let mut staff = Socket::connect(&b, "root", Role::Admin).await;
    for socket in [&mut customer, &mut staff] {
        assert_eq!(socket.ask("subscribe:order", json!({"orderId": "b"})).await["ok"], true);
    }
    let own = b.api("customer-of-b", Role::Customer);
    driver.ask("driver:location", place("11")).await;
    assert_eq!(staff.event("driver:location_update").await["latitude"], 47.1411);
    let hidden = own.get("/orders/b/tracking").await.body;
    assert!(!hidden.to_string().contains("47.1411"), "{hidden}");
    assert_eq!(b.admin().get("/orders/b/tracking").await.body["driverLatitude"], 47.1411);
    b.admin().status("a", "delivered").await;
    until("the node of the driver knows", async || {
        a.admin().get("/orders/b/tracking").await.body["stopsBefore"] == 0
    })
    .await;
    driver.ask("driver:location", place("22")).await;
    assert_eq!(customer.event("driver:location_update").await["latitude"], 47.1422);
    assert_eq!(own.get("/orders/b/tracking").await.body["driverLatitude"], 47.1422);
    a.stop().await;
    b.stop().await;
}

on_both_databases! {
    async fn no_door_shows_the_driver_before_the_customer_is_next(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FLAGS).await;
        for (id, north) in [("a", 45.0), ("b", 90.0)] {
            order(&server, id, north).await;
        }
        let admin = server.admin();
        let rider = server.api("driver", Role::Driver);
        let session = rider.post("/tracking/start", json!({"order_id": "b"})).await;
        let session = session.body["tracking_id"].as_str().expect("a session").to_owned();
        let share = server.api("customer-of-b", Role::Customer).post("/orders/b/share-links", json!({"scope": "location"})).await.body["token"].clone();
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        assert_eq!(driver.ask("driver:location", place("11")).await["shown"], true);
        let mut doors = Doors::open(&server, &session, &share).await;
        let (mut staff, mut chef) = (Socket::connect(&server, "root", Role::Admin).await, Socket::connect(&server, "chef", Role::Chef).await);
        for socket in [&mut staff, &mut chef, &mut driver] {
            let answer = socket.ask("subscribe:order", json!({"orderId": "b"})).await;
            assert_eq!((&answer["tracking"]["driverLatitude"], &answer["tracking"]["stopsBefore"]), (&json!(47.1411), &json!(1)), "{answer}");
        }
        // One stop comes first: only the own people see it. All others hear the rest.
        driver.ask("driver:location", place("22")).await;
        for socket in [&mut staff, &mut chef, &mut driver] {
            assert_eq!(socket.event("driver:location_update").await["latitude"], 47.1422);
        }
        let seq = admin.status("b", "in_transit").await["seq"].clone();
        let is_told = |door: &str, heard: &str| match door {
            "/ws/tracking" => heard.contains("status_change"),
            "default" | "default, open" => heard.contains("\"in_transit\",\"statusHistory\""),
            _ => heard.contains(&format!("\"seq\":{seq}")),
        };
        for (door, heard) in doors.hear(is_told).await {
            assert!(!heard.contains("47.14"), "{door}: {heard}");
        }
        for (what, body) in read(&server, &session, &share).await {
            let text = body.to_string();
            assert!(!text.contains("47.1411") && !text.contains("47.1422") && !text.contains("lastLocationUpdate"), "{what}: {text}");
            let eta = [&body["etaMinutes"], &body["tracking"]["etaMinutes"], &body["order"]["eta_minutes"], &body["eta_seconds"]];
            assert!(eta.iter().any(|eta| eta.as_i64() > Some(10)), "{what}: {text}");
        }
        let tracking = server.api("customer-of-b", Role::Customer).get("/orders/b/tracking").await;
        assert_eq!(tracking.body["stopsBefore"], 1, "{}", tracking.body);
        assert_eq!(admin.get("/orders/b/tracking").await.body["driverLatitude"], 47.1422);
        // The customer of the first stop sees it all the time.
        let first = server.api("customer-of-a", Role::Customer).get("/orders/a/tracking").await.body;
        assert_eq!((&first["driverLatitude"], &first["stopsBefore"]), (&json!(47.1422), &json!(0)), "{first}");
        // An ETA by hand says nothing of stops, and changes nothing.
        assert_eq!(admin.post("/orders/b/eta", json!({"etaMinutes": 30})).await.status, 200);
        driver.ask("driver:location", place("33")).await;
        // Now it is next.
        admin.status("a", "delivered").await;
        let next = server.api("customer-of-b", Role::Customer).get("/orders/b/tracking").await;
        assert_eq!(next.body["driverLatitude"], 47.1433, "{}", next.body);
        assert_ne!(tracking.header("etag"), next.header("etag"));
        driver.ask("driver:location", place("44")).await;
        for (door, heard) in doors.hear(|_, heard| heard.contains("47.1444")).await {
            assert!(!heard.contains("47.1433"), "{door}: {heard}");
        }
        for (what, body) in read(&server, &session, &share).await {
            assert!(body.to_string().contains("47.1444"), "{what}: {body}");
        }
        server.stop().await;
    }

    // While it was next, the default namespace said where the driver was. Who was away then hears later how it stood, but not where.
    async fn what_is_told_again_has_no_place(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FLAGS).await;
        order(&server, "b", 90.0).await;
        let admin = server.admin();
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        driver.ask("driver:location", place("11")).await;
        let path = "/socket.io/?EIO=4&transport=websocket";
        let token = server.token("customer-of-b", Role::Customer);
        let mut wire = Wire::open(&server, path, Some(format!("40{}", json!({"token": token})))).await;
        let joined = loop {
            let text = wire.text().await;
            if let Some(joined) = text.strip_prefix("40") {
                break serde_json::from_str::<Value>(joined).expect("JSON");
            }
        };
        admin.status("b", "in_transit").await;
        let heard = loop {
            let text = wire.text().await;
            if text.starts_with("42[\"trackingUpdate\"") && text.contains("in_transit") {
                break text;
            }
        };
        assert!(heard.contains("47.1411"), "it is next: {heard}");
        let offset = serde_json::from_str::<Value>(&heard[2..]).expect("JSON")[2].clone();
        drop(wire);
        assert_eq!(admin.patch("/orders/b", json!({"notes": "ring twice"})).await.status, 200);
        order(&server, "a", 45.0).await;
        put_plan(&admin, &["a", "b"]).await;
        let auth = json!({"token": token, "pid": joined["pid"], "offset": offset});
        let mut back = Wire::open(&server, path, Some(format!("40{auth}"))).await;
        let missed = loop {
            let text = back.text().await;
            if text.starts_with("42[\"trackingUpdate\"") {
                break text;
            }
        };
        assert!(missed.contains("estimatedDelivery") && !missed.contains("47.14"), "{missed}");
        // Staff is told all of it.
        let mut staff = Wire::open(&server, path, Some(format!("40{}", json!({"token": server.token("root", Role::Admin)})))).await;
        until("the notice", async || {
            admin.patch("/orders/b", json!({"notes": "ring once"})).await;
            staff.text().await.contains("47.1411")
        }).await;
        server.stop().await;
    }
}
