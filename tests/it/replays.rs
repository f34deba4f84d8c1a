//! Deliveries played again, into one socket.

use chrono::TimeDelta;
use ordercast::base::clock::rfc3339;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::accuracy::deliver;
use crate::asyncapi::as_described;
use crate::binary;
use crate::bus::metric;
use crate::harness::{Server, until};
use crate::on_both_databases;
use crate::poller::{Polling, event};
use crate::socket::{Event, Incoming, Socket};

const FREE: [&str; 2] = ["--location-rate-per-second", "0"];

/// Everything until the replay has ended, and the last event.
async fn played(socket: &mut Socket) -> (Vec<Event>, Value) {
    let mut events = Vec::new();
    loop {
        let next = socket.wait_for(|incoming| match incoming {
            Incoming::Event(event) => Some(event.clone()),
            _ => None,
        });
        match next.await {
            Event { name, data, .. } if name == "replay:end" => return (events, data),
            event => events.push(event),
        }
    }
}

async fn trail(server: &Server, id: &str, fixes: usize) -> Vec<Value> {
    let (admin, mut items) = (server.admin(), Vec::new());
    until("the trail", async || {
        let page = admin.get(&format!("/orders/{id}/positions?limit=200")).await.body;
        items.clone_from(page["items"].as_array().expect("items"));
        items.len() == fixes
    })
    .await;
    items
}

/// An order on its way whose driver was seen twice, hours apart.
async fn slow_delivery(server: &Server, id: &str) {
    server.order_with_driver(id, "in_transit").await;
    let mut driver = Socket::connect(server, "driver", Role::Driver).await;
    for latitude in [47.141, 47.142] {
        server.clock.advance(TimeDelta::hours(5));
        let fix = json!({"latitude": latitude, "longitude": 9.52, "recordedAt": rfc3339(server.clock.now())});
        assert_eq!(driver.ask("driver:location", fix).await["ok"], true);
    }
    trail(server, id, 2).await;
}

on_both_databases! {
    async fn a_delivery_is_played_into_the_socket_that_asks_and_no_other(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        deliver(&server).await;
        let admin = server.admin();
        let kept = trail(&server, "o1", 32).await;
        let shown: Vec<_> = kept.iter().filter(|fix| !fix["shown"].is_null()).collect();
        assert_eq!(shown.len(), 30, "one was held, one was a teleport");
        let before = admin.get("/orders/o1").await.body;
        let mut socket = Socket::connect(&server, "root", Role::Admin).await;
        let mut others = Vec::new();
        for (id, role) in [("root", Role::Admin), ("customer", Role::Customer), ("chef", Role::Chef), ("driver", Role::Driver)] {
            let mut other = Socket::connect(&server, id, role).await;
            assert_eq!(other.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
            other.event("order:status_update").await;
            others.push(other);
        }
        let begun = socket.ask("replay:order", json!({"orderId": "o1", "speed": 600})).await;
        assert_eq!(begun, json!({"ok": true, "orderId": "o1", "fixes": 30, "seconds": 1}), "{begun}");
        as_described("ReplayOrderAnswer", &begun);
        let (events, end) = played(&mut socket).await;
        as_described("ReplayEnd", &end);
        let of = |name: &str| -> Vec<&Value> { events.iter().filter(|event| event.name == name).map(|event| &event.data).collect() };
        let (places, updates) = (of("driver:location_update"), of("order:status_update"));
        assert_eq!(places.len() + updates.len(), events.len());
        assert!(events.iter().all(|event| event.data["replayed"] == true && event.data["orderId"] == "o1" && event.offset.is_none()), "{events:?}");
        as_described("LocationUpdate", places[0]);
        // From the assignment to the end, in the order of time.
        assert_eq!(updates.iter().map(|update| update["status"].as_str().expect("a status")).collect::<Vec<_>>(), ["assigned_to_driver", "picked_up", "delivered"]);
        assert_eq!((events[0].data["status"].as_str(), events.last().map(|event| event.data["status"].clone())), (Some("assigned_to_driver"), Some(json!("delivered"))));
        // A reader that is quick hears each place as it was shown.
        let skipped: i64 = places.iter().map(|place| place["conflated"].as_i64().expect("a number")).sum();
        assert_eq!(end, json!({"orderId": "o1", "sent": events.len() + usize::try_from(skipped).expect("few")}));
        assert_eq!(end["sent"], 33);
        for place in &places {
            let is_it = |fix: &&&Value| fix["recordedAt"] == place["timestamp"];
            let fix = shown.iter().find(is_it).expect("a fix of the trail");
            assert_eq!((&fix["shown"]["latitude"], &fix["shown"]["longitude"], &fix["shown"]["source"]), (&place["latitude"], &place["longitude"], &place["source"]));
        }
        // Nobody else hears of it, and nothing has changed.
        for other in &mut others {
            let told = other.events_so_far().await;
            assert!(told.is_empty(), "{told:?}");
        }
        assert_eq!(admin.get("/orders/o1").await.body, before);
        assert_eq!(trail(&server, "o1", 32).await, kept);
        // What if nobody were faster than on foot?
        let slow = socket.ask("replay:order", json!({"orderId": "o1", "speed": 600, "set": {"filter.vmax": 2}})).await;
        assert!(slow["fixes"].as_i64().is_some_and(|fixes| (1..30).contains(&fixes)), "{slow}");
        let (_, end) = played(&mut socket).await;
        assert_eq!(end["sent"].as_i64(), slow["fixes"].as_i64().map(|fixes| fixes + 3));
        // Not everybody may, and not everything.
        for (payload, code, member) in [
            (json!({"orderId": "o1", "speed": 0}), "invalid_payload", "speed"),
            (json!({"orderId": "o1", "speed": 601}), "invalid_payload", "speed"),
            (json!({"orderId": "o1", "set": {"colour": 1}}), "invalid_payload", "set"),
            (json!({"speed": 1}), "invalid_payload", "orderId"),
            (json!({"orderId": "o2"}), "not_found", ""),
        ] {
            let refused = socket.ask("replay:order", payload).await;
            assert_eq!((&refused["ok"], &refused["error"]["code"]), (&json!(false), &json!(code)), "{refused}");
            assert_eq!(refused["error"]["member"].as_str().unwrap_or_default(), member, "{refused}");
        }
        for other in &mut others[1..] {
            let refused = other.ask("replay:order", json!({"orderId": "o1"})).await;
            assert_eq!(refused["error"]["code"], "forbidden", "{refused}");
        }
        // An order that nobody has carried is over at once.
        server.order("o3").await;
        assert_eq!(socket.ask("replay:order", json!({"orderId": "o3"})).await, json!({"ok": true, "orderId": "o3", "fixes": 0, "seconds": 0}));
        assert_eq!(socket.event("replay:end").await, json!({"orderId": "o3", "sent": 0}));
        server.stop().await;

        // The same from a shell.
        let url = db.url();
        let printed = binary::run(&["replay", "--order", "o1", "--database-url", &url, "--speed", "600", "--json"]);
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let lines: Vec<Value> = String::from_utf8_lossy(&printed.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((lines.len(), &lines[33]), (34, &json!({"event": "replay:end", "data": {"orderId": "o1", "sent": 33}})));
        assert_eq!((&lines[0]["event"], &lines[0]["data"]), (&json!("order:status_update"), &events[0].data));
        let text = binary::run(&["replay", "--order", "o1", "--database-url", &url, "--speed", "600"]);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.starts_with("order o1: 30 positions in 1 s\n") && text.ends_with("  delivered\n33 events\n"), "{text}");
        let refused = binary::run(&["replay", "--order", "o1", "--database-url", &url, "--speed", "601"]);
        assert_eq!(refused.status.code(), Some(2));
    }

    async fn a_reader_who_does_not_read_is_told_the_newest_place_and_each_status(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        server.order_with_driver("o1", "picked_up").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let began = server.clock.now();
        server.clock.advance(TimeDelta::seconds(300));
        let point = |step: i32| {
            let at = rfc3339(began + TimeDelta::seconds((2 * step).into()));
            json!({"latitude": 47.14 + f64::from(step) / 10_000.0, "longitude": 9.52, "recordedAt": at})
        };
        let points: Vec<_> = (1..=150).map(point).collect();
        assert_eq!(driver.ask("driver:location_batch", json!({"points": points})).await["accepted"], 150);
        server.admin().status("o1", "delivered").await;
        trail(&server, "o1", 150).await;
        let nodes = [&server];
        let mut poller = Polling::open(&nodes, 4).await;
        poller.join("root", Role::Admin, json!({})).await;
        let before = metric(&server, "ordercast_conflated_total").await;
        assert_eq!(poller.post(format!("42/realtime,7{}", json!(["replay:order", {"orderId": "o1", "speed": 600}]))).await, 200);
        // 64 messages wait for a client that polls. After them, one place for all others.
        until("places that are skipped", async || metric(&server, "ordercast_conflated_total").await >= before + 5).await;
        assert!(metric(&server, "ordercast_outbox_depth").await <= 5);
        let answer = poller.packet("43/realtime,7[").await;
        let answer: Value = serde_json::from_str(answer.strip_prefix("43/realtime,7").expect("an ack")).expect("JSON");
        let fixes = answer[0]["fixes"].as_i64().expect("a number");
        assert!(fixes > 140, "{answer}");
        let (mut heard, mut skipped, mut statuses) = (0, 0, Vec::new());
        loop {
            let event = event(&poller.packet("42/realtime,").await);
            let data = &event[1];
            match event[0].as_str().expect("a name") {
                "driver:location_update" => skipped += data["conflated"].as_i64().expect("a number"),
                "order:status_update" => statuses.push(data["status"].as_str().expect("a status").to_owned()),
                _ => {
                    assert_eq!(event, json!(["replay:end", {"orderId": "o1", "sent": heard + skipped}]));
                    break;
                }
            }
            heard += 1;
        }
        assert!(skipped >= 5);
        assert_eq!((heard + skipped, statuses), (fixes + 3, ["assigned_to_driver", "picked_up", "delivered"].map(ToOwned::to_owned).to_vec()));
        server.stop().await;
    }

    async fn one_delivery_at_a_time_until_it_is_stopped_or_the_socket_goes(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &FREE).await;
        deliver(&server).await;
        trail(&server, "o1", 32).await;
        slow_delivery(&server, "slow").await;
        let endless = json!({"orderId": "slow", "speed": 1});
        let mut socket = Socket::connect(&server, "root", Role::Admin).await;
        let begun = socket.ask("replay:order", endless.clone()).await;
        assert_eq!((&begun["fixes"], &begun["seconds"]), (&json!(2), &json!(36_000)), "{begun}");
        assert_eq!(socket.event("order:status_update").await["orderId"], "slow");
        // Another one in its place.
        assert_eq!(socket.ask("replay:order", json!({"orderId": "o1", "speed": 600})).await["ok"], true);
        socket.discard_received();
        let (events, end) = played(&mut socket).await;
        assert_eq!(end["orderId"], "o1");
        assert!(events.iter().all(|event| event.data["orderId"] == "o1"), "{events:?}");
        // Many at once, up to a limit. One that is stopped or whose socket goes makes room.
        let mut sockets = Vec::new();
        for number in 0..32 {
            let mut socket = Socket::connect(&server, &format!("root-{}", number / 8), Role::Admin).await;
            assert_eq!(socket.ask("replay:order", endless.clone()).await["ok"], true, "{number}");
            sockets.push(socket);
        }
        let refused = socket.ask("replay:order", endless.clone()).await;
        assert_eq!(refused["error"]["code"], "too_many", "{refused}");
        assert_eq!(sockets[0].ask("replay:order", endless.clone()).await["ok"], true, "its own makes room");
        assert_eq!(sockets[0].ask("replay:stop", json!({})).await, json!({"ok": true}));
        assert!(sockets[0].events_so_far().await.iter().all(|event| event.name != "replay:end"));
        assert_eq!(socket.ask("replay:order", endless.clone()).await["ok"], true);
        assert_eq!(sockets[1].ask("replay:stop", json!({})).await, json!({"ok": true}));
        assert_eq!(sockets[1].ask("replay:stop", json!({})).await, json!({"ok": true}), "nothing is played");
        assert_eq!(sockets[1].ask("replay:order", endless.clone()).await["ok"], true);
        drop(sockets.pop());
        until("room", async || sockets[0].ask("replay:order", endless.clone()).await["ok"] == true).await;
        server.stop().await;
    }
}
