//! A day of deliveries is learned.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::levels::{self, Level};
use super::ranges::{HORIZONS, Ranges, horizon_in};
use crate::base::clock::Time;
use crate::base::config::TravelMode;
use crate::model::{Area, Spread};

/// Like how many trips it counts that a level has nothing to correct.
const ALIKE: [f64; 3] = [10.0, 25.0, 40.0];
/// Shorter drives say more of doors than of roads, in seconds.
const SHORTEST: f64 = 60.0;
/// Areas that are remembered; those with the fewest trips are forgotten.
const AREAS: usize = 2_000;
/// What holds for all sources and horizons.
const ALL: &str = "all";

/// A delivery with nothing but driving before the door, from when that was so.
#[derive(Clone, Debug, PartialEq)]
pub struct Trip {
    pub mode: TravelMode,
    /// Where the door is: see [`Area`].
    pub area: Option<String>,
    /// What was shown meanwhile, in its order.
    pub glimpses: Vec<Glimpse>,
}

impl Trip {
    /// What can be learned from.
    fn told(&self) -> impl Iterator<Item = &Glimpse> {
        self.glimpses.iter().filter(|glimpse| glimpse.base >= SHORTEST && glimpse.actual > 0.0)
    }

    /// The names of its levels.
    fn names(&self, at: Time) -> Vec<String> {
        let mode = levels::of_mode(self.mode);
        let area = self.area.as_ref().map(|area| levels::of_area(&mode, area));
        let hour = levels::of_hour(self.mode, levels::hour(at));
        [Some(mode), Some(hour), area].into_iter().flatten().collect()
    }
}

/// The first ETA of a trip: a trip is one observation, however often its ETA was told.
struct First {
    names: Vec<String>,
    residual: f64,
}

impl First {
    fn of(trip: &Trip) -> Option<Self> {
        let first = trip.told().next()?;
        Some(Self { names: trip.names(first.at), residual: (first.actual / first.base).ln() })
    }
}

/// An ETA that was shown, and what became of it. Times are seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Glimpse {
    pub at: Time,
    pub source: String,
    /// How long the router says that the driving takes.
    pub base: f64,
    /// How long it took.
    pub actual: f64,
}

/// All that was learned so far, up to the end of a day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    pub levels: BTreeMap<String, Level>,
    ranges: BTreeMap<String, Ranges>,
}

impl Learned {
    /// What a level adds.
    #[must_use]
    pub fn applied(&self, level: &str) -> f64 {
        self.levels.get(level).map_or(0.0, |level| level.published)
    }

    /// The areas of a mode, each with what it adds.
    pub fn areas(&self, mode: TravelMode) -> impl Iterator<Item = (Area, f64)> {
        let areas = self
            .levels
            .iter()
            .filter_map(move |(name, level)| levels::area_in(name, mode).map(|area| (area, level.published)));
        areas.filter(|(_, added)| *added != 0.0)
    }

    /// The range of a source, for a horizon: its own, or that of all; `None` before anything is known.
    #[must_use]
    pub fn spread(&self, source: &str, horizon: usize, mode: TravelMode) -> Option<Spread> {
        let own = self.ranges.get(&range_name(source, horizon, mode));
        own.or_else(|| self.ranges.get(ALL)).map(Ranges::spread)
    }

    /// The ranges, each with its name, how many trips it knows, and its bounds.
    pub fn ranges(&self) -> impl Iterator<Item = (&str, u64, Spread)> {
        self.ranges.iter().map(|(name, ranges)| (name.as_str(), ranges.trips, ranges.spread()))
    }

    /// Learns a day of trips, and publishes.
    pub fn learn_day(&mut self, trips: &[Trip]) {
        // All trips of a day are held against what was published before it.
        for trip in trips {
            self.learn_range(trip);
        }
        // Level by level: each one learns what those above it leave.
        let firsts: Vec<First> = trips.iter().filter_map(First::of).collect();
        for depth in 0..ALIKE.len() {
            for first in &firsts {
                let above: f64 =
                    first.names[..depth].iter().zip(ALIKE).map(|(name, alike)| self.mean(name, alike)).sum();
                if let Some(name) = first.names.get(depth) {
                    self.levels.entry(name.clone()).or_default().learn(first.residual - above);
                }
            }
        }
        for (name, level) in &mut self.levels {
            let alike = match name {
                name if name.contains(" @") => ALIKE[2],
                name if name.contains(' ') => ALIKE[1],
                _ => ALIKE[0],
            };
            level.end_day(alike);
        }
        let all = self.ranges.get(ALL).cloned();
        for (name, ranges) in &mut self.ranges {
            ranges.end_day(all.as_ref().filter(|_| name != ALL));
        }
        self.forget();
    }

    fn mean(&self, name: &str, alike: f64) -> f64 {
        self.levels.get(name).map_or(0.0, |level| level.mean(alike))
    }

    fn learn_range(&mut self, trip: &Trip) {
        let mut seen = [false; HORIZONS.len()];
        for glimpse in trip.told() {
            let factor = levels::factor(trip.names(glimpse.at).iter().map(|name| self.applied(name)).sum());
            let horizon = horizon_in(glimpse.base * factor);
            if !std::mem::replace(&mut seen[horizon], true) {
                let residual = (glimpse.actual / glimpse.base / factor).ln();
                for name in [range_name(&glimpse.source, horizon, trip.mode), ALL.to_owned()] {
                    self.ranges.entry(name).or_default().learn(residual);
                }
            }
        }
    }

    fn forget(&mut self) {
        let mut areas: Vec<(f64, String)> = self
            .levels
            .iter()
            .filter(|(name, _)| name.contains(" @"))
            .map(|(name, level)| (level.weight, name.clone()))
            .collect();
        areas.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, name) in areas.into_iter().skip(AREAS) {
            self.levels.remove(&name);
        }
    }
}

fn range_name(source: &str, horizon: usize, mode: TravelMode) -> String {
    format!("{source} {} {}", HORIZONS[horizon].1, mode.as_str())
}

/// The day before the one of a time, in UTC: the last one that is over.
pub(super) fn last_day(now: Time) -> NaiveDate {
    let today = now.date_naive();
    today.pred_opt().unwrap_or(today)
}

#[cfg(test)]
mod tests;
