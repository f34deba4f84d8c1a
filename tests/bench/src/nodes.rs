//! Position reports at a fixed rate, with the watchers on other nodes than the drivers.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    Target,
    load::{Load, Shape},
    measure::{cpu_seconds, merged},
};

#[derive(clap::Args)]
pub struct Options {
    /// Number of drivers, at `--addr`
    #[arg(long, default_value_t = 1000)]
    drivers: usize,
    /// Watching sockets per order
    #[arg(long, default_value_t = 3)]
    watchers: usize,
    /// Addresses of the nodes with the watchers, who are spread over them. The default is `--addr`
    #[arg(long, value_delimiter = ',')]
    watch_addr: Vec<SocketAddr>,
    /// Processes whose CPU time is measured, each by itself
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Reports per second
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// Seconds before the measurement begins
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { drivers, watchers, rate, warm_up, seconds, .. } = options;
    let shape = Shape { drivers, orders: 1, watchers, staff: false };
    let at = |addr: &SocketAddr| Target { addr: *addr, ..target.clone() };
    let watched: Vec<_> = options.watch_addr.iter().map(at).collect();
    let watched = if watched.is_empty() { std::slice::from_ref(target) } else { &watched };
    let mut load = Load::prepare_on(target, watched, shape).await?;
    let paces = [load.pace(rate)];
    load.open(&paces, warm_up)?;
    let cpu = || options.pids.iter().map(|pid| cpu_seconds(*pid)).collect::<Result<Vec<_>>>();
    let before = cpu()?;
    let measured = load.measure(&paces, seconds)?;
    let used: Vec<_> = cpu()?.iter().zip(before).map(|(after, before)| after - before).collect();
    Ok(merged(measured, json!({ "cpu_s": used, "seconds": seconds, "rate": rate })))
}
