//! Position reports of drivers: check, store, compute ETAs, publish. This is the hot path, so it has no `await` and no
//! query.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use smallvec::SmallVec;

use super::Drivers;
use super::live::LiveDriver;
use super::trail::TrailPoint;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{EtaChange, LiveEvent, Location, LocationReport, OrderId, Verdict};

/// Minimum time between two points of a driver's trail.
const TRAIL_SPACING: TimeDelta = TimeDelta::milliseconds(500);

/// The result of an accepted report.
#[derive(Debug)]
pub struct ReportOutcome {
    /// The orders that the fix belongs to.
    pub orders: SmallVec<[OrderId; 2]>,
    pub received_at: Time,
    pub verdict: Verdict,
}

/// The result of a batch.
#[derive(Debug)]
pub struct BatchOutcome {
    /// Number of accepted points.
    pub accepted: usize,
    pub rejected: Vec<RejectedPoint>,
}

/// A point of a batch that was not taken, and why.
#[derive(Debug)]
pub struct RejectedPoint {
    pub index: usize,
    pub refusal: Refusal,
}

/// Whether the driver carries the order that a fix names. Also true if the fix names none.
fn carries(driver: &LiveDriver, fix: &LocationReport) -> bool {
    fix.order_id.as_ref().is_none_or(|id| driver.state().orders.iter().any(|carried| carried.id() == id))
}

/// How a fix reached the server.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// By itself, so its lag says something of the phone's clock.
    AsMeasured,
    /// Among others that waited.
    Later,
}

impl Drivers {
    /// Accepts one fix that came at `now`: publishes it and adds it to the trail.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]; [`Refusal::ClockSkew`] for a fix from the future; [`Refusal::NotFound`] if the fix
    /// names an order that this driver does not carry.
    pub fn report(
        &self,
        driver: &Arc<LiveDriver>,
        fix: &LocationReport,
        now: Time,
    ) -> Result<ReportOutcome, Refusal> {
        if let Err(retry_after_ms) = self.check_rate(driver, now) {
            return Err(self.postpone(driver, fix, retry_after_ms, now));
        }
        let recorded_at = self.recorded_at(driver, fix, now, Told::AsMeasured)?;
        let outcome = self.publish(driver, fix, recorded_at, now)?;
        self.add_to_trail(driver, fix, recorded_at, now, outcome.verdict == Verdict::Shown);
        Ok(outcome)
    }

    /// Keeps a fix that comes too fast, and returns its refusal. The fix goes to the trail. The newest of several is published
    /// once the rate allows it, unless a newer one was accepted by then.
    pub fn postpone(
        &self,
        driver: &Arc<LiveDriver>,
        fix: &LocationReport,
        retry_after_ms: u64,
        now: Time,
    ) -> Refusal {
        let recorded_at = match self.recorded_at(driver, fix, now, Told::Later) {
            Ok(recorded_at) => recorded_at,
            Err(refusal) => return refusal,
        };
        if !carries(driver, fix) {
            return Refusal::NotFound("order");
        }
        self.add_to_trail(driver, fix, recorded_at, now, false);
        let is_first = {
            let mut state = driver.state();
            let is_first = state.postponed.is_none();
            if state.postponed.as_ref().is_none_or(|(_, known)| *known <= recorded_at) {
                state.postponed = Some((Box::new(fix.clone()), recorded_at));
            }
            is_first
        };
        if is_first {
            // A client that goes on reporting has a newer fix accepted until then.
            let interval = if self.limits.rate > 0.0 { 1.0 / self.limits.rate } else { 0.0 };
            let wait = Duration::from_millis(retry_after_ms) + Duration::from_secs_f64(interval);
            let (drivers, driver) = (self.clone(), Arc::clone(driver));
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                drivers.publish_postponed(&driver);
            });
        }
        Refusal::RateLimited { retry_after_ms }
    }

    fn publish_postponed(&self, driver: &LiveDriver) {
        let Some((fix, recorded_at)) = driver.state().postponed.take() else { return };
        if let Err(refusal) = self.publish(driver, &fix, recorded_at, self.clock.now()) {
            tracing::debug!(%refusal, "a postponed fix was not published");
        }
    }

    /// Accepts the fixes that an app collected while it was offline. All of them go to the trail, but only the newest
    /// one is published.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]; a batch counts as one report.
    pub fn report_batch(
        &self,
        driver: &LiveDriver,
        points: Vec<Result<LocationReport, Refusal>>,
        now: Time,
    ) -> Result<BatchOutcome, Refusal> {
        self.check_rate(driver, now).map_err(|retry_after_ms| Refusal::RateLimited { retry_after_ms })?;
        let mut rejected = Vec::new();
        let mut accepted: Vec<(usize, LocationReport, Time)> = Vec::with_capacity(points.len());
        for (index, point) in points.into_iter().enumerate() {
            let checked = point.and_then(|fix| {
                if !carries(driver, &fix) {
                    return Err(Refusal::NotFound("order"));
                }
                let at = self.recorded_at(driver, &fix, now, Told::Later)?;
                Ok((fix, at))
            });
            match checked {
                Ok((fix, at)) => accepted.push((index, fix, at)),
                Err(refusal) => rejected.push(RejectedPoint { index, refusal }),
            }
        }
        // Points without a time all get the same time, so of equal times the last point is the newest.
        let credible = accepted.iter().filter(|(_, fix, _)| fix.doubt().is_none());
        let newest = credible.max_by_key(|(index, _, at)| (*at, *index)).map(|(index, _, _)| *index);
        for (index, fix, at) in &accepted {
            let shown =
                Some(*index) == newest && self.publish(driver, fix, *at, now)?.verdict == Verdict::Shown;
            self.add_to_trail(driver, fix, *at, now, shown);
        }
        Ok(BatchOutcome { accepted: accepted.len(), rejected })
    }

    /// Counts a report against the driver's rate limit. Returns after how many milliseconds the next one may come, if this is
    /// one too many.
    fn check_rate(&self, driver: &LiveDriver, now: Time) -> Result<(), u64> {
        let (due, taken) = {
            let mut state = driver.state();
            let taken = state.bucket.take(self.limits.rate, self.limits.burst, now);
            (state.reported(taken.is_ok(), now), taken)
        };
        self.share(driver, due);
        taken
    }

    /// When a fix was measured, by our clock. A fix without a time was measured now.
    fn recorded_at(
        &self,
        driver: &LiveDriver,
        fix: &LocationReport,
        now: Time,
        told: Told,
    ) -> Result<Time, Refusal> {
        let Some(recorded_at) = fix.recorded_at else { return Ok(now) };
        let recorded_at = {
            let clock = &mut driver.state().clock;
            if told == Told::AsMeasured {
                clock.learn(recorded_at, now);
            }
            clock.corrected(recorded_at)
        };
        let ahead_ms = (recorded_at - now).num_milliseconds();
        if recorded_at - now > self.limits.max_skew {
            return Err(Refusal::ClockSkew { ahead_ms });
        }
        if now - recorded_at > self.limits.max_age {
            return Err(Refusal::invalid("recordedAt", "must not be older than positions are kept"));
        }
        Ok(recorded_at)
    }

    /// Publishes a fix to the clients that follow the driver's orders, unless a newer one is already published.
    fn publish(
        &self,
        driver: &LiveDriver,
        fix: &LocationReport,
        recorded_at: Time,
        now: Time,
    ) -> Result<ReportOutcome, Refusal> {
        // The driver's clock may be slightly fast. A later fix must not look older than this one.
        let seen_at = recorded_at.min(now);
        let shown = fix.fix(seen_at, now);
        let place = shown.place;
        let mut orders: SmallVec<[OrderId; 2]> = SmallVec::new();
        let mut events: SmallVec<[LiveEvent; 2]> = SmallVec::new();
        let mut etas: SmallVec<[LiveEvent; 2]> = SmallVec::new();
        let verdict;
        {
            let mut state = driver.state();
            verdict = fix.doubt().unwrap_or_else(|| {
                let is_late = state.position.is_some_and(|(_, published)| seen_at < published);
                if is_late { Verdict::Late } else { Verdict::Shown }
            });
            let (is_hidden, accepted) = (verdict != Verdict::Shown, state.homes.accepted);
            let is_carried = |id: &OrderId| state.orders.iter().any(|carried| carried.id() == id);
            if fix.order_id.as_ref().is_some_and(|id| !is_carried(id)) {
                return Err(Refusal::NotFound("order"));
            }
            for carried in &mut state.orders {
                // All carried orders move with the driver, so the ETA changes also for those that this fix does not
                // name.
                let counts = !is_hidden && !carried.overridden;
                let computed = if counts { carried.estimate(place, now) } else { None };
                if let Some(eta) = computed {
                    let changed = carried.eta.is_none_or(|before| before.differs(&eta));
                    carried.eta = Some(eta);
                    if changed {
                        let order = &carried.about.order;
                        let (order, customer) = (order.id.clone(), order.customer.id.clone());
                        let driver = Some(driver.id.clone());
                        etas.push(LiveEvent::Eta(EtaChange { order, customer, driver, eta }));
                    }
                }
                if fix.order_id.as_ref().is_some_and(|id| id != carried.id()) {
                    continue;
                }
                orders.push(carried.id().clone());
                if is_hidden {
                    continue;
                }
                events.push(LiveEvent::Location(Location {
                    about: Arc::clone(&carried.about),
                    driver: driver.id.clone(),
                    fix: shown,
                    last_eta: carried.eta,
                    accepted,
                }));
            }
            if !is_hidden {
                if state.postponed.as_ref().is_some_and(|(_, postponed)| *postponed <= recorded_at) {
                    state.postponed = None;
                }
                state.position = Some((place, seen_at));
                self.ask_routes(driver, &mut state, now);
            }
            // Published under the driver's lock, so that no durable event comes in between: see `Live::apply`.
            for event in events.iter().chain(&etas) {
                self.bus.publish(event);
            }
        }
        Ok(ReportOutcome { orders, received_at: now, verdict })
    }

    /// Queues a fix for the trail, unless the one before it was measured less than [`TRAIL_SPACING`] apart: more than
    /// two points per second add no information.
    fn add_to_trail(
        &self,
        driver: &LiveDriver,
        fix: &LocationReport,
        recorded_at: Time,
        received_at: Time,
        shown: bool,
    ) {
        {
            let mut state = driver.state();
            if state.last_trail_fix.is_some_and(|last| (recorded_at - last).abs() < TRAIL_SPACING) {
                return;
            }
            state.last_trail_fix = Some(recorded_at);
        }
        self.trail.push(TrailPoint {
            driver: driver.id.clone(),
            fix: fix.fix(recorded_at, received_at),
            shown,
        });
    }
}
