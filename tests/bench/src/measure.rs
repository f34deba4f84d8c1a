//! Measures CPU time and memory with `/proc`, and collects latencies.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// `USER_HZ`, which is 100 on all common Linux systems.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process in seconds, user and system together.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The fields after the command's closing parenthesis begin with the third one; utime and stime are 14 and 15.
    let fields = stat.rsplit_once(')').context("odd stat file")?.1;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// Resident memory of a process, in KB.
pub fn resident_kb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A time span with the CPU time of server and generator in it, all in seconds.
pub struct Span {
    pub seconds: f64,
    pub server: f64,
    pub generator: f64,
}

impl Span {
    /// Begins a span. The returned function ends it.
    pub fn begin(server: u32) -> Result<impl FnOnce() -> Result<Self>> {
        let own = std::process::id();
        let (at, cpu) = (Instant::now(), (cpu_seconds(server)?, cpu_seconds(own)?));
        Ok(move || {
            let seconds = at.elapsed().as_secs_f64();
            Ok(Self { seconds, server: cpu_seconds(server)? - cpu.0, generator: cpu_seconds(own)? - cpu.1 })
        })
    }

    /// The fields that every result has: CPU in cores, the server's CPU seconds per million messages, and whether the
    /// generator was the bottleneck.
    pub fn report(&self, messages: f64) -> Value {
        let (server, generator) = (self.server / self.seconds, self.generator / self.seconds);
        json!({
            "server_cpu": server,
            "generator_cpu": generator,
            "generator_bound": generator > 0.95 && server < 0.9,
            "server_cpu_s_per_million_messages": self.server / messages * 1e6,
        })
    }
}

/// Merges two JSON objects.
pub fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// Converts a count to a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "no count reaches 2^52")]
pub const fn float(count: u64) -> f64 {
    count as f64
}

/// A histogram of latencies in microseconds. Buckets are less than 1 % wide, so that millions of samples need little
/// memory and time.
#[derive(Default)]
pub struct Samples {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// Buckets per power of two.
const DIVISIONS: u64 = 128;

impl Samples {
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Percentiles and the maximum, in milliseconds; null without samples.
    pub fn percentiles(&self) -> Value {
        let some = self.count > 0;
        let at = |per_mille| some.then(|| float(self.at(per_mille)) / 1000.0);
        json!({"p50": at(500), "p99": at(990), "p999": at(999), "max": some.then(|| float(self.max) / 1000.0)})
    }

    /// The latency in microseconds that `per_mille` of 1,000 samples do not exceed.
    fn at(&self, per_mille: u64) -> u64 {
        let wanted = (self.count * per_mille).div_ceil(1000);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0, upper_bound).min(self.max)
    }
}

/// Values below twice [`DIVISIONS`] have their own bucket. Above that, the leading eight bits select the bucket.
fn bucket(micros: u64) -> usize {
    let shift = (micros / DIVISIONS).checked_ilog2().unwrap_or(0);
    usize::try_from(u64::from(shift) * DIVISIONS + (micros >> shift)).unwrap_or(usize::MAX)
}

/// The largest value in a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / DIVISIONS).saturating_sub(1);
    ((bucket - shift * DIVISIONS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        for micros in (0..2000).chain((11..40).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let upper = upper_bound(bucket(micros));
            assert!(upper >= micros && upper - micros <= micros / DIVISIONS, "{micros} up to {upper}");
            assert_eq!(bucket(upper), bucket(micros), "{micros}");
            assert_eq!(bucket(upper + 1), bucket(micros) + 1, "{micros}");
        }
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut samples = Samples::default();
        assert_eq!(samples.percentiles()["p50"], Value::Null);
        (1..=100).for_each(|micros| samples.add(Duration::from_micros(micros)));
        let expected = json!({"p50": 0.05, "p99": 0.099, "p999": 0.1, "max": 0.1});
        assert_eq!(samples.percentiles(), expected);
    }
}
