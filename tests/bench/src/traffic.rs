//! Reports under way: who has been told of each, and who is still to hear of it.

use std::{collections::VecDeque, f64::consts::TAU, mem, ops::Range, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    engine::Lines,
    measure::Samples,
    rest::order_id,
    wire::{self, Packet},
};

/// What is under way.
pub struct Traffic {
    parts: Vec<Part>,
    drivers: Vec<Driver>,
    /// Those of one driver stand together.
    orders: Vec<Order>,
    /// Orders of each driver.
    each: usize,
    /// A round trip, cut where the order's id belongs.
    track: Vec<(String, String)>,
    /// Whether a report that is done with makes room for the next.
    pub closed: bool,
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
pub struct Tally {
    pub acks: Samples,
    pub deliveries: Samples,
    pub conflated: u64,
}

impl Traffic {
    /// Nobody yet; each driver is going to have so many orders.
    pub fn new(each: usize) -> Self {
        let (parts, drivers, orders, tally) = (Vec::new(), Vec::new(), Vec::new(), Tally::default());
        Self { parts, drivers, orders, each, track: track(), closed: false, tally }
    }

    /// The next socket watches this order.
    pub fn add_watcher(&mut self, order: usize) {
        self.parts.push(Part::Watcher { order, received: 0 });
    }

    /// The next socket is the next driver, whose orders have so many watchers each.
    pub fn add_driver(&mut self, watchers: usize) {
        self.drivers.push(Driver { line: self.parts.len(), reports: 0 });
        self.parts.push(Part::Driver(self.drivers.len() - 1));
        for _ in 0..self.each {
            let id = order_id(self.orders.len());
            self.orders.push(Order { id, watchers, done: 0, open: VecDeque::new() });
        }
    }

    /// The next socket's packets are not looked at.
    pub fn add_bystander(&mut self) {
        self.parts.push(Part::Bystander);
    }

    pub fn drivers(&self) -> Range<usize> {
        0..self.drivers.len()
    }

    /// How many reports were sent so far.
    pub fn reports(&self) -> u64 {
        self.drivers.iter().map(|driver| driver.reports).sum()
    }

    /// Whether all that was sent has arrived.
    pub fn is_settled(&self) -> bool {
        self.orders.iter().all(|order| order.open.is_empty())
    }

    /// What was heard since the last call.
    pub fn take_tally(&mut self) -> Tally {
        mem::take(&mut self.tally)
    }

    /// A driver's next report, for its orders in turn: of N orders, report i is the i/Nth of order i mod N.
    pub fn report(&mut self, lines: &mut Lines, driver: usize, due: Instant) -> Result<()> {
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

    /// What a server said to one of the sockets.
    pub fn hear(&mut self, lines: &mut Lines, line: usize, packet: &Packet<'_>, now: Instant) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Engine, wire::Wire};

    #[test]
    fn a_report_is_done_with_when_driver_and_watchers_have_it_or_a_newer_one() -> Result<()> {
        let mut engine = Engine::new(Wire::Ws)?;
        let mut traffic = Traffic::new(2);
        traffic.add_watcher(1);
        traffic.add_driver(1);
        // The driver's reports 1 and 3 are the first two of the second order.
        let now = Instant::now();
        traffic.orders[1].open.extend([(now, 2), (now, 2)]);
        let mut hear = |socket, packet: Packet<'_>| traffic.hear(&mut engine.lines, socket, &packet, now);
        let event =
            br#"{"orderId":"bench-order-1","latitude":1,"longitude":1,"heading":1,"speed":1,"ageMs":0,
            "driverId":"d","timestamp":"t","receivedAt":"t","conflated":1}"#;
        let answer = |id| Packet::Answer { id, body: b"[{\"ok\":true}]" };
        hear(1, answer(1))?;
        hear(0, Packet::Event { name: b"driver:location_update", data: event })?;
        assert!(hear(0, Packet::Event { name: b"driver:location_update", data: event }).is_err());
        hear(1, answer(3))?;
        assert!(traffic.is_settled());
        let Tally { acks, deliveries, conflated } = traffic.take_tally();
        assert_eq!((acks.count(), deliveries.count(), conflated), (2, 1, 1));
        Ok(())
    }
}
