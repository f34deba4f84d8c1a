//! One driver and a large room of watchers.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    Target,
    load::{Load, Shape},
    measure::merged,
};

#[derive(clap::Args)]
pub struct Options {
    /// Number of sockets that watch the order
    #[arg(long, default_value_t = 1000)]
    listeners: usize,
    /// Reports in flight: sent, but not yet received by all
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Seconds before the measurement begins
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of the measurement at half that rate; 0 = none
    #[arg(long, default_value_t = 5.0)]
    half_seconds: f64,
    /// Reports per second of another measurement, as long as the one at half rate
    #[arg(long)]
    rate: Option<f64>,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { listeners, window, warm_up, seconds, half_seconds, rate } = options;
    let begun = Instant::now();
    let shape = Shape { drivers: 1, orders: 1, watchers: listeners, staff: true };
    let mut load = Load::prepare(target, shape).await?;
    let setup = begun.elapsed().as_secs_f64();
    let measured = load.closed(window, warm_up, seconds)?;
    let half = load.half(&measured, half_seconds)?;
    let at_rate = rate.map(|rate| load.at(rate, half_seconds)).transpose()?;
    let shape = json!({
        "listeners": listeners, "window": window, "setup_s": setup, "half": half, "at_rate": at_rate,
    });
    Ok(merged(measured, shape))
}
