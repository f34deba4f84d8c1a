//! CPU time and memory from `/proc`, and latency samples.

use std::{
    cell::RefCell,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// `USER_HZ`, 100 on every Linux that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU that a process has used, user and system.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The fields after the command's closing parenthesis begin with the third one; utime and stime are 14 and 15.
    let fields = stat.rsplit_once(')').context("odd stat file")?.1;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// Resident memory of a process in KB.
pub fn resident_kb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A span of time, and the CPU that the server and the generator used in it.
pub struct Span {
    pub seconds: f64,
    pub server: f64,
    pub generator: f64,
}

impl Span {
    /// Begin one; the function returned ends it.
    pub fn begin(server: u32) -> Result<impl FnOnce() -> Result<Self>> {
        let own = std::process::id();
        let (at, cpu) = (Instant::now(), (cpu_seconds(server)?, cpu_seconds(own)?));
        Ok(move || {
            let seconds = at.elapsed().as_secs_f64();
            Ok(Self { seconds, server: cpu_seconds(server)? - cpu.0, generator: cpu_seconds(own)? - cpu.1 })
        })
    }
}

/// Latency samples in microseconds.
#[derive(Default)]
pub struct Samples(RefCell<Vec<u32>>);

impl Samples {
    pub fn add(&self, latency: Duration) {
        self.0.borrow_mut().push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    pub fn count(&self) -> f64 {
        f64::from(u32::try_from(self.0.borrow().len()).unwrap_or(u32::MAX))
    }

    /// Percentiles in milliseconds.
    pub fn percentiles(&self) -> Value {
        let mut all = self.0.borrow_mut();
        all.sort_unstable();
        let at = |per_cent: usize| {
            let index = (all.len() * per_cent / 100).min(all.len().saturating_sub(1));
            all.get(index).map(|micros| f64::from(*micros) / 1000.0)
        };
        json!({"p50": at(50), "p99": at(99), "max": at(100)})
    }
}
