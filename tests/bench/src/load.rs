//! Position reports: drivers in, watchers out, an acknowledgement back.
//!
//! In a closed loop a driver sends its next report when an earlier one is acknowledged and every watcher of its order
//! has it, so that the server sets the pace. In an open loop reports leave when they are due, whatever the server
//! does, and latencies count from then.

use std::{
    collections::VecDeque,
    f64::consts::TAU,
    mem,
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    Target,
    engine::{Engine, Lines},
    measure::{Samples, Span, float, merged},
    rest::{self, order_id},
    socket::{self, Socket},
    wire::{self, Packet},
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
}

struct Traffic {
    parts: Vec<Part>,
    drivers: Vec<Driver>,
    /// Those of one driver stand together.
    orders: Vec<Order>,
    /// Orders of each driver.
    each: usize,
    /// A round trip, cut where the order's id belongs.
    track: Vec<(String, String)>,
    /// Whether a report that is done with makes room for the next.
    closed: bool,
    tally: Tally,
}

/// What a socket does, by its number.
enum Part {
    Driver(usize),
    Watcher { order: usize, received: u64 },
    Bystander,
}

struct Driver {
    line: usize,
    reports: u64,
}

/// The reports for one order that somebody still has to hear of.
struct Order {
    id: String,
    watchers: usize,
    /// How many came before them.
    done: u64,
    /// When each was due, and how many are to hear of it: the watchers, and the driver.
    open: VecDeque<(Instant, usize)>,
}

/// What was heard in one stretch of measuring.
#[derive(Default)]
struct Tally {
    acks: Samples,
    deliveries: Samples,
    conflated: u64,
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
        let mut parts = Vec::new();
        let watcher = async |index| {
            let order = index / watchers;
            let (role, user) = if staff { ("admin", index) } else { ("customer", order) };
            Ok((order, Socket::watcher(target, role, user, order).await?))
        };
        let sockets = socket::many(drivers * orders * watchers, watcher).await;
        for (order, socket) in sockets.context("connecting watchers")? {
            engine.add(socket)?;
            parts.push(Part::Watcher { order, received: 0 });
        }
        let connect = async |index| Ok((index, Socket::connect(target, "driver", index).await?));
        let mut sockets = socket::many(drivers, connect).await.context("connecting drivers")?;
        sockets.sort_unstable_by_key(|(index, _)| *index);
        let (track, tally) = (track(), Tally::default());
        let (drivers, each) = (Vec::new(), orders);
        let traffic = Traffic { parts, drivers, orders: Vec::new(), each, track, closed: false, tally };
        let mut load = Self { engine, traffic, server: target.pid };
        for (_, socket) in sockets {
            load.add_driver(socket, watchers)?;
        }
        Ok(load)
    }

    /// The next driver, whose orders have so many watchers each.
    pub fn add_driver(&mut self, socket: Socket, watchers: usize) -> Result<()> {
        let Traffic { parts, drivers, orders, each, .. } = &mut self.traffic;
        parts.push(Part::Driver(drivers.len()));
        drivers.push(Driver { line: self.engine.add(socket)?, reports: 0 });
        for _ in 0..*each {
            orders.push(Order { id: order_id(orders.len()), watchers, done: 0, open: VecDeque::new() });
        }
        Ok(())
    }

    /// A socket whose packets are read, and not looked at; returns its number.
    pub fn add_bystander(&mut self, socket: Socket) -> Result<usize> {
        self.traffic.parts.push(Part::Bystander);
        self.engine.add(socket)
    }

    /// How many reports were sent so far.
    pub fn reports(&self) -> u64 {
        self.traffic.drivers.iter().map(|driver| driver.reports).sum()
    }

    /// A closed loop with so many reports of each driver under way: first to warm up, then measured, for so many
    /// seconds. Ends when all that was sent has arrived.
    pub fn closed(&mut self, window: usize, warm_up: f64, seconds: f64) -> Result<Value> {
        self.traffic.closed = true;
        for driver in 0..self.traffic.drivers.len() {
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
        let paces = [Pace { drivers: 0..self.traffic.drivers.len(), rate }];
        self.open(&paces, 0.5)?;
        let half = self.measure(&paces, seconds)?;
        self.settle()?;
        Ok(merged(half, json!({ "rate": rate })))
    }

    /// What is heard in so many seconds.
    pub fn measure(&mut self, paces: &[Pace], seconds: f64) -> Result<Value> {
        self.traffic.tally = Tally::default();
        let end = Span::begin(self.server)?;
        self.open(paces, seconds)?;
        let span = end()?;
        let Tally { acks, deliveries, conflated } = mem::take(&mut self.traffic.tally);
        let (reports, delivered) = (float(acks.count()), float(deliveries.count()));
        ensure!(reports > 0.0, "no report was acknowledged");
        let measured = json!({
            "reports_per_s": reports / span.seconds,
            "deliveries_per_s": delivered / span.seconds,
            "ack_ms": acks.percentiles(),
            "delivery_ms": deliveries.percentiles(),
            "conflated": float(conflated) / (delivered + float(conflated)).max(1.0),
            "server_cpu_s_per_million_reports": span.server / reports * 1e6,
        });
        // In an open loop the generator spins: what it uses says nothing then.
        let cpu = if self.traffic.closed {
            span.report(2.0 * reports + delivered)
        } else {
            json!({ "server_cpu": span.server / span.seconds })
        };
        Ok(merged(measured, cpu))
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
            let mut next = end;
            for (due, gap, drivers) in &mut turns {
                while *due <= now {
                    let driver = drivers.next().context("a pace without drivers")?;
                    self.traffic.report(&mut self.engine.lines, driver, *due)?;
                    *due += *gap;
                }
                next = next.min(*due);
            }
            self.hear(next.saturating_duration_since(Instant::now()))?;
            now = Instant::now();
        }
        Ok(())
    }

    /// Wait until all that was sent has arrived.
    fn settle(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.traffic.orders.iter().any(|order| !order.open.is_empty()) {
            ensure!(begun.elapsed() < PATIENCE, "the server has lost deliveries or acknowledgements");
            self.hear(Duration::from_millis(10))?;
        }
        Ok(())
    }

    fn hear(&mut self, timeout: Duration) -> Result<()> {
        let traffic = &mut self.traffic;
        self.engine.turn(timeout, |lines, line, packet, now| traffic.hear(lines, line, &packet, now))
    }
}

impl Traffic {
    /// A driver's next report, for its orders in turn: of N orders, report i is the i/Nth of order i mod N.
    fn report(&mut self, lines: &mut Lines, driver: usize, due: Instant) -> Result<()> {
        let Driver { line, reports: id } = self.drivers[driver];
        self.drivers[driver].reports += 1;
        let (order, _) = self.order(driver, id)?;
        let order = &mut self.orders[order];
        order.open.push_back((due, order.watchers + 1));
        let (before, after) = &self.track[usize::try_from(id)? % self.track.len()];
        lines.request(line, id, "driver:location", &[before, &order.id, after])
    }

    /// The order that a driver's report is for, and the report's number there.
    fn order(&self, driver: usize, id: u64) -> Result<(usize, u64)> {
        let orders = self.each as u64;
        Ok((driver * self.each + usize::try_from(id % orders)?, id / orders))
    }

    fn hear(&mut self, lines: &mut Lines, line: usize, packet: &Packet<'_>, now: Instant) -> Result<()> {
        match (&mut self.parts[line], packet) {
            (&mut Part::Driver(driver), &Packet::Answer { id, body }) => {
                ensure!(wire::says_yes(body), "refused: {}", String::from_utf8_lossy(body));
                let (order, number) = self.order(driver, id)?;
                let due = self.heard(lines, order, number, now)?;
                self.tally.acks.add(now - due);
            }
            (Part::Watcher { order, received }, Packet::Event { name: b"driver:location_update", data }) => {
                let (order, first, conflated) = (*order, *received, wire::conflated(data));
                *received += 1 + conflated;
                if first == 0 {
                    check(data, &self.orders[order].id)?;
                }
                for number in first..first + conflated {
                    self.heard(lines, order, number, now)?;
                }
                let due = self.heard(lines, order, first + conflated, now)?;
                self.tally.conflated += conflated;
                self.tally.deliveries.add(now - due);
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody has heard of a report. Returns when it was due.
    fn heard(&mut self, lines: &mut Lines, order: usize, number: u64, now: Instant) -> Result<Instant> {
        let Order { done, open, .. } = &mut self.orders[order];
        let report = number.checked_sub(*done).map(usize::try_from).transpose()?;
        let report = report.and_then(|at| open.get_mut(at)).context("more arrives than was sent")?;
        report.1 -= 1;
        let due = report.0;
        let mut free = 0;
        while open.pop_front_if(|(_, waiting)| *waiting == 0).is_some() {
            *done += 1;
            free += usize::from(self.closed);
        }
        for _ in 0..free {
            self.report(lines, order / self.each, now)?;
        }
        Ok(due)
    }
}

/// Reports on a circle 70 m across, a step of one degree for each.
fn track() -> Vec<(String, String)> {
    let report = |heading: u32| {
        let (sin, cos) = (f64::from(heading) / 360.0 * TAU).sin_cos();
        let (latitude, longitude) = (52.366 + 0.0003 * cos, 4.9 + 0.0005 * sin);
        let before = format!("{{\"latitude\":{latitude:.6},\"longitude\":{longitude:.6},\"orderId\":\"");
        (before, format!("\",\"heading\":{heading},\"speed\":8.3}}"))
    };
    (0..360).map(report).collect()
}

/// Does a `driver:location_update` carry what the contract says?
fn check(data: &[u8], order: &str) -> Result<()> {
    let event: Value = serde_json::from_slice(data)?;
    let numbers = ["latitude", "longitude", "heading", "speed", "ageMs", "conflated"];
    let texts = ["driverId", "timestamp", "receivedAt"];
    let right = event["orderId"] == order
        && numbers.iter().all(|name| event[*name].is_number())
        && texts.iter().all(|name| event[*name].is_string());
    ensure!(right, "not the contract's driver:location_update: {event}");
    Ok(())
}
