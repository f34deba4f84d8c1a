//! Reports in flight: counts for each report how many deliveries and acks are missing.

use std::{collections::VecDeque, f64::consts::TAU, mem, ops::Range, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    engine::Connections,
    measure::Samples,
    rest::order_id,
    wire::{self, Packet},
};

/// All reports in flight, by order.
pub struct Traffic {
    /// The role of each socket, by its index.
    roles: Vec<Role>,
    drivers: Vec<Driver>,
    /// The orders of one driver are adjacent.
    orders: Vec<Order>,
    orders_per_driver: usize,
    /// The JSON of the reports of a round trip, split at the place of the order id.
    track: Vec<(String, String)>,
    /// Whether this is a closed loop: each completed report triggers the next one.
    pub closed: bool,
    tally: Tally,
}

/// What a socket does.
enum Role {
    Driver(usize),
    Watcher { order: usize, received: u64 },
    Bystander,
}

struct Driver {
    connection: usize,
    reports: u64,
}

/// The reports in flight for one order.
struct Order {
    id: String,
    watchers: usize,
    /// Number of completed reports.
    completed: u64,
    /// For each report in flight: when it was due, and how many of its watchers and its driver have not received it
    /// yet.
    pending: VecDeque<(Instant, usize)>,
}

/// The results of one measurement.
#[derive(Default)]
pub struct Tally {
    pub acks: Samples,
    pub deliveries: Samples,
    pub conflated: u64,
}

impl Traffic {
    /// Traffic without sockets.
    pub fn new(orders_per_driver: usize) -> Self {
        let (roles, drivers, orders, tally) = (Vec::new(), Vec::new(), Vec::new(), Tally::default());
        Self { roles, drivers, orders, orders_per_driver, track: track(), closed: false, tally }
    }

    /// Registers the next socket as a watcher of an order.
    pub fn add_watcher(&mut self, order: usize) {
        self.roles.push(Role::Watcher { order, received: 0 });
    }

    /// Registers the next socket as the next driver, with `watchers` watchers for each of its orders.
    pub fn add_driver(&mut self, watchers: usize) {
        self.drivers.push(Driver { connection: self.roles.len(), reports: 0 });
        self.roles.push(Role::Driver(self.drivers.len() - 1));
        for _ in 0..self.orders_per_driver {
            let id = order_id(self.orders.len());
            self.orders.push(Order { id, watchers, completed: 0, pending: VecDeque::new() });
        }
    }

    /// Registers the next socket as one whose packets are ignored.
    pub fn add_bystander(&mut self) {
        self.roles.push(Role::Bystander);
    }

    pub fn drivers(&self) -> Range<usize> {
        0..self.drivers.len()
    }

    /// Number of reports sent so far.
    pub fn reports(&self) -> u64 {
        self.drivers.iter().map(|driver| driver.reports).sum()
    }

    /// Whether no report is in flight.
    pub fn is_settled(&self) -> bool {
        self.orders.iter().all(|order| order.pending.is_empty())
    }

    /// Returns and resets the results since the last call.
    pub fn take_tally(&mut self) -> Tally {
        mem::take(&mut self.tally)
    }

    /// Sends the next report of a driver, for its orders in turn: with N orders, report i is report i / N of order i
    /// mod N.
    pub fn report(&mut self, connections: &mut Connections, driver: usize, due: Instant) -> Result<()> {
        let Driver { connection, reports: id } = self.drivers[driver];
        self.drivers[driver].reports += 1;
        let (order, _) = self.order(driver, id)?;
        let order = &mut self.orders[order];
        order.pending.push_back((due, order.watchers + 1));
        let (before, after) = &self.track[usize::try_from(id)? % self.track.len()];
        connections.request(connection, id, "driver:location", &[before, &order.id, after])
    }

    /// The order of a driver's report, and the number of the report within that order.
    fn order(&self, driver: usize, id: u64) -> Result<(usize, u64)> {
        let orders = self.orders_per_driver as u64;
        Ok((driver * self.orders_per_driver + usize::try_from(id % orders)?, id / orders))
    }

    /// Handles a packet of one socket.
    pub fn handle(
        &mut self,
        connections: &mut Connections,
        index: usize,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<()> {
        match (&mut self.roles[index], packet) {
            (&mut Role::Driver(driver), &Packet::Answer { id, body }) => {
                ensure!(wire::is_ok(body), "refused: {}", String::from_utf8_lossy(body));
                let (order, number) = self.order(driver, id)?;
                let due = self.mark_received(connections, order, number, now)?;
                self.tally.acks.add(now - due);
            }
            (Role::Watcher { order, received }, Packet::Event { name: b"driver:location_update", data }) => {
                let (order, first, conflated) = (*order, *received, wire::conflated(data));
                *received += 1 + conflated;
                if first == 0 {
                    check(data, &self.orders[order].id)?;
                }
                for number in first..first + conflated {
                    self.mark_received(connections, order, number, now)?;
                }
                let due = self.mark_received(connections, order, first + conflated, now)?;
                self.tally.conflated += conflated;
                self.tally.deliveries.add(now - due);
            }
            _ => {}
        }
        Ok(())
    }

    /// Records that one recipient has received a report. Returns when the report was due.
    fn mark_received(
        &mut self,
        connections: &mut Connections,
        order: usize,
        number: u64,
        now: Instant,
    ) -> Result<Instant> {
        let Order { completed, pending, .. } = &mut self.orders[order];
        let report = number.checked_sub(*completed).map(usize::try_from).transpose()?;
        let report = report.and_then(|at| pending.get_mut(at)).context("more deliveries than reports")?;
        report.1 -= 1;
        let due = report.0;
        let mut next_reports = 0;
        while pending.pop_front_if(|(_, missing)| *missing == 0).is_some() {
            *completed += 1;
            next_reports += usize::from(self.closed);
        }
        for _ in 0..next_reports {
            self.report(connections, order / self.orders_per_driver, now)?;
        }
        Ok(due)
    }
}

/// Reports on a circle with a diameter of 70 m, one degree apart.
fn track() -> Vec<(String, String)> {
    let report = |heading: u32| {
        let (sin, cos) = (f64::from(heading) / 360.0 * TAU).sin_cos();
        let (latitude, longitude) = (52.366 + 0.0003 * cos, 4.9 + 0.0005 * sin);
        let before = format!("{{\"latitude\":{latitude:.6},\"longitude\":{longitude:.6},\"orderId\":\"");
        (before, format!("\",\"heading\":{heading},\"speed\":8.3}}"))
    };
    (0..360).map(report).collect()
}

/// Checks that a `driver:location_update` has the members that the protocol defines.
fn check(data: &[u8], order: &str) -> Result<()> {
    let event: Value = serde_json::from_slice(data)?;
    let numbers = ["latitude", "longitude", "heading", "speed", "ageMs", "conflated"];
    let texts = ["driverId", "timestamp", "receivedAt"];
    let right = event["orderId"] == order
        && numbers.iter().all(|name| event[*name].is_number())
        && texts.iter().all(|name| event[*name].is_string());
    ensure!(right, "not a valid driver:location_update: {event}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Engine, wire::Wire};

    #[test]
    fn a_report_is_completed_when_driver_and_watchers_have_it_or_a_newer_one() -> Result<()> {
        let mut engine = Engine::new(Wire::Ws)?;
        let mut traffic = Traffic::new(2);
        traffic.add_watcher(1);
        traffic.add_driver(1);
        // The driver's reports 1 and 3 are the first two of the second order.
        let now = Instant::now();
        traffic.orders[1].pending.extend([(now, 2), (now, 2)]);
        let mut handle =
            |socket, packet: Packet<'_>| traffic.handle(&mut engine.connections, socket, &packet, now);
        let event =
            br#"{"orderId":"bench-order-1","latitude":1,"longitude":1,"heading":1,"speed":1,"ageMs":0,
            "driverId":"d","timestamp":"t","receivedAt":"t","conflated":1}"#;
        let answer = |id| Packet::Answer { id, body: b"[{\"ok\":true}]" };
        handle(1, answer(1))?;
        handle(0, Packet::Event { name: b"driver:location_update", data: event })?;
        assert!(handle(0, Packet::Event { name: b"driver:location_update", data: event }).is_err());
        handle(1, answer(3))?;
        assert!(traffic.is_settled());
        let Tally { acks, deliveries, conflated } = traffic.take_tally();
        assert_eq!((acks.count(), deliveries.count(), conflated), (2, 1, 1));
        Ok(())
    }
}
