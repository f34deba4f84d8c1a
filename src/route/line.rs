//! The course of a route: made simpler, written as a polyline, and where on it somebody is.

use super::{Passed, Route};
use crate::model::Point;

/// The radius of the earth in metres, as on a flat map of the surroundings.
const EARTH: f64 = 6_371_008.8;
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
}

/// East and north of a place as seen from another one, in metres.
fn offset(from: Point, to: Point) -> (f64, f64) {
    let middle = f64::midpoint(from.lat(), to.lat()).to_radians().cos();
    ((to.lon() - from.lon()).to_radians() * middle * EARTH, (to.lat() - from.lat()).to_radians() * EARTH)
}

/// The point of a line that is nearest to a place: how much of the line comes before it, and how far away it is.
fn nearest(from: Point, to: Point, place: Point) -> (f64, f64) {
    let ((east, north), (x, y)) = (offset(from, to), offset(from, place));
    let length = east * east + north * north;
    let share = if length > 0.0 { ((x * east + y * north) / length).clamp(0.0, 1.0) } else { 0.0 };
    (share, (x - east * share).hypot(y - north * share))
}

impl Route {
    /// Where a place is on the route, looking from the `from`th point on. `None` for a route without a course.
    #[must_use]
    pub fn locate(&self, place: Point, from: usize) -> Option<OnRoute> {
        let mut best: Option<OnRoute> = None;
        for (index, pair) in self.points.windows(2).enumerate().skip(from) {
            let (share, away) = nearest(pair[0].place, pair[1].place, place);
            if best.is_none_or(|best| away < best.away) {
                let at = |from: f64, to: f64| from + (to - from) * share;
                let seconds = self.seconds - at(pair[0].seconds, pair[1].seconds);
                let metres = self.metres - at(pair[0].metres, pair[1].metres);
                best = Some(OnRoute { seconds, metres, away, index });
            }
        }
        best
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
                nearest(self.points[first].place, self.points[last].place, self.points[index].place).1
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
                let (east, north) = offset(before.place, place);
                metres += east.hypot(north);
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
