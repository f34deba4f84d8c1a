//! What becomes of a fix: the filter's verdict, and the place on a route or road where it is shown.

use chrono::TimeDelta;

use super::Drivers;
use super::filter::{Judgement, Rules};
use super::state::DriverState;
use crate::base::config::{GpsFilter, MockLocations, Routing};
use crate::model::{Fix, OrderId, Point, Provenance, Source, Verdict};
use crate::route::line::OnRoute;

/// Minimum time between two points of a driver's trail: more than two points per second add no information. What the trail does not
/// keep the filter does not learn from, so a replay of the trail has the same verdicts.
const SPACING: TimeDelta = TimeDelta::milliseconds(500);
/// Who is closer to a route or road is shown on it, in metres, until they are further away than the second one.
const NEAR: f64 = 25.0;
const FAR: f64 = 45.0;
/// Nobody is moved further than this, or than so many times the error of the place.
const LEAST: f64 = 12.0;
const ERRORS: f64 = 3.0;
/// Who goes in another direction than the road, by so many degrees, is not on it.
const ASTRAY: f64 = 50.0;
/// The heading of somebody who is slower says nothing, in metres per second.
const SLOW: f64 = 1.0;
/// A radius of two cases in three is so many times the error of one axis.
const RADIUS: f64 = 1.51;

/// A fix with the order that it names, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub order: Option<OrderId>,
    pub fix: Fix,
    pub judgement: Judgement,
    /// Whether the trail keeps it.
    pub is_kept: bool,
}

impl Judged {
    /// The first fix of all, which waited for a second one that did not come. It is in the trail already.
    pub fn released(order: Option<OrderId>, fix: Fix) -> Self {
        let judgement = Judgement { source: Source::Filtered, ..Judgement::raw(&fix) };
        Self { order, fix, judgement, is_kept: false }
    }
}

impl Judgement {
    /// Where the place comes from that is shown.
    #[must_use]
    pub const fn provenance(&self) -> Provenance {
        Provenance { source: self.source, uncertainty: self.uncertainty, reanchored: self.reanchored }
    }
}

/// How fixes are filtered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filtering {
    mode: GpsFilter,
    rules: Rules,
}

impl Filtering {
    pub fn new(routing: &Routing) -> Self {
        let drop = routing.mock_locations == MockLocations::Drop;
        Self { mode: routing.gps_filter, rules: Rules::of(routing.driver_mode, drop) }
    }

    pub const fn rules(&self) -> Rules {
        self.rules
    }

    /// Whether clients see what the filter says.
    pub fn is_on(&self) -> bool {
        self.mode == GpsFilter::On
    }
}

impl Drivers {
    /// Judges a fix. The driver's lock is held.
    pub(super) fn judge(&self, state: &mut DriverState, order: Option<OrderId>, fix: Fix) -> Judged {
        let is_kept = state.last_trail_fix.is_none_or(|last| (fix.recorded_at - last).abs() >= SPACING);
        if is_kept {
            state.last_trail_fix = Some(fix.recorded_at);
        }
        let as_sent = || Judgement { verdict: fix.doubt().unwrap_or(Verdict::Shown), ..Judgement::raw(&fix) };
        let judgement = match self.filtering.mode {
            GpsFilter::Off => as_sent(),
            mode => {
                // The driver was seen before this process began.
                if let Some((place, at)) = state.position.filter(|_| state.filter.is_new()) {
                    state.filter.recall(place, at);
                }
                let judgement = if is_kept {
                    state.filter.judge(&fix, &self.filtering.rules)
                } else {
                    state.filter.clone().judge(&fix, &self.filtering.rules)
                };
                if mode == GpsFilter::On {
                    judgement
                } else {
                    self.metrics.fix_in_shadow(judgement.verdict.as_str());
                    as_sent()
                }
            }
        };
        Judged { order, fix, judgement, is_kept }
    }

    /// Moves a place to the route that the driver follows, or to a road, if it is near.
    pub(super) fn snap(&self, state: &mut DriverState, judged: &mut Judged) {
        let (fix, judgement) = (&judged.fix, &mut judged.judgement);
        if judgement.source != Source::Filtered {
            return;
        }
        let heading = fix.heading.filter(|_| fix.speed.is_none_or(|speed| speed >= SLOW));
        let error = judgement.uncertainty.unwrap_or_default() / RADIUS;
        let within = if state.on_road { FAR } else { NEAR }.min(LEAST.max(ERRORS * error));
        let is_astray = |bearing: f64| {
            heading
                .is_some_and(|heading| ((heading - bearing + 540.0).rem_euclid(360.0) - 180.0).abs() > ASTRAY)
        };
        let is_on = |on: &&OnRoute| on.away <= within && !is_astray(on.bearing);
        let on_route = state.on_route().filter(is_on).map(|on| on.place);
        let on_road = || -> Option<Point> {
            // Nobody sees a driver without orders.
            let is_seen = !state.orders.is_empty();
            let fits = |bearing: f64| !is_astray(bearing) || !is_astray(bearing + 180.0);
            is_seen.then(|| self.roads.near(judgement.place, within, fits)).flatten()
        };
        let snapped = on_route.or_else(on_road);
        state.on_road = snapped.is_some();
        if let Some(place) = snapped {
            (judgement.place, judgement.source) = (place, Source::Snapped);
        }
    }
}
