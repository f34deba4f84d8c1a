//! Lengths and directions on short distances.

use super::degrees;

/// The radius that OSRM takes for the earth, in metres.
const EARTH: f64 = 6_372_797.560_856;

/// The great circle between two points, in metres.
pub(super) fn metres(from: [i32; 2], to: [i32; 2]) -> f64 {
    let ((from_lat, from_lon), (to_lat, to_lon)) = (degrees(from), degrees(to));
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let cosines = from_lat.to_radians().cos() * to_lat.to_radians().cos();
    let chord = half(to_lat - from_lat) + cosines * half(to_lon - from_lon);
    2.0 * EARTH * chord.sqrt().min(1.0).asin()
}

/// East and north of `to` as seen from `from`, in metres, as on a flat map.
pub(super) fn offset(from: [i32; 2], to: [i32; 2]) -> (f64, f64) {
    let ((from_lat, from_lon), (to_lat, to_lon)) = (degrees(from), degrees(to));
    let middle = f64::midpoint(from_lat, to_lat).to_radians().cos();
    ((to_lon - from_lon).to_radians() * middle * EARTH, (to_lat - from_lat).to_radians() * EARTH)
}

/// The point that is so much of the way from one to the other.
pub(super) fn between(from: [i32; 2], to: [i32; 2], share: f64) -> [i32; 2] {
    let coordinate = |from: i32, to: i32| {
        let value = f64::from(from) + (f64::from(to) - f64::from(from)) * share;
        #[expect(clippy::cast_possible_truncation, reason = "between two coordinates")]
        let value = value.round() as i32;
        value
    };
    [coordinate(from[0], to[0]), coordinate(from[1], to[1])]
}

/// How far along a line one looks for its direction at its end, in metres: lanes bend where they meet.
const LOOK: f64 = 10.0;

/// The direction of a line at its beginning, in degrees, clockwise from north.
pub(super) fn bearing(line: impl Iterator<Item = [i32; 2]>) -> f64 {
    let mut line = line.peekable();
    let Some(begin) = line.next() else { return 0.0 };
    let (mut before, mut passed) = (begin, 0.0);
    let mut seen = begin;
    for next in line {
        let length = metres(before, next);
        seen = if passed + length > LOOK { between(before, next, (LOOK - passed) / length) } else { next };
        passed += length;
        before = next;
        if passed > LOOK {
            break;
        }
    }
    let (east, north) = offset(begin, seen);
    east.atan2(north).to_degrees().rem_euclid(360.0)
}
