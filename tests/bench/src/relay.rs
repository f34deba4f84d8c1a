//! The real work: many drivers, each with orders of its own, and a few watchers of each order.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    Target,
    load::{Load, Shape},
    measure::{float, merged},
    rest,
};

/// Positions that the server did not get round to storing: work that the other figures leave out.
const DROPPED: &str = "ordercast_trail_dropped_total";

#[derive(clap::Args)]
pub struct Options {
    /// Drivers, each with one report under way
    #[arg(long, default_value_t = 2000)]
    drivers: usize,
    /// Orders of each driver, who reports for them in turn
    #[arg(long, default_value_t = 1)]
    orders_per_driver: usize,
    /// Sockets that watch each order
    #[arg(long, default_value_t = 3)]
    watchers: usize,
    /// Seconds before measuring begins
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds measured at half of that rate; 0 = none
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
