//! The course of a route: made simpler, written as a polyline, and where on it somebody is.

use super::{Passed, Route};
use crate::model::Point;
use crate::model::plane::Plane;

/// A driver is looked for so far ahead on a route, in metres. Who comes back to it further on gets a new one.
const AHEAD: f64 = 2_000.0;
/// A polyline has so many steps in a degree.
const STEPS: f64 = 1e5;

/// Where on a route somebody is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnRoute {
    /// What is still to come.
    pub seconds: f64,
    pub metres: f64,
    /// How far the place is from the route, in metres.
    pub away: f64,
    /// The point of the route that was passed last.
    pub index: usize,
    /// The place on the route, and the direction of the route there, in degrees clockwise from north.
    pub place: Point,
    pub bearing: f64,
}

/// The point of a line that is nearest to the origin: how much of the line comes before it, and how far away it is.
pub(super) fn nearest(from: [f64; 2], to: [f64; 2]) -> (f64, f64) {
    let (east, north) = (to[0] - from[0], to[1] - from[1]);
    let length = east * east + north * north;
    let share =
        if length > 0.0 { (-(from[0] * east + from[1] * north) / length).clamp(0.0, 1.0) } else { 0.0 };
    (share, (from[0] + east * share).hypot(from[1] + north * share))
}

impl Route {
    /// Where a place is on the route, looking from the `from`th point on. `None` for a route without a course.
    #[must_use]
    pub fn locate(&self, place: Point, from: usize) -> Option<OnRoute> {
        let map = Plane::around(place);
        let points = self.points.get(from..)?;
        let furthest = points.first()?.metres + AHEAD;
        let mut begin = map.metres(points.first()?.place);
        // The index, the share of the line, how far away, and the line.
        let mut best: Option<(usize, f64, f64, [[f64; 2]; 2])> = None;
        for (index, passed) in points.iter().enumerate().skip(1) {
            let end = map.metres(passed.place);
            let (share, away) = nearest(begin, end);
            if best.is_none_or(|best| away < best.2) {
                best = Some((index - 1, share, away, [begin, end]));
            }
            if passed.metres > furthest {
                break;
            }
            begin = end;
        }
        let (index, share, away, [begin, end]) = best?;
        let at = |from: f64, to: f64| from + (to - from) * share;
        let (first, last) = (&points[index], &points[index + 1]);
        Some(OnRoute {
            seconds: self.seconds - at(first.seconds, last.seconds),
            metres: self.metres - at(first.metres, last.metres),
            away,
            index: from + index,
            place: map.place([at(begin[0], end[0]), at(begin[1], end[1])]),
            bearing: (end[0] - begin[0]).atan2(end[1] - begin[1]).to_degrees().rem_euclid(360.0),
        })
    }

    /// The same course with fewer points: none that was left out is further away from it than so many metres.
    #[must_use]
    pub fn simplified(mut self, tolerance: f64) -> Self {
        let mut kept = vec![false; self.points.len()];
        let mut spans = vec![(0, self.points.len().saturating_sub(1))];
        while let Some((first, last)) = spans.pop() {
            for end in [first, last] {
                if let Some(kept) = kept.get_mut(end) {
                    *kept = true;
                }
            }
            let away = |index: usize| {
                let map = Plane::around(self.points[index].place);
                nearest(map.metres(self.points[first].place), map.metres(self.points[last].place)).1
            };
            let furthest =
                (first + 1..last).map(|index| (away(index), index)).max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((away, index)) = furthest
                && away > tolerance
            {
                spans.extend([(first, index), (index, last)]);
            }
        }
        let mut kept = kept.into_iter();
        self.points.retain(|_| kept.next().unwrap_or(true));
        self
    }

    /// The course as an encoded polyline with five digits, as map libraries read it.
    #[must_use]
    pub fn polyline(&self) -> String {
        let mut text = String::new();
        let mut before = (0, 0);
        for Passed { place, .. } in &self.points {
            let here = (steps(place.lat()), steps(place.lon()));
            write_step(here.0 - before.0, &mut text);
            write_step(here.1 - before.1, &mut text);
            before = here;
        }
        text
    }
}

fn steps(degrees: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "degrees are at most 180")]
    let steps = (degrees * STEPS).round() as i64;
    steps
}

/// The sign goes into the last bit; then five bits make a letter, the last ones first.
fn write_step(step: i64, text: &mut String) {
    let mut rest = (step << 1) ^ (step >> 63);
    loop {
        let more = if rest >= 0x20 { 0x20 } else { 0 };
        text.push(char::from(u8::try_from((rest & 0x1f) | more).unwrap_or_default() + 63));
        rest >>= 5;
        if more == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// East along the equator, a degree at a time is 111,195 m: here a thousandth, at 10 m/s.
    fn route(course: &[(f64, f64)]) -> Route {
        let (mut points, mut metres): (Vec<Passed>, f64) = (Vec::new(), 0.0);
        for &(latitude, longitude) in course {
            let place = Point::stored(latitude, longitude);
            if let Some(before) = points.last() {
                metres += Plane::around(before.place).away(place);
            }
            points.push(Passed { place, metres, seconds: metres / 10.0 });
        }
        Route { seconds: metres / 10.0, metres, points }
    }

    #[test]
    fn what_is_still_to_come() {
        let route = route(&[(0.0, 0.0), (0.0, 0.001), (0.001, 0.001)]);
        let on = route.locate(Point::stored(0.0001, 0.0005), 0).expect("a course");
        assert_eq!(on.index, 0);
        assert!(
            (on.bearing - 90.0).abs() < 1e-6
                && (on.place.lon() - 0.0005).abs() < 1e-9
                && on.place.lat().abs() < 1e-9
        );
        assert!(
            (on.metres - 166.79).abs() < 0.1
                && (on.seconds - 16.68).abs() < 0.01
                && (on.away - 11.12).abs() < 0.01
        );
        let end = route.locate(Point::stored(0.002, 0.001), 0).expect("a course");
        assert!(end.metres.abs() < 0.01 && end.index == 1 && (end.away - 111.2).abs() < 0.1);
        // Who goes the same way back is not taken back to its beginning.
        assert_eq!(route.locate(Point::stored(0.0, 0.0), 1).expect("a course").index, 1);
        assert_eq!(Route { points: Vec::new(), ..route }.locate(Point::stored(0.0, 0.0), 0), None);
    }

    #[test]
    fn straight_lines_have_two_points() {
        let straight = route(&[(0.0, 0.0), (0.00001, 0.0005), (0.0, 0.001), (0.001, 0.001)]);
        let (metres, points) = (straight.metres, straight.clone().simplified(3.0).points);
        let places: Vec<_> = points.iter().map(|passed| (passed.place.lat(), passed.place.lon())).collect();
        assert_eq!(places, [(0.0, 0.0), (0.0, 0.001), (0.001, 0.001)]);
        assert!((points[2].metres - metres).abs() < 0.01);
        assert_eq!(straight.clone().simplified(0.1).points.len(), 4);
    }

    #[test]
    fn polylines_are_those_of_map_libraries() {
        // The example in Google's description of the format.
        let example = route(&[(38.5, -120.2), (40.7, -120.95), (43.252, -126.453)]);
        assert_eq!(example.polyline(), "_p~iF~ps|U_ulLnnqC_mqNvxq`@");
        assert_eq!(Route { points: Vec::new(), ..example }.polyline(), "");
    }
}
