//! When a driver comes to a stop, is there, and has left. Pure.

use super::judge::Judged;
use crate::base::clock::Time;
use crate::model::plane::Plane;
use crate::model::told::Milestone;
use crate::model::{Fix, Order, Point, StopKind, straight};

/// A driver who is on the way to a stop and closer than this, by road if that is known, in metres, or in seconds, is arriving.
const ARRIVING: f64 = 400.0;
const ARRIVING_SECONDS: f64 = 90.0;
/// Who is closer than this, in metres, is there: after so many fixes, or after one of somebody who stands.
const THERE: f64 = 50.0;
const FIXES: u8 = 2;
const STANDING: f64 = 1.0;
/// A phone that is not sure may be so much further away.
const SLACK: f64 = 30.0;
/// Who is so many degrees further north or south, or east or west, is not there, up to this latitude.
const NORTH: f64 = 0.0012;
const EAST: f64 = 0.0025;
const HIGHEST: f64 = 70.0;
/// Who is further away than this has left, after so many fixes.
const GONE: f64 = 100.0;

/// What is known of a driver at one stop of an order.
#[derive(Clone, Copy, Debug, Default)]
struct AtStop {
    /// What was told already, by its place in [`Milestone::ALL`].
    told: [bool; 3],
    near: u8,
    far: u8,
}

/// What is known of a driver at both stops of an order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pickup: AtStop,
    dropoff: AtStop,
}

/// Something that has just happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    pub stop: StopKind,
    pub milestone: Milestone,
    pub at: Time,
    /// Metres.
    pub distance: f64,
    pub evidence: &'static str,
}

/// One fix, as seen from a stop.
#[derive(Clone, Copy)]
pub struct Step {
    pub at: Time,
    /// Where the driver was before, if that is known.
    pub from: Option<Point>,
    pub to: Point,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Metres.
    pub uncertainty: f64,
}

impl Step {
    pub(super) fn of(judged: &Judged, at: Time, from: Option<Point>, to: Point) -> Self {
        let uncertainty = judged.judgement.uncertainty.unwrap_or_default();
        Self { at, from, to, speed: judged.fix.speed, uncertainty }
    }
}

impl Progress {
    fn of(&mut self, stop: StopKind) -> &mut AtStop {
        match stop {
            StopKind::Pickup => &mut self.pickup,
            StopKind::Dropoff => &mut self.dropoff,
        }
    }

    /// Whether a fix there can change nothing: the driver is far away and has not been there. Most are like that, so it is cheap.
    pub fn is_far(&mut self, stop: StopKind, place: Point, fix: &Step, way: Option<(f64, f64)>) -> bool {
        let state = self.of(stop);
        // Whether the stop is beyond one of the sides of a box around the way since the last fix.
        let beyond = |place: f64, from: f64, to: f64, margin: f64| {
            place < from.min(to) - margin || place > from.max(to) + margin
        };
        let from = fix.from.unwrap_or(fix.to);
        let is_away = place.lat().abs() < HIGHEST
            && (beyond(place.lat(), from.lat(), fix.to.lat(), NORTH)
                || beyond(place.lon(), from.lon(), fix.to.lon(), EAST));
        let is_arriving =
            way.is_some_and(|(metres, seconds)| metres <= ARRIVING || seconds <= ARRIVING_SECONDS);
        let is_over = state.told[2];
        let is_quiet = state.told[0] || !is_arriving;
        is_over || (is_away && is_quiet && !state.told[1] && state.near == 0)
    }

    /// Takes one fix of a driver. `way`: metres and seconds to the stop, if the driver goes there next. Returns what has happened
    /// at the stop for the first time.
    pub fn step(
        &mut self,
        stop: StopKind,
        place: Point,
        fix: &Step,
        way: Option<(f64, f64)>,
    ) -> impl Iterator<Item = Reached> + use<> {
        let state = self.of(stop);
        let before = state.told;
        let map = Plane::around(place);
        let to = map.metres(fix.to);
        let distance = to[0].hypot(to[1]);
        // Between two fixes further away, the driver may have driven past.
        let passed =
            fix.from.is_some_and(|from| map.away(from) > THERE && nearest(map.metres(from), to) <= THERE);
        let mut evidence = [""; 3];
        if let Some((metres, seconds)) = way
            && (metres <= ARRIVING || seconds <= ARRIVING_SECONDS)
        {
            state.told[0] = true;
            evidence[0] = if metres <= ARRIVING { "distance" } else { "time" };
        }
        let reach = THERE + fix.uncertainty.min(SLACK);
        if distance <= reach || passed {
            state.near = state.near.saturating_add(1);
            let stands = distance <= reach && fix.speed.is_some_and(|speed| speed < STANDING);
            if stands || state.near >= FIXES {
                state.told[1] = true;
                evidence[1] = if stands { "standing" } else { "two_fixes" };
            }
        } else {
            state.near = 0;
        }
        if distance > GONE.max(THERE + 2.0 * fix.uncertainty) {
            state.far = state.far.saturating_add(1);
            if state.far >= FIXES && state.told[1] {
                state.told[2] = true;
                evidence[2] = "two_fixes";
            }
        } else {
            state.far = 0;
        }
        let (now, at) = (state.told, fix.at);
        Milestone::ALL.into_iter().enumerate().filter(move |(index, _)| now[*index] && !before[*index]).map(
            move |(index, milestone)| Reached { stop, milestone, at, distance, evidence: evidence[index] },
        )
    }
}

impl Progress {
    /// What would have been told of a fix of an order's driver, who is there: first at the chef's, then at the door.
    pub fn replay(
        &mut self,
        order: &Order,
        fix: &Fix,
        to: Point,
        uncertainty: Option<f64>,
        from: Option<Point>,
    ) -> Vec<Reached> {
        let chef = order.chef.latitude.zip(order.chef.longitude);
        let chef = chef.map(|(latitude, longitude)| Point::stored(latitude, longitude));
        let is_at_chef = chef.is_some() && !self.pickup.told[1];
        let at = fix.recorded_at.min(fix.received_at);
        let step = Step { at, from, to, speed: fix.speed, uncertainty: uncertainty.unwrap_or_default() };
        let mut all = Vec::new();
        for (kind, place) in [(StopKind::Pickup, chef), (StopKind::Dropoff, order.destination())] {
            let Some(place) = place else { continue };
            let goes_there = (kind == StopKind::Pickup) == is_at_chef;
            let way = goes_there.then(|| straight(to, place));
            all.extend(self.step(kind, place, &step, way));
        }
        all
    }
}

/// How far the way from one place to another passes from the origin.
fn nearest(from: [f64; 2], to: [f64; 2]) -> f64 {
    let way = [to[0] - from[0], to[1] - from[1]];
    let length = way[0] * way[0] + way[1] * way[1];
    let share =
        if length > 0.0 { (-(from[0] * way[0] + from[1] * way[1]) / length).clamp(0.0, 1.0) } else { 0.0 };
    (from[0] + way[0] * share).hypot(from[1] + way[1] * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    const DOOR: Point = Point::stored(47.15, 9.53);

    /// The words of what happens to a driver on a straight street, who is so many metres from the door, each after so many seconds, at
    /// that speed.
    fn told(way: &[(f64, f64)]) -> Vec<(usize, &'static str)> {
        let mut progress = Progress::default();
        let mut from = None;
        let mut all = Vec::new();
        for (index, &(metres, speed)) in way.iter().enumerate() {
            let to = Plane::around(DOOR).place([metres, 0.0]);
            let step = Step { at: from_millis(0), from, to, speed: Some(speed), uncertainty: 5.0 };
            let left = (metres.abs(), metres.abs() / 8.0);
            let reached = progress.step(StopKind::Dropoff, DOOR, &step, Some(left));
            all.extend(reached.map(|reached| (index, reached.milestone.as_str())));
            from = Some(to);
        }
        all
    }

    #[test]
    fn what_is_thought_far_away_is_no_milestone() {
        let mut progress = Progress::default();
        for (east, north) in
            [(0.0, 0.0), (80.0, 0.0), (0.0, 80.0), (-60.0, 60.0), (300.0, 0.0), (0.0, -200.0)]
        {
            let to = Plane::around(DOOR).place([east, north]);
            for from in [None, Some(Plane::around(DOOR).place([-east - 500.0, -north]))] {
                let step = Step { at: from_millis(0), from, to, speed: Some(9.0), uncertainty: 30.0 };
                let is_far = progress.is_far(StopKind::Dropoff, DOOR, &step, None);
                let before = progress;
                let reached = progress.step(StopKind::Dropoff, DOOR, &step, None).count();
                let counts = (progress.dropoff.near, before.dropoff.near);
                assert!(!is_far || (reached == 0 && counts.0 == 0), "{east} {north} {from:?} {counts:?}");
                progress = Progress::default();
            }
        }
        // Who is arriving is told so, however far away that is in degrees.
        let to = Plane::around(DOOR).place([3_000.0, 0.0]);
        let step = Step { at: from_millis(0), from: None, to, speed: None, uncertainty: 5.0 };
        assert!(progress.is_far(StopKind::Dropoff, DOOR, &step, Some((3_000.0, 300.0))));
        assert!(!progress.is_far(StopKind::Dropoff, DOOR, &step, Some((3_000.0, 80.0))));
    }

    #[test]
    fn each_happens_once() {
        let there_and_away = [
            (900.0, 8.0),
            (500.0, 8.0),
            (300.0, 8.0),
            (80.0, 8.0),
            (10.0, 0.2),
            (5.0, 0.0),
            (90.0, 8.0),
            (150.0, 8.0),
            (300.0, 8.0),
            (100.0, 8.0),
            (10.0, 0.0),
            (500.0, 8.0),
            (600.0, 8.0),
        ];
        // 500 m are 62 s.
        assert_eq!(told(&there_and_away), [(1, "arriving"), (4, "arrived"), (8, "departed")]);
    }

    #[test]
    fn one_fix_of_somebody_who_drives_by_is_no_arrival() {
        assert_eq!(told(&[(300.0, 12.0), (20.0, 12.0), (-300.0, 12.0), (-600.0, 12.0)]), [(0, "arriving")]);
        // Two are, and so is one beside a way that leads past the door.
        assert_eq!(told(&[(300.0, 5.0), (30.0, 5.0), (-10.0, 5.0)]), [(0, "arriving"), (2, "arrived")]);
        assert_eq!(told(&[(300.0, 5.0), (-60.0, 5.0), (20.0, 5.0)]), [(0, "arriving"), (2, "arrived")]);
    }

    #[test]
    fn each_stop_has_its_own() {
        let mut progress = Progress::default();
        let step = Step { at: from_millis(0), from: None, to: DOOR, speed: Some(0.0), uncertainty: 5.0 };
        let mut reached = |stop, way| {
            progress
                .step(stop, DOOR, &step, way)
                .map(|reached| (reached.milestone, reached.evidence))
                .collect::<Vec<_>>()
        };
        let (arriving, arrived) = ((Milestone::Arriving, "distance"), (Milestone::Arrived, "standing"));
        assert_eq!(reached(StopKind::Dropoff, Some((0.0, 0.0))), [arriving, arrived]);
        assert_eq!(reached(StopKind::Dropoff, Some((0.0, 0.0))), []);
        // Who goes elsewhere first is not arriving, but may be there.
        assert_eq!(reached(StopKind::Pickup, None), [arrived]);
    }
}
