//! Whether a fix can be right, given what is known of the driver.

use chrono::TimeDelta;

use super::{FORGOTTEN, Filter, Known, Rules, USUAL_ACCURACY, has_evidence, seconds, seen_at};
use crate::model::plane::Plane;
use crate::model::{Fix, Point, Verdict};

/// A fix that is less exact, in metres, says nothing of a street.
const MAX_ACCURACY: f64 = 200.0;
/// A fix that is so much less exact than one shortly before, and less exact than this in metres, comes from the network and not
/// from satellites.
const WORSE: f64 = 4.0;
const COARSE: f64 = 40.0;
const SHORTLY: TimeDelta = TimeDelta::seconds(30);
/// The first fix after a long time is believed only if it is at least as exact, in metres.
const EXACT: f64 = 50.0;
/// A phone that does not say how exact it is may be as inexact as is ever shown, and its clock may be, too: somebody who is so many
/// times too fast is believed.
const LENIENT: f64 = 2.0;
/// Two fixes may be closer together in time than their clocks are exact, in seconds.
const LEAST_SECONDS: f64 = 0.5;
/// The square of how many times the usual error a fix may be off.
const LARGEST: f64 = 25.0;

/// What the gate says of a fix.
pub(super) struct Gated {
    pub refused: Option<Verdict>,
    pub speed: Option<f64>,
    pub innovation: Option<f64>,
}

/// Metres per second between two places that are known so exactly, at least.
fn speed(metres: f64, accuracies: [Option<f64>; 2], seconds: f64) -> f64 {
    let [one, other] = accuracies.map(|accuracy| accuracy.unwrap_or(MAX_ACCURACY));
    (metres - one - other).max(0.0) / seconds.max(LEAST_SECONDS)
}

/// How fast a driver may have been.
fn limit(accuracies: [Option<f64>; 2], seconds: f64, rules: &Rules) -> f64 {
    if accuracies.contains(&None) {
        LENIENT * rules.fastest
    } else if seconds > 30.0 {
        rules.fastest_for_long
    } else {
        rules.fastest
    }
}

/// Whether a driver can have been wherever these fixes say.
pub(super) fn agree(fixes: &[Fix], rules: &Rules) -> bool {
    fixes.iter().enumerate().all(|(index, one)| {
        fixes[index + 1..].iter().all(|other| {
            let metres = Plane::around(one.place).away(other.place);
            let seconds = seconds((seen_at(one) - seen_at(other)).abs());
            let accuracies = [one.accuracy, other.accuracy];
            speed(metres, accuracies, seconds) <= limit(accuracies, seconds, rules)
        })
    })
}

impl Filter {
    /// Why a fix is of no use, whatever is known of the driver's way.
    pub(super) fn doubt(&self, fix: &Fix, rules: &Rules) -> Option<Verdict> {
        let at = seen_at(fix);
        if let Some(known) = &self.known {
            if at < known.at {
                return Some(Verdict::Late);
            }
            if at == known.at && fix.place == known.measured && has_evidence(fix) {
                return Some(Verdict::Duplicate);
            }
        }
        if fix.is_null_island() {
            return Some(Verdict::NullIsland);
        }
        if fix.mocked && rules.drop_mocked {
            return Some(Verdict::Mocked);
        }
        let accuracy = fix.accuracy?;
        let is_worse = |known: &Known| {
            !known.is_bare
                && at - known.at < SHORTLY
                && accuracy > COARSE.max(WORSE * known.accuracy.unwrap_or(USUAL_ACCURACY))
        };
        (accuracy > MAX_ACCURACY || self.known.as_ref().is_some_and(is_worse)).then_some(Verdict::Inaccurate)
    }

    /// Whether a fix with evidence fits to what is known.
    pub(super) fn gate(&self, fix: &Fix, rules: &Rules) -> Gated {
        let refused = |verdict| Gated { refused: Some(verdict), speed: None, innovation: None };
        let passed = Gated { refused: None, speed: None, innovation: None };
        let Some(known) = &self.known else {
            // The first fix of all may be where the phone was yesterday. One that does not say how exact it is gets the benefit.
            return if fix.accuracy.is_some() { refused(Verdict::Held) } else { passed };
        };
        if known.is_bare {
            return passed;
        }
        let passing = seen_at(fix) - known.at;
        let seconds = seconds(passing);
        let accuracies = [known.accuracy, fix.accuracy];
        let accuracy = fix.accuracy.unwrap_or(USUAL_ACCURACY);
        let plane = Plane::around(known.place);
        let speed_to = |place: Point| speed(plane.away(place), accuracies, seconds);
        let within = |speed: f64| speed <= limit(accuracies, seconds, rules);
        let speed = Some(speed_to(fix.place));
        if !speed.is_some_and(within) {
            let (latitude, longitude) = (fix.place.lat(), fix.place.lon());
            let flipped = [(-latitude, longitude), (latitude, -longitude), (-latitude, -longitude)];
            let fits = |(latitude, longitude)| within(speed_to(Point::stored(latitude, longitude)));
            let verdict = if flipped.into_iter().any(fits) {
                Verdict::SignFlip
            } else if longitude.abs() <= 90.0 && fits((longitude, latitude)) {
                Verdict::Swapped
            } else if passing > FORGOTTEN {
                Verdict::Held
            } else {
                Verdict::Teleport
            };
            return Gated { speed, ..refused(verdict) };
        }
        if passing > FORGOTTEN {
            let verdict = (accuracy > EXACT).then_some(Verdict::Held);
            return Gated { refused: verdict, speed, innovation: None };
        }
        let innovation =
            known.motion.as_ref().map(|motion| motion.innovation(plane.metres(fix.place), accuracy, seconds));
        let verdict =
            innovation.is_some_and(|innovation| innovation > LARGEST).then_some(Verdict::Inconsistent);
        Gated { refused: verdict, speed, innovation }
    }
}
