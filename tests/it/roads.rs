//! Roads: `ordercast roads build`, `--road-network`, `GET /routes` and the ETAs that are made of them.

use std::path::{Path, PathBuf};

use ordercast::model::{Point, Role};
use ordercast::route::Mode;
use ordercast::route::network::{Network, Searcher};
use serde_json::json;

use crate::binary::run;
use crate::bus::metric;
use crate::harness::{Server, TestDb, until};
use crate::socket::Socket;

/// Streets between the restaurant and the door of `new_order`, and around them: blocks of a hundredth of a degree.
fn town() -> Vec<Vec<[f64; 2]>> {
    let (rows, columns) = (0..6, 0..6);
    let corner = |row: i32, column: i32| [47.12 + f64::from(row) * 0.01, 9.50 + f64::from(column) * 0.01];
    let along = rows.clone().map(|row| columns.clone().map(|column| corner(row, column)).collect());
    along.chain(columns.clone().map(|column| rows.clone().map(|row| corner(row, column)).collect())).collect()
}

pub fn prepared(folder: &Path) -> PathBuf {
    let file = folder.join("roads");
    Network::save(&[Network::of_streets(&town(), Mode::Car).expect("streets")], &file).expect("written");
    file
}

/// A file beside the project; `None`, with a note, if this is a clone without it.
pub fn shared(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if file.exists() {
        return Some(file);
    }
    eprintln!("skipped: there is no {}", file.display());
    None
}

/// The routes of another router between random places: OSRM's.
#[test]
fn routes_take_as_long_as_those_of_osrm() {
    for place in ["liechtenstein", "harrisburg"] {
        let Some(extract) = shared(&format!("{place}.osm.pbf")) else { return };
        let pairs =
            std::fs::read_to_string(extract.with_file_name(format!("pairs_{place}.csv"))).expect("pairs");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("roads");
        let built = run(&[
            "roads",
            "build",
            extract.to_str().expect("a path"),
            "--out",
            file.to_str().expect("a path"),
        ]);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        assert!(String::from_utf8_lossy(&built.stdout).contains("is ready for --road-network"));
        let networks = Network::load(&file).expect("loaded");
        let mut searcher = Searcher::new(&networks[0]);
        let (mut errors, mut lengths, mut none) = (Vec::new(), Vec::new(), 0);
        for line in pairs.lines() {
            let numbers: Vec<f64> = line.split(',').map(|number| number.parse().expect("a number")).collect();
            let [from_lat, from_lon, to_lat, to_lon, _, seconds, metres] = numbers[..] else {
                panic!("{line}")
            };
            let (from, to) = (Point::stored(from_lat, from_lon), Point::stored(to_lat, to_lon));
            match searcher.route(&networks[0], from, to) {
                Some(route) => {
                    errors.push((route.seconds - seconds).abs() / seconds);
                    lengths.push((route.metres - metres).abs() / metres);
                }
                None => none += 1,
            }
        }
        let count = f64::from(u32::try_from(errors.len()).expect("few"));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
        println!(
            "{place}: {:.2} % of the time, {:.2} % of the way, {none} without a route",
            mean(&errors) * 100.0,
            mean(&lengths) * 100.0
        );
        assert!(errors.len() > 700 && mean(&errors) < 0.04 && mean(&lengths) < 0.04);
        assert!(f64::from(none) <= count * 0.005, "{none} without a route");
    }
}

#[test]
fn what_cannot_be_prepared_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("text"), "this is no extract").expect("written");
    std::fs::write(path("empty"), "").expect("written");
    for (input, reason) in [("missing", "cannot be read"), ("text", "cannot be read"), ("empty", "no road")] {
        let refused = run(&["roads", "build", &path(input), "--out", &path("out")]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        let line = error.lines().last().unwrap_or_default();
        assert_eq!(refused.status.code(), Some(2), "{error}");
        assert!(
            line.starts_with("ordercast: ") && line.contains(reason) && !error.contains("panicked"),
            "{error}"
        );
        assert!(!Path::new(&path("out")).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_see_how_long_a_way_takes() {
    let (db, folder) = (TestDb::sqlite(), tempfile::tempdir().expect("a folder"));
    let file = prepared(folder.path());
    let server = Server::start(&db, &["--road-network", file.to_str().expect("a path")]).await;
    until("the roads", async || metric(&server, "ordercast_road_segments").await > 0).await;
    let found = server.admin().get("/routes?from=47.14,9.52&to=47.15,9.53&mode=car").await;
    assert_eq!(found.status, 200, "{}", found.body);
    // Two blocks, 1,112 m and 757 m, at 25 km/h, and a turn.
    let (seconds, metres) =
        (found.body["seconds"].as_f64().expect("seconds"), found.body["meters"].as_f64().expect("meters"));
    assert_eq!(found.body["source"], "network");
    assert!((metres - 1_869.0).abs() < 5.0 && (268.0..280.0).contains(&seconds), "{}", found.body);
    assert!(found.body["polyline"].as_str().expect("a course").len() > 10);
    // Nobody has roads there, or for that.
    for query in ["from=47.14,9.52&to=48.15,9.53", "from=47.14,9.52&to=47.15,9.53&mode=foot"] {
        let straight = server.admin().get(&format!("/routes?{query}")).await;
        assert_eq!(
            (straight.status, &straight.body["source"]),
            (200, &json!("geodesic")),
            "{}",
            straight.body
        );
    }
    for (query, member) in [
        ("to=47.15,9.53", "from"),
        ("from=47.14,9.52", "to"),
        ("from=47.14&to=47.15,9.53", "from"),
        ("from=47.14,9.52&to=97.15,9.53", "to"),
        ("from=47.14,9.52&to=NaN,9.53", "to"),
        ("from=47.14,9.52&to=47.15,9.53&mode=ship", "mode"),
    ] {
        let refused = server.admin().get(&format!("/routes?{query}")).await;
        assert_eq!(refused.status, 422, "{query}: {}", refused.body);
        assert!(refused.body.to_string().contains(member), "{query}: {}", refused.body);
    }
    let customer = server.with_token(Some(server.token("customer", Role::Customer)));
    assert_eq!(customer.get("/routes?from=47.14,9.52&to=47.15,9.53").await.status, 403);
    assert_eq!(server.anonymous().get("/routes?from=47.14,9.52&to=47.15,9.53").await.status, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etas_go_by_the_roads_and_say_so() {
    let (db, folder) = (TestDb::sqlite(), tempfile::tempdir().expect("a folder"));
    let file = prepared(folder.path());
    let flags = ["--road-network", file.to_str().expect("a path"), "--location-rate-per-second", "0"];
    let server = Server::start(&db, &flags).await;
    until("the roads", async || metric(&server, "ordercast_road_segments").await > 0).await;
    server.order_with_driver("o1", "assigned_to_driver").await;
    let mut driver = Socket::connect(&server, "driver", Role::Driver).await;
    let mut customer = Socket::connect(&server, "customer", Role::Customer).await;
    assert_eq!(customer.ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
    let by_road = async |customer: &mut Socket| loop {
        let told = customer.event("order:eta_update").await;
        if told["etaSource"] == "network" {
            let (minutes, metres) = (told["etaMinutes"].as_i64(), told["remainingMeters"].as_i64());
            return (minutes.expect("minutes"), metres.expect("metres"));
        }
    };
    // A block before the restaurant: to there, and then on to the door: four blocks, and two turns.
    let at = |latitude: f64, longitude: f64| json!({"latitude": latitude, "longitude": longitude});
    assert_eq!(driver.ask("driver:location", at(47.13, 9.52)).await["ok"], true);
    let (minutes, metres) = by_road(&mut customer).await;
    assert_eq!(minutes, 10, "160 s to the restaurant, 180 s there, 272 s to the door");
    assert!((metres - 2_981).abs() < 5, "{metres}");
    // With the food, from the same place, the way is another one.
    server.admin().status("o1", "picked_up").await;
    assert_eq!(driver.ask("driver:location", at(47.14, 9.52)).await["ok"], true);
    let remaining = async || {
        let tracking = server.admin().get("/orders/o1/tracking").await.body;
        (tracking["etaSource"] == "network").then(|| tracking["etaMinutes"].as_i64().expect("minutes"))
    };
    until("the ETA of the last leg", async || {
        remaining().await.is_some_and(|minutes| (4..=5).contains(&minutes))
    })
    .await;
    // Half a block further on, on the same route.
    assert_eq!(driver.ask("driver:location", at(47.145, 9.52)).await["ok"], true);
    assert_eq!(remaining().await, Some(3));
    // Out of the town: the straight line.
    assert_eq!(driver.ask("driver:location", at(47.5, 9.52)).await["ok"], true);
    assert_eq!(server.admin().get("/orders/o1/tracking").await.body["etaSource"], "geodesic");
    server.stop().await;
}
