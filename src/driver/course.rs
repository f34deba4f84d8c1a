//! The way of a driver through all stops. It is looked for once, beside the reports, and each fix is then only placed on it. It is
//! looked for anew when it is old, when the driver has left it, and when there is somewhere else to go.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::TimeDelta;
use indexmap::IndexSet;
use smallvec::SmallVec;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Drivers;
use super::live::LiveDriver;
use super::plan::{Leg, Times, arrivals};
use super::state::DriverState;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::eta::log::Cause;
use crate::model::{EtaChange, EtaSource, Point, UserId};
use crate::route::Route;
use crate::route::line::OnRoute;

/// Who is further away from a route than this has left it, in metres, after so many fixes in a row.
const OFF: f64 = 60.0;
const OFF_FIXES: u8 = 2;
/// Who makes the way longer than this goes astray, in metres.
const DETOUR: f64 = 300.0;
/// Who is further away than this is not placed on it any more.
const LOST: f64 = 1_000.0;
/// How long a driver's routes are left alone after they were looked for.
const PAUSE: TimeDelta = TimeDelta::seconds(10);
/// Drivers whose routes are to be looked for. The one who waits longest is dropped for another one.
const PENDING: usize = 4_096;
/// Points that are closer to a route than this are not needed for its course, in metres.
const TOLERANCE: f64 = 3.0;
/// Drivers whose routes are looked for at a time by routers elsewhere.
const ELSEWHERE: usize = 8;
/// Further stops have no way by road: nobody has so many.
const STOPS: usize = 50;

/// The places that a driver goes to, in their order.
pub(super) type Places = SmallVec<[Point; 2]>;

/// The way of a driver.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// To the first place, and who knows it.
    route: Arc<Route>,
    source: EtaSource,
    places: Places,
    /// The ways from each place to the next one, as far as they are known.
    legs: SmallVec<[Option<Leg>; 1]>,
    made_at: Time,
    /// The point of the route that was passed last.
    index: usize,
    /// How many fixes in a row were off the route.
    off: u8,
    /// The metres that were left when the driver was last on it.
    left: f64,
    /// How many metres longer the way has become because the driver left routes to the same places.
    detour: f64,
    /// Where the driver was last found on it.
    on: Option<OnRoute>,
}

impl DriverState {
    fn places(&self) -> Places {
        self.visits.iter().map(|visit| visit.place).collect()
    }

    fn goes_to(&self, places: &Places) -> bool {
        self.visits.iter().map(|visit| visit.place).eq(places.iter().copied())
    }

    fn leads_to(&self, course: &Course) -> bool {
        self.goes_to(&course.places)
    }

    /// Finds the driver, who is at this place now, on the route.
    pub fn follow(&mut self, place: Point) {
        let Some(mut course) = self.course.take() else { return };
        course.on = None;
        if self.leads_to(&course)
            && let Some(on) = course.route.locate(place, course.index)
        {
            if on.away > OFF {
                course.off = course.off.saturating_add(1);
            } else {
                (course.off, course.index, course.left) = (0, on.index, on.metres);
            }
            course.on = Some(on).filter(|on| on.away <= LOST);
        }
        self.course = Some(course);
    }

    /// Whether the way has become longer by this because the driver did not keep to it.
    pub fn strays(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.detour > DETOUR)
    }

    /// Where on the route the driver was last found.
    pub fn on_route(&self) -> Option<&OnRoute> {
        self.course.as_ref()?.on.as_ref()
    }

    /// Computes all ETAs anew for a driver who is at this place now, and was found on the route. Returns those that have to be told.
    pub fn settle(
        &mut self,
        driver: &UserId,
        place: Point,
        times: &Times,
        now: Time,
    ) -> SmallVec<[EtaChange; 2]> {
        let on = self.on_route();
        let course = self.course.as_deref().filter(|course| self.leads_to(course));
        let leg = |index: usize| {
            let known = match index.checked_sub(1) {
                None => on.zip(course).map(|(on, course)| Leg {
                    seconds: on.seconds,
                    metres: on.metres,
                    source: course.source,
                }),
                Some(before) => course.and_then(|course| *course.legs.get(before)?),
            };
            let from = || index.checked_sub(1).map_or(place, |before| self.visits[before].place);
            known.unwrap_or_else(|| Leg::straight(from(), self.visits[index].place))
        };
        let first = (!self.visits.is_empty()).then(|| leg(0));
        let leg = |index: usize| first.filter(|_| index == 0).unwrap_or_else(|| leg(index));
        let all = arrivals(&self.orders, &self.visits, leg, times, now);
        self.first_leg = first;
        let mut changes = SmallVec::new();
        for arrival in all {
            let carried = &mut self.orders[arrival.order];
            if carried.overridden {
                continue;
            }
            let is_news = carried.told.or(carried.eta).is_none_or(|before| before.differs(&arrival.eta));
            carried.eta = Some(arrival.eta);
            if is_news {
                carried.told = carried.eta;
                let order = &carried.about.order;
                let (order, customer) = (order.id.clone(), order.customer.id.clone());
                changes.push(EtaChange { order, customer, driver: Some(driver.clone()), eta: arrival.eta });
            }
        }
        changes
    }

    /// Whether a route is to be looked for.
    fn needs_route(&self, now: Time, age: TimeDelta) -> bool {
        let is_awaited = self.orders.iter().any(|carried| !carried.overridden);
        let lately = |(asked_at, places): &(Time, Places)| now - *asked_at < PAUSE && self.goes_to(places);
        if !is_awaited || self.visits.is_empty() || self.asked.as_ref().is_some_and(lately) {
            return false;
        }
        let is_good =
            |course: &Course| self.leads_to(course) && course.off < OFF_FIXES && now - course.made_at <= age;
        !self.course.as_deref().is_some_and(is_good)
    }
}

/// The drivers whose routes are to be looked for, each once, in the order in which they asked.
#[derive(Default)]
pub(super) struct Asks {
    pending: Mutex<IndexSet<UserId>>,
    ready: Notify,
}

impl Asks {
    fn put(&self, driver: &UserId) -> usize {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= PENDING && !pending.contains(driver) {
            pending.shift_remove_index(0);
        }
        pending.insert(driver.clone());
        self.ready.notify_one();
        pending.len()
    }

    fn take(&self) -> Option<UserId> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).shift_remove_index(0)
    }
}

impl Drivers {
    /// Has the routes of a driver looked for, if that is due.
    pub(super) fn ask_routes(&self, driver: &LiveDriver, state: &mut DriverState, now: Time) {
        if self.roads.are_known() && state.needs_route(now, self.roads.age()) {
            state.asked = Some((now, state.places()));
            let pending = self.asks.put(&driver.id);
            self.metrics.route_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
    }

    /// Looks for routes until `stop`.
    pub async fn find_routes(self, stop: CancellationToken) {
        // Routers elsewhere take their time; the roads in memory take a core.
        let turns = Arc::new(Semaphore::new(if self.roads.are_elsewhere() { ELSEWHERE } else { 1 }));
        loop {
            let turn = tokio::select! {
                turn = Arc::clone(&turns).acquire_owned() => turn,
                () = stop.cancelled() => return,
            };
            let Some(driver) = self.asks.take() else {
                self.metrics.route_pending.set(0);
                tokio::select! {
                    () = self.asks.ready.notified() => continue,
                    () = stop.cancelled() => return,
                }
            };
            let drivers = self.clone();
            tokio::spawn(async move {
                let _turn = turn;
                drivers.find_routes_of(&driver).await;
            });
        }
    }

    async fn find_routes_of(&self, id: &UserId) {
        let Some(driver) = self.live.get(id) else { return };
        let (from, places, before) = {
            let state = driver.state();
            let Some((from, _)) = state.position else { return };
            (from, state.places(), state.course.clone())
        };
        match self.find(from, places, before.as_deref()).await {
            Ok(Some(course)) => self.install(&driver, course),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the search for a route failed"),
        }
    }

    /// The way through these places. Legs that are known are not looked for again.
    async fn find(
        &self,
        from: Point,
        places: Places,
        before: Option<&Course>,
    ) -> Result<Option<Course>, Refusal> {
        let Some(first) = places.first() else { return Ok(None) };
        let Some((route, source)) = self.roads.find(None, from, *first).await? else { return Ok(None) };
        let mut legs = SmallVec::new();
        for pair in places.windows(2).take(STOPS) {
            let known = || {
                let before = before?;
                let index = before.places.windows(2).position(|known| known == pair)?;
                *before.legs.get(index)?
            };
            let leg = match known() {
                Some(leg) => Some(leg),
                None => self.roads.find(None, pair[0], pair[1]).await?.map(|(route, source)| Leg {
                    seconds: route.seconds,
                    metres: route.metres,
                    source,
                }),
            };
            legs.push(leg);
        }
        let (route, made_at) = (Arc::new(route.simplified(TOLERANCE)), self.clock.now());
        let left = route.metres;
        Ok(Some(Course {
            route,
            source,
            places,
            legs,
            made_at,
            index: 0,
            off: 0,
            left,
            detour: 0.0,
            on: None,
        }))
    }

    /// Takes a way into use, unless the driver goes elsewhere by now, and tells of the ETAs that it changes.
    fn install(&self, driver: &LiveDriver, mut course: Course) {
        let now = self.clock.now();
        let mut state = driver.state();
        let Some((place, _)) = state.position else { return };
        if !state.leads_to(&course) {
            return;
        }
        if let Some(before) = state.course.as_deref().filter(|before| state.leads_to(before)) {
            let longer = if before.off >= OFF_FIXES { course.left - before.left } else { 0.0 };
            course.detour = before.detour + longer.max(0.0);
        }
        state.course = Some(Box::new(course));
        state.follow(place);
        // Under the driver's lock, so that no durable event comes in between: see `Live::apply`.
        for change in state.settle(&driver.id, place, &self.times, now) {
            self.tell_eta(&change, Cause::Fix);
        }
    }
}
