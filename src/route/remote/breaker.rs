//! Whether a router is asked: one that failed often is left alone for a while, then asked once.

use std::time::Duration;

use tokio::time::Instant;

/// It is left alone after so many failures in a row, or so many of the newest.
const IN_A_ROW: u32 = 5;
const NEWEST: u32 = 20;
const OF_NEWEST: u32 = 10;
/// For so long at first, then twice as long each time, up to this.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    in_a_row: u32,
    /// A bit for each of the newest answers: 1 is a failure.
    newest: u32,
    /// Until when it is left alone, and for how long that is.
    open: Option<(Instant, Duration)>,
    /// Whether one request is under way to see whether it works again.
    is_probed: bool,
}

impl Breaker {
    /// Whether a request may be sent. If it was left alone for long enough, one may.
    pub fn lets_through(&mut self, now: Instant) -> bool {
        match self.open {
            None => true,
            Some((until, _)) if now >= until && !self.is_probed => {
                self.is_probed = true;
                true
            }
            Some(_) => false,
        }
    }

    /// A request was answered, or not.
    pub fn learn(&mut self, works: bool, now: Instant) {
        self.newest = (self.newest << 1 | u32::from(!works)) & ((1 << NEWEST) - 1);
        self.in_a_row = if works { 0 } else { self.in_a_row + 1 };
        if std::mem::take(&mut self.is_probed) {
            if works {
                *self = Self::default();
            } else {
                let wait = self.open.map_or(FIRST, |(_, wait)| (wait * 2).min(LONGEST));
                self.open = Some((now + wait, wait));
            }
            return;
        }
        let fails = self.in_a_row >= IN_A_ROW || self.newest.count_ones() >= OF_NEWEST;
        if self.open.is_none() && fails {
            self.open = Some((now + FIRST, FIRST));
        }
    }

    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::instant;

    #[test]
    fn who_fails_is_left_alone_and_then_asked_once() {
        let (mut breaker, now) = (Breaker::default(), instant());
        for _ in 0..5 {
            assert!(breaker.lets_through(now));
            breaker.learn(false, now);
        }
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(breaker.is_open() && !breaker.lets_through(after(9)));
        // One may see whether it works again. It does not: twice as long.
        assert!(breaker.lets_through(after(10)) && !breaker.lets_through(after(10)));
        breaker.learn(false, after(10));
        assert!(!breaker.lets_through(after(29)) && breaker.lets_through(after(30)));
        breaker.learn(true, after(30));
        assert!(!breaker.is_open() && breaker.lets_through(after(30)));
        // Half of twenty, though never five in a row.
        for number in 0..20 {
            assert!(!breaker.is_open());
            breaker.learn(number % 2 == 0, now);
        }
        assert!(breaker.is_open());
    }

    #[test]
    fn it_is_never_left_alone_for_longer_than_two_minutes() {
        let (mut breaker, mut now) = (Breaker::default(), instant());
        (0..5).for_each(|_| breaker.learn(false, now));
        for _ in 0..10 {
            now += LONGEST;
            assert!(breaker.lets_through(now));
            breaker.learn(false, now);
        }
    }
}
