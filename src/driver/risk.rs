//! Whether an order will be late. Pure.

use chrono::TimeDelta;

use crate::base::clock::Time;
use crate::model::{Eta, Risk, Window};

/// An order that is late so many times in a row is at risk; it no longer is once it is early by this again.
const TIMES: u8 = 2;
const EARLY: TimeDelta = TimeDelta::seconds(60);

/// What an order was promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Promise {
    pub from: Time,
    pub to: Time,
    /// How many places came before it then.
    pub stops_before: u16,
}

/// What is known of an order's promise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    pub promise: Option<Promise>,
    pub risk: Risk,
    /// How many times in a row it was late.
    late: u8,
}

/// Why an order may be late.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not, whatever the others are")]
pub(super) struct Signs {
    pub in_kitchen: bool,
    pub is_silent: bool,
    pub stands: bool,
    pub strays: bool,
}

impl Watched {
    /// As it was before this process began.
    pub const fn known(promise: Option<Promise>, risk: Risk) -> Self {
        Self { promise, risk, late: 0 }
    }

    /// Looks at an order with this ETA. Returns whether the risk has changed. The promise is when the order is wanted; if nobody
    /// said that, the first ETA of all.
    pub fn look(&mut self, eta: &Eta, scheduled: Option<Window>) -> bool {
        let stops_before = eta.stops_before.unwrap_or_default();
        if let Some(Window { from, to }) = scheduled {
            let same = self.promise.is_some_and(|promise| (promise.from, promise.to) == (from, to));
            if !same {
                self.promise = Some(Promise { from, to, stops_before });
                self.judge(eta, to);
                return true;
            }
        }
        let Some(promise) = self.promise else {
            self.promise = Some(Promise { from: eta.low, to: eta.high, stops_before });
            return true;
        };
        self.judge(eta, promise.to)
    }

    /// Returns whether the risk has changed.
    fn judge(&mut self, eta: &Eta, promised: Time) -> bool {
        self.late = if eta.at > promised { self.late.saturating_add(1) } else { 0 };
        let next = if eta.low > promised {
            Risk::Delayed
        } else if self.late >= TIMES {
            Risk::AtRisk
        } else if eta.at < promised - EARLY {
            Risk::OnTime
        } else {
            // Neither late nor early enough.
            self.risk
        };
        std::mem::replace(&mut self.risk, next) != next
    }

    /// Why it is late.
    pub fn reason(&self, eta: &Eta, signs: Signs) -> Option<&'static str> {
        if self.risk == Risk::OnTime {
            return None;
        }
        let before = self.promise.map_or(0, |promise| promise.stops_before);
        Some(if signs.in_kitchen {
            "prep_late"
        } else if signs.is_silent {
            "gps_lost"
        } else if eta.stops_before.unwrap_or_default() > before {
            "stops_added"
        } else if signs.stands {
            "stopped"
        } else if signs.strays {
            "off_route"
        } else {
            "slow"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;
    use crate::model::Spread;

    #[test]
    fn the_first_eta_is_the_promise_and_later_ones_are_held_against_it() {
        let mut watched = Watched::default();
        let eta =
            |seconds: f64, now: i64| Eta::after(seconds, None, 0, Spread::ASSUMED, from_millis(now * 1_000));
        assert!(watched.look(&eta(1_000.0, 0), None));
        let promise = watched.promise.expect("a promise");
        assert_eq!((promise.from, promise.to), (from_millis(700_000), from_millis(1_570_000)));
        // As promised; then late twice; then even at the earliest.
        for (seconds, now, changed, risk) in [
            (900.0, 100, false, Risk::OnTime),
            (1_500.0, 100, false, Risk::OnTime),
            (1_500.0, 100, true, Risk::AtRisk),
            (1_450.0, 100, false, Risk::AtRisk),
            (2_200.0, 100, true, Risk::Delayed),
            (1_500.0, 100, true, Risk::AtRisk),
            (1_405.0, 100, true, Risk::OnTime),
        ] {
            assert_eq!((watched.look(&eta(seconds, now), None), watched.risk), (changed, risk), "{seconds}");
        }
    }

    #[test]
    fn what_was_scheduled_is_the_promise() {
        let window = |from, to| Some(Window { from: from_millis(from), to: from_millis(to) });
        let eta = Eta::after(1_000.0, None, 0, Spread::ASSUMED, from_millis(0));
        let mut watched = Watched::default();
        assert!(watched.look(&eta, window(900_000, 1_800_000)));
        assert_eq!(
            (watched.promise.map(|promise| promise.to), watched.risk),
            (Some(from_millis(1_800_000)), Risk::OnTime)
        );
        assert!(!watched.look(&eta, window(900_000, 1_800_000)));
        // Somebody wants it sooner.
        assert!(watched.look(&eta, window(0, 600_000)));
        assert_eq!(watched.risk, Risk::Delayed);
    }

    #[test]
    fn the_reason_is_what_comes_first() {
        let watched = Watched {
            promise: Some(Promise { from: from_millis(0), to: from_millis(0), stops_before: 1 }),
            risk: Risk::Delayed,
            late: 2,
        };
        let (eta, more) = (
            Eta::after(60.0, None, 1, Spread::ASSUMED, from_millis(0)),
            Eta::after(60.0, None, 2, Spread::ASSUMED, from_millis(0)),
        );
        let signs = Signs::default();
        assert_eq!(
            watched.reason(&eta, Signs { in_kitchen: true, is_silent: true, ..signs }),
            Some("prep_late")
        );
        assert_eq!(watched.reason(&more, Signs { is_silent: true, ..signs }), Some("gps_lost"));
        assert_eq!(watched.reason(&more, Signs { stands: true, ..signs }), Some("stops_added"));
        assert_eq!(watched.reason(&eta, Signs { stands: true, ..signs }), Some("stopped"));
        assert_eq!(watched.reason(&eta, Signs { strays: true, ..signs }), Some("off_route"));
        assert_eq!(watched.reason(&eta, signs), Some("slow"));
        assert_eq!(Watched::default().reason(&eta, signs), None);
    }
}
