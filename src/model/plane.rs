//! The flat map of the surroundings of a place: metres east and north. A few kilometres away it is off by less than a metre.

use super::Point;

/// The radius of the earth in metres, as on a flat map of the surroundings.
const EARTH: f64 = 6_371_008.8;

/// The surroundings of a place.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    origin: Point,
    /// Metres in a degree of longitude there.
    east: f64,
}

/// Metres in a degree of latitude.
const NORTH: f64 = EARTH * std::f64::consts::PI / 180.0;

impl Plane {
    #[must_use]
    pub fn around(origin: Point) -> Self {
        Self { origin, east: NORTH * origin.lat().to_radians().cos() }
    }

    /// Metres east and north of the origin.
    #[must_use]
    pub fn metres(&self, place: Point) -> [f64; 2] {
        let mut east = place.lon() - self.origin.lon();
        // The short way, over the line where days begin.
        if east.abs() > 180.0 {
            east -= 360.0_f64.copysign(east);
        }
        [east * self.east, (place.lat() - self.origin.lat()) * NORTH]
    }

    /// The place so many metres east and north of the origin.
    #[must_use]
    pub fn place(&self, [east, north]: [f64; 2]) -> Point {
        // At a pole every place is as far east as any other.
        let degrees = if self.east > 1.0 { east / self.east } else { 0.0 };
        let mut longitude = self.origin.lon() + degrees;
        if longitude.abs() > 180.0 {
            longitude -= 360.0_f64.copysign(longitude);
        }
        Point::stored((self.origin.lat() + north / NORTH).clamp(-90.0, 90.0), longitude.clamp(-180.0, 180.0))
    }

    /// How far a place is from the origin, in metres.
    #[must_use]
    pub fn away(&self, place: Point) -> f64 {
        let [east, north] = self.metres(place);
        east.hypot(north)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for origin in [Point::stored(47.14, 9.52), Point::stored(-60.0, 179.999), Point::stored(0.0, -180.0)]
        {
            let plane = Plane::around(origin);
            let there = plane.place([300.0, -400.0]);
            let [east, north] = plane.metres(there);
            assert!((east - 300.0).abs() < 1e-3 && (north + 400.0).abs() < 1e-3, "{origin:?} {east} {north}");
            assert!((plane.away(there) - 500.0).abs() < 1e-3);
        }
        let pole = Plane::around(Point::stored(90.0, 0.0)).place([5.0, 10.0]);
        assert_eq!((pole.lat(), pole.lon()), (90.0, 0.0));
    }
}
