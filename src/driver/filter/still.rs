//! A driver who stands still is shown at one place, although the phone wanders.

use chrono::TimeDelta;

use super::seen_at;
use crate::base::clock::Time;
use crate::model::plane::Plane;
use crate::model::{Fix, Point};

/// Slower is standing, in metres per second; so many fixes in a row show it.
const STANDING: f64 = 0.5;
const FIXES: u8 = 3;
/// So does staying within so many metres for so long, for a phone that does not tell its speed.
const NEAR: f64 = 12.0;
const LONG: TimeDelta = TimeDelta::seconds(20);
/// Who is further away, in metres, or faster, in metres per second, goes again.
const AWAY: f64 = 15.0;
const GOING: f64 = 1.5;

/// Whether the driver stands still, and where.
#[derive(Clone, Debug, Default)]
pub(super) struct Still {
    /// Where and when the driver came here.
    since: Option<(Point, Time)>,
    /// How many fixes in a row were slow.
    slow: u8,
    frozen: bool,
}

impl Still {
    pub fn at(fix: &Fix) -> Self {
        Self { since: Some((fix.place, seen_at(fix))), ..Self::default() }
    }

    /// Since when the driver stands here.
    pub fn since(&self) -> Option<Time> {
        self.since.filter(|_| self.frozen).map(|(_, since)| since)
    }

    /// Where to show a driver who is estimated there.
    pub fn settle(&mut self, place: Point, fix: &Fix, uncertainty: f64) -> Point {
        let at = seen_at(fix);
        let (here, since) = *self.since.get_or_insert((place, at));
        let away = Plane::around(here).away(place);
        let is_going = fix.speed.is_some_and(|speed| speed > GOING);
        if self.frozen {
            if !is_going && away <= AWAY.max(2.0 * uncertainty) {
                return here;
            }
            *self = Self { since: Some((place, at)), ..Self::default() };
            return place;
        }
        let is_slow = fix.speed.is_some_and(|speed| speed < STANDING);
        self.slow = if is_slow { self.slow.saturating_add(1) } else { 0 };
        if self.slow >= FIXES {
            (self.since, self.frozen) = (Some((place, at)), true);
        } else if is_going || away > NEAR {
            self.since = Some((place, at));
        } else if fix.speed.is_none_or(|speed| speed < GOING) && at - since >= LONG {
            self.frozen = true;
            return here;
        }
        place
    }
}
