//! Drivers: their positions, the orders they carry, and the ETAs of those orders.

mod course;
pub mod explain;
pub mod filter;
pub mod fleet;
mod homes;
mod judge;
mod kitchen;
pub mod live;
pub mod milestone;
mod override_eta;
pub mod plan;
pub mod planning;
pub mod positions;
pub mod progress;
mod read;
mod remote;
pub mod report;
pub mod risk;
mod state;
pub mod told;
pub mod trail;
mod watch;

use std::sync::Arc;

use chrono::TimeDelta;

use self::course::Asks;
use self::judge::Filtering;
use self::live::{Live, LiveDriver};
use self::plan::Times;
use self::progress::{Note, Notes};
use self::trail::Trail;
use crate::base::clock::Clock;
use crate::base::config::Serve;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::cluster::control::Control;
use crate::eta::calibration::Calibration;
use crate::eta::log::{Cause, EtaLog};
use crate::event::bus::Bus;
use crate::model::{Eta, EtaChange, EventKind, Forecast, LiveEvent, Order, OrderEvent, OrderStatus, UserId};
use crate::order::{Orders, read as read_order};
use crate::route::Roads;

/// The use cases around drivers. Cheap to clone.
#[derive(Clone)]
pub struct Drivers {
    db: Db,
    clock: Clock,
    control: Control,
    live: Arc<Live>,
    trail: Trail,
    notes: Notes,
    eta_log: EtaLog,
    bus: Bus,
    orders: Orders,
    roads: Roads,
    asks: Arc<Asks>,
    fleet: Arc<fleet::Fleet>,
    limits: ReportLimits,
    filtering: Filtering,
    times: Times,
    metrics: Metrics,
}

/// What the use cases around drivers work with.
pub struct Around {
    pub trail: Trail,
    pub notes: Notes,
    pub eta_log: EtaLog,
    pub calibration: Calibration,
    pub bus: Bus,
    pub orders: Orders,
    pub roads: Roads,
    pub control: Control,
}

/// Limits for the reports of one driver.
#[derive(Clone, Copy, Debug)]
struct ReportLimits {
    /// Sustained reports per second; 0 means no limit.
    rate: f64,
    /// Reports in a burst.
    burst: u32,
    /// How far the time of a fix may be ahead of the server's clock.
    max_skew: TimeDelta,
    /// How old a fix may be: as old as the trail is kept.
    max_age: TimeDelta,
}

impl Drivers {
    #[must_use]
    pub fn new(db: Db, clock: Clock, around: Around, settings: &Serve, metrics: Metrics) -> Self {
        let Around { trail, notes, eta_log, calibration, bus, orders, roads, control } = around;
        let filtering = Filtering::new(&settings.routing);
        let limits = &settings.limits;
        let limits = ReportLimits {
            rate: limits.location_rate_per_second,
            burst: limits.location_burst,
            max_skew: TimeDelta::seconds(i64::from(limits.clock_skew_seconds)),
            max_age: TimeDelta::days(i64::from(limits.position_retention_days)),
        };
        let times = Times::new(&settings.routing, calibration);
        let within_stops = settings.routing.show_driver_within_stops;
        let live = Arc::new(Live::new(clock.clone(), limits.burst, times.clone(), within_stops));
        Self {
            db,
            clock,
            control,
            live,
            trail,
            notes,
            eta_log,
            bus,
            orders,
            roads,
            asks: Arc::default(),
            fleet: Arc::default(),
            limits,
            filtering,
            times,
            metrics,
        }
    }

    /// Builds the live state from the database.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load(&self) -> Result<(), Refusal> {
        self.times.kitchens.load(self.db.reader()).await?;
        for change in self.live.load(&self.db).await? {
            self.eta_log.shown(&change, Cause::Plan);
        }
        Ok(())
    }

    /// Tells of an ETA. This is the only way out for one that is computed: each is kept, to be held against the arrival.
    fn tell_eta(&self, change: &EtaChange, cause: Cause) {
        self.eta_log.shown(change, cause);
        self.bus.publish(&LiveEvent::Eta(change.clone()));
    }

    /// Builds it anew, because the database has gone back.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reload(&self) -> Result<(), Refusal> {
        self.live.forget_orders();
        self.load().await
    }

    /// Returns the live state of a driver. Adds an empty one if there is none.
    #[must_use]
    pub fn driver(&self, id: &UserId) -> Arc<LiveDriver> {
        self.live.driver(id)
    }

    /// The current ETA of an order: see [`Live::eta`].
    #[must_use]
    pub fn eta(&self, order: &Order) -> Option<Eta> {
        self.live.eta(order, self.clock.now())
    }

    /// The ETA of an order and the position of its driver.
    #[must_use]
    pub fn forecast(&self, order: &Order) -> Forecast {
        self.live.forecast(order, self.clock.now())
    }

    /// Applies a durable event to the live state and passes it on to `deliver`: see [`Live::apply`].
    pub async fn apply(&self, event: OrderEvent, deliver: impl FnOnce(OrderEvent, Forecast)) {
        if let Err(error) = self.live.load_position(&self.db, &event, self.bus.has_others()).await {
            // Not fatal: the driver's next fix brings a position.
            tracing::debug!(%error, "the last position of a driver cannot be read");
        }
        self.times.kitchens.hear(&event);
        let assigned = event.order.driver.clone().filter(|_| event.kind == EventKind::Assigned);
        let order = event.order.id.clone();
        // A correction says nothing of when somebody arrived.
        let delivered_at = (event.order.status == OrderStatus::Delivered
            && event.previous_status != OrderStatus::Delivered
            && event.kind != EventKind::Corrected)
            .then_some(event.at);
        let is_undone = event.kind == EventKind::Corrected
            && event.previous_status == OrderStatus::Delivered
            && event.order.status != OrderStatus::Delivered;
        let driver = event.order.driver.as_ref().and_then(|driver| self.live.get(&driver.id));
        let is_alone = !self.bus.has_others();
        self.live.apply(event, is_alone, deliver, |change| self.tell_eta(&change, Cause::Plan));
        if let Some(at) = delivered_at
            && driver.as_ref().is_some_and(|driver| is_alone || driver.state().homes.is_here())
        {
            self.notes.push(Note::Arrived { order: order.clone(), at });
        }
        // Every node may do it: it is gone after the first.
        if is_undone {
            self.notes.push(Note::NotArrived { order: order.clone() });
        }
        if let Some(driver) = assigned {
            match progress::watched(self.db.reader(), &order).await {
                Ok(Some(watched)) => self.live.promised(&driver.id, &order, watched),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "what an order was promised cannot be read"),
            }
        }
        // There may be somewhere else to go now. The node that the driver reports to looks for the way.
        if let Some(driver) = driver {
            let mut state = driver.state();
            if state.homes.is_here() {
                self.ask_routes(&driver, &mut state, self.clock.now());
            }
        }
    }

    /// Drops from memory what is known of a person whose data was erased on disk.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget(&self, user: &UserId) -> Result<(), Refusal> {
        self.live.forget_position(user);
        self.times.kitchens.forget(user);
        for id in self.live.carried_with(user) {
            if let Some(order) = read_order::load(self.db.reader(), &id).await? {
                let history = read_order::history(self.db.reader(), &order).await?;
                self.live.reload(&order, &history);
            }
        }
        Ok(())
    }

    /// Removes drivers who neither carry an order nor have a session.
    pub fn sweep(&self) {
        self.live.sweep();
    }

    /// Number of drivers in the live state.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// Number of drivers who are connected here and carry no order. Every node knows all that carry one.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.live.idle()
    }

    /// Calls `look` with each order that a driver carries now.
    pub fn each_carried(&self, look: impl FnMut(&Order)) {
        self.live.each_carried(look);
    }

    /// Number of fixes that wait to be written to the trail.
    #[must_use]
    pub fn trail_depth(&self) -> usize {
        self.trail.depth()
    }
}
