//! A driver moved: check, remember, reckon, tell. No await and no query: this is the hot path.

use std::sync::Arc;

use chrono::TimeDelta;
use smallvec::SmallVec;

use super::Drivers;
use super::live::Driver;
use super::trail::TrailPoint;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{Eta, EtaChange, LiveEvent, Location, LocationReport, OrderId};

/// The least time between two points of a driver's trail.
const TRAIL_SPACING: TimeDelta = TimeDelta::milliseconds(500);

/// What became of a fix.
#[derive(Debug)]
pub struct Reported {
    /// The orders it was for.
    pub orders: SmallVec<[OrderId; 2]>,
    pub received_at: Time,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Batch {
    pub accepted: usize,
    /// Index and code of each point that was not taken.
    pub rejected: Vec<(usize, &'static str)>,
}

fn carries(driver: &Driver, fix: &LocationReport) -> bool {
    fix.order_id.as_ref().is_none_or(|id| driver.state().orders.iter().any(|carried| carried.order() == id))
}

impl Drivers {
    /// Takes one fix.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::ClockSkew`] for a fix from the future, [`Refusal::NotFound`] for an
    /// order that this driver is not carrying.
    pub fn report(&self, driver: &Driver, fix: &LocationReport) -> Result<Reported, Refusal> {
        let now = self.take(driver)?;
        let recorded_at = self.recorded_at(fix, now)?;
        self.show(driver, fix, recorded_at, now)
    }

    /// Takes what an app collected while it was offline: all of it goes to the trail, the newest is shown.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: a batch counts as one report.
    pub fn report_batch(
        &self,
        driver: &Driver,
        points: &[Result<LocationReport, String>],
    ) -> Result<Batch, Refusal> {
        let now = self.take(driver)?;
        let mut rejected = Vec::new();
        let mut accepted: Vec<(usize, &LocationReport, Time)> = Vec::with_capacity(points.len());
        for (index, point) in points.iter().enumerate() {
            let taken = match point {
                Err(_) => Err("invalid_payload"),
                Ok(fix) if !carries(driver, fix) => Err("not_found"),
                Ok(fix) => self.recorded_at(fix, now).map(|at| (fix, at)).map_err(|refusal| refusal.code()),
            };
            match taken {
                Ok((fix, at)) => accepted.push((index, fix, at)),
                Err(code) => rejected.push((index, code)),
            }
        }
        // The last of those measured last: points without a time were measured in the order sent.
        let newest = accepted.iter().max_by_key(|(index, _, at)| (*at, *index)).map(|(index, _, _)| *index);
        for (index, fix, at) in &accepted {
            if Some(*index) == newest {
                self.show(driver, fix, *at, now)?;
            } else {
                self.keep(driver, fix, *at, now);
            }
        }
        Ok(Batch { accepted: accepted.len(), rejected })
    }

    /// Takes a report from the driver's allowance. Answers with the time of it.
    fn take(&self, driver: &Driver) -> Result<Time, Refusal> {
        let now = self.clock.now();
        let taken = driver.state().bucket.take(self.pace.rate, self.pace.burst, now);
        taken.map_err(|retry_after_ms| Refusal::RateLimited { retry_after_ms })?;
        Ok(now)
    }

    fn recorded_at(&self, fix: &LocationReport, now: Time) -> Result<Time, Refusal> {
        let Some(recorded_at) = fix.recorded_at else { return Ok(now) };
        let ahead_ms = (recorded_at - now).num_milliseconds();
        if recorded_at - now > self.pace.skew {
            return Err(Refusal::ClockSkew { ahead_ms });
        }
        Ok(recorded_at)
    }

    /// Shows a fix to those who watch the driver's orders, unless a newer one was shown already.
    fn show(
        &self,
        driver: &Driver,
        fix: &LocationReport,
        recorded_at: Time,
        now: Time,
    ) -> Result<Reported, Refusal> {
        // A phone's clock may be a little fast: the fixes after this one must not seem older.
        let seen_at = recorded_at.min(now);
        let shown = fix.fix(seen_at, now);
        let place = shown.place;
        let mut orders: SmallVec<[OrderId; 2]> = SmallVec::new();
        let mut events: SmallVec<[LiveEvent; 2]> = SmallVec::new();
        let mut etas: SmallVec<[LiveEvent; 2]> = SmallVec::new();
        {
            let mut state = driver.state();
            let late = state.last.is_some_and(|(_, shown)| seen_at < shown);
            let named = |id: &OrderId| state.orders.iter().any(|carried| carried.order() == id);
            if fix.order_id.as_ref().is_some_and(|id| !named(id)) {
                return Err(Refusal::NotFound("order"));
            }
            for carried in &mut state.orders {
                // Every order in these hands moves with the driver, also those that this fix does not name.
                let estimated = (!late && !carried.overridden)
                    .then(|| Eta::estimate(place, carried.about.order.destination(), now));
                if let Some(eta) = estimated {
                    let changed = carried.eta.is_none_or(|before| before.minutes != eta.minutes);
                    carried.eta = Some(eta);
                    if changed {
                        let order = &carried.about.order;
                        let (order, customer) = (order.id.clone(), order.customer.id.clone());
                        etas.push(LiveEvent::Eta(EtaChange { order, customer, eta }));
                    }
                }
                if fix.order_id.as_ref().is_some_and(|id| id != carried.order()) {
                    continue;
                }
                orders.push(carried.order().clone());
                if late {
                    continue;
                }
                events.push(LiveEvent::Location(Location {
                    about: Arc::clone(&carried.about),
                    driver: driver.id.clone(),
                    fix: shown,
                    eta: carried.eta,
                }));
            }
            if !late {
                state.last = Some((place, seen_at));
            }
            // Under the lock, so that no event of an order comes in between: see `Live::apply`.
            for event in events.iter().chain(&etas) {
                self.bus.publish(event);
            }
        }
        self.keep(driver, fix, recorded_at, now);
        Ok(Reported { orders, received_at: now })
    }

    /// Sends a fix to the trail, unless it was measured at nearly the same time as the one before: more than two a second
    /// say nothing more about where somebody was.
    fn keep(&self, driver: &Driver, fix: &LocationReport, recorded_at: Time, received_at: Time) {
        {
            let mut state = driver.state();
            if state.kept.is_some_and(|kept| (recorded_at - kept).abs() < TRAIL_SPACING) {
                return;
            }
            state.kept = Some(recorded_at);
        }
        self.trail.push(TrailPoint { driver: driver.id.clone(), fix: fix.fix(recorded_at, received_at) });
    }
}
