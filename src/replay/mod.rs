//! A delivery again, from what was kept of it: each position is judged anew, with the same rules or with others, and held against
//! what was shown; the milestones that would have been told; and the ETAs against the arrival.

pub mod play;

use std::fmt;

use serde::Serialize;
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use crate::base::clock::rfc3339;
use crate::base::config::TravelMode;
use crate::driver::filter::{Filter, Judgement, Rules};
use crate::driver::milestone::Progress;
use crate::driver::positions::{Kept, Recorded};
use crate::eta::log::Shown;
use crate::model::plane::Plane;
use crate::model::{Point, Provenance, Source, StopKind, UserId, Verdict};

/// Places that are closer than this are the same, in metres: databases keep all digits, so it is for what is written as text.
const SAME: f64 = 0.01;
/// A place on a road is at most so far from its estimate, in metres.
const SNAPPED: f64 = 45.0;

/// What is to be different.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Changes {
    pub rules: Rules,
    /// Whether anything is different at all.
    pub any: bool,
}

impl Changes {
    /// None: as the server judges.
    #[must_use]
    pub const fn none(rules: Rules) -> Self {
        Self { rules, any: false }
    }

    /// Takes one change, such as `filter.vmax` and `30`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || {
            let number = value.parse::<f64>().ok().filter(|number| (0.1..=1_000.0).contains(number));
            number.ok_or_else(|| format!("{name} must be a number from 0.1 to 1000, in metres per second"))
        };
        match name {
            "filter.vmax" => self.rules.fastest = number()?,
            "filter.vmaxLong" => self.rules.fastest_for_long = number()?,
            "filter.mocked" => {
                self.rules.drop_mocked = match value {
                    "drop" => true,
                    "flag" => false,
                    _ => return Err("filter.mocked must be drop or flag".to_owned()),
                }
            }
            "filter.mode" => {
                let mode = match value {
                    "car" => TravelMode::Car,
                    "bike" => TravelMode::Bike,
                    "foot" => TravelMode::Foot,
                    _ => return Err("filter.mode must be car, bike or foot".to_owned()),
                };
                self.rules = Rules::of(mode, self.rules.drop_mocked);
            }
            _ => {
                return Err(format!(
                    "{name} is not one of filter.vmax, filter.vmaxLong, filter.mode and filter.mocked"
                ));
            }
        }
        self.any = true;
        Ok(())
    }
}

/// A delivery again.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    pub order_id: String,
    /// True if something else than what was kept was wanted
    pub what_if: bool,
    /// How many positions were judged
    pub fixes: usize,
    /// How many verdicts are the same as then
    pub same_verdicts: usize,
    /// How many places that were shown then are shown again. A place on a road counts if it is as near to its estimate as then
    pub same_places: usize,
    /// How many places were shown then
    pub shown: usize,
    /// True if the trail does not reach back to the assignment, or has positions of a version that did not judge them
    pub incomplete: bool,
    pub positions: Vec<ReplayedPosition>,
    pub milestones: Vec<ReplayedMilestone>,
    pub etas: Vec<ReplayedEta>,
    /// When it arrived, once it has
    pub arrived_at: Option<String>,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "order {}", self.order_id)?;
        writeln!(f, "{} positions: {} with the same verdict", self.fixes, self.same_verdicts)?;
        writeln!(f, "{} of {} places that were shown are the same", self.same_places, self.shown)?;
        if self.incomplete {
            writeln!(f, "incomplete: the trail has holes, or begins in the middle")?;
        }
        for position in self.positions.iter().filter(|one| one.verdict != Some(one.replayed_verdict)) {
            let then = position.verdict.unwrap_or("not judged");
            writeln!(f, "  {}  {then} then, {} now", position.recorded_at, position.replayed_verdict)?;
        }
        for milestone in &self.milestones {
            let (stop, at) = (milestone.stop.as_str(), &milestone.at);
            writeln!(f, "  {at}  {stop} {}, {} m away", milestone.milestone, milestone.distance_meters)?;
        }
        match &self.arrived_at {
            Some(at) => writeln!(f, "arrived at {at}; {} ETAs were shown", self.etas.len()),
            None => writeln!(f, "not arrived; {} ETAs were shown", self.etas.len()),
        }
    }
}

/// A position, as it was judged and as it is judged now.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayedPosition {
    pub recorded_at: String,
    pub received_at: String,
    pub latitude: f64,
    pub longitude: f64,
    /// Then
    pub verdict: Option<&'static str>,
    pub shown: Option<[f64; 2]>,
    pub source: Option<&'static str>,
    /// Now
    pub replayed_verdict: &'static str,
    pub replayed: Option<[f64; 2]>,
}

/// A milestone that would have been told.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayedMilestone {
    pub stop: StopKind,
    pub milestone: &'static str,
    pub at: String,
    pub distance_meters: f64,
}

/// An ETA that was shown, and how much later the order arrived.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayedEta {
    pub at: String,
    pub estimated_delivery_time: String,
    pub eta_source: String,
    pub error_seconds: Option<i64>,
}

/// A position that is judged again.
struct Again<'a> {
    kept: &'a Kept,
    /// Whether it is of the delivery, and not from before it.
    counts: bool,
    /// Whether it is the first one of its driver.
    is_first: bool,
    judgement: &'a Judgement,
}

/// Judges each position anew. Returns whether the trail is incomplete.
fn again<'a>(recorded: &'a Recorded, rules: &Rules, mut each: impl FnMut(Again<'_>)) -> bool {
    let (mut filter, mut driver): (_, Option<&'a UserId>) = (Filter::default(), None);
    let mut incomplete = recorded.is_cut || recorded.fixes.iter().any(|(kept, _)| kept.verdict.is_none());
    for (kept, counts) in &recorded.fixes {
        let is_first = driver != Some(&kept.driver);
        if is_first {
            (filter, driver) = (Filter::default(), Some(&kept.driver));
            // The first one was not held then, so the driver had been seen before.
            if kept.verdict == Some(Verdict::Shown) && kept.fix.accuracy.is_some() {
                let (place, _) = kept.shown.unwrap_or((kept.fix.place, Provenance::raw(None)));
                filter.recall(place, kept.fix.recorded_at - chrono::TimeDelta::hours(1));
                incomplete |= *counts;
            }
        }
        let judgement = filter.judge(&kept.fix, rules);
        each(Again { kept, counts: *counts, is_first, judgement: &judgement });
    }
    incomplete
}

/// Plays a delivery again.
#[must_use]
pub fn replay(recorded: &Recorded, changes: &Changes) -> Replay {
    let Recorded { order, fixes, etas, arrived_at, .. } = recorded;
    let mut progress = Progress::default();
    let mut positions = Vec::with_capacity(fixes.len());
    let mut milestones = Vec::new();
    let (mut same_verdicts, mut same_places, mut shown) = (0, 0, 0);
    let mut last: Option<Point> = None;
    let mut incomplete =
        again(recorded, &changes.rules, |Again { kept, counts, is_first, judgement: judged }| {
            if is_first {
                last = None;
            }
            let is_shown = judged.verdict == Verdict::Shown;
            if counts {
                same_verdicts += usize::from(kept.verdict == Some(judged.verdict));
                if let Some((place, provenance)) = kept.shown {
                    shown += 1;
                    let within = if provenance.source == Source::Snapped { SNAPPED } else { SAME };
                    same_places += usize::from(is_shown && Plane::around(place).away(judged.place) <= within);
                }
                let pair = |place: Point| [place.lat(), place.lon()];
                positions.push(ReplayedPosition {
                    recorded_at: rfc3339(kept.fix.recorded_at),
                    received_at: rfc3339(kept.fix.received_at),
                    latitude: kept.fix.place.lat(),
                    longitude: kept.fix.place.lon(),
                    verdict: kept.verdict.map(Verdict::as_str),
                    shown: kept.shown.map(|(place, _)| pair(place)),
                    source: kept.shown.map(|(_, provenance)| provenance.source.as_str()),
                    replayed_verdict: judged.verdict.as_str(),
                    replayed: is_shown.then(|| pair(judged.place)),
                });
            }
            if is_shown {
                let reached = progress.replay(order, &kept.fix, judged.place, judged.uncertainty, last);
                milestones.extend(reached.into_iter().filter(|_| counts).map(|reached| ReplayedMilestone {
                    stop: reached.stop,
                    milestone: reached.milestone.as_str(),
                    at: rfc3339(reached.at),
                    distance_meters: reached.distance.round(),
                }));
                last = Some(judged.place);
            }
        });
    incomplete |= fixes.is_empty() && arrived_at.is_some();
    let eta = |shown: &Shown| ReplayedEta {
        at: rfc3339(shown.at),
        estimated_delivery_time: rfc3339(shown.eta_at),
        eta_source: shown.source.clone(),
        error_seconds: arrived_at.map(|arrived_at| (arrived_at - shown.eta_at).num_seconds()),
    };
    Replay {
        order_id: order.id.to_string(),
        what_if: changes.any,
        fixes: positions.len(),
        same_verdicts,
        same_places,
        shown,
        incomplete,
        positions,
        milestones,
        etas: etas.iter().map(eta).collect(),
        arrived_at: arrived_at.map(rfc3339),
    }
}
