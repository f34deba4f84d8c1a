//! The live state of one driver: where they are, the orders that they carry, and where they go.

use std::sync::Arc;

use super::course::{Course, Places};
use super::filter::Filter;
use super::homes::Homes;
use super::judge::Judged;
use super::milestone::Progress;
use super::plan::{Leg, Times, Visits, Wanted, visits};
use super::risk::Watched;
use crate::base::clock::Time;
use crate::base::rate_limit::Bucket;
use crate::model::phone_clock::PhoneClock;
use crate::model::{About, Eta, Order, OrderId, OrderStatus, PastStatus, Point, status};

/// What is known of a driver.
pub(super) struct DriverState {
    /// Rate limit for reports.
    pub bucket: Bucket,
    /// The newest published position, and when it was measured.
    pub position: Option<(Point, Time)>,
    /// Whether it was reported to this node.
    pub is_seen_here: bool,
    /// When a position was last received, here or by another node. A phone that sends what it kept is not silent.
    pub heard_at: Option<Time>,
    /// The newest fix that came too fast and is still to be published.
    pub postponed: Option<Box<Judged>>,
    /// What the fixes say of the driver's place.
    pub filter: Filter,
    /// Whether the driver is shown on a route or road.
    pub on_road: bool,
    /// The order that the first fix of all was for, while it waits for a second one.
    pub held_for: Option<HeldFor>,
    /// When the last fix in the trail was measured.
    pub last_trail_fix: Option<Time>,
    /// What is known of the clock of the driver's phone.
    pub clock: PhoneClock,
    pub orders: Vec<CarriedOrder>,
    /// In which order the driver is to go to the stops, if somebody said so.
    pub wanted: Wanted,
    /// Where the driver goes: see [`DriverState::replan`].
    pub visits: Visits,
    pub course: Option<Box<Course>>,
    /// The way to the first place, as last computed.
    pub first_leg: Option<Leg>,
    /// When a way was last asked for, and through which places.
    pub asked: Option<(Time, Places)>,
    pub homes: Homes,
    /// The heading and the speed with the newest published position, if this process heard them.
    pub motion: Option<(Option<f64>, Option<f64>)>,
    /// Percent.
    pub battery: Option<u8>,
}

impl DriverState {
    /// Nothing is known but the rate limit.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            position: None,
            is_seen_here: false,
            heard_at: None,
            postponed: None,
            filter: Filter::default(),
            on_road: false,
            held_for: None,
            last_trail_fix: None,
            clock: PhoneClock::default(),
            orders: Vec::new(),
            wanted: Wanted::default(),
            visits: Visits::new(),
            course: None,
            first_leg: None,
            asked: None,
            homes: Homes::default(),
            motion: None,
            battery: None,
        }
    }

    /// When the driver was last heard of, as far as this node knows.
    pub fn last_heard(&self) -> Option<Time> {
        self.heard_at.max(self.position.map(|(_, seen_at)| seen_at))
    }

    /// The orders that the driver carries now.
    pub fn carried(&self) -> Vec<OrderId> {
        self.orders.iter().map(|carried| carried.id().clone()).collect()
    }

    /// Thinks anew about where the driver goes, because the orders or the wanted stops have changed.
    pub fn replan(&mut self, times: &Times) {
        self.visits = visits(&self.orders, &self.wanted, times);
    }
}

/// The order that a fix names which waits; without one it counts for all.
pub(super) struct HeldFor(pub Option<OrderId>);

/// An order that a driver carries now.
pub(super) struct CarriedOrder {
    pub about: Arc<About>,
    pub eta: Option<Eta>,
    /// Whether the ETA was set by hand. Fixes do not change it then.
    pub overridden: bool,
    /// The ETA that clients were told last.
    pub told: Option<Eta>,
    pub heard: Heard,
    /// What has happened at its stops.
    pub progress: Progress,
    pub watched: Watched,
    /// Whether clients were told that its driver is not heard of any more.
    pub is_lost: bool,
    /// When others were last asked for its driver, and when its risk was looked at.
    pub asked_at: Option<Time>,
    pub looked_at: Option<Time>,
}

/// When the newest events of other nodes about an order were sent. What is not newer is dropped: it may be a repetition.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    pub moved: Option<Time>,
    pub expected: Option<Time>,
}

impl CarriedOrder {
    pub fn new(order: &Order, history: &[PastStatus], now: Time, eta: Option<Eta>) -> Self {
        let overridden = order.estimated_delivery_time.map(|at| Eta::overridden(at, now));
        Self {
            about: Arc::new(About { order: order.clone(), history: history.to_vec() }),
            eta: overridden.or(eta),
            overridden: overridden.is_some(),
            told: None,
            heard: Heard::default(),
            progress: Progress::default(),
            watched: Watched::default(),
            is_lost: false,
            asked_at: None,
            looked_at: None,
        }
    }

    /// Takes over a newer state of the order.
    fn renew(&mut self, order: &Order, history: &[PastStatus], now: Time) {
        // Nobody knows any more where an order goes whose customer was erased.
        // A failed delivery is expected at no time, and another place not when the old one was.
        let goes_there =
            order.status != OrderStatus::Failed && order.destination() == self.about.order.destination();
        let eta = order.destination().and(self.eta).filter(|_| goes_there);
        self.told = eta.and(self.told);
        let new = Self::new(order, history, now, eta);
        (self.about, self.eta, self.overridden) = (new.about, new.eta, new.overridden);
    }

    pub fn id(&self) -> &OrderId {
        &self.about.order.id
    }

    pub fn set_ready(&mut self, at: Option<Time>) {
        let About { order, history } = &*self.about;
        let order = Order { kitchen_ready_at: at, ..order.clone() };
        self.about = Arc::new(About { order, history: history.clone() });
    }
}

/// Adds an order to its driver, or replaces an older state of it.
pub(super) fn put_order(state: &mut DriverState, order: &Order, history: &[PastStatus], now: Time) {
    let index = state.orders.iter().position(|carried| *carried.id() == order.id);
    match index {
        Some(index) if state.orders[index].about.order.seq > order.seq => {}
        Some(index) => {
            state.orders[index].renew(order, history, now);
        }
        None => state.orders.push(CarriedOrder::new(order, history, now, None)),
    }
}

/// The ETA of an order, given all orders that its driver carries, and where the driver was last seen.
pub(super) fn eta_of(
    order: &Order,
    carried: &[CarriedOrder],
    position: Option<(Point, Time)>,
    now: Time,
) -> Option<Eta> {
    if status::is_final(order.status) || order.status == OrderStatus::Failed {
        return None;
    }
    let told = || {
        let carried = carried.iter().find(|carried| *carried.id() == order.id)?;
        carried.told.or(carried.eta)
    };
    let eta = order.estimated_delivery_time.map(|at| Eta::overridden(at, now)).or_else(told);
    eta.map(|eta| eta.as_of(now, position.map(|(_, seen_at)| seen_at)))
}
