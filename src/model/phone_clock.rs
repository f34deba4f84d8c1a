//! The clock of a driver's phone, which may be slow by a constant.

use chrono::TimeDelta;

use crate::base::clock::Time;

/// Delays of a network are shorter, so a smaller lag says nothing of the clock.
const DELAY: TimeDelta = TimeDelta::seconds(5);
/// How much the lag of fixes may differ that are told as they are measured.
const JITTER: TimeDelta = TimeDelta::seconds(1);
/// So many fixes with the same lag, over this time of ours, show that the clock is slow. Fixes that were kept while the phone was
/// offline come at once, or with a lag that shrinks.
const FIXES: u8 = 3;
const OVER: TimeDelta = TimeDelta::seconds(2);

/// What the fixes that were told one by one say of the phone's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhoneClock {
    /// By how much the clock is slow, once that is known.
    slow_by: Option<TimeDelta>,
    /// Fixes in a row with the same lag: the least lag, their number, and when the first came.
    run: Option<(TimeDelta, u8, Time)>,
}

impl PhoneClock {
    /// Learns from a fix that was told just now.
    pub fn learn(&mut self, recorded_at: Time, now: Time) {
        let lag = now - recorded_at;
        if let Some(slow_by) = self.slow_by {
            if lag >= slow_by - JITTER {
                self.slow_by = Some(slow_by.min(lag));
                return;
            }
            // The clock was set.
            *self = Self::default();
        }
        if lag < DELAY {
            self.run = None;
            return;
        }
        let run = self.run.filter(|(least, ..)| (lag - *least).abs() <= JITTER);
        let (least, fixes, since) = run
            .map_or((lag, 1, now), |(least, fixes, since)| (least.min(lag), fixes.saturating_add(1), since));
        self.run = Some((least, fixes, since));
        if fixes >= FIXES && now - since >= OVER {
            *self = Self { slow_by: Some(least), run: None };
        }
    }

    /// A time of the phone as our clock has it.
    #[must_use]
    pub fn corrected(&self, recorded_at: Time) -> Time {
        self.slow_by.and_then(|slow_by| recorded_at.checked_add_signed(slow_by)).unwrap_or(recorded_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    /// Tells fixes, each with the time of receipt and the lag, in milliseconds. Returns by how much the clock is slow then.
    fn slow_by(fixes: &[(i64, i64)]) -> i64 {
        let mut clock = PhoneClock::default();
        for (at, lag) in fixes {
            clock.learn(from_millis(at - lag), from_millis(*at));
        }
        (clock.corrected(from_millis(0)) - from_millis(0)).num_milliseconds()
    }

    #[test]
    fn a_constant_lag_is_the_clock() {
        assert_eq!(slow_by(&[(0, 600_300), (1_000, 600_000), (2_000, 600_200)]), 600_000);
        // From 2007.
        let years = 18 * 365 * 86_400_000;
        assert_eq!(slow_by(&[(0, years), (1_000, years + 400), (2_500, years)]), years);
        // A fix that is late does not change what is known.
        assert_eq!(slow_by(&[(0, 600_000), (1_000, 600_000), (2_000, 600_000), (9_000, 606_000)]), 600_000);
    }

    #[test]
    fn other_lags_are_not() {
        // Two fixes, or three at once, or a lag that shrinks as a backlog is told, or a slow network.
        assert_eq!(slow_by(&[(0, 600_000), (3_000, 600_000)]), 0);
        assert_eq!(slow_by(&[(0, 600_000), (10, 600_000), (20, 600_000)]), 0);
        assert_eq!(slow_by(&[(0, 600_000), (1_000, 598_000), (2_000, 596_000), (3_000, 594_000)]), 0);
        assert_eq!(slow_by(&[(0, 3_000), (1_000, 3_000), (2_000, 3_000), (3_000, 3_000)]), 0);
        // The clock was set.
        assert_eq!(slow_by(&[(0, 600_000), (1_000, 600_000), (2_000, 600_000), (3_000, 20)]), 0);
    }
}
