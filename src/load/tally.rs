//! What is counted in a run. Everything has a fixed size.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// Kinds of errors that are told apart.
const CODES: usize = 64;
/// Steps of a histogram between two powers of two: a value is known to 3 %.
const STEPS: u64 = 32;
/// 2 to the power of this is [`STEPS`].
const STEP_BITS: u32 = 5;

/// The counts of a run, shared by all its tasks.
#[derive(Default)]
pub(super) struct Tally {
    pub watchers: Group,
    pub drivers: Group,
    /// Orders that were created.
    pub created: Count,
    /// Changes that the server has acknowledged.
    pub changes: Count,
    /// Changes that were due and not asked for, because all orders were waiting for an answer.
    pub behind: Count,
    pub duplicates: Count,
    pub out_of_order: Count,
    /// From the request of a change to its arrival at a watcher.
    pub latency: Histogram,
    /// Positions that drivers sent, those that were taken, and those that watchers received.
    pub sent: Count,
    pub accepted: Count,
    pub received: Count,
    /// Positions that stand in those that were received, by the words of the server.
    pub conflated: Count,
    /// From the time of a position, in whole milliseconds, to its arrival at a watcher.
    pub position_latency: Histogram,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    /// Counts an error by its code.
    pub fn error(&self, code: &str) {
        let mut errors = lock(&self.errors);
        let known = errors.len() < CODES || errors.contains_key(code);
        *errors.entry(if known { code } else { "other" }.to_owned()).or_default() += 1;
    }

    pub fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }
}

/// A number that only grows, or a gauge.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sockets of one kind.
#[derive(Default)]
pub(super) struct Group {
    /// Those that are connected now.
    pub connected: Count,
    /// How often one came back after its connection had ended.
    pub reconnects: Count,
}

/// How often which duration occurred.
pub(super) struct Histogram {
    steps: Box<[AtomicU64]>,
    /// The longest, in microseconds.
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let steps = (0..=step(u64::MAX)).map(|_| AtomicU64::new(0)).collect();
        Self { steps, max: AtomicU64::new(0) }
    }
}

/// The step of a number of microseconds.
fn step(micros: u64) -> usize {
    let shift = micros.max(STEPS).ilog2() - STEP_BITS;
    usize::try_from(u64::from(shift) * STEPS + (micros >> shift)).unwrap_or(usize::MAX)
}

/// The largest number of microseconds of a step.
fn end(step: usize) -> u64 {
    let step = step as u64;
    let shift = (step / STEPS).saturating_sub(1);
    ((u128::from(step - shift * STEPS + 1) << shift) - 1).try_into().unwrap_or(u64::MAX)
}

impl Histogram {
    pub fn add(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.steps.get(step(micros)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    /// `None` if nothing was counted.
    pub fn latency(&self) -> Option<Latency> {
        let counts: Vec<_> = self.steps.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let (all, max) = (counts.iter().sum::<u64>(), self.max.load(Ordering::Relaxed));
        let percentile = |percent: u64| {
            let (wanted, mut sum) = ((all * percent).div_ceil(100), 0);
            let found = counts.iter().position(|count| {
                sum += count;
                sum >= wanted
            });
            millis(found.map_or(max, end).min(max))
        };
        (all > 0).then(|| Latency {
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
            max: millis(max),
        })
    }
}

/// Milliseconds, to 3 %.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

fn millis(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    let micros = micros as f64;
    micros / 1_000.0
}

/// Nothing here is left half done by a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other_without_gaps() {
        for step_of in 0..2_000_usize.min(step(u64::MAX)) {
            assert_eq!(step(end(step_of)), step_of);
            assert_eq!(step(end(step_of).saturating_add(1)), step_of + 1);
        }
        assert_eq!(end(step(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_known_to_three_percent() {
        let histogram = Histogram::default();
        assert!(histogram.latency().is_none());
        for millis in 1..=1_000 {
            histogram.add(Duration::from_millis(millis));
        }
        let latency = histogram.latency().expect("some");
        for (known, exact) in [(latency.p50, 500.0), (latency.p95, 950.0), (latency.p99, 990.0)] {
            assert!((1.0..1.035).contains(&(known / exact)), "{known} for {exact}");
        }
        assert!((latency.max - 1_000.0).abs() < f64::EPSILON);
    }

    #[test]
    fn only_so_many_codes_are_told_apart() {
        let tally = Tally::default();
        for number in 0..CODES as u64 + 10 {
            tally.error(&format!("code_{number}"));
        }
        tally.error("code_0");
        let errors = tally.errors();
        assert_eq!((errors.len(), errors["other"], errors["code_0"]), (CODES + 1, 10, 2));
    }
}
