//! The routes of drivers to their orders' doors. A route is looked for once, beside the reports, and each fix is then only placed on
//! it. It is looked for anew when it is old, when the driver has left it, and when there is somewhere else to go.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::TimeDelta;
use indexmap::IndexSet;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Drivers;
use super::live::{CarriedOrder, DriverState, LiveDriver};
use crate::base::clock::Time;
use crate::model::{Eta, EtaChange, LiveEvent, Order, OrderId, OrderStatus, Point, UserId};
use crate::route::line::OnRoute;
use crate::route::{Roads, Route};

/// Who is further away from a route than this has left it, in metres, after so many fixes in a row.
const OFF: f64 = 60.0;
const OFF_FIXES: u8 = 2;
/// Who is further away than this is not placed on it any more.
const LOST: f64 = 1_000.0;
/// How long a driver's routes are left alone after they were looked for.
const PAUSE: TimeDelta = TimeDelta::seconds(10);
/// Drivers whose routes are to be looked for. The one who waits longest is dropped for another one.
const PENDING: usize = 4_096;
/// Points that are closer to a route than this are not needed for its course, in metres.
const TOLERANCE: f64 = 3.0;

/// Where the driver of an order has still to go, the door last.
type Stops = SmallVec<[Point; 2]>;

/// The route of a carried order.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// To the first stop.
    route: Arc<Route>,
    stops: Stops,
    /// How long it takes from the first stop to the last one, and how far that is: seconds and metres.
    rest: (f64, f64),
    made_at: Time,
    /// The point of the route that was passed last.
    index: usize,
    /// How many fixes in a row were off the route.
    off: u8,
    /// Where the driver was last found on it.
    on: Option<OnRoute>,
}

/// To the chef until the order is picked up, then to the door.
fn stops(order: &Order) -> Option<Stops> {
    let door = order.known_destination()?;
    let chef = order.chef.latitude.zip(order.chef.longitude).map(|(lat, lon)| Point::stored(lat, lon));
    let first = chef.filter(|_| order.status < OrderStatus::PickedUp);
    Some(first.into_iter().chain([door]).collect())
}

impl CarriedOrder {
    /// Finds the driver, who is at this place now, on the route.
    pub fn follow(&mut self, place: Point) {
        let Some(course) = self.course.as_mut() else { return };
        course.on = None;
        if stops(&self.about.order).as_ref() != Some(&course.stops) {
            return;
        }
        let Some(on) = course.route.locate(place, course.index) else { return };
        if on.away > OFF {
            course.off = course.off.saturating_add(1);
        } else {
            (course.off, course.index) = (0, on.index);
        }
        course.on = Some(on).filter(|on| on.away <= LOST);
    }

    /// Where on the route the driver was last found.
    pub fn on_route(&self) -> Option<&OnRoute> {
        self.course.as_ref()?.on.as_ref()
    }

    /// The ETA of the order for a driver who is at this place now. `None` if nobody knows where it goes.
    pub fn estimate(&self, place: Point, now: Time) -> Option<Eta> {
        let door = self.about.order.known_destination()?;
        Some(match self.course.as_ref().and_then(|course| course.on.map(|on| (on, course.rest))) {
            Some((on, rest)) => Eta::by_road(on.seconds + rest.0, on.metres + rest.1, now),
            None => Eta::estimate(place, door, now),
        })
    }

    /// Whether a route is to be looked for.
    pub fn needs_route(&self, now: Time, age: TimeDelta) -> bool {
        if self.overridden || self.asked_at.is_some_and(|asked| now - asked < PAUSE) {
            return false;
        }
        let Some(stops) = stops(&self.about.order) else { return false };
        let is_good =
            |course: &Course| course.stops == stops && course.off < OFF_FIXES && now - course.made_at <= age;
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

/// One route to be looked for.
struct Job {
    order: OrderId,
    stops: Stops,
    /// The later legs, if they are known.
    rest: Option<(f64, f64)>,
}

impl Drivers {
    /// Has the routes of a driver looked for, if that is due.
    pub(super) fn ask_routes(&self, driver: &LiveDriver, state: &mut DriverState, now: Time) {
        if !self.roads.are_known() {
            return;
        }
        let age = self.roads.age();
        let mut due = false;
        for carried in state.orders.iter_mut().filter(|carried| carried.needs_route(now, age)) {
            carried.asked_at = Some(now);
            due = true;
        }
        if due {
            let pending = self.asks.put(&driver.id);
            self.metrics.route_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
    }

    /// Looks for routes until `stop`.
    pub async fn find_routes(self, stop: CancellationToken) {
        loop {
            let Some(driver) = self.asks.take() else {
                self.metrics.route_pending.set(0);
                tokio::select! {
                    () = self.asks.ready.notified() => continue,
                    () = stop.cancelled() => return,
                }
            };
            let drivers = self.clone();
            if tokio::task::spawn_blocking(move || drivers.find_routes_of(&driver)).await.is_err() {
                tracing::error!("the search for a route failed");
            }
        }
    }

    fn find_routes_of(&self, id: &UserId) {
        let Some(driver) = self.live.get(id) else { return };
        let (from, jobs) = {
            let state = driver.state();
            let Some((from, _)) = state.position else { return };
            let job = |carried: &CarriedOrder| {
                let stops = stops(&carried.about.order)?;
                let known = carried.course.as_ref().filter(|course| course.stops == stops);
                Some(Job { order: carried.id().clone(), rest: known.map(|course| course.rest), stops })
            };
            (from, state.orders.iter().filter_map(job).collect::<Vec<_>>())
        };
        for job in jobs {
            if let Some(course) = self.find(&self.roads, from, &job) {
                self.install(&driver, &job.order, course);
            }
        }
    }

    fn find(&self, roads: &Roads, from: Point, job: &Job) -> Option<Course> {
        let route = roads.route(None, from, *job.stops.first()?)?;
        let leg =
            |leg: &[Point]| roads.route(None, leg[0], leg[1]).map(|route| (route.seconds, route.metres));
        let legs = || {
            let mut legs = job.stops.windows(2).map(leg);
            legs.try_fold((0.0, 0.0), |sum, leg| leg.map(|leg| (sum.0 + leg.0, sum.1 + leg.1)))
        };
        let rest = job.rest.or_else(legs)?;
        let route = Arc::new(route.simplified(TOLERANCE));
        Some(Course { route, stops: job.stops.clone(), rest, made_at: self.clock.now(), index: 0, off: 0, on: None })
    }

    /// Takes a route into use, unless the order goes elsewhere by now, and tells of the ETA if that changes it.
    fn install(&self, driver: &LiveDriver, order: &OrderId, course: Course) {
        let now = self.clock.now();
        let mut state = driver.state();
        let Some((place, _)) = state.position else { return };
        let Some(carried) = state.orders.iter_mut().find(|carried| carried.id() == order) else { return };
        if stops(&carried.about.order).as_ref() != Some(&course.stops) {
            return;
        }
        carried.course = Some(Box::new(course));
        if carried.overridden {
            return;
        }
        let before = carried.eta;
        carried.follow(place);
        carried.eta = carried.estimate(place, now);
        let Some(eta) = carried.eta.filter(|eta| before.is_none_or(|before| before.differs(eta))) else {
            return;
        };
        let (order, customer) = (order.clone(), carried.about.order.customer.id.clone());
        // Under the driver's lock, so that no durable event comes in between: see `Live::apply`.
        self.bus.publish(&LiveEvent::Eta(EtaChange {
            order,
            customer,
            driver: Some(driver.id.clone()),
            eta,
        }));
    }
}
