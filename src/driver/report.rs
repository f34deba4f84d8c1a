//! Position reports of drivers: check, store, compute ETAs, publish. This is the hot path, so it has no `await` and no
//! query.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Drivers;
use super::filter::{Judgement, seen_at};
use super::judge::Judged;
use super::live::LiveDriver;
use super::milestone::Step;
use super::progress::Note;
use super::state::{CarriedOrder, DriverState, HeldFor};
use super::trail::TrailPoint;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::eta::log::Cause;
use crate::model::{Fix, LiveEvent, Location, LocationReport, OrderId, Point, StopKind, Verdict};

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
    /// Whether one of them is shown.
    pub shown: bool,
    pub rejected: Vec<RejectedPoint>,
}

/// A point of a batch that was not taken, and why.
#[derive(Debug)]
pub struct RejectedPoint {
    pub index: usize,
    pub refusal: Refusal,
}

/// Whether the driver carries the order that a fix names. Also true if the fix names none.
fn carries(state: &DriverState, order: Option<&OrderId>) -> bool {
    order.is_none_or(|id| state.orders.iter().any(|carried| carried.id() == id))
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
        let (outcome, point) = {
            let mut state = driver.state();
            if !carries(&state, fix.order_id.as_ref()) {
                return Err(Refusal::NotFound("order"));
            }
            let mut judged = self.judge(&mut state, fix.order_id.clone(), fix.fix(recorded_at, now));
            let outcome = self.publish(driver, &mut state, &mut judged, now);
            self.hold(driver, &mut state, fix.order_id.as_ref(), now);
            let is_shown = outcome.verdict == Verdict::Shown;
            (outcome, TrailPoint::of(&driver.id, &judged, is_shown))
        };
        self.add_to_trail(point);
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
        let (is_first, point) = {
            let mut state = driver.state();
            if !carries(&state, fix.order_id.as_ref()) {
                return Refusal::NotFound("order");
            }
            let judged = self.judge(&mut state, fix.order_id.clone(), fix.fix(recorded_at, now));
            self.hold(driver, &mut state, fix.order_id.as_ref(), now);
            let point = TrailPoint::of(&driver.id, &judged, false);
            let is_first = state.postponed.is_none();
            let is_newer = state.postponed.as_ref().is_none_or(|known| known.fix.recorded_at <= recorded_at);
            if is_newer && (judged.judgement.verdict == Verdict::Shown || is_first) {
                state.postponed = Some(Box::new(judged));
            }
            (is_first, point)
        };
        self.add_to_trail(point);
        if is_first {
            // A client that goes on reporting has a newer fix accepted until then.
            let interval = if self.limits.rate > 0.0 { 1.0 / self.limits.rate } else { 0.0 };
            let wait = Duration::from_millis(retry_after_ms) + Duration::from_secs_f64(interval);
            self.later(driver, wait, Self::publish_postponed);
        }
        Refusal::RateLimited { retry_after_ms }
    }

    /// Sees to it that the first fix of all is shown after a while, if it waits for a second one.
    fn hold(&self, driver: &Arc<LiveDriver>, state: &mut DriverState, order: Option<&OrderId>, now: Time) {
        if self.filtering.is_on()
            && state.held_for.is_none()
            && let Some(until) = state.filter.held_until()
        {
            state.held_for = Some(HeldFor(order.cloned()));
            self.later(driver, (until - now).to_std().unwrap_or_default(), Self::publish_held);
        }
    }

    /// Does something for a driver after a while.
    fn later(&self, driver: &Arc<LiveDriver>, wait: Duration, what: fn(&Self, &LiveDriver)) {
        let (drivers, driver) = (self.clone(), Arc::clone(driver));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            what(&drivers, &driver);
        });
    }

    fn publish_postponed(&self, driver: &LiveDriver) {
        let mut state = driver.state();
        if let Some(mut judged) = state.postponed.take() {
            self.publish(driver, &mut state, &mut judged, self.clock.now());
        }
    }

    /// Shows the first fix of all, if nothing contradicts it.
    fn publish_held(&self, driver: &LiveDriver) {
        let mut state = driver.state();
        // Timers may be early by a fraction of a millisecond.
        let now = self.clock.now().max(state.filter.held_until().unwrap_or_default());
        let order = state.held_for.take().and_then(|held| held.0);
        if let Some(fix) = state.filter.held(now).copied() {
            self.publish(driver, &mut state, &mut Judged::released(order, fix), now);
        }
    }

    /// Accepts the fixes that an app collected while it was offline. All of them go to the trail, but only the newest
    /// one is published.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]; a batch counts as one report.
    pub fn report_batch(
        &self,
        driver: &Arc<LiveDriver>,
        points: Vec<Result<LocationReport, Refusal>>,
        now: Time,
    ) -> Result<BatchOutcome, Refusal> {
        self.check_rate(driver, now).map_err(|retry_after_ms| Refusal::RateLimited { retry_after_ms })?;
        let mut rejected = Vec::new();
        let mut fixes: Vec<(Option<OrderId>, Fix)> = Vec::with_capacity(points.len());
        for (index, point) in points.into_iter().enumerate() {
            let checked = point.and_then(|fix| {
                if !carries(&driver.state(), fix.order_id.as_ref()) {
                    return Err(Refusal::NotFound("order"));
                }
                let at = self.recorded_at(driver, &fix, now, Told::Later)?;
                Ok((fix.fix(at, now), fix.order_id))
            });
            match checked {
                Ok((fix, order)) => fixes.push((order, fix)),
                Err(refusal) => rejected.push(RejectedPoint { index, refusal }),
            }
        }
        let accepted = fixes.len();
        // Points without a time all get the same time, so of equal times the last point is the newest.
        fixes.sort_by_key(|(_, fix)| fix.recorded_at);
        let (shown, points) = {
            let mut state = driver.state();
            let mut judged: Vec<_> =
                fixes.into_iter().map(|(order, fix)| self.judge(&mut state, order, fix)).collect();
            let newest = judged.iter().rposition(|judged| judged.judgement.verdict == Verdict::Shown);
            let shown = newest.filter(|newest| {
                // An order may have been taken from the driver meanwhile.
                let judged = &mut judged[*newest];
                carries(&state, judged.order.as_ref())
                    && self.publish(driver, &mut state, judged, now).verdict == Verdict::Shown
            });
            let last = judged.last().and_then(|judged| judged.order.clone());
            self.hold(driver, &mut state, last.as_ref(), now);
            let point = |(index, judged)| TrailPoint::of(&driver.id, judged, shown == Some(index));
            (shown.is_some(), judged.iter().enumerate().map(point).collect::<Vec<_>>())
        };
        for point in points {
            self.add_to_trail(point);
        }
        Ok(BatchOutcome { accepted, shown, rejected })
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

    /// Publishes a fix to the clients that follow the driver's orders, unless it is not credible or a newer one is already
    /// published. The driver's lock is held, so that no durable event comes in between: see `Live::apply`.
    fn publish(
        &self,
        driver: &LiveDriver,
        state: &mut DriverState,
        judged: &mut Judged,
        now: Time,
    ) -> ReportOutcome {
        let seen_at = seen_at(&judged.fix);
        let is_late = state.position.is_some_and(|(_, published)| seen_at < published);
        if is_late && judged.judgement.verdict == Verdict::Shown {
            judged.judgement = Judgement { verdict: Verdict::Late, ..Judgement::raw(&judged.fix) };
        }
        let verdict = judged.judgement.verdict;
        let named = judged.order.clone();
        let is_named = |carried: &CarriedOrder| named.as_ref().is_none_or(|id| id == carried.id());
        if verdict != Verdict::Shown {
            let orders = state.orders.iter().filter(|carried| is_named(carried));
            let orders = orders.map(|carried| carried.id().clone()).collect();
            return ReportOutcome { orders, received_at: now, verdict };
        }
        // The estimate counts for the way that is left, and what is shown may lie on a road beside it.
        let place = judged.judgement.place;
        let before = state.position.map(|(place, _)| place);
        state.follow(place);
        self.snap(state, judged);
        // All carried orders move with the driver, so the ETA changes also for those that this fix does not name.
        let etas = state.settle(&driver.id, place, &self.times, now);
        let shown = Fix { place: judged.judgement.place, recorded_at: seen_at, ..judged.fix };
        let provenance = judged.judgement.provenance();
        let mut orders: SmallVec<[OrderId; 2]> = SmallVec::new();
        let mut events: SmallVec<[LiveEvent; 2]> = SmallVec::new();
        let accepted = state.homes.accepted;
        for carried in state.orders.iter().filter(|carried| is_named(carried)) {
            orders.push(carried.id().clone());
            events.push(LiveEvent::Location(Location {
                about: Arc::clone(&carried.about),
                driver: driver.id.clone(),
                fix: shown,
                provenance,
                is_near: self.live.is_near(state, carried.id()),
                last_eta: carried.told.or(carried.eta),
                accepted,
            }));
        }
        if state
            .postponed
            .as_ref()
            .is_some_and(|postponed| postponed.fix.recorded_at <= judged.fix.recorded_at)
        {
            state.postponed = None;
        }
        state.position = Some((shown.place, seen_at));
        (state.is_seen_here, state.heard_at) = (true, Some(now));
        state.motion = Some((shown.heading, shown.speed));
        self.fleet.moves(&driver.id, state, &shown);
        self.reach(state, &Step::of(judged, seen_at, before, place));
        for carried in state.orders.iter_mut().filter(|carried| carried.is_lost) {
            carried.is_lost = false;
            self.signal(&carried.about.order, false, Some(seen_at));
        }
        self.ask_routes(driver, state, now);
        events.iter().for_each(|event| self.bus.publish(event));
        for change in etas {
            self.tell_eta(&change, Cause::Fix);
        }
        ReportOutcome { orders, received_at: now, verdict }
    }

    /// Looks whether the driver has come to a stop, or left it.
    fn reach(&self, state: &mut DriverState, step: &Step) {
        let next = state.first_leg.map(|leg| (leg.metres, leg.seconds));
        let visits = std::mem::take(&mut state.visits);
        let goes_next = |order: usize, kind: StopKind| {
            let stops = visits.first().map(|visit| &visit.stops);
            stops.is_some_and(|stops| stops.iter().any(|stop| (stop.order, stop.kind) == (order, kind)))
        };
        for (index, carried) in state.orders.iter_mut().enumerate() {
            let CarriedOrder { about, progress, .. } = carried;
            let order = &about.order;
            let chef = order.chef.latitude.zip(order.chef.longitude);
            let chef = chef.map(|(latitude, longitude)| Point::stored(latitude, longitude));
            for (kind, door) in [(StopKind::Pickup, chef), (StopKind::Dropoff, order.destination())] {
                let Some(door) = door else { continue };
                let way = next.filter(|_| goes_next(index, kind));
                if progress.is_far(kind, door, step, way) {
                    continue;
                }
                for reached in progress.step(kind, door, step, way) {
                    self.notes.push(Note::reached(order, reached));
                }
            }
        }
        state.visits = visits;
    }

    /// Counts a fix, and queues it for the trail if it is kept.
    fn add_to_trail(&self, (point, is_kept): (TrailPoint, bool)) {
        self.metrics.fix(point.judgement.verdict.as_str());
        if is_kept {
            self.trail.push(point);
        }
    }
}
