//! The filter of positions through the whole server: drivers whose way is known exactly, phones with the errors of real ones, and
//! what staff see of it afterwards.

use chrono::TimeDelta;
use ordercast::base::clock::{Time, rfc3339};
use ordercast::model::plane::Plane;
use ordercast::model::{Point, Role};
use ordercast::route::network::{Network, Searcher};
use ordercast::route::{Mode, Route};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::bus::metric;
use crate::harness::{Server, TestDb, assignment, new_order, until};
use crate::on_both_databases;
use crate::roads::shared;
use crate::socket::Socket;

/// A phone's fix, and where the driver really was.
struct Sent {
    fix: Value,
    truth: Point,
    at: Time,
    /// What was done to it on purpose.
    fault: Option<&'static str>,
}

/// A driver along a route, second by second: place and speed.
fn drive(route: &Route, random: &mut StdRng) -> Vec<(Point, f64, f64)> {
    let (mut passed, mut speed, mut standing) = (0.0, 0.0_f64, 0);
    let (mut way, mut target) = (Vec::new(), 12.0);
    while passed < route.metres && way.len() < 1_500 {
        if standing > 0 {
            standing -= 1;
            speed = 0.0;
        } else {
            if random.random_bool(0.02) {
                target = random.random_range(7.0..15.0);
            }
            if random.random_bool(0.01) {
                standing = random.random_range(5..25);
            }
            speed = if speed < target { (speed + 1.8).min(target) } else { (speed - 2.5).max(target) };
        }
        passed += speed;
        let index =
            route.points.partition_point(|point| point.metres <= passed).clamp(1, route.points.len() - 1);
        let (from, to) = (&route.points[index - 1], &route.points[index]);
        let share = ((passed - from.metres) / (to.metres - from.metres).max(0.01)).clamp(0.0, 1.0);
        let plane = Plane::around(from.place);
        let [east, north] = plane.metres(to.place);
        let heading = east.atan2(north).to_degrees().rem_euclid(360.0);
        way.push((plane.place([east * share, north * share]), speed, heading));
    }
    way
}

fn normal(random: &mut StdRng) -> f64 {
    let (one, other): (f64, f64) = (random.random_range(1e-9..1.0), random.random());
    (-2.0 * one.ln()).sqrt() * (other * std::f64::consts::TAU).cos()
}

/// What a phone tells of it: errors that change slowly, the lane beside the middle of the road, streets between high houses, and the
/// faults of real phones.
fn phone(way: &[(Point, f64, f64)], every: usize, began: Time, random: &mut StdRng) -> Vec<Sent> {
    let mut error = [normal(random), normal(random)];
    let (mut canyon, mut sent): (usize, Vec<Sent>) = (0, Vec::new());
    for (second, &(truth, speed, heading)) in way.iter().enumerate() {
        let keep = (-1.0_f64 / 15.0).exp();
        error = error.map(|error| error * keep + normal(random) * (1.0 - keep * keep).sqrt());
        if canyon == 0 && random.random_bool(1.0 / 400.0) {
            canyon = random.random_range(20..70);
        }
        canyon = canyon.saturating_sub(1);
        if second % every != 0 {
            continue;
        }
        let accuracy: f64 = random.random_range(4.0..9.0);
        let worse = if canyon > 0 { random.random_range(3.0..5.0) } else { 1.0 };
        let error = error.map(|error| error * worse * accuracy / 1.51);
        let (sin, cos) = heading.to_radians().sin_cos();
        let lane = [2.0 * cos, -2.0 * sin];
        let at = began + TimeDelta::seconds(i64::try_from(second).expect("small"));
        let mut place = Plane::around(truth).place([error[0] + lane[0], error[1] + lane[1]]);
        let mut accuracy = if canyon > 0 { accuracy * random.random_range(1.5..3.0) } else { accuracy };
        let far = |random: &mut StdRng, metres: f64| {
            let (sin, cos) = random.random_range(0.0..std::f64::consts::TAU).sin_cos();
            Plane::around(truth).place([metres * sin, metres * cos])
        };
        let mut fault = None;
        if sent.is_empty() && random.random_bool(0.3) {
            let metres = random.random_range(300.0..4_000.0);
            (place, accuracy, fault) = (far(random, metres), 12.0, Some("first"));
        } else if random.random_bool(0.02) {
            let metres = random.random_range(500.0..8_000.0);
            (place, fault) = (far(random, metres), Some("teleport"));
        } else if random.random_bool(0.01) {
            let metres = random.random_range(100.0..900.0);
            (place, accuracy, fault) =
                (far(random, metres), random.random_range(60.0..2_000.0), Some("cell"));
        } else if random.random_bool(0.005) {
            (place, fault) = (Point::stored(place.lon(), place.lat()), Some("swapped"));
        }
        let unknown = random.random_bool(0.05);
        let told = (speed + normal(random) * 0.4).max(0.0);
        let turned = (heading + normal(random) * 6.0).rem_euclid(360.0);
        let fix = json!({
            "latitude": place.lat(), "longitude": place.lon(), "accuracy": accuracy, "recordedAt": rfc3339(at),
            "speed": if unknown { -1.0 } else { told }, "heading": if unknown { -1.0 } else { turned },
        });
        sent.push(Sent { fix, truth, at, fault });
    }
    sent
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((values.len() as f64 * share) as usize).min(values.len() - 1);
    values[index]
}

/// The errors of what was sent and of what was shown, in metres, and how many faults were sent and shown.
#[derive(Default)]
struct Errors {
    sent: Vec<f64>,
    shown: Vec<f64>,
    faults: usize,
    faults_shown: usize,
    first_shown: usize,
}

async fn trip(server: &Server, number: usize, route: &Route, every: usize, random: &mut StdRng) -> Errors {
    let (id, driver) = (format!("trip-{number}"), format!("driver-{number}"));
    let (from, to) = (route.points[0].place, route.points[route.points.len() - 1].place);
    let mut order = new_order(&id);
    (order["chef"]["latitude"], order["chef"]["longitude"]) = (json!(from.lat()), json!(from.lon()));
    (order["delivery"]["latitude"], order["delivery"]["longitude"]) = (json!(to.lat()), json!(to.lon()));
    let admin = server.admin();
    assert_eq!(admin.post("/orders", order).await.status, 201);
    admin.status(&id, "ready_for_pickup").await;
    assert_eq!(admin.post(&format!("/orders/{id}/assign"), assignment(&driver)).await.status, 200);
    admin.status(&id, "picked_up").await;
    let began = server.clock.now() + TimeDelta::seconds(1);
    let sent = phone(&drive(route, random), every, began, random);
    let mut socket = Socket::connect(server, &driver, Role::Driver).await;
    let mut errors = Errors::default();
    for one in &sent {
        server.clock.advance(one.at + TimeDelta::milliseconds(120) - server.clock.now());
        let answer = socket.ask("driver:location", one.fix.clone()).await;
        assert_eq!(answer["ok"], true, "{answer}");
        if one.fault.is_some() {
            errors.faults += 1;
        } else {
            let place = |name: &str| one.fix[name].as_f64().expect("a number");
            let place = Point::stored(place("latitude"), place("longitude"));
            errors.sent.push(Plane::around(one.truth).away(place));
        }
    }
    drop(socket);
    // The trail is written behind; the last fix is in it, then all are.
    let last = rfc3339(sent.last().expect("fixes").at);
    let positions = async |after: i64| {
        admin
            .get(&format!("/orders/{id}/positions?limit=200&after={after}&from={}", rfc3339(began)))
            .await
            .body
    };
    until("the trail", async || {
        let all = admin.get(&format!("/orders/{id}/positions?from={last}")).await.body;
        all["items"].as_array().is_some_and(|items| !items.is_empty())
    })
    .await;
    let (mut kept, mut after) = (Vec::new(), 0);
    loop {
        let page = positions(after).await;
        kept.extend(page["items"].as_array().expect("a list").clone());
        let Some(next) = page["nextCursor"].as_i64() else { break };
        after = next;
    }
    assert_eq!(kept.len(), sent.len(), "every fix is kept");
    for (one, kept) in sent.iter().zip(&kept) {
        assert_eq!(kept["recordedAt"], rfc3339(one.at));
        let Some(shown) = kept["shown"].as_object() else { continue };
        let place = Point::stored(shown["latitude"].as_f64().unwrap(), shown["longitude"].as_f64().unwrap());
        let away = Plane::around(one.truth).away(place);
        if one.fault.is_none() {
            errors.shown.push(away);
        } else if away > 100.0 {
            errors.faults_shown += 1;
            errors.first_shown += usize::from(one.fault == Some("first"));
            println!("trip {number}: {:?} shown, {away:.0} m away: {kept}", one.fault);
        }
    }
    admin.status(&id, "delivered").await;
    errors
}

/// Trips on real roads with the errors of real phones: what is shown is closer to the truth, and what cannot be is not shown.
/// `ORDERCAST_GPS_TRIPS` makes more of them, for figures.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_of_a_dirty_trip_is_close_to_the_truth() {
    let Some(extract) = shared("liechtenstein.osm.pbf") else { return };
    let trips = std::env::var("ORDERCAST_GPS_TRIPS").ok().and_then(|trips| trips.parse().ok()).unwrap_or(6);
    let (db, folder) = (TestDb::sqlite(), tempfile::tempdir().expect("a folder"));
    let networks = Network::build(&extract, &[Mode::Car], &|_| ()).expect("a network");
    let file = folder.path().join("roads");
    Network::save(&networks, &file).expect("written");
    let flags = ["--location-rate-per-second", "0", "--user-requests-per-second", "0", "--road-network"];
    let server =
        Server::start_with_manual_clock(&db, &[&flags[..], &[file.to_str().expect("a path")]].concat()).await;
    until("the roads", async || metric(&server, "ordercast_road_segments").await > 0).await;
    let mut searcher = Searcher::new(&networks[0]);
    let mut random = StdRng::seed_from_u64(16);
    let pairs = std::fs::read_to_string(extract.with_file_name("pairs_liechtenstein.csv")).expect("pairs");
    let routes: Vec<Route> = pairs
        .lines()
        .filter_map(|line| {
            let numbers: Vec<f64> = line.split(',').map(|number| number.parse().expect("a number")).collect();
            searcher.route(
                &networks[0],
                Point::stored(numbers[0], numbers[1]),
                Point::stored(numbers[2], numbers[3]),
            )
        })
        .filter(|route| (3_000.0..9_000.0).contains(&route.metres))
        .collect();
    for every in [1, 2, 5] {
        let mut all = Errors::default();
        for (number, route) in routes.iter().take(trips).enumerate() {
            let one = trip(&server, every * 1_000 + number, route, every, &mut random).await;
            all.sent.extend(one.sent);
            all.shown.extend(one.shown);
            all.faults += one.faults;
            all.faults_shown += one.faults_shown;
            all.first_shown += one.first_shown;
        }
        let (sent, shown) = (percentile(&mut all.sent, 0.95), percentile(&mut all.shown, 0.95));
        println!(
            "every {every} s: p95 {sent:.1} m as sent, {shown:.1} m as shown; {} of {} faults shown ({} first ones); {} of {} fixes shown",
            all.faults_shown,
            all.faults,
            all.first_shown,
            all.shown.len(),
            all.sent.len()
        );
        assert!(shown <= 15.0 && shown < sent, "{shown}");
        assert!(all.faults_shown * 50 <= all.faults, "{} of {}", all.faults_shown, all.faults);
        assert!(all.shown.len() * 20 >= all.sent.len() * 19);
    }
    server.stop().await;
}

on_both_databases! {
    async fn staff_see_each_position_and_why_it_was_shown_or_not(db: TestDb) {
        let server = Server::start_with_manual_clock(&db, &["--location-rate-per-second", "0"]).await;
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let began = server.clock.now();
        let at = |second: i64| rfc3339(began + TimeDelta::seconds(second));
        for (second, latitude, longitude, accuracy, verdict) in [
            (1, 47.14, 9.52, 5.0, "held"),
            (2, 47.1401, 9.52, 5.0, "shown"),
            (3, 47.18, 9.52, 5.0, "teleport"),
            (4, 9.52, 47.1401, 5.0, "swapped"),
            (5, 47.1401, -9.52, 5.0, "sign_flip"),
            (6, 0.0, 0.0, 5.0, "null_island"),
            (7, 47.1402, 9.52, 900.0, "inaccurate"),
            (8, 47.1403, 9.52, 5.0, "shown"),
        ] {
            server.clock.advance(TimeDelta::seconds(1));
            let fix = json!({"latitude": latitude, "longitude": longitude, "accuracy": accuracy, "recordedAt": at(second)});
            let answer = driver.ask("driver:location", fix).await;
            assert_eq!((&answer["verdict"], &answer["shown"]), (&json!(verdict), &json!(verdict == "shown")), "{answer}");
        }
        let admin = server.admin();
        until("the trail", async || {
            admin.get("/orders/o1/positions").await.body["items"].as_array().is_some_and(|items| items.len() == 8)
        }).await;
        let page = admin.get("/orders/o1/positions?limit=3").await.body;
        let next = page["nextCursor"].as_i64().expect("more");
        assert_eq!(page["items"][2]["verdict"], "teleport");
        assert!(page["items"][2]["impliedSpeed"].as_f64() > Some(4_000.0), "{page}");
        assert_eq!(page["items"][2]["shown"], json!(null));
        let rest = admin.get(&format!("/orders/o1/positions?after={next}")).await.body;
        assert_eq!((rest["items"].as_array().map(Vec::len), &rest["nextCursor"]), (Some(5), &json!(null)));
        let some = admin.get(&format!("/orders/o1/positions?from={}&to={}", at(3), at(5))).await.body;
        assert_eq!(some["items"].as_array().map(Vec::len), Some(3));
        for (second, verdict, words) in [
            (2, "shown", "was shown 0 m beside where it was measured"),
            (3, "teleport", "was not shown: the driver would have gone there at 4"),
            (4, "swapped", "latitude and longitude exchanged"),
            (5, "sign_flip", "the other sign"),
            (6, "null_island", "latitude and longitude are 0"),
            (7, "inaccurate", "may be off by 900 m"),
            (9, "shown", "The dot moved by 22 m"),
        ] {
            let told = admin.get(&format!("/orders/o1/positions/explain?at={}", at(second))).await.body;
            assert_eq!(told["verdict"], verdict, "{told}");
            assert!(told["text"].as_str().is_some_and(|text| text.contains(words)), "{told}");
        }
        // The same for maps: where it was sent, and beside it what became of it.
        let read = async |query: &str, accept: &str| {
            let request = admin.request("GET", &format!("/orders/o1/positions{query}")).header("accept", accept);
            let answer = request.send().await.expect("an answer");
            let link = answer.headers().get("link").map(|link| link.to_str().expect("text").to_owned());
            (answer.headers()["content-type"].to_str().expect("text").to_owned(), link, answer.text().await.expect("text"))
        };
        for (query, accept) in [("", "application/geo+json"), ("?format=geojson", "application/gpx+xml")] {
            let (kind, link, text) = read(query, accept).await;
            assert_eq!((kind.as_str(), link), ("application/geo+json", None));
            let all: Value = serde_json::from_str(&text).expect("JSON");
            let features = all["features"].as_array().expect("features");
            let verdicts: Vec<_> = features.iter().map(|feature| feature["properties"]["verdict"].as_str().expect("a verdict")).collect();
            assert_eq!(verdicts, ["held", "shown", "teleport", "swapped", "sign_flip", "null_island", "inaccurate", "shown"]);
            assert_eq!(features[2]["geometry"], json!({"type": "Point", "coordinates": [9.52, 47.18]}));
            assert_eq!((&features[2]["properties"]["shown"], &features[7]["properties"]["shown"]["latitude"]), (&json!(null), &json!(47.1403)));
        }
        for (query, accept) in [("", "application/gpx+xml"), ("?format=gpx", "application/geo+json")] {
            let (kind, _, text) = read(query, accept).await;
            assert_eq!((kind.as_str(), text.matches("<trkpt").count(), text.matches("<oc:verdict>").count()), ("application/gpx+xml", 8, 8));
            assert!(text.contains("<trkpt lat=\"47.18\" lon=\"9.52\"><time>") && text.contains("<oc:verdict>teleport</oc:verdict>"), "{text}");
            assert!(text.contains("<oc:shownLatitude>47.1403</oc:shownLatitude>") && text.matches("<oc:shownLatitude>").count() == 2, "{text}");
        }
        // The next page is of the same kind and time.
        let (_, link, first) = read(&format!("?format=geojson&limit=2&from={}", at(3)), "*/*").await;
        let link = link.expect("there is more");
        let path = link.trim_start_matches('<').split('>').next().expect("a path");
        let (kind, _, second) = read(path.trim_start_matches("/orders/o1/positions"), "*/*").await;
        let places = |text: &str| text.matches("\"Feature\"").count();
        assert_eq!((kind.as_str(), places(&first), places(&second)), ("application/geo+json", 2, 2), "{link}");
        assert!(first.contains("teleport") && !second.contains("held"), "{second}");
        // For staff only, and with clear errors.
        for path in ["/orders/o1/positions", "/orders/o1/positions/explain", "/orders/o1/positions?format=gpx"] {
            assert_eq!(server.api("customer", Role::Customer).get(path).await.status, 403);
            assert_eq!(server.api("driver", Role::Driver).get(path).await.status, 403);
            assert_eq!(admin.get(&path.replace("o1", "o2")).await.status, 404);
        }
        for (query, member) in [("from=yesterday", "from"), ("limit=0", "limit"), ("after=-1", "after"), ("until=1", "until"), ("format=kml", "format"), ("format=gpx&limit=10001", "limit")] {
            let refused = admin.get(&format!("/orders/o1/positions?{query}")).await;
            assert!(refused.status == 422 && refused.body.to_string().contains(member), "{query}: {}", refused.body);
        }
        server.order("o3").await;
        assert_eq!(admin.get("/orders/o3/positions").await.body["items"], json!([]));
        assert_eq!(admin.get("/orders/o3/positions/explain").await.status, 404);
        assert!(server.metrics().await.contains("ordercast_fixes_total{verdict=\"teleport\"} 1"));
        // What is shown after a restart is what was shown before it.
        server.stop().await;
        let server = Server::start(&db, &[]).await;
        let tracking = server.admin().get("/orders/o1/tracking").await.body;
        assert_eq!(tracking["driverLatitude"], 47.1403, "{tracking}");
        server.stop().await;
    }
}

#[tokio::test]
async fn the_only_fix_of_a_driver_is_shown_after_a_while_however_it_came() {
    for batch in [false, true] {
        let db = TestDb::sqlite();
        let server = Server::start(&db, &[]).await;
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
        let fix = json!({"latitude": 47.14, "longitude": 9.52, "accuracy": 8});
        if batch {
            assert_eq!(driver.ask("driver:location_batch", json!({"points": [fix]})).await["accepted"], 1);
        } else {
            assert_eq!(driver.ask("driver:location", fix).await["verdict"], "held");
        }
        let seen = customer.event("driver:location_update").await;
        assert_eq!((&seen["latitude"], &seen["source"]), (&json!(47.14), &json!("filtered")), "{batch}");
        server.stop().await;
    }
}

/// Of positions that come too fast, the newest one that can be is shown.
#[tokio::test]
async fn a_jump_among_positions_that_come_too_fast_hides_none() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &["--location-burst", "1"]).await;
    server.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
    let now = server.clock.now();
    for (latitude, ago) in [(47.14, 5), (47.141, 2), (49.0, 1)] {
        let at = rfc3339(now - TimeDelta::seconds(ago));
        driver
            .ask("driver:location", json!({"latitude": latitude, "longitude": 9.52, "recordedAt": at}))
            .await;
    }
    for latitude in [47.14, 47.141] {
        assert_eq!(customer.event("driver:location_update").await["latitude"], latitude);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_filter_can_be_switched_off_or_only_watch() {
    for (mode, counted) in
        [("off", "fixes_in_shadow_total{"), ("shadow", "fixes_in_shadow_total{verdict=\"teleport\"} 1")]
    {
        let db = TestDb::sqlite();
        let server =
            Server::start_with_manual_clock(&db, &["--location-rate-per-second", "0", "--gps-filter", mode])
                .await;
        server.order_with_driver("o1", "in_transit").await;
        let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
        let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
        customer.ask("subscribe:order", json!({"orderId": "o1"})).await;
        for (latitude, second) in [(47.14, 1), (47.1401, 2), (48.0, 3)] {
            server.clock.advance(TimeDelta::seconds(1));
            let at = rfc3339(server.clock.now());
            let fix = json!({"latitude": latitude, "longitude": 9.52, "accuracy": 5, "recordedAt": at});
            assert_eq!(driver.ask("driver:location", fix).await["verdict"], "shown", "{mode} {second}");
            let seen = customer.event("driver:location_update").await;
            assert_eq!((&seen["latitude"], &seen["source"]), (&json!(latitude), &json!("raw")), "{mode}");
        }
        assert_eq!(server.metrics().await.contains(counted), mode == "shadow", "{mode}");
        server.stop().await;
    }
}
