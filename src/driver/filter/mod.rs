//! The filter of a driver's fixes: a pure function from what is known of the driver and one more fix to a verdict, and to the place
//! that is shown. The same fixes in the same order have the same verdicts, live and in a replay.
//!
//! A fix without evidence, which says neither when it was measured nor how exact it is, is shown as it was sent. Others are
//! first asked whether they can be right (`gate`). Those that say how exact they are then make the estimate better (`estimate`).

mod estimate;
mod gate;
mod still;
#[cfg(test)]
mod tests;

use chrono::TimeDelta;
use smallvec::SmallVec;

use self::estimate::Motion;
use self::still::Still;
use crate::base::clock::Time;
use crate::base::config::TravelMode;
use crate::model::{Fix, Point, Source, Verdict};

/// Metres, if the phone does not know how exact a fix is.
const USUAL_ACCURACY: f64 = 15.0;
/// After so long a driver may be anywhere, and nothing but the place is known of the time before.
const FORGOTTEN: TimeDelta = TimeDelta::seconds(300);
/// How long the first fix of all waits for a second one that agrees, from a phone that is sure of its place, and from others. Phones
/// that have not seen satellites yet tell where they were before, or where the mobile network is, and seldom call that exact.
const HOLD: TimeDelta = TimeDelta::milliseconds(1_500);
const HOLD_INEXACT: TimeDelta = TimeDelta::seconds(10);
/// Such a phone is exact to so many metres.
const SURE: f64 = 20.0;
/// So many fixes in a row that were refused, and agree among each other, are right after all.
const AGREEING: usize = 3;

/// What depends on what drivers travel with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Metres per second. Nobody is faster.
    pub fastest: f64,
    /// The same over more than half a minute, in which nobody drives as fast as they can all the time.
    pub fastest_for_long: f64,
    /// Whether positions that an app has invented are left out.
    pub drop_mocked: bool,
}

impl Rules {
    #[must_use]
    pub const fn of(mode: TravelMode, drop_mocked: bool) -> Self {
        let (fastest, fastest_for_long) = match mode {
            TravelMode::Car => (50.0, 28.0),
            TravelMode::Bike => (15.0, 10.0),
            TravelMode::Foot => (4.0, 3.0),
        };
        Self { fastest, fastest_for_long, drop_mocked }
    }
}

/// What is known of a driver's place from their fixes.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    known: Option<Known>,
    /// The newest fixes that were refused since then.
    pending: SmallVec<[Fix; AGREEING]>,
}

/// The driver after the newest fix that was taken.
#[derive(Clone, Debug)]
struct Known {
    /// The estimate.
    place: Point,
    /// As the phone had it.
    measured: Point,
    at: Time,
    accuracy: Option<f64>,
    motion: Option<Motion>,
    still: Still,
    /// Whether that fix had no evidence, so that no other one can be held against it.
    is_bare: bool,
}

/// What becomes of a fix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Where the driver is, if the verdict is `shown`; as measured otherwise.
    pub place: Point,
    pub source: Source,
    /// Metres: the driver is closer than that to the place in two of three cases.
    pub uncertainty: Option<f64>,
    /// Whether the dot jumps, because what was shown before was wrong.
    pub reanchored: bool,
    /// Metres per second that the driver would have gone since the fix before.
    pub speed: Option<f64>,
    /// How far the fix is from where it was expected, as a multiple of what is usual.
    pub innovation: Option<f64>,
}

impl Judgement {
    /// A fix that is shown as it was sent.
    #[must_use]
    pub const fn raw(fix: &Fix) -> Self {
        Self {
            verdict: Verdict::Shown,
            place: fix.place,
            source: Source::Raw,
            uncertainty: fix.accuracy,
            reanchored: false,
            speed: None,
            innovation: None,
        }
    }
}

impl Judgement {
    /// A fix that passed the gate, and is the first one that counts.
    fn first(fix: &Fix) -> Self {
        let source = if fix.accuracy.is_some() { Source::Filtered } else { Source::Raw };
        Self { source, ..Self::raw(fix) }
    }
}

/// When a fix was measured. A phone's clock may be fast, and a later fix must not look older than this one.
#[must_use]
pub fn seen_at(fix: &Fix) -> Time {
    fix.recorded_at.min(fix.received_at)
}

/// Whether a fix says when it was measured, or how exact it is. One that says no time has that of its receipt.
fn has_evidence(fix: &Fix) -> bool {
    fix.accuracy.is_some() || fix.recorded_at != fix.received_at
}

impl Filter {
    /// Whether there was no fix yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.known.is_none() && self.pending.is_empty()
    }

    /// Takes over where a driver was last seen, if that is newer than what is known here: another node saw it, or this one
    /// before it was restarted.
    pub fn recall(&mut self, place: Point, at: Time) {
        if self.known.as_ref().is_none_or(|known| known.at < at) {
            let still = Still::default();
            self.known = Some(Known {
                place,
                measured: place,
                at,
                accuracy: None,
                motion: None,
                still,
                is_bare: false,
            });
        }
    }

    /// Takes one more fix.
    pub fn judge(&mut self, fix: &Fix, rules: &Rules) -> Judgement {
        if self.held_until().is_some_and(|until| fix.received_at >= until)
            && let Some(first) = self.pending.pop()
        {
            self.begin(&first);
        }
        let refused = |verdict| Judgement { verdict, ..Judgement::raw(fix) };
        if let Some(verdict) = self.doubt(fix, rules) {
            return refused(verdict);
        }
        if !has_evidence(fix) {
            self.begin(fix);
            return Judgement::raw(fix);
        }
        let gated = self.gate(fix, rules);
        let (speed, innovation) = (gated.speed, gated.innovation);
        let Some(verdict) = gated.refused else {
            self.pending.clear();
            return Judgement { speed, innovation, ..self.take(fix) };
        };
        // Those that agree with each other are right, and what is known is wrong.
        let needed = if verdict == Verdict::Held { AGREEING - 1 } else { AGREEING };
        if self.pending.len() == AGREEING {
            self.pending.remove(0);
        }
        self.pending.push(*fix);
        let newest = self.pending.len().checked_sub(needed).map(|first| &self.pending[first..]);
        if !newest.is_some_and(|newest| gate::agree(newest, rules)) {
            return Judgement { speed, innovation, ..refused(verdict) };
        }
        let reanchored = self.known.is_some();
        self.begin(fix);
        Judgement { reanchored, speed, innovation, ..Judgement::first(fix) }
    }

    /// Since when the driver stands still, if so.
    #[must_use]
    pub fn stands_since(&self) -> Option<Time> {
        self.known.as_ref()?.still.since()
    }

    /// Until when the first fix of all waits for a second one, if it does. Then it is shown, because nothing contradicts it.
    #[must_use]
    pub fn held_until(&self) -> Option<Time> {
        match (&self.known, &self.pending[..]) {
            (None, [first]) => {
                let is_sure = first.accuracy.is_some_and(|accuracy| accuracy <= SURE);
                Some(first.received_at + if is_sure { HOLD } else { HOLD_INEXACT })
            }
            _ => None,
        }
    }

    /// The first fix, if its time has come.
    #[must_use]
    pub fn held(&self, now: Time) -> Option<&Fix> {
        self.held_until().filter(|until| *until <= now).and(self.pending.first())
    }

    /// Begins anew at a fix.
    fn begin(&mut self, fix: &Fix) {
        self.pending.clear();
        let accuracy = fix.accuracy.unwrap_or(USUAL_ACCURACY);
        self.known = Some(Known {
            place: fix.place,
            measured: fix.place,
            at: seen_at(fix),
            accuracy: fix.accuracy,
            motion: Motion::of(fix, accuracy),
            still: Still::at(fix),
            is_bare: !has_evidence(fix),
        });
    }

    /// Makes the estimate better by a fix that passed the gate.
    fn take(&mut self, fix: &Fix) -> Judgement {
        let at = seen_at(fix);
        let Some(known) = self.known.as_mut().filter(|known| !known.is_bare && at - known.at <= FORGOTTEN)
        else {
            self.begin(fix);
            return Judgement::first(fix);
        };
        if fix.accuracy.is_none() {
            // Nothing can be estimated from it.
            self.begin(fix);
            return Judgement::raw(fix);
        }
        let accuracy = fix.accuracy.unwrap_or(USUAL_ACCURACY);
        let seconds = seconds(at - known.at);
        let (place, uncertainty) = if let Some(motion) = &mut known.motion {
            let place = motion.update(known.place, fix, accuracy, seconds);
            let uncertainty = motion.uncertainty();
            if motion.is_over() {
                known.motion = None;
            }
            (place, uncertainty)
        } else {
            known.motion = Motion::of(fix, accuracy);
            (fix.place, accuracy)
        };
        (known.place, known.measured, known.at, known.accuracy) = (place, fix.place, at, fix.accuracy);
        let place = known.still.settle(place, fix, uncertainty);
        Judgement { place, source: Source::Filtered, uncertainty: Some(uncertainty), ..Judgement::raw(fix) }
    }
}

fn seconds(span: TimeDelta) -> f64 {
    span.as_seconds_f64()
}
