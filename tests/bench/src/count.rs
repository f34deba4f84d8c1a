//! Instructions of the server per report, counted by callgrind: free of the noise of a machine's clock. The server runs under
//! `valgrind --tool=callgrind --instr-atstart=no`, and `tests/bench/instructions` reads what callgrind has counted.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    Target,
    load::{Load, Shape},
};

#[derive(clap::Args)]
pub struct Options {
    /// Number of drivers, each with one report in flight
    #[arg(long, default_value_t = 100)]
    drivers: usize,
    /// Watching sockets per order
    #[arg(long, default_value_t = 3)]
    watchers: usize,
    /// Reports that are counted. A tenth of them comes before, to warm up
    #[arg(long, default_value_t = 20_000)]
    reports: u64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { drivers, watchers, reports } = options;
    let mut load = Load::prepare(target, Shape { drivers, orders: 1, watchers, staff: false }).await?;
    load.reports_of_closed_loop(reports / 10)?;
    counting(target, "on")?;
    let before = load.reports();
    load.reports_of_closed_loop(reports)?;
    counting(target, "off")?;
    Ok(json!({ "drivers": drivers, "watchers": watchers, "reports": load.reports() - before }))
}

fn counting(target: &Target, state: &str) -> Result<()> {
    let told = Command::new("callgrind_control").args(["-i", state]).arg(target.pid.to_string()).output()?;
    ensure!(told.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&told.stderr));
    Ok(())
}
