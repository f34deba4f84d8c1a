//! The live state in memory: each driver with their last position, their orders and the ETAs. The server builds it from
//! the database at start. The relay updates it with each durable event, and each fix updates it too. Handling a fix
//! never queries the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::filter::Filter;
use super::plan::{Times, stops_before_door};
use super::planning::stored_plan;
use super::progress;
use super::read::stored_position;
use super::risk::Watched;
use super::state::{DriverState, eta_of, put_order};
use crate::base::clock::{Clock, Time};
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::rate_limit::Bucket;
use crate::model::{
    Eta, EtaChange, EventKind, Forecast, Order, OrderEvent, OrderId, OrderStatus, PastStatus, Point,
    Sighting, UserId, status,
};
use crate::order::read;
use ahash::{AHashMap, RandomState};
use smallvec::SmallVec;

/// Number of separately locked maps. More than the number of cores, so that threads rarely wait for a lock.
const SHARDS: usize = 16;
/// Orders read at a time while the state is built.
const LOAD_PAGE: u64 = 500;

/// All drivers who are connected to this server or carry an order. [`Live::sweep`] removes the others.
pub struct Live {
    shards: [Mutex<AHashMap<UserId, Arc<LiveDriver>>>; SHARDS],
    hasher: RandomState,
    clock: Clock,
    burst: u32,
    times: Times,
    /// Customers see a driver who has fewer stops before theirs; `None`: always.
    within_stops: Option<u16>,
}

/// The live state of one driver. Sessions hold a reference, so that a fix needs no lookup.
pub struct LiveDriver {
    pub id: UserId,
    state: Mutex<DriverState>,
}

impl LiveDriver {
    pub(super) fn state(&self) -> MutexGuard<'_, DriverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Makes an empty state. `burst` is the burst of each driver's rate limit.
    #[must_use]
    pub(super) fn new(clock: Clock, burst: u32, times: Times, within_stops: Option<u16>) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), clock, burst, times, within_stops }
    }

    /// Whether a driver has so few stops before the door of an order that its customer may see where they are: see
    /// [`crate::model::access::may_see_place`]. Only here it is known where the driver goes.
    pub(super) fn is_near(&self, state: &DriverState, order: &OrderId) -> bool {
        let Some(within) = self.within_stops else { return true };
        let index = state.orders.iter().position(|carried| carried.id() == order);
        index.is_some_and(|index| stops_before_door(&state.visits, index) < within)
    }

    /// Where the driver of an order was seen last.
    #[must_use]
    pub fn sighting(&self, order: &Order) -> Option<Sighting> {
        let driver = self.get(&order.driver.as_ref()?.id)?;
        let state = driver.state();
        Some(Sighting::new(state.position?, self.is_near(&state, &order.id)))
    }

    /// Builds the state from all orders that drivers carry. Returns the ETAs that are shown from now on.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn load(&self, db: &Db) -> Result<Vec<EtaChange>, Refusal> {
        let mut changes = Vec::new();
        let mut after: Option<OrderId> = None;
        loop {
            let page = read::with_drivers(db.reader(), after.as_ref(), LOAD_PAGE).await?;
            let Some(last) = page.last() else { return Ok(changes) };
            after = Some(last.id.clone());
            for order in &page {
                let Some(driver) = &order.driver else { continue };
                let driver = self.driver(&driver.id);
                if driver.state().position.is_none() {
                    let stored = stored_position(db.reader(), &driver.id).await?;
                    driver.state().position = stored;
                }
                if driver.state().orders.is_empty() {
                    let wanted = stored_plan(db.reader(), &driver.id).await?;
                    driver.state().wanted = wanted.unwrap_or_default();
                }
                let history = read::history(db.reader(), order).await?;
                let now = self.clock.now();
                {
                    let mut state = driver.state();
                    put_order(&mut state, order, &history, now);
                    changes.extend(self.settle(&driver, &mut state, now));
                }
                if let Some(watched) = progress::watched(db.reader(), &order.id).await? {
                    self.promised(&driver.id, &order.id, watched);
                }
            }
        }
    }

    /// Returns the driver with this id. Adds an empty state if there is none.
    pub fn driver(&self, id: &UserId) -> Arc<LiveDriver> {
        let mut shard = self.shard(id);
        if let Some(driver) = shard.get(id) {
            return Arc::clone(driver);
        }
        let bucket = Bucket::full(self.burst, self.clock.now());
        let state = Mutex::new(DriverState::new(bucket));
        let driver = Arc::new(LiveDriver { id: id.clone(), state });
        shard.insert(id.clone(), Arc::clone(&driver));
        driver
    }

    /// The newest published position of a driver, and when it was measured.
    #[must_use]
    pub fn position(&self, id: &UserId) -> Option<(Point, Time)> {
        self.get(id).and_then(|driver| driver.state().position)
    }

    /// The current ETA of an order. `None` if the order is finished, or has no driver with a known position and no ETA
    /// set by hand.
    #[must_use]
    pub fn eta(&self, order: &Order, now: Time) -> Option<Eta> {
        let driver = order.driver.as_ref().and_then(|driver| self.get(&driver.id));
        match driver {
            Some(driver) => {
                let state = driver.state();
                eta_of(order, &state.orders, state.position, now)
            }
            None => eta_of(order, &[], None, now),
        }
    }

    /// The ETA of an order and the position of its driver.
    #[must_use]
    pub fn forecast(&self, order: &Order, now: Time) -> Forecast {
        Forecast { eta: self.eta(order, now), position: self.sighting(order) }
    }

    /// If an event assigns an order to a driver without a known position, loads the position from the database. The
    /// driver may have sent no fix since the server started. With other nodes (`others`) every event of an order with a driver
    /// does so: the driver may report to a node from which this one hears nothing now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load_position(&self, db: &Db, event: &OrderEvent, others: bool) -> Result<(), Refusal> {
        if let Some(driver) = &event.order.driver
            && (others || event.kind == EventKind::Assigned)
            && !status::is_final(event.order.status)
            && self.position(&driver.id).is_none()
            && let Some(stored) = stored_position(db.reader(), &driver.id).await?
        {
            self.driver(&driver.id).state().position.get_or_insert(stored);
        }
        Ok(())
    }

    /// Takes over a position of the database, unless the live state has one by now or does not have the driver. Returns the
    /// one that counts.
    pub fn remember_position(&self, driver: &UserId, order: &OrderId, stored: (Point, Time)) -> Sighting {
        // Of a driver whom the live state does not have nobody knows what comes first.
        let Some(driver) = self.get(driver) else {
            return Sighting::new(stored, self.within_stops.is_none());
        };
        let mut state = driver.state();
        let position = *state.position.get_or_insert(stored);
        Sighting::new(position, self.is_near(&state, order))
    }

    /// Applies a durable event to the live state, then passes it on to `deliver` with the current forecast of its
    /// order.
    ///
    /// The driver's lock is held during `deliver`. So no client gets a position with an old status after the event, or
    /// the event with an old position. Only the relay calls this, in the order of the log.
    ///
    /// `tell` gets the ETAs that this changes, of this order and of others: those of a driver who reports to this node, or to none
    /// if there is no other one.
    pub fn apply(
        &self,
        event: OrderEvent,
        is_alone: bool,
        deliver: impl FnOnce(OrderEvent, Forecast),
        tell: impl Fn(EtaChange),
    ) {
        let (order, now) = (&event.order, self.clock.now());
        if let Some(former) = event.former_driver.as_ref().and_then(|id| self.get(id)) {
            let mut state = former.state();
            state.orders.retain(|carried| *carried.id() != order.id);
            for change in self.settle(&former, &mut state, now) {
                if is_alone || state.is_seen_here {
                    tell(change);
                }
            }
        }
        let is_carried = order.status >= OrderStatus::Accepted && !status::is_final(order.status);
        let driver = order
            .driver
            .as_ref()
            .and_then(|driver| if is_carried { Some(self.driver(&driver.id)) } else { self.get(&driver.id) });
        let Some(driver) = driver else {
            let eta = eta_of(order, &[], None, now);
            return deliver(event, Forecast { eta, position: None });
        };
        let mut state = driver.state();
        if is_carried {
            put_order(&mut state, order, &event.history, now);
        } else {
            state.orders.retain(|carried| *carried.id() != order.id);
        }
        let is_home = is_alone || state.is_seen_here;
        // Elsewhere the ways by road are known. Here only what nobody knows yet is computed.
        let known: Vec<_> = state.orders.iter().map(|carried| carried.eta).collect();
        let mut changes = self.settle(&driver, &mut state, now);
        if !is_home {
            changes.clear();
            for (carried, known) in state.orders.iter_mut().zip(known) {
                carried.eta = known.or(carried.eta);
            }
        }
        let eta = eta_of(order, &state.orders, state.position, now);
        let is_near = self.is_near(&state, &order.id);
        let position = state.position.map(|position| Sighting::new(position, is_near));
        let forecast = Forecast { eta, position };
        deliver(event, forecast);
        changes.into_iter().for_each(tell);
    }

    /// Plans anew where a driver goes, and computes the ETAs from where they were last seen. Returns those that have to be told.
    pub(super) fn settle(
        &self,
        driver: &LiveDriver,
        state: &mut DriverState,
        now: Time,
    ) -> SmallVec<[EtaChange; 2]> {
        state.replan(&self.times);
        let Some((place, _)) = state.position else { return SmallVec::new() };
        state.follow(place);
        state.settle(&driver.id, place, &self.times, now)
    }

    /// Applies an ETA that was set by hand. Returns what to tell; `None` if the order has none.
    pub fn override_eta(&self, order: &Order, now: Time) -> Option<EtaChange> {
        let at = order.estimated_delivery_time?;
        let eta = Eta::overridden(at, now);
        if let Some(driver) = order.driver.as_ref().and_then(|driver| self.get(&driver.id)) {
            let mut state = driver.state();
            if let Some(carried) = state.orders.iter_mut().find(|carried| *carried.id() == order.id) {
                (carried.eta, carried.told) = (Some(eta), Some(eta));
                carried.overridden = true;
            }
        }
        let driver = order.driver.as_ref().map(|driver| driver.id.clone());
        Some(EtaChange { order: order.id.clone(), customer: order.customer.id.clone(), driver, eta })
    }

    /// Drops where a driver was, because that was erased.
    pub fn forget_position(&self, driver: &UserId) {
        if let Some(driver) = self.get(driver) {
            let mut state = driver.state();
            state.position = None;
            (state.filter, state.course, state.first_leg) = (Filter::default(), None, None);
            for carried in state.orders.iter_mut().filter(|carried| !carried.overridden) {
                (carried.eta, carried.told) = (None, None);
            }
        }
    }

    /// The orders that are carried now with this user as one of their parties.
    #[must_use]
    pub fn carried_with(&self, user: &UserId) -> Vec<OrderId> {
        let with = |order: &Order| {
            let driver = order.driver.as_ref().map(|driver| &driver.id);
            [Some(&order.customer.id), Some(&order.chef.id), driver].contains(&Some(user))
        };
        let mut orders = Vec::new();
        for shard in &self.shards {
            for driver in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                let carried = &driver.state().orders;
                orders.extend(
                    carried
                        .iter()
                        .filter(|carried| with(&carried.about.order))
                        .map(|carried| carried.id().clone()),
                );
            }
        }
        orders
    }

    /// Takes an order as it is on disk, if its driver still carries it.
    pub fn reload(&self, order: &Order, history: &[PastStatus]) {
        if let Some(driver) = order.driver.as_ref().and_then(|driver| self.get(&driver.id)) {
            let mut state = driver.state();
            if state.orders.iter().any(|carried| *carried.id() == order.id) {
                put_order(&mut state, order, history, self.clock.now());
                state.replan(&self.times);
            }
        }
    }

    /// Forgets what every driver carries.
    pub fn forget_orders(&self) {
        for shard in &self.shards {
            for driver in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                let mut state = driver.state();
                state.orders.clear();
                state.visits.clear();
            }
        }
    }

    /// Removes drivers who neither carry an order nor have a session.
    pub fn sweep(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, driver| Arc::strong_count(driver) > 1 || !driver.state().orders.is_empty());
        }
    }

    /// Number of drivers in the live state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether the live state has no drivers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `look` with each driver. The map is not locked meanwhile.
    pub(super) fn each_driver(&self, mut look: impl FnMut(&UserId, &DriverState)) {
        for shard in &self.shards {
            let drivers: Vec<_> =
                shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            for driver in &drivers {
                look(&driver.id, &driver.state());
            }
        }
    }

    /// The drivers who carry an order.
    #[must_use]
    pub fn busy(&self) -> Vec<Arc<LiveDriver>> {
        let mut busy = Vec::new();
        for shard in &self.shards {
            let drivers: Vec<_> =
                shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            busy.extend(drivers.into_iter().filter(|driver| !driver.state().orders.is_empty()));
        }
        busy
    }

    /// Takes over what an order was promised.
    pub(super) fn promised(&self, driver: &UserId, order: &OrderId, watched: Watched) {
        if let Some(driver) = self.get(driver) {
            let mut state = driver.state();
            if let Some(carried) = state.orders.iter_mut().find(|carried| carried.id() == order)
                && carried.watched.promise.is_none()
            {
                carried.watched = watched;
            }
        }
    }

    /// Calls `look` with each order that is carried now.
    pub fn each_carried(&self, mut look: impl FnMut(&Order)) {
        for shard in &self.shards {
            // The map is not locked meanwhile: a driver's lock may be held for a while.
            let drivers: Vec<_> =
                shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            for driver in drivers {
                driver.state().orders.iter().for_each(|carried| look(&carried.about.order));
            }
        }
    }

    /// Number of drivers who are connected here and carry no order.
    #[must_use]
    pub fn idle(&self) -> usize {
        let idle = |shard: &Mutex<AHashMap<UserId, Arc<LiveDriver>>>| {
            let drivers: Vec<_> =
                shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            drivers.iter().filter(|driver| driver.state().orders.is_empty()).count()
        };
        self.shards.iter().map(idle).sum()
    }

    pub(super) fn get(&self, id: &UserId) -> Option<Arc<LiveDriver>> {
        self.shard(id).get(id).cloned()
    }

    fn shard(&self, id: &UserId) -> MutexGuard<'_, AHashMap<UserId, Arc<LiveDriver>>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let index = self.hasher.hash_one(id) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
