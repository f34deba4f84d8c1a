//! Position reports: drivers send them, watchers receive them, and the server acknowledges them.
//!
//! In a closed loop, a driver sends its next report when an earlier one is acknowledged and all watchers of its order
//! have received it, so the server sets the pace. In an open loop, reports are sent at fixed times whatever the server
//! does, and latencies count from these times.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    Target,
    engine::{Connections, Engine},
    measure::{Span, float, merged},
    rest,
    socket::{self, Socket},
    traffic::{Tally, Traffic},
    wire::Packet,
};

/// How long the last deliveries may take after the last report is sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// The number of participants.
#[derive(Clone, Copy)]
pub struct Shape {
    pub drivers: usize,
    /// Orders per driver. The driver reports for them in turn.
    pub orders: usize,
    /// Watching sockets per order.
    pub watchers: usize,
    /// Whether the watchers are admins, each with its own user, instead of the order's customer.
    pub staff: bool,
}

/// A group of drivers in an open loop.
pub struct Pace {
    pub drivers: Range<usize>,
    /// Reports per second of the whole group.
    pub rate: f64,
}

/// All sockets and their traffic.
pub struct Load {
    pub engine: Engine,
    traffic: Traffic,
    server: u32,
    /// Time spent in polls that found nothing to read.
    idle: Duration,
}

impl Load {
    /// Creates the orders and connects all sockets.
    pub async fn prepare(target: &Target, shape: Shape) -> Result<Self> {
        Self::prepare_on(target, std::slice::from_ref(target), shape).await
    }

    /// The same on several nodes: drivers and orders are at `target`, and each watcher is at the next of `watch_at`.
    pub async fn prepare_on(target: &Target, watch_at: &[Target], shape: Shape) -> Result<Self> {
        let Shape { drivers, orders, watchers, staff } = shape;
        if target.jwt_secret.is_some() {
            let make =
                async |rest: &mut rest::Rest, index| rest.create_in_transit(index, index / orders).await;
            rest::each(target, drivers * orders, make).await.context("making the orders")?;
        }
        let mut engine = Engine::new(target.wire)?;
        let mut traffic = Traffic::new(orders);
        let watcher = async |index| {
            let order = index / watchers;
            let (role, user) = if staff { ("admin", index) } else { ("customer", order) };
            let node = &watch_at[index % watch_at.len()];
            Ok((order, Socket::watcher(node, role, user, order).await?))
        };
        let sockets = socket::many(drivers * orders * watchers, watcher).await;
        for (order, socket) in sockets.context("connecting watchers")? {
            engine.add(socket)?;
            traffic.add_watcher(order);
        }
        let connect = async |index| Ok((index, Socket::connect(target, "driver", index).await?));
        let mut sockets = socket::many(drivers, connect).await.context("connecting drivers")?;
        sockets.sort_unstable_by_key(|(index, _)| *index);
        let mut load = Self { engine, traffic, server: target.pid, idle: Duration::ZERO };
        for (_, socket) in sockets {
            load.add_driver(socket, watchers)?;
        }
        Ok(load)
    }

    /// Adds the next driver, with `watchers` watchers for each of its orders.
    pub fn add_driver(&mut self, socket: Socket, watchers: usize) -> Result<()> {
        self.traffic.add_driver(watchers);
        self.engine.add(socket).map(drop)
    }

    /// Adds a socket whose packets are read and ignored. Returns its index.
    pub fn add_bystander(&mut self, socket: Socket) -> Result<usize> {
        self.traffic.add_bystander();
        self.engine.add(socket)
    }

    /// All drivers together at a rate of reports per second.
    pub fn pace(&self, rate: f64) -> Pace {
        Pace { drivers: self.traffic.drivers(), rate }
    }

    /// Number of reports sent so far.
    pub fn reports(&self) -> u64 {
        self.traffic.reports()
    }

    /// Runs a closed loop with `window` reports per driver in flight: first to warm up, then measured. Times are in
    /// seconds. Returns when all deliveries have arrived.
    pub fn closed(&mut self, window: usize, warm_up: f64, seconds: f64) -> Result<Value> {
        self.traffic.closed = true;
        for driver in self.traffic.drivers() {
            for _ in 0..window {
                self.traffic.report(&mut self.engine.connections, driver, Instant::now())?;
            }
        }
        self.open(&[], warm_up)?;
        let measured = self.measure(&[], seconds)?;
        self.traffic.closed = false;
        self.settle()?;
        Ok(measured)
    }

    /// Runs a closed loop with one report per driver in flight, until so many reports are sent and everything has arrived.
    pub fn reports_of_closed_loop(&mut self, reports: u64) -> Result<()> {
        let end = self.reports() + reports;
        self.traffic.closed = true;
        for driver in self.traffic.drivers() {
            self.traffic.report(&mut self.engine.connections, driver, Instant::now())?;
        }
        while self.reports() < end {
            self.poll()?;
        }
        self.traffic.closed = false;
        self.settle()
    }

    /// Runs an open loop at half the report rate that a closed loop has reached.
    pub fn half(&mut self, measured: &Value, seconds: f64) -> Result<Value> {
        if seconds <= 0.0 {
            return Ok(Value::Null);
        }
        let rate = measured["reports_per_s"].as_f64().context("no rate")? / 2.0;
        self.at(rate, seconds)
    }

    /// Runs an open loop at a rate of reports per second.
    pub fn at(&mut self, rate: f64, seconds: f64) -> Result<Value> {
        let paces = [self.pace(rate)];
        self.open(&paces, 0.5)?;
        let measured = self.measure(&paces, seconds)?;
        self.settle()?;
        Ok(merged(measured, json!({ "rate": rate })))
    }

    /// Runs an open loop for some seconds and returns the measured values.
    pub fn measure(&mut self, paces: &[Pace], seconds: f64) -> Result<Value> {
        self.traffic.take_tally();
        self.idle = Duration::ZERO;
        let end = Span::begin(self.server)?;
        self.open(paces, seconds)?;
        let mut span = end()?;
        // The generator polls all the time, so only the time in which it had work counts.
        span.generator = span.seconds - self.idle.as_secs_f64();
        let Tally { acks, deliveries, conflated } = self.traffic.take_tally();
        let (reports, delivered) = (float(acks.count()), float(deliveries.count()));
        ensure!(reports > 0.0, "no report was acknowledged");
        let measured = json!({
            "reports_per_s": reports / span.seconds,
            "deliveries_per_s": delivered / span.seconds,
            "ack_ms": acks.percentiles(),
            "delivery_ms": deliveries.percentiles(),
            "conflated": float(conflated) / (delivered + float(conflated)).max(1.0),
            "server_cpu_s_per_million_reports": span.server / reports * 1e6,
            "server_cpu_s_per_million_deliveries": span.server / delivered * 1e6,
        });
        Ok(merged(measured, span.report(2.0 * reports + delivered)))
    }

    /// Sends the reports that are due and reads packets, for some seconds.
    pub fn open(&mut self, paces: &[Pace], seconds: f64) -> Result<()> {
        let mut now = Instant::now();
        let end = now + Duration::from_secs_f64(seconds);
        let mut turns: Vec<_> = paces
            .iter()
            .map(|pace| (now, Duration::from_secs_f64(1.0 / pace.rate), pace.drivers.clone().cycle()))
            .collect();
        while now < end {
            for (due, gap, drivers) in &mut turns {
                while *due <= now {
                    let driver = drivers.next().context("a pace without drivers")?;
                    self.traffic.report(&mut self.engine.connections, driver, *due)?;
                    *due += *gap;
                }
            }
            self.poll()?;
            now = Instant::now();
        }
        Ok(())
    }

    /// Waits until all deliveries and acks have arrived.
    fn settle(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.traffic.is_settled() {
            ensure!(begun.elapsed() < PATIENCE, "the server has lost deliveries or acknowledgements");
            self.poll()?;
        }
        Ok(())
    }

    /// Reads available packets without waiting. If the generator slept, each write of the server would have to wake it.
    /// On one machine that costs the server as much as half of its work.
    fn poll(&mut self) -> Result<()> {
        let (begun, traffic) = (Instant::now(), &mut self.traffic);
        let on_packet = |connections: &mut Connections, index, packet: Packet<'_>, now| {
            traffic.handle(connections, index, &packet, now)
        };
        if !self.engine.poll(Duration::ZERO, on_packet)? {
            self.idle += begun.elapsed();
        }
        Ok(())
    }
}
