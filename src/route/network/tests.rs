use super::osm::{Extract, Node, Restriction, Tags, Way};
use super::*;
use crate::route::Route;

/// Ten-thousandths of a degree: 11.1 m along the equator.
const STEP: i32 = 1_000;

/// Nodes by their numbers, at so many steps north and east; ways by their nodes and tags.
fn extract(nodes: &[(i64, i32, i32)], ways: &[(&[i64], &str)]) -> Extract {
    let place = |(id, north, east): &(i64, i32, i32)| {
        // Not at 0, 0, which is where nodes are that nobody knows.
        (*id, Node { place: [north * STEP + STEP, east * STEP + STEP], tags: None })
    };
    let way =
        |(id, (nodes, tags)): (i64, &(&[i64], &str))| Way { id, nodes: nodes.to_vec(), tags: tags_of(tags) };
    Extract {
        nodes: nodes.iter().map(place).collect(),
        ways: (1..).zip(ways).map(way).collect(),
        restrictions: Vec::new(),
    }
}

fn tags_of(text: &str) -> Tags {
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split(' ').filter_map(pair).collect()
}

fn build(extract: &Extract, mode: Mode) -> Network {
    build::network(extract, mode, &|_| ()).expect("roads")
}

fn route(network: &Network, from: (i32, i32), to: (i32, i32)) -> Option<Route> {
    let at = |(north, east): (i32, i32)| point([north * STEP + STEP, east * STEP + STEP]);
    Searcher::new(network).route(network, at(from), at(to))
}

fn lanes(tags: &str, mode: Mode) -> Option<(Option<f64>, Option<f64>)> {
    let way = Way { id: 1, nodes: vec![1, 2], tags: tags_of(tags) };
    let lanes = mode.lanes(&way)?;
    let speed = |lane: Option<profile::Lane>| lane.map(|lane| (lane.speed * 10.0).round() / 10.0);
    Some((speed(lanes.forward), speed(lanes.backward)))
}

#[test]
fn speeds_and_directions_of_cars() {
    for (tags, expected) in [
        ("highway=residential", Some((Some(25.0), Some(25.0)))),
        ("highway=residential oneway=yes", Some((Some(25.0), None))),
        ("highway=residential oneway=-1", Some((None, Some(25.0)))),
        ("highway=motorway", Some((Some(90.0), None))),
        ("highway=tertiary junction=roundabout", Some((Some(40.0), None))),
        ("highway=primary maxspeed=50", Some((Some(40.0), Some(40.0)))),
        ("highway=primary maxspeed=30mph", Some((Some(38.6), Some(38.6)))),
        ("highway=primary maxspeed:forward=100 maxspeed:backward=80", Some((Some(80.0), Some(64.0)))),
        ("highway=secondary maxspeed=CH:rural", Some((Some(64.0), Some(64.0)))),
        ("highway=secondary source:maxspeed=xx:urban", Some((Some(40.0), Some(40.0)))),
        ("highway=secondary maxspeed=signals", Some((Some(55.0), Some(55.0)))),
        ("highway=unclassified surface=mud", Some((Some(10.0), Some(10.0)))),
        ("highway=unclassified tracktype=grade5", Some((Some(20.0), Some(20.0)))),
        ("highway=service smoothness=impassable", None),
        ("highway=track", None),
        ("highway=track motor_vehicle=yes", Some((Some(10.0), Some(10.0)))),
        ("highway=residential access=no", None),
        ("highway=residential access=private", Some((Some(25.0), Some(25.0)))),
        ("highway=service access=private", None),
        ("highway=service service=emergency_access", None),
        ("highway=footway", None),
        ("highway=steps", None),
        ("highway=construction", None),
        ("highway=pedestrian area=yes", None),
        ("route=ferry", Some((Some(5.0), Some(5.0)))),
    ] {
        assert_eq!(lanes(tags, Mode::Car), expected, "{tags}");
    }
}

#[test]
fn speeds_and_directions_of_others() {
    for (tags, bike, foot) in [
        ("highway=residential", Some((Some(15.0), Some(15.0))), Some((Some(5.0), Some(5.0)))),
        ("highway=residential oneway=yes", Some((Some(15.0), Some(4.0))), Some((Some(5.0), Some(5.0)))),
        (
            "highway=residential oneway=yes oneway:bicycle=no",
            Some((Some(15.0), Some(15.0))),
            Some((Some(5.0), Some(5.0))),
        ),
        ("highway=motorway", None, None),
        ("highway=cycleway", Some((Some(15.0), Some(15.0))), None),
        ("highway=footway", Some((Some(4.0), Some(4.0))), Some((Some(5.0), Some(5.0)))),
        ("highway=footway bicycle=yes", Some((Some(12.0), Some(12.0))), Some((Some(5.0), Some(5.0)))),
        ("highway=steps", Some((Some(2.0), Some(2.0))), Some((Some(5.0), Some(5.0)))),
        ("highway=path foot=no bicycle=no", None, None),
    ] {
        assert_eq!(lanes(tags, Mode::Bike), bike, "{tags}");
        assert_eq!(lanes(tags, Mode::Foot), foot, "{tags}");
    }
}

/// A cross: 1 in the middle, then north, east, south and west.
fn cross() -> Extract {
    let nodes = [(1, 0, 0), (2, 20, 0), (3, 0, 20), (4, -20, 0), (5, 0, -20)];
    let ways: [(&[i64], &str); 4] = [
        (&[2, 1], "highway=residential"),
        (&[1, 3], "highway=residential"),
        (&[4, 1], "highway=residential"),
        (&[5, 1], "highway=residential"),
    ];
    extract(&nodes, &ways)
}

#[test]
fn turns_cost_time_and_the_left_one_most() {
    let network = build(&cross(), Mode::Car);
    let seconds = |from, to| route(&network, from, to).expect("a route").seconds;
    let straight = seconds((10, 0), (-10, 0));
    let (left, right) = (seconds((10, 0), (0, 10)), seconds((10, 0), (0, -10)));
    // 222 m at 25 km/h.
    assert!((straight - 32.0).abs() < 0.2, "{straight}");
    assert!(
        ((right - straight) - 2.1).abs() < 0.2 && ((left - straight) - 5.4).abs() < 0.2,
        "{left} {right}"
    );
    let walk = build(&cross(), Mode::Foot);
    let walked = route(&walk, (10, 0), (0, 10)).expect("a route");
    assert!(
        (walked.metres - 222.5).abs() < 0.5 && (walked.seconds - walked.metres * 0.72).abs() < 0.5,
        "{walked:?}"
    );
}

#[test]
fn a_route_follows_the_road_and_counts_from_its_beginning() {
    let network = build(&cross(), Mode::Car);
    let found = route(&network, (10, 1), (1, 10)).expect("a route");
    let places: Vec<_> = found.points.iter().map(|passed| place(passed.place)).collect();
    assert_eq!(places, [[11 * STEP, STEP], [STEP, STEP], [STEP, 11 * STEP]]);
    assert_eq!((found.points[0].seconds, found.points[0].metres), (0.0, 0.0));
    let last = found.points.last().expect("an end");
    assert_eq!((last.seconds, last.metres), (found.seconds, found.metres));
    // Back along the same piece of road, and not at all.
    let back = route(&network, (15, 0), (5, 0)).expect("a route");
    assert!((back.metres - 111.2).abs() < 0.3, "{back:?}");
    assert!(route(&network, (5, 0), (5, 0)).expect("a route").seconds < 0.1);
}

#[test]
fn restrictions_one_way_streets_and_barriers_are_kept() {
    let seconds =
        |extract: &Extract| route(&build(extract, Mode::Car), (10, 0), (0, 10)).map(|route| route.seconds);
    let free = seconds(&cross()).expect("a route");
    // Who may not turn left goes on, turns round at the end, and comes back.
    let mut no_left = cross();
    no_left.restrictions.push(Restriction { from: 1, via: 1, to: 2, only: false });
    assert!(seconds(&no_left).expect("a way round") > free + 50.0);
    let mut only_on = cross();
    only_on.restrictions.push(Restriction { from: 1, via: 1, to: 3, only: true });
    assert!(seconds(&only_on).expect("a way round") > free + 50.0);
    let on_foot = route(&build(&no_left, Mode::Foot), (10, 0), (0, 10)).expect("a route");
    assert!(on_foot.metres < 230.0, "restrictions are for cars");
    let mut lights = cross();
    lights.nodes.get_mut(&1).expect("a node").tags = Some(Box::new(tags_of("highway=traffic_signals")));
    assert!((seconds(&lights).expect("a route") - free - 2.0).abs() < 0.01);
    let mut wall = cross();
    wall.nodes.get_mut(&1).expect("a node").tags = Some(Box::new(tags_of("barrier=bollard")));
    // The roads are apart now. Both places are snapped to one of them.
    assert!(route(&build(&wall, Mode::Car), (10, 0), (0, 10)).is_none_or(|route| route.metres < 120.0));
    let mut gate = cross();
    gate.nodes.get_mut(&1).expect("a node").tags = Some(Box::new(tags_of("barrier=gate")));
    assert_eq!(seconds(&gate), Some(free));
}

#[test]
fn a_one_way_ring_is_gone_round() {
    let nodes = [(1, 0, 0), (2, 0, 20), (3, 20, 20), (4, 20, 0), (5, 30, 20)];
    let ways: [(&[i64], &str); 2] =
        [(&[1, 2, 3, 4, 1], "highway=residential oneway=yes"), (&[3, 5], "highway=residential")];
    let ring = extract(&nodes, &ways);
    let network = build(&ring, Mode::Car);
    assert!(route(&network, (0, 5), (0, 15)).expect("a route").metres < 112.0);
    let round = route(&network, (0, 15), (0, 5)).expect("a route");
    assert!((round.metres - 7.0 * 111.3).abs() < 3.0, "{}", round.metres);
    // A ring by itself, of one segment.
    let alone = build(&extract(&nodes, &ways[..1]), Mode::Car);
    assert!(route(&alone, (0, 5), (0, 15)).expect("a route").metres < 112.0);
    assert_eq!(route(&alone, (0, 15), (0, 5)), None);
}

#[test]
fn places_far_away_from_roads_have_no_route_and_islands_have_their_own() {
    let nodes = [(1, 0, 0), (2, 0, 100), (3, 0, 200), (4, 50, 0), (5, 50, 20)];
    let ways: [(&[i64], &str); 3] = [
        (&[1, 2], "highway=residential"),
        (&[2, 3], "highway=residential"),
        (&[4, 5], "highway=residential"),
    ];
    let network = build(&extract(&nodes, &ways), Mode::Car);
    assert!(route(&network, (1_000, 0), (0, 50)).is_none());
    let island = route(&network, (50, 5), (50, 15)).expect("a route on the island");
    assert!((island.metres - 111.3).abs() < 1.0);
    // From the island to the mainland: from the nearest road there.
    let across = route(&network, (50, 10), (0, 50)).expect("a route");
    assert!((across.metres - 40.0 * 11.13).abs() < 2.0, "{}", across.metres);
}

#[test]
fn roads_all_over_the_earth_are_an_error() {
    // As in a damaged file: each piece goes to the other side.
    let nodes: Vec<_> = (0..200).map(|id| (i64::from(id), id, (id % 2) * 1_700_000)).collect();
    let ids: Vec<_> = (0..200).collect();
    let far = extract(&nodes, &[(&ids, "highway=residential")]);
    let refused = build::network(&far, Mode::Car, &|_| ()).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|text| text.contains("all over the earth")));
}

#[test]
fn nothing_to_drive_on_is_an_error() {
    let nowhere = extract(&[(1, 0, 0), (2, 0, 10)], &[(&[1, 2], "highway=steps")]);
    assert!(matches!(build::network(&nowhere, Mode::Car, &|_| ()), Err(NetworkError::Empty("car"))));
    assert!(matches!(Network::of_streets(&[], Mode::Foot), Err(NetworkError::Empty("foot"))));
}
