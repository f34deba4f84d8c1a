//! Calls to other systems: consumers read the log from a durable cursor and retry each call until it is accepted.

pub mod consume;
pub mod cursor;
pub mod order_service;

use std::time::Duration;

use chrono::TimeDelta;

/// The wait after a number of tries. It doubles with every try, up to a limit.
#[must_use]
pub fn backoff(first: TimeDelta, longest: Duration, tries: i32) -> TimeDelta {
    let doublings = u32::try_from(tries - 1).unwrap_or_default().min(20);
    let doubled = first.num_milliseconds() << doublings;
    let longest = i64::try_from(longest.as_millis()).unwrap_or(i64::MAX);
    TimeDelta::milliseconds(doubled.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let wait = |tries| backoff(TimeDelta::seconds(1), Duration::from_secs(300), tries).num_seconds();
        assert_eq!([1, 2, 3, 8, 9, 10, 1_000].map(wait), [1, 2, 4, 128, 256, 300, 300]);
    }
}
