//! Who may use a way, in which direction, and how fast. The speeds and rules are those of OSRM's profiles (BSD-2), whose answers
//! ours are measured against; the text is ours.

use super::osm::{Tags, Way};
use crate::route::Mode;

/// How a way may be used in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lane {
    /// Kilometres an hour.
    pub speed: f64,
    /// What the way counts as when routes are compared: less for those that one does not like to use.
    pub preferred: f64,
    /// Only for who has something to do there.
    pub restricted: bool,
}

/// A way in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lanes {
    pub forward: Option<Lane>,
    pub backward: Option<Lane>,
}

/// What a node does to those who pass it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passage {
    pub blocked: bool,
    pub lights: bool,
}

/// Speeds of cars by `highway`.
const CAR: [(&str, f64); 14] = [
    ("motorway", 90.0),
    ("motorway_link", 45.0),
    ("trunk", 85.0),
    ("trunk_link", 40.0),
    ("primary", 65.0),
    ("primary_link", 30.0),
    ("secondary", 55.0),
    ("secondary_link", 25.0),
    ("tertiary", 40.0),
    ("tertiary_link", 20.0),
    ("unclassified", 25.0),
    ("residential", 25.0),
    ("living_street", 10.0),
    ("service", 15.0),
];
/// The same for bicycles; where they are pushed, that speed.
const BIKE: [(&str, f64); 21] = [
    ("cycleway", 15.0),
    ("primary", 15.0),
    ("primary_link", 15.0),
    ("secondary", 15.0),
    ("secondary_link", 15.0),
    ("tertiary", 15.0),
    ("tertiary_link", 15.0),
    ("trunk", 15.0),
    ("trunk_link", 15.0),
    ("residential", 15.0),
    ("unclassified", 15.0),
    ("living_street", 15.0),
    ("road", 15.0),
    ("service", 15.0),
    ("track", 12.0),
    ("path", 13.0),
    ("footway", 4.0),
    ("pedestrian", 4.0),
    ("steps", 2.0),
    ("bridleway", 4.0),
    ("corridor", 4.0),
];
const WALKING: f64 = 5.0;
/// Where nobody walks.
const NOT_ON_FOOT: [&str; 6] =
    ["motorway", "motorway_link", "construction", "proposed", "raceway", "cycleway"];
const FERRY: f64 = 5.0;
/// A way that is open to all, of a kind that is not listed.
const OTHERWISE: f64 = 10.0;

const SURFACES: [(&[&str], f64); 6] = [
    (&["cement", "compacted", "fine_gravel"], 80.0),
    (&["paving_stones", "metal", "bricks"], 60.0),
    (
        &[
            "grass",
            "wood",
            "sett",
            "grass_paver",
            "gravel",
            "unpaved",
            "ground",
            "dirt",
            "pebblestone",
            "tartan",
        ],
        40.0,
    ),
    (&["cobblestone", "clay"], 30.0),
    (&["earth", "stone", "rocky", "sand"], 20.0),
    (&["mud"], 10.0),
];
const TRACKS: [(&str, f64); 5] =
    [("grade1", 60.0), ("grade2", 40.0), ("grade3", 30.0), ("grade4", 25.0), ("grade5", 20.0)];
const SMOOTHNESS: [(&str, f64); 6] = [
    ("intermediate", 80.0),
    ("bad", 40.0),
    ("very_bad", 20.0),
    ("horrible", 10.0),
    ("very_horrible", 5.0),
    ("impassable", 0.0),
];
/// Speed limits that are given in words.
const LIMITS: [(&str, f64); 21] = [
    ("at:rural", 100.0),
    ("at:trunk", 100.0),
    ("be:motorway", 120.0),
    ("be-bru:rural", 70.0),
    ("be-vlg:rural", 70.0),
    ("by:urban", 60.0),
    ("by:motorway", 110.0),
    ("ch:rural", 80.0),
    ("ch:trunk", 100.0),
    ("ch:motorway", 120.0),
    ("cz:trunk", 0.0),
    ("cz:motorway", 0.0),
    ("de:living_street", 7.0),
    ("de:rural", 100.0),
    ("de:motorway", 0.0),
    ("dk:rural", 80.0),
    ("fr:rural", 80.0),
    ("gb:nsl_single", 96.54),
    ("gb:nsl_dual", 112.63),
    ("gb:motorway", 112.63),
    ("nl:rural", 80.0),
];
const LIMITS_ANYWHERE: [(&str, f64); 4] =
    [("urban", 50.0), ("rural", 90.0), ("trunk", 110.0), ("motorway", 130.0)];
/// Nobody drives at the limit.
const OF_LIMIT: f64 = 0.8;
const KM_PER_MILE: f64 = 1.609;

const OPEN: [&str; 7] = ["yes", "motorcar", "motor_vehicle", "vehicle", "permissive", "designated", "hov"];
const CLOSED: [&str; 9] =
    ["no", "agricultural", "forestry", "emergency", "psv", "customers", "private", "delivery", "destination"];
/// Closed to those who only pass.
const RESTRICTED: [&str; 4] = ["private", "delivery", "destination", "customers"];
/// Barriers that are none for a car.
const OPEN_BARRIERS: [&str; 10] = [
    "cattle_grid",
    "border_control",
    "toll_booth",
    "sally_port",
    "gate",
    "lift_gate",
    "no",
    "entrance",
    "height_restrictor",
    "arch",
];
/// Barriers that stop a bicycle, or who walks.
const WALLS: [&str; 4] = ["wall", "fence", "hedge", "debris"];

impl Mode {
    /// The tags that say who may use something, the most special first.
    const fn access(self) -> &'static [&'static str] {
        match self {
            Self::Car => &["motorcar", "motor_vehicle", "vehicle", "access"],
            Self::Bike => &["bicycle", "vehicle", "access"],
            Self::Foot => &["foot", "access"],
        }
    }

    /// How a way may be used; `None` if it may not.
    pub(super) fn lanes(self, way: &Way) -> Option<Lanes> {
        let lanes = match self {
            Self::Car => car(way),
            Self::Bike => slow(self, way, bike_speed(&way.tags)?),
            Self::Foot => slow(self, way, foot_speed(&way.tags)?),
        }?;
        (lanes.forward.is_some() || lanes.backward.is_some()).then_some(lanes)
    }

    /// What a node with these tags does.
    pub(super) fn passage(self, tags: Option<&Tags>) -> Passage {
        let Some(tags) = tags else { return Passage::default() };
        let lights = is(tags, "highway", &["traffic_signals"]);
        let access = self.access().iter().find_map(|key| tags.get(*key));
        let blocked = match (access.map(String::as_str), tags.get("barrier").map(String::as_str)) {
            (Some(access), _) => CLOSED.contains(&access) && !RESTRICTED.contains(&access),
            (None, Some(barrier)) if self == Self::Car => !OPEN_BARRIERS.contains(&barrier),
            (None, Some(barrier)) => WALLS.contains(&barrier),
            (None, None) => false,
        };
        Passage { blocked, lights }
    }

    /// What a turn costs in seconds: by its angle in degrees (0 is straight on, to the right it is positive), and whether it goes back.
    pub(super) fn turn(self, angle: f64, is_back: bool) -> f64 {
        let (penalty, bias, back) = match self {
            Self::Car => (7.5, 1.075, 20.0),
            Self::Bike => (6.0, 1.4, 20.0),
            Self::Foot => return if is_back { 2.0 } else { 0.0 },
        };
        let exponent = if angle >= 0.0 {
            (13.0 / bias) * angle / 180.0 - 6.5 * bias
        } else {
            (13.0 * bias) * -angle / 180.0 - 6.5 / bias
        };
        penalty / (1.0 + (-exponent).exp()) + if is_back { back } else { 0.0 }
    }
}

fn car(way: &Way) -> Option<Lanes> {
    let tags = &way.tags;
    let highway = tags.get("highway").map_or("", String::as_str);
    let ferry = is(tags, "route", &["ferry"]) && highway.is_empty();
    if is(tags, "area", &["yes"])
        || is(tags, "oneway", &["reversible"])
        || is(tags, "impassable", &["yes"])
        || is(tags, "status", &["impassable"])
        || matches!(highway, "steps" | "construction" | "proposed")
        || is(tags, "service", &["emergency_access"])
        || (tags
            .get("construction")
            .is_some_and(|what| !matches!(what.as_str(), "no" | "widening" | "minor")))
    {
        return None;
    }
    let class = if ferry { Some(FERRY) } else { find(&CAR, highway) };
    let (ahead, back) = directed(tags, Mode::Car.access());
    let is_service = highway == "service";
    let lane = |access: Option<&String>, is_open: bool, limit: Option<f64>| {
        let access = access.map(String::as_str);
        let restricted =
            class.is_some() && !ferry && access.is_some_and(|access| RESTRICTED.contains(&access));
        let closed = access.is_some_and(|access| CLOSED.contains(&access)) && !restricted;
        if !is_open || closed || (is_service && access == Some("private")) {
            return None;
        }
        let open = || access.is_some_and(|access| OPEN.contains(&access) || !CLOSED.contains(&access));
        let speed = class.or_else(|| open().then_some(OTHERWISE))?;
        let speed = limit.filter(|limit| *limit > 0.0).map_or(speed, |limit| limit * OF_LIMIT);
        let speed = slowed(tags, speed);
        (speed > 0.0).then_some(Lane { speed, preferred: speed, restricted })
    };
    let oneway = oneway(tags, highway == "motorway");
    let (limit, limit_back) =
        directed(tags, &["maxspeed:advisory", "maxspeed", "source:maxspeed", "maxspeed:type"]);
    let forward = lane(ahead, oneway != Oneway::Backward, limit.map(|text| speed_limit(text)));
    let backward = lane(back, oneway != Oneway::Forward, limit_back.map(|text| speed_limit(text)));
    let disliked = dislike(tags, forward.is_some() && backward.is_some());
    let prefer = |lane: Lane| Lane { preferred: lane.speed * disliked, ..lane };
    Some(Lanes { forward: forward.map(prefer), backward: backward.map(prefer) })
}

/// Narrow ways, and those that lead nowhere, are avoided, but do not take longer.
fn dislike(tags: &Tags, both_ways: bool) -> f64 {
    let number = |key: &str| tags.get(key).and_then(|text| leading(text));
    let service = is(
        tags,
        "service",
        &["alley", "parking", "parking_aisle", "driveway", "drive-through", "drive-thru"],
    );
    let narrow = number("width").is_some_and(|width| width <= 3.0)
        || (both_ways && number("lanes").is_some_and(|lanes| lanes <= 1.0));
    let beside = is(tags, "side_road", &["yes", "rotary"]);
    [(service, 0.5), (narrow, 0.5), (beside, 0.8), (is(tags, "oneway", &["alternating"]), 0.4)]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, factor)| factor)
        .fold(1.0, f64::min)
}

fn bike_speed(tags: &Tags) -> Option<f64> {
    let highway = tags.get("highway").map_or("", String::as_str);
    if is(tags, "route", &["ferry"]) && highway.is_empty() {
        return Some(FERRY);
    }
    let walks = matches!(highway, "footway" | "pedestrian")
        && is(tags, "bicycle", &["yes", "designated", "permissive"]);
    let speed = if walks { 12.0 } else { find(&BIKE, highway)? };
    Some(if walks { speed } else { slowed(tags, speed) }).filter(|speed| *speed > 0.0)
}

fn foot_speed(tags: &Tags) -> Option<f64> {
    let highway = tags.get("highway").map_or("", String::as_str);
    let allowed = is(tags, "foot", &["yes", "designated", "permissive"]);
    (!NOT_ON_FOOT.contains(&highway) || allowed).then_some(WALKING)
}

/// Ways of those who may go in both directions unless it is said otherwise.
fn slow(mode: Mode, way: &Way, speed: f64) -> Option<Lanes> {
    let tags = &way.tags;
    let access = mode.access().iter().find_map(|key| tags.get(*key)).map(String::as_str);
    if access.is_some_and(|access| {
        matches!(access, "no" | "private" | "agricultural" | "forestry" | "use_sidepath")
    }) {
        return None;
    }
    let lane = Some(Lane { speed, preferred: speed, restricted: false });
    if mode == Mode::Foot {
        return Some(Lanes { forward: lane, backward: lane });
    }
    let against = is(tags, "oneway:bicycle", &["no"])
        || tags.get("cycleway").is_some_and(|kind| kind.starts_with("opposite"));
    let oneway = if against { Oneway::No } else { oneway(tags, false) };
    // Against a one-way street a bicycle is pushed.
    let pushed = Some(Lane { speed: 4.0, preferred: 4.0, restricted: false });
    Some(Lanes {
        forward: if oneway == Oneway::Backward { pushed } else { lane },
        backward: if oneway == Oneway::Forward { pushed } else { lane },
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oneway {
    No,
    Forward,
    Backward,
}

fn oneway(tags: &Tags, implied: bool) -> Oneway {
    let round = is(tags, "junction", &["roundabout", "circular"]);
    match tags.get("oneway").map(String::as_str) {
        Some("-1") => Oneway::Backward,
        Some("yes" | "1" | "true") => Oneway::Forward,
        Some("no") => Oneway::No,
        _ if round || implied => Oneway::Forward,
        _ => Oneway::No,
    }
}

/// The first of these tags, in each direction.
fn directed<'a>(tags: &'a Tags, keys: &[&str]) -> (Option<&'a String>, Option<&'a String>) {
    let of = |side: &str| {
        keys.iter().find_map(|key| tags.get(&format!("{key}:{side}")).or_else(|| tags.get(*key)))
    };
    (of("forward"), of("backward"))
}

/// Kilometres an hour; 0 if there is no limit or it cannot be read.
fn speed_limit(text: &str) -> f64 {
    if let Some(number) = leading(text) {
        return if text.contains("mph") || text.contains("mp/h") { number * KM_PER_MILE } else { number };
    }
    let text = text.to_lowercase();
    let anywhere = || find(&LIMITS_ANYWHERE, text.split_once(':')?.1);
    find(&LIMITS, &text).or_else(anywhere).unwrap_or(0.0)
}

/// The speed that the surface lets one keep.
fn slowed(tags: &Tags, speed: f64) -> f64 {
    let surface = tags.get("surface").and_then(|surface| {
        SURFACES.iter().find(|(words, _)| words.contains(&surface.as_str())).map(|(_, speed)| *speed)
    });
    let track = tags.get("tracktype").and_then(|kind| find(&TRACKS, kind));
    let smooth = tags.get("smoothness").and_then(|kind| find(&SMOOTHNESS, kind));
    [surface, track, smooth].into_iter().flatten().fold(speed, f64::min)
}

/// The whole number that a text begins with.
fn leading(text: &str) -> Option<f64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

fn is(tags: &Tags, key: &str, values: &[&str]) -> bool {
    tags.get(key).is_some_and(|value| values.contains(&value.as_str()))
}

fn find(table: &[(&str, f64)], word: &str) -> Option<f64> {
    table.iter().find(|(known, _)| *known == word).map(|(_, speed)| *speed)
}
