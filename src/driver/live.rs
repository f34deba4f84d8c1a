//! The live state of drivers and the orders they carry, in memory: built from the database at start, kept by
//! the relay as durable events pass, moved by every fix. Nothing on the position path asks the database.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::read::stored_position;
use crate::base::clock::{Clock, Time};
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::rate_limit::Bucket;
use crate::event::bus::Bus;
use crate::model::{
    About, Eta, EtaChange, EventKind, Forecast, LiveEvent, Order, OrderEvent, OrderId, OrderStatus,
    PastStatus, Point, UserId, status,
};
use crate::order::read;

/// Locks of the map; more than cores, so that they are rarely waited for.
const SHARDS: usize = 16;
/// Orders read at a time while the state is built.
const LOAD_PAGE: u64 = 500;

/// All drivers who are connected here or carry an order. Bounded by those two: see [`Live::sweep`].
pub struct Live {
    shards: [Mutex<HashMap<UserId, Arc<Driver>>>; SHARDS],
    hasher: RandomState,
    clock: Clock,
    burst: u32,
}

/// One driver. Sessions hold it, so that a fix costs no lookup.
pub struct Driver {
    pub id: UserId,
    state: Mutex<State>,
}

/// What is known of a driver now.
pub(super) struct State {
    pub bucket: Bucket,
    /// The newest fix that was shown, and when it was measured.
    pub last: Option<(Point, Time)>,
    /// When the fix was measured that went to the trail last.
    pub kept: Option<Time>,
    pub orders: Vec<Carried>,
}

/// An order on its way with a driver.
pub(super) struct Carried {
    pub about: Arc<About>,
    pub eta: Option<Eta>,
    /// Set by hand, so that fixes do not change it.
    pub overridden: bool,
}

impl Carried {
    fn new(order: &Order, history: &[PastStatus], now: Time, eta: Option<Eta>) -> Self {
        let overridden = order.estimated_delivery_time.map(|at| Eta::overridden(at, now));
        Self {
            about: Arc::new(About { order: order.clone(), history: history.to_vec() }),
            eta: overridden.or(eta),
            overridden: overridden.is_some(),
        }
    }

    pub fn order(&self) -> &OrderId {
        &self.about.order.id
    }
}

impl Driver {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// An empty state.
    #[must_use]
    pub fn new(clock: Clock, burst: u32) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), clock, burst }
    }

    /// Builds the state of all orders that are with drivers.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load(&self, db: &Db) -> Result<(), Refusal> {
        let mut after: Option<OrderId> = None;
        loop {
            let page = read::with_drivers(db.reader(), after.as_ref(), LOAD_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            for order in &page {
                let Some(driver) = &order.driver else { continue };
                let driver = self.driver(&driver.id);
                if driver.state().last.is_none() {
                    let known = stored_position(db.reader(), &driver.id).await?;
                    driver.state().last = known;
                }
                let history = read::history(db.reader(), order).await?;
                carry(&mut driver.state(), order, &history, self.clock.now());
            }
        }
    }

    /// The driver of this id, known or new.
    pub fn driver(&self, id: &UserId) -> Arc<Driver> {
        let mut shard = self.shard(id);
        if let Some(known) = shard.get(id) {
            return Arc::clone(known);
        }
        let bucket = Bucket::full(self.burst, self.clock.now());
        let state = Mutex::new(State { bucket, last: None, kept: None, orders: Vec::new() });
        let driver = Arc::new(Driver { id: id.clone(), state });
        shard.insert(id.clone(), Arc::clone(&driver));
        driver
    }

    /// Where a driver was last seen, and when.
    #[must_use]
    pub fn position(&self, id: &UserId) -> Option<(Point, Time)> {
        self.known(id).and_then(|driver| driver.state().last)
    }

    /// When an order arrives, as far as anybody can tell now.
    #[must_use]
    pub fn eta(&self, order: &Order, now: Time) -> Option<Eta> {
        let driver = order.driver.as_ref().and_then(|driver| self.known(&driver.id));
        match driver {
            Some(driver) => eta_of(order, &driver.state().orders, now),
            None => eta_of(order, &[], now),
        }
    }

    /// What can be said of an order beside the order itself.
    #[must_use]
    pub fn forecast(&self, order: &Order, now: Time) -> Forecast {
        let position = order.driver.as_ref().and_then(|driver| self.position(&driver.id));
        Forecast { eta: self.eta(order, now), position }
    }

    /// Finds out where a driver was last who is given an order and was not seen since we started.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn recall(&self, db: &Db, event: &OrderEvent) -> Result<(), Refusal> {
        if let (EventKind::Assigned, Some(driver)) = (event.kind, &event.order.driver)
            && self.position(&driver.id).is_none()
            && let Some(stored) = stored_position(db.reader(), &driver.id).await?
        {
            self.driver(&driver.id).state().last.get_or_insert(stored);
        }
        Ok(())
    }

    /// Takes note of a durable event, and has it told with what can be said of its order then. Meanwhile its driver does
    /// not move: nobody is told of a position with a status that is over, or of the event with a place that is. Called by
    /// the relay only, in the log's order.
    pub fn apply(&self, event: OrderEvent, tell: impl FnOnce(OrderEvent, Forecast)) {
        let (order, now) = (&event.order, self.clock.now());
        if let Some(former) = event.former_driver.as_ref().and_then(|id| self.known(id)) {
            former.state().orders.retain(|carried| *carried.order() != order.id);
        }
        let carries = order.status >= OrderStatus::Accepted && !status::is_final(order.status);
        let driver = order
            .driver
            .as_ref()
            .and_then(|driver| if carries { Some(self.driver(&driver.id)) } else { self.known(&driver.id) });
        let Some(driver) = driver else {
            let eta = eta_of(order, &[], now);
            return tell(event, Forecast { eta, position: None });
        };
        let mut state = driver.state();
        if carries {
            carry(&mut state, order, &event.history, now);
        } else {
            state.orders.retain(|carried| *carried.order() != order.id);
        }
        let forecast = Forecast { eta: eta_of(order, &state.orders, now), position: state.last };
        tell(event, forecast);
    }

    /// Takes note of an ETA set by hand, and tells those who watch the order.
    pub fn override_eta(&self, order: &Order, now: Time, bus: &Bus) {
        let Some(at) = order.estimated_delivery_time else { return };
        let eta = Eta::overridden(at, now);
        if let Some(driver) = order.driver.as_ref().and_then(|driver| self.known(&driver.id)) {
            let mut state = driver.state();
            if let Some(carried) = state.orders.iter_mut().find(|carried| *carried.order() == order.id) {
                carried.eta = Some(eta);
                carried.overridden = true;
            }
        }
        let (order, customer) = (order.id.clone(), order.customer.id.clone());
        bus.publish(&LiveEvent::Eta(EtaChange { order, customer, eta }));
    }

    /// Forgets drivers who neither carry an order nor have a session.
    pub fn sweep(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, driver| Arc::strong_count(driver) > 1 || !driver.state().orders.is_empty());
        }
    }

    /// How many drivers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether no driver is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn known(&self, id: &UserId) -> Option<Arc<Driver>> {
        self.shard(id).get(id).cloned()
    }

    fn shard(&self, id: &UserId) -> MutexGuard<'_, HashMap<UserId, Arc<Driver>>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let index = self.hasher.hash_one(id) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts an order into its driver's hands, or brings what is known of it up to date.
fn carry(state: &mut State, order: &Order, history: &[PastStatus], now: Time) {
    let estimated = state.last.map(|(from, _)| Eta::estimate(from, order.destination(), now));
    let known = state.orders.iter().position(|carried| *carried.order() == order.id);
    match known {
        Some(index) if state.orders[index].about.order.seq > order.seq => {}
        Some(index) => {
            let eta = state.orders[index].eta.or(estimated);
            state.orders[index] = Carried::new(order, history, now, eta);
        }
        None => state.orders.push(Carried::new(order, history, now, estimated)),
    }
}

/// When an order arrives, with what its driver carries.
fn eta_of(order: &Order, carried: &[Carried], now: Time) -> Option<Eta> {
    if status::is_final(order.status) {
        return None;
    }
    match order.estimated_delivery_time {
        Some(at) => Some(Eta::overridden(at, now)),
        None => carried.iter().find(|carried| *carried.order() == order.id)?.eta,
    }
}
