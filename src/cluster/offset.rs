//! How far the clock of this machine is behind that of the database, estimated from readings that each took some time.

use std::time::Duration;

use chrono::TimeDelta;

use crate::base::clock::Time;

/// What two clocks may drift apart between two readings.
const DRIFT: TimeDelta = TimeDelta::milliseconds(1);

/// The lowest and the highest offset that the readings allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    low: TimeDelta,
    high: TimeDelta,
}

impl Offset {
    /// One reading: the question left at `asked` by this machine's clock, the database's clock said `told`, and the answer was
    /// here after `took`. The reading itself may have been at any time between.
    pub(super) fn read(asked: Time, told: Time, took: Duration) -> Self {
        let high = told - asked;
        Self { low: high - TimeDelta::from_std(took).unwrap_or(TimeDelta::MAX), high }
    }

    /// This estimate with one more reading. A slow answer says little, so a narrow estimate lasts. One that the reading
    /// contradicts does not: then one of the clocks was set.
    pub(super) fn with(self, reading: Self) -> Self {
        let (low, high) = (self.low - DRIFT, self.high + DRIFT);
        if low > reading.high || high < reading.low {
            return reading;
        }
        Self { low: low.max(reading.low), high: high.min(reading.high) }
    }

    /// The best guess.
    pub(super) fn middle(self) -> TimeDelta {
        self.low + self.width() / 2
    }

    /// Twice the largest error of the best guess.
    pub(super) fn width(self) -> TimeDelta {
        self.high - self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::from_millis;

    /// The database is 100 ms ahead, and reads its clock so long after it was asked.
    fn reading(asked: i64, until_read: i64, took: u64) -> Offset {
        Offset::read(from_millis(asked), from_millis(asked + until_read + 100), Duration::from_millis(took))
    }

    fn middle(offset: Offset) -> i64 {
        offset.middle().num_milliseconds()
    }

    #[test]
    fn a_slow_answer_does_not_move_the_clock() {
        let first = reading(1_000, 2, 4);
        assert_eq!((middle(first), first.width().num_milliseconds()), (100, 4));
        // All of the 900 ms went by before the clock was read. Alone, it would be wrong by half of them.
        let slow = reading(3_000, 900, 900);
        assert_eq!(middle(slow), 550);
        assert!((99..=101).contains(&middle(first.with(slow))));
        assert!((98..=102).contains(&middle(first.with(reading(3_000, 0, 900)))));
        assert!(
            (99..=101).contains(&middle(slow.with(reading(5_000, 1, 2)))),
            "a quick one after a slow one"
        );
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let set = Offset::read(from_millis(3_000), from_millis(8_101), Duration::from_millis(2));
        assert_eq!(middle(reading(1_000, 1, 2).with(set)), 5_100);
    }

    #[test]
    fn a_drift_is_followed() {
        let mut offset = reading(1_000, 1, 2);
        for beat in 1..=500 {
            let drifted = Offset::read(
                from_millis(1_000 + beat * 2_000),
                from_millis(1_001 + beat * 2_000 + 100 + beat / 5),
                Duration::from_millis(2),
            );
            offset = offset.with(drifted);
            assert!((middle(offset) - 100 - beat / 5).abs() <= 2, "{beat}: {offset:?}");
        }
    }
}
