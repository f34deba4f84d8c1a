//! How a run went.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::tally::Latency;

/// The summary of a run, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub url: String,
    /// What the ids of the run's orders begin with.
    pub prefix: String,
    /// How long changes and positions were sent.
    pub seconds: f64,
    /// Whether it was stopped before its time.
    pub interrupted: bool,
    pub watchers: Sockets,
    pub drivers: Sockets,
    pub orders: Orders,
    pub changes: Changes,
    pub deliveries: Deliveries,
    /// Milliseconds from the request of a change to its arrival at a watcher; `null` if nothing arrived.
    pub latency_ms: Option<Latency>,
    pub positions: Positions,
    /// How often which error occurred.
    pub errors: BTreeMap<String, u64>,
    /// Whether everybody was connected at the end, and every change arrived everywhere once and in order.
    pub passed: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sockets {
    pub wanted: u64,
    /// At the end of the run.
    pub connected: u64,
    pub reconnects: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Orders {
    pub created: u64,
    /// Orders that are still open, because they could not be cancelled after the run.
    pub left: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Acknowledged by the server.
    pub made: u64,
    /// Due, and not asked for, because all orders were waiting for an answer.
    pub behind: u64,
    pub per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deliveries {
    /// Each acknowledged change, for each watcher of its order.
    pub expected: u64,
    pub received: u64,
    pub missed: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Positions {
    pub sent: u64,
    /// Taken by the server, which does not mean that they are shown.
    pub accepted: u64,
    pub received: u64,
    /// Positions that a newer one was received for.
    pub conflated: u64,
    pub sent_per_second: f64,
    pub received_per_second: f64,
    /// Milliseconds from the time of a position to its arrival; `null` if nothing arrived.
    pub latency_ms: Option<Latency>,
}

impl Summary {
    /// Says whether the run has passed, by what else it says.
    pub(super) fn judge(mut self) -> Self {
        let Deliveries { missed, duplicates, out_of_order, .. } = self.deliveries;
        let all_there = |sockets: &Sockets| sockets.connected == sockets.wanted;
        self.passed =
            missed + duplicates + out_of_order == 0 && all_there(&self.watchers) && all_there(&self.drivers);
        self
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, prefix, seconds, watchers, drivers, orders, changes, deliveries, positions, .. } =
            self;
        let early = if self.interrupted { ", stopped early" } else { "" };
        writeln!(f, "{url}, {seconds:.1} s{early}; orders begin with {prefix}")?;
        for (name, sockets) in [("watchers", watchers), ("drivers", drivers)] {
            let Sockets { wanted, connected, reconnects } = sockets;
            writeln!(f, "{name:<11} {connected} of {wanted} connected at the end, {reconnects} reconnects")?;
        }
        writeln!(f, "orders      {} created, {} left open", orders.created, orders.left)?;
        let Changes { made, behind, per_second } = changes;
        writeln!(f, "changes     {made} made, {per_second:.1}/s, {behind} not in time")?;
        let Deliveries { expected, received, missed, duplicates, out_of_order } = deliveries;
        writeln!(
            f,
            "deliveries  {expected} expected, {received} received, {missed} missed, {duplicates} twice, {out_of_order} out of order"
        )?;
        write_latency(f, self.latency_ms)?;
        let Positions {
            sent,
            accepted,
            received,
            conflated,
            sent_per_second,
            received_per_second,
            latency_ms,
        } = positions;
        writeln!(
            f,
            "positions   {sent} sent ({sent_per_second:.1}/s), {accepted} taken, {received} received ({received_per_second:.1}/s), {conflated} conflated"
        )?;
        write_latency(f, *latency_ms)?;
        let errors: Vec<_> = self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        writeln!(f, "errors      {errors}")?;
        write!(f, "{}", if self.passed { "passed" } else { "failed" })
    }
}

fn write_latency(f: &mut fmt::Formatter<'_>, latency: Option<Latency>) -> fmt::Result {
    match latency {
        None => Ok(()),
        Some(Latency { p50, p95, p99, max }) => {
            writeln!(
                f,
                "            after {p50:.1} ms (p50), {p95:.1} ms (p95), {p99:.1} ms (p99), {max:.1} ms (max)"
            )
        }
    }
}
