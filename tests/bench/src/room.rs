//! One driver, and a crowd that watches.

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
    /// Sockets that watch the order
    #[arg(long, default_value_t = 1000)]
    listeners: usize,
    /// Reports under way at once: sent, and not yet with everybody
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Seconds before measuring begins
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds measured at half of that rate; 0 = none
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
