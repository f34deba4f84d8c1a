//! What was learned from deliveries: how much longer or shorter driving takes than the routers say, and how certain that is.
//!
//! - `levels`: the factor of a place and an hour. Pure.
//! - `ranges`: how far arrivals lie from the ETAs. Pure.
//! - `fold`: a day of deliveries is learned. Pure.
//! - `store`: one version a day in the database, and the loop that makes it.

mod fold;
mod levels;
mod ranges;
pub mod store;

use std::sync::{Arc, PoisonError, RwLock};

use ahash::AHashMap;

pub use fold::{Glimpse, Learned, Trip};
pub use levels::Level;
pub use ranges::{HORIZONS, horizon_in};

use crate::base::clock::Time;
use crate::base::config::TravelMode;
use crate::model::{Area, EtaSource, Spread};

/// The factors and ranges in use. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Calibration {
    current: Arc<RwLock<Arc<InUse>>>,
}

impl Calibration {
    /// What is in use now.
    #[must_use]
    pub fn now(&self) -> Arc<InUse> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, new: InUse) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }
}

/// What was learned, for one way to travel, ready to be looked up for each position.
#[derive(Debug)]
pub struct InUse {
    /// Natural logarithms: what to add for every trip, for one of that hour, and for one to that area.
    mode: f64,
    hours: [f64; levels::HOURS],
    areas: AHashMap<Area, f64>,
    ranges: AHashMap<(EtaSource, usize), Spread>,
}

impl Default for InUse {
    fn default() -> Self {
        Self { mode: 0.0, hours: [0.0; levels::HOURS], areas: AHashMap::new(), ranges: AHashMap::new() }
    }
}

impl InUse {
    fn of(learned: &Learned, mode: TravelMode) -> Self {
        let mut new = Self { mode: learned.applied(&levels::of_mode(mode)), ..Self::default() };
        for (hour, factor) in new.hours.iter_mut().enumerate() {
            *factor = learned.applied(&levels::of_hour(mode, hour));
        }
        new.areas.extend(learned.areas(mode));
        for source in EtaSource::ALL {
            for horizon in 0..HORIZONS.len() {
                if let Some(spread) = learned.spread(source.as_str(), horizon, mode) {
                    new.ranges.insert((source, horizon), spread);
                }
            }
        }
        new
    }

    /// By how much the time of a drive at this time to this place is to be multiplied.
    #[must_use]
    pub fn factor(&self, at: Time, area: Option<Area>) -> f64 {
        let of_area = area.and_then(|area| self.areas.get(&area)).copied().unwrap_or_default();
        levels::factor(self.mode + self.hours[levels::hour(at)] + of_area)
    }

    /// How certain an estimate of this source is for so many seconds ahead.
    #[must_use]
    pub fn spread(&self, source: EtaSource, seconds: f64) -> Spread {
        self.ranges.get(&(source, horizon_in(seconds))).copied().unwrap_or(Spread::ASSUMED)
    }
}
