//! Position reports: drivers in, watchers out, an acknowledgement back.
//!
//! In a closed loop a driver sends its next report when an earlier one is acknowledged and every watcher of its order
//! has it, so that the server sets the pace. In an open loop reports leave when they are due, whatever the server
//! does, and latencies count from then.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    Target,
    engine::{Engine, Lines},
    measure::{Span, float, merged},
    rest,
    socket::{self, Socket},
    traffic::{Tally, Traffic},
    wire::Packet,
};

/// How long the last deliveries may take once no report is sent any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who takes part.
#[derive(Clone, Copy)]
pub struct Shape {
    pub drivers: usize,
    /// Orders of each driver, who reports for them in turn.
    pub orders: usize,
    /// Sockets that watch each order.
    pub watchers: usize,
    /// Watchers are admins, each a user of its own, rather than the order's customer.
    pub staff: bool,
}

/// Drivers that share a number of reports per second evenly.
pub struct Pace {
    pub drivers: Range<usize>,
    pub rate: f64,
}

/// All sockets, and what is under way among them.
pub struct Load {
    pub engine: Engine,
    traffic: Traffic,
    server: u32,
    /// Spent in looking for something to do, and not finding it.
    idle: Duration,
}

impl Load {
    /// Make the orders, connect everybody.
    pub async fn prepare(target: &Target, shape: Shape) -> Result<Self> {
        let Shape { drivers, orders, watchers, staff } = shape;
        if target.jwt_secret.is_some() {
            let make = async |rest: &mut rest::Rest, index| rest.on_the_way(index, index / orders).await;
            rest::each(target, drivers * orders, make).await.context("making the orders")?;
        }
        let mut engine = Engine::new(target.wire)?;
        let mut traffic = Traffic::new(orders);
        let watcher = async |index| {
            let order = index / watchers;
            let (role, user) = if staff { ("admin", index) } else { ("customer", order) };
            Ok((order, Socket::watcher(target, role, user, order).await?))
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

    /// The next driver, whose orders have so many watchers each.
    pub fn add_driver(&mut self, socket: Socket, watchers: usize) -> Result<()> {
        self.traffic.add_driver(watchers);
        self.engine.add(socket).map(drop)
    }

    /// A socket whose packets are read, and not looked at; returns its number.
    pub fn add_bystander(&mut self, socket: Socket) -> Result<usize> {
        self.traffic.add_bystander();
        self.engine.add(socket)
    }

    /// How many reports were sent so far.
    pub fn reports(&self) -> u64 {
        self.traffic.reports()
    }

    /// A closed loop with so many reports of each driver under way: first to warm up, then measured, for so many
    /// seconds. Ends when all that was sent has arrived.
    pub fn closed(&mut self, window: usize, warm_up: f64, seconds: f64) -> Result<Value> {
        self.traffic.closed = true;
        for driver in self.traffic.drivers() {
            for _ in 0..window {
                self.traffic.report(&mut self.engine.lines, driver, Instant::now())?;
            }
        }
        self.open(&[], warm_up)?;
        let measured = self.measure(&[], seconds)?;
        self.traffic.closed = false;
        self.settle()?;
        Ok(measured)
    }

    /// An open loop at half the rate of reports that a closed one has shown.
    pub fn half(&mut self, measured: &Value, seconds: f64) -> Result<Value> {
        if seconds <= 0.0 {
            return Ok(Value::Null);
        }
        let rate = measured["reports_per_s"].as_f64().context("no rate")? / 2.0;
        let paces = [Pace { drivers: self.traffic.drivers(), rate }];
        self.open(&paces, 0.5)?;
        let half = self.measure(&paces, seconds)?;
        self.settle()?;
        Ok(merged(half, json!({ "rate": rate })))
    }

    /// What is heard in so many seconds.
    pub fn measure(&mut self, paces: &[Pace], seconds: f64) -> Result<Value> {
        self.traffic.take_tally();
        self.idle = Duration::ZERO;
        let end = Span::begin(self.server)?;
        self.open(paces, seconds)?;
        let mut span = end()?;
        // The time in which it had work, whether it got the CPU for it or not.
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

    /// Send what is due and hear what comes, for so many seconds.
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
                    self.traffic.report(&mut self.engine.lines, driver, *due)?;
                    *due += *gap;
                }
            }
            self.hear()?;
            now = Instant::now();
        }
        Ok(())
    }

    /// Wait until all that was sent has arrived.
    fn settle(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.traffic.is_settled() {
            ensure!(begun.elapsed() < PATIENCE, "the server has lost deliveries or acknowledgements");
            self.hear()?;
        }
        Ok(())
    }

    /// Hear what there is to hear, without waiting: a server that writes to somebody who sleeps has to wake them, and
    /// with both on one machine that costs it as much as half of its work.
    fn hear(&mut self) -> Result<()> {
        let (begun, traffic) = (Instant::now(), &mut self.traffic);
        let hear = |lines: &mut Lines, line, packet: Packet<'_>, now| traffic.hear(lines, line, &packet, now);
        if !self.engine.turn(Duration::ZERO, hear)? {
            self.idle += begun.elapsed();
        }
        Ok(())
    }
}
