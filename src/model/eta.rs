//! Estimates of arrival, and those without a map: geodesic distance at a constant speed.

use chrono::TimeDelta;
use geographiclib_rs::{Geodesic, InverseGeodesic};

use super::{Area, OrderStatus, Party, Point, Sighting};
use crate::base::clock::Time;

/// The speed of a driver: 30 km/h.
const METRES_PER_SECOND: f64 = 30_000.0 / 3_600.0;
/// Mean radius of the earth in metres, for great circles.
const EARTH: f64 = 6_371_000.0;
const MIN_SECONDS: f64 = 60.0;
/// An estimate from an older fix is stale.
const FRESH: TimeDelta = TimeDelta::seconds(60);

/// The source of an ETA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EtaSource {
    /// Estimated from the driver's last position, by the straight line.
    Geodesic,
    /// The same by the roads of the network in memory.
    Network,
    /// By a router elsewhere.
    Osrm,
    Valhalla,
    Google,
    Mapbox,
    /// Set by hand.
    Override,
}

impl EtaSource {
    pub const ALL: [Self; 7] = [
        Self::Geodesic,
        Self::Network,
        Self::Osrm,
        Self::Valhalla,
        Self::Google,
        Self::Mapbox,
        Self::Override,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Geodesic => "geodesic",
            Self::Network => "network",
            Self::Osrm => "osrm",
            Self::Valhalla => "valhalla",
            Self::Google => "google",
            Self::Mapbox => "mapbox",
            Self::Override => "override",
        }
    }
}

/// How much of the time that was estimated it takes at least and at most: four of five deliveries are in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// What is assumed before anything is learned from deliveries.
    pub const ASSUMED: Self = Self { low: 0.70, high: 1.57 };
}

/// What an estimate rests on, to learn from it later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// How long the driving takes as the router has it, in milliseconds, if there is nothing but driving before the door.
    pub driving: Option<u32>,
    /// Where the door is.
    pub area: Option<Area>,
}

/// When an order arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eta {
    /// Whole minutes from the time of the estimate, rounded, at least 1.
    pub minutes: i64,
    pub at: Time,
    /// The earliest and the latest time to reckon with.
    pub low: Time,
    pub high: Time,
    pub source: EtaSource,
    /// The way that is left, if it is by road.
    pub metres: Option<u32>,
    /// How many places the driver goes to before, if it is known where the driver goes.
    pub stops_before: Option<u16>,
    /// Whether the driver has not been heard of for over a minute, so that nobody knows better.
    pub stale: bool,
    pub basis: Basis,
}

impl Eta {
    /// For a driver who arrives in so many seconds, after so many other places. `by_road`: who knows the roads, and how many metres it
    /// is; `None` if a part of the way is the straight line.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "the casts keep to the bounds"
    )]
    pub fn after(
        seconds: f64,
        by_road: Option<(EtaSource, f64)>,
        stops_before: u16,
        spread: Spread,
        now: Time,
    ) -> Self {
        let millis = (seconds.max(MIN_SECONDS) * 1_000.0).round() as i64;
        let at = now + TimeDelta::milliseconds(millis);
        let source = by_road.map_or(EtaSource::Geodesic, |(source, _)| source);
        let metres = by_road.map(|(_, metres)| metres.round() as u32);
        let part = |share: f64| now + TimeDelta::milliseconds((millis as f64 * share).round() as i64);
        let (low, high) = (part(spread.low), part(spread.high));
        Self { low, high, metres, stops_before: Some(stops_before), ..Self::new(at, source, now) }
    }

    /// Whether somebody who was told the one has to be told the other.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let told = |eta: &Self| (eta.minutes, eta.source, eta.stops_before, eta.stale);
        told(self) != told(other)
    }

    /// For a time that somebody set by hand.
    #[must_use]
    pub fn overridden(at: Time, now: Time) -> Self {
        Self::new(at, EtaSource::Override, now)
    }

    /// The same estimate at a later time: what has not come yet is still to come, so it moves on with the clock. `seen_at` is
    /// the time of the driver's last fix.
    #[must_use]
    pub fn as_of(self, now: Time, seen_at: Option<Time>) -> Self {
        let old = seen_at.is_none_or(|seen_at| now - seen_at > FRESH);
        let stale = self.source != EtaSource::Override && old;
        let at = self.at.max(now + TimeDelta::minutes(1));
        // It is no more certain only because time has passed.
        let (low, high) = (self.low.max(now).min(at), self.high.max(at));
        let minutes = Self::new(at, self.source, now).minutes;
        Self { minutes, at, low, high, stale, ..self }
    }

    /// As it was at the time `now`.
    #[must_use]
    pub fn new(at: Time, source: EtaSource, now: Time) -> Self {
        let minutes = ((at - now).num_milliseconds() + 30_000).div_euclid(60_000).max(1);
        let left = at - now;
        let (low, high) = match source {
            EtaSource::Override => (at, at),
            // Elsewhere it is known better: see `Eta::after`.
            _ => (now + left * 70 / 100, now + left * 157 / 100),
        };
        let basis = Basis::default();
        Self { minutes, at, low, high, source, metres: None, stops_before: None, stale: false, basis }
    }
}

/// The length of the shortest line between two places on the ellipsoid WGS 84, in metres. An order is seldom far away, and
/// nearby the ellipsoid is as good as flat: that costs a twentieth, and is less than a hundred-thousandth off.
fn metres(from: Point, to: Point) -> f64 {
    /// Equatorial radius in metres, and the square of the eccentricity.
    const A: f64 = 6_378_137.0;
    const E2: f64 = 0.006_694_379_990_141_316;
    /// In degrees. Closer to the poles the meridians are not parallel enough.
    const NEAR: f64 = 0.3;
    const HIGHEST: f64 = 75.0;
    let (north, east) = (to.lat() - from.lat(), to.lon() - from.lon());
    let middle = f64::midpoint(from.lat(), to.lat());
    if north.abs() > NEAR || east.abs() > NEAR || middle.abs() > HIGHEST {
        return Geodesic::wgs84().inverse(from.lat(), from.lon(), to.lat(), to.lon());
    }
    let (sin, cos) = middle.to_radians().sin_cos();
    let w = 1.0 - E2 * sin * sin;
    // The radii of curvature: of the parallel's prime vertical, and of the meridian.
    let prime = A / w.sqrt();
    let meridian = prime * (1.0 - E2) / w;
    let (x, y) = (prime * cos * east.to_radians(), meridian * north.to_radians());
    (x * x + y * y).sqrt()
}

/// The straight line between two places, in metres, and the seconds it takes.
#[must_use]
pub fn straight(from: Point, to: Point) -> (f64, f64) {
    let metres = metres(from, to);
    (metres, metres / METRES_PER_SECOND)
}

/// Seconds to a place for clients of tracking sessions, at least 60. Their formula is the great circle of a sphere
/// (haversine) at the same speed.
#[must_use]
pub fn eta_seconds(from: Point, to: Point) -> i64 {
    let (north, south) = (from.lat().to_radians(), to.lat().to_radians());
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let a = half(to.lat() - from.lat()) + north.cos() * south.cos() * half(to.lon() - from.lon());
    let metres = 2.0 * EARTH * a.sqrt().atan2((1.0 - a).max(0.0).sqrt());
    #[expect(clippy::cast_possible_truncation, reason = "half the earth at 30 km/h is 2.4 million seconds")]
    let seconds = (metres / METRES_PER_SECOND).max(MIN_SECONDS).round() as i64;
    seconds
}

/// What is known of an order now beside the order itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forecast {
    /// The expected arrival.
    pub eta: Option<Eta>,
    /// Where its driver was last seen.
    pub position: Option<Sighting>,
}

impl Forecast {
    /// Where the driver was last seen, and when, if a party of an order in this status may know.
    #[must_use]
    pub fn seen_by(&self, status: OrderStatus, party: Party) -> Option<(Point, Time)> {
        self.position?.seen_by(status, party)
    }

    /// Whether customers hear less of it than others.
    #[must_use]
    pub fn hides_place(&self, status: OrderStatus) -> bool {
        self.position.is_some() && self.seen_by(status, Party::Customer).is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock::from_millis;

    #[test]
    fn known_distances() {
        let now = from_millis(0);
        // 111.0 m: the example of the third seed, less than a minute away.
        let estimate =
            |from: Point, to: Point| Eta::after(straight(from, to).1, None, 0, Spread::ASSUMED, now);
        let near = estimate(Point::stored(5.6045, -0.1875), Point::stored(5.6037, -0.1869));
        assert_eq!((near.minutes, near.at), (1, from_millis(60_000)));
        // A degree of longitude on the equator is 111,319.49 m: 13,358 s at 30 km/h.
        let far = estimate(Point::stored(0.0, 0.0), Point::stored(0.0, 1.0));
        assert_eq!(far.minutes, 223);
        assert!((far.at.timestamp_millis() - 13_358_339).abs() < 10, "{}", far.at);
        // Antipodes, where simpler formulas fail.
        assert!(estimate(Point::stored(0.0, 0.0), Point::stored(0.0, 180.0)).minutes > 40_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn near_distances_are_those_of_the_ellipsoid(
            lat in -74.8..74.8_f64, lon in -180.0..180.0_f64, north in -0.3..0.3_f64, east in -0.3..0.3_f64,
        ) {
            let exact: f64 = Geodesic::wgs84().inverse(lat, lon, lat + north, lon + east);
            let near = metres(Point::stored(lat, lon), Point::stored(lat + north, lon + east));
            prop_assert!((near - exact).abs() <= exact * 1e-5, "{near} {exact}");
        }
    }

    #[test]
    fn a_time_in_the_past_is_a_minute_away() {
        assert_eq!(Eta::overridden(from_millis(0), from_millis(600_000)).minutes, 1);
        assert_eq!(Eta::overridden(from_millis(600_000), from_millis(0)).minutes, 10);
    }

    #[test]
    fn a_range_is_for_what_is_left_and_gets_no_narrower_by_waiting() {
        let eta =
            Eta::after(1_000.0, Some((EtaSource::Network, 5_000.4)), 0, Spread::ASSUMED, from_millis(0));
        assert_eq!((eta.low, eta.high), (from_millis(700_000), from_millis(1_570_000)));
        assert_eq!(eta.as_of(from_millis(1_000), None).metres, Some(5_000));
        let late = eta.as_of(from_millis(800_000), None);
        assert_eq!((late.low, late.at, late.high), (from_millis(800_000), eta.at, eta.high));
        // Never in the past.
        let later = eta.as_of(from_millis(2_000_000), None);
        assert_eq!(
            (later.low, later.at, later.high),
            (from_millis(2_000_000), from_millis(2_060_000), from_millis(2_060_000))
        );
        let by_hand = Eta::overridden(from_millis(600_000), from_millis(0));
        assert_eq!((by_hand.low, by_hand.high), (by_hand.at, by_hand.at));
    }

    #[test]
    fn great_circles_of_known_length() {
        let eta = |from: [f64; 2], to: [f64; 2]| {
            eta_seconds(Point::stored(from[0], from[1]), Point::stored(to[0], to[1]))
        };
        // 111 m away: a minute at least.
        assert_eq!(eta([5.6045, -0.1875], [5.6037, -0.1869]), 60);
        // A degree of a great circle is 111.195 km: 13,343.4 s.
        assert_eq!(eta([0.0, 0.0], [0.0, 1.0]), 13_343);
        assert_eq!(eta([0.0, 0.0], [1.0, 0.0]), 13_343);
        // Half around the earth, where rounding could give the square root of a negative number.
        assert_eq!(eta([0.0, 0.0], [0.0, 180.0]), 2_401_810);
    }
}
