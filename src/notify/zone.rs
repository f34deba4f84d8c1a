//! Quiet hours, in the zone of the recipient.

use chrono::{NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

use crate::base::clock::Time;

/// From when to when somebody wants quiet: across midnight if the end is before the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    pub from: NaiveTime,
    pub to: NaiveTime,
    pub zone: Tz,
}

/// The zone of an IANA name.
pub(super) fn zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// `22:00`.
pub(super) fn clock_time(text: &str) -> Option<NaiveTime> {
    (text.len() == 5).then(|| NaiveTime::parse_from_str(text, "%H:%M").ok()).flatten()
}

impl Quiet {
    /// The end of the quiet hours that a time is in. `None` if it is not in any.
    pub fn ends(&self, at: Time) -> Option<Time> {
        let local = at.with_timezone(&self.zone);
        let time = local.time();
        let is_inside = if self.from <= self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        };
        if !is_inside {
            return None;
        }
        let today = local.date_naive();
        let day = if time < self.to { today } else { today.succ_opt()? };
        // The clock may be put forward over that time: then the first one after it that there is.
        (0..=180).find_map(|minutes| {
            let end = day.and_time(self.to) + TimeDelta::minutes(minutes);
            self.zone.from_local_datetime(&end).earliest().map(|end| end.to_utc())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(at: &str) -> Option<String> {
        let quiet = Quiet {
            from: clock_time("22:00").expect("a time"),
            to: clock_time("07:00").expect("a time"),
            zone: zone("Europe/Zurich").expect("a zone"),
        };
        quiet.ends(at.parse().expect("a time")).map(crate::base::clock::rfc3339)
    }

    #[test]
    fn across_midnight_and_both_changes_of_the_clock() {
        // Summer time is two hours ahead, winter time one.
        assert_eq!(ends("2026-07-01T21:30:00Z").as_deref(), Some("2026-07-02T05:00:00.000Z"));
        assert_eq!(ends("2026-07-01T19:59:00Z"), None);
        assert_eq!(ends("2026-07-02T04:59:59Z").as_deref(), Some("2026-07-02T05:00:00.000Z"));
        assert_eq!(ends("2026-07-02T05:00:00Z"), None);
        // The night of 29 March 2026 has 23 hours, that of 25 October 25.
        assert_eq!(ends("2026-03-28T22:00:00Z").as_deref(), Some("2026-03-29T05:00:00.000Z"));
        assert_eq!(ends("2026-10-24T21:00:00Z").as_deref(), Some("2026-10-25T06:00:00.000Z"));
    }

    #[test]
    fn an_end_that_the_clock_leaves_out_and_a_day_of_quiet() {
        let at = |text: &str| text.parse::<Time>().expect("a time");
        let quiet = |from: &str, to: &str| Quiet {
            from: clock_time(from).expect("a time"),
            to: clock_time(to).expect("a time"),
            zone: zone("Europe/Zurich").expect("a zone"),
        };
        // 02:30 does not exist that night.
        let end = quiet("22:00", "02:30").ends(at("2026-03-28T23:00:00Z")).expect("quiet");
        assert_eq!(crate::base::clock::rfc3339(end), "2026-03-29T01:00:00.000Z");
        assert!(quiet("12:00", "14:00").ends(at("2026-07-01T11:00:00Z")).is_some());
        assert!(quiet("12:00", "12:00").ends(at("2026-07-01T10:00:00Z")).is_none());
        assert!(clock_time("7:00").is_none() && clock_time("24:00").is_none() && zone("Mars/Base").is_none());
    }
}
