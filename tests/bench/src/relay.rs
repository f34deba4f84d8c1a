//! A realistic load: many drivers with their own orders, and a few watchers per order.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    Target,
    load::{Load, Shape},
    measure::{float, merged},
    rest,
};

/// Fixes that the server dropped instead of storing. The other figures do not include this missing work.
const DROPPED: &str = "ordercast_trail_dropped_total";

#[derive(clap::Args)]
pub struct Options {
    /// Number of drivers, each with one report in flight
    #[arg(long, default_value_t = 2000)]
    drivers: usize,
    /// Orders per driver. The driver reports for them in turn
    #[arg(long, default_value_t = 1)]
    orders_per_driver: usize,
    /// Watching sockets per order
    #[arg(long, default_value_t = 3)]
    watchers: usize,
    /// Seconds before the measurement begins
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of the measurement at half that rate; 0 = none
    #[arg(long, default_value_t = 5.0)]
    half_seconds: f64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { drivers, orders_per_driver, watchers, warm_up, seconds, half_seconds } = options;
    let begun = Instant::now();
    let shape = Shape { drivers, orders: orders_per_driver, watchers, staff: false };
    let mut load = Load::prepare(target, shape).await?;
    let setup = begun.elapsed().as_secs_f64();
    let dropped = rest::counter(target, DROPPED).await?;
    let measured = load.closed(1, warm_up, seconds)?;
    let dropped = rest::counter(target, DROPPED).await? - dropped;
    let reports = load.reports();
    let half = load.half(&measured, half_seconds)?;
    let shape = json!({
        "drivers": drivers,
        "orders_per_driver": orders_per_driver,
        "watchers": watchers,
        "trail_dropped": dropped / float(reports),
        "setup_s": setup,
        "half": half,
    });
    Ok(merged(measured, shape))
}
