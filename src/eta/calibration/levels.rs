//! Factors for driving, in three levels: for every trip, for an hour of the day, for an area. Each level corrects what those above it
//! leave, and is trusted the less the fewer trips there were.

use chrono::{Datelike, Timelike, Weekday};
use serde::{Deserialize, Serialize};

use crate::base::clock::Time;
use crate::base::config::TravelMode;
use crate::model::Area;

/// The hours of a weekday, then those of a day of the weekend, in UTC.
pub const HOURS: usize = 48;
/// A trip that took longer or less than by this counts as if by this: e^0.7 is twice as long. Nothing else about it is believed.
const CLIP: f64 = 0.7;
/// What is published changes by at most five percent a day: `ln 1.05`.
const STEP: f64 = 0.048_79;
/// A level is not used before so many trips.
const ENOUGH: u64 = 30;
/// The bounds of all levels together.
const FACTOR: [f64; 2] = [0.6, 2.0];
/// What a day leaves of the weight of what was learned before: half after two weeks.
pub const FADES: f64 = 0.951_7;

/// The same for how far trips were off: what harms now counts, not what did good last month.
const FORGETS: f64 = 0.8;

/// The hour that a time is in.
pub fn hour(at: Time) -> usize {
    let weekend = matches!(at.weekday(), Weekday::Sat | Weekday::Sun);
    at.hour() as usize + if weekend { 24 } else { 0 }
}

/// The factor of a sum of logarithms, within bounds.
pub fn factor(logarithm: f64) -> f64 {
    let [low, high] = FACTOR;
    logarithm.exp().clamp(low, high)
}

/// The names of levels.
pub fn of_mode(mode: TravelMode) -> String {
    mode.as_str().to_owned()
}

pub fn of_hour(mode: TravelMode, hour: usize) -> String {
    let day = if hour < 24 { "weekday" } else { "weekend" };
    format!("{} {:02} {day}", mode.as_str(), hour % 24)
}

pub fn of_area(mode: &str, area: &str) -> String {
    format!("{mode} @{area}")
}

/// The area in the name of a level, if it is one of this mode.
pub fn area_in(name: &str, mode: TravelMode) -> Option<Area> {
    let (of_mode, middle) = name.split_once(" @")?;
    let (latitude, longitude) = middle.split_once(',')?;
    let place = crate::model::Point::stored(latitude.parse().ok()?, longitude.parse().ok()?);
    (of_mode == mode.as_str()).then(|| Area::of(place))
}

/// What was learned at one level. All are natural logarithms of how much longer a drive took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// All trips that there ever were.
    pub trips: u64,
    /// Those of long ago count less.
    pub weight: f64,
    sum: f64,
    /// What would be in use if it were better with it.
    wanted: f64,
    /// What is in use.
    pub published: f64,
    /// The sum of how far trips were off with what is wanted, and without.
    off_with: f64,
    off_without: f64,
}

impl Level {
    /// A trip took so much longer than the levels above say.
    pub fn learn(&mut self, residual: f64) {
        let residual = residual.clamp(-CLIP, CLIP);
        self.trips += 1;
        self.weight += 1.0;
        self.sum += residual;
        self.off_with += (residual - self.wanted).abs();
        self.off_without += residual.abs();
    }

    /// A day is over. `alike`: like how many trips it counts that nothing special is expected.
    pub fn end_day(&mut self, alike: f64) {
        self.wanted = self.mean(alike);
        // Nothing as long as there were few trips, and while ETAs would be better without.
        let is_better = self.trips >= ENOUGH && self.off_with <= self.off_without;
        let wanted = if is_better { self.wanted } else { 0.0 };
        self.published += (wanted - self.published).clamp(-STEP, STEP);
        self.weight *= FADES;
        self.sum *= FADES;
        self.off_with *= FORGETS;
        self.off_without *= FORGETS;
    }

    /// How much longer trips took.
    #[must_use]
    pub fn mean(&self, alike: f64) -> f64 {
        self.sum / (self.weight + alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Point;

    #[test]
    fn a_level_moves_slowly_shrinks_and_steps_aside_when_it_harms() {
        let mut level = Level::default();
        let day = |level: &mut Level, residual: f64, trips: u32| {
            (0..trips).for_each(|_| level.learn(residual));
            level.end_day(10.0);
        };
        day(&mut level, 0.3, 20);
        assert!(level.published.abs() < 1e-9, "20 trips are too few");
        day(&mut level, 0.3, 20);
        assert!((level.published - STEP).abs() < 1e-9, "{level:?}");
        for _ in 0..30 {
            day(&mut level, 0.3, 20);
        }
        assert!((0.28..0.3).contains(&level.published), "{level:?}");
        // A day of nonsense moves it by a step, and the next days bring it back.
        let before = level.published;
        day(&mut level, 99.0, 20);
        assert!((level.published - before).abs() <= STEP + 1e-9);
        day(&mut level, 0.3, 20);
        assert!((level.published - before).abs() < 0.03, "{level:?}");
        // Where it was right long ago and harms now, it is not used.
        let before = level.published;
        for days in 1..=2 {
            day(&mut level, -0.2, 150);
            let expected = before - f64::from(days) * STEP;
            assert!(level.wanted > 0.0 && (level.published - expected).abs() < 1e-9, "{level:?}");
        }
    }

    #[test]
    fn names() {
        let area = Area::of(Point::stored(47.14, 9.52));
        assert_eq!(area_in(&of_area("car", &area.to_string()), TravelMode::Car), Some(area));
        assert_eq!(area_in(&of_area("bike", &area.to_string()), TravelMode::Car), None);
        assert_eq!(area_in("car 12 weekday", TravelMode::Car), None);
        assert_eq!(of_hour(TravelMode::Bike, 25), "bike 01 weekend");
        let at = |text: &str| hour(text.parse().expect("a time"));
        assert_eq!((at("2026-11-27T23:59:00Z"), at("2026-11-28T00:00:00Z")), (23, 24));
    }
}
