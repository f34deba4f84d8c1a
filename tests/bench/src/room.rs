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
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { listeners, window, warm_up, seconds, half_seconds } = options;
    let begun = Instant::now();
    let shape = Shape { drivers: 1, orders: 1, watchers: listeners, staff: true };
    let mut load = Load::prepare(target, shape).await?;
    let setup = begun.elapsed().as_secs_f64();
    let measured = load.closed(window, warm_up, seconds)?;
    let half = load.half(&measured, half_seconds)?;
    Ok(merged(measured, json!({ "listeners": listeners, "window": window, "setup_s": setup, "half": half })))
}
