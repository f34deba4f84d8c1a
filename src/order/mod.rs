//! Orders: creation, reads, and the only path that writes them.

pub(crate) mod change;
pub mod create;
pub(crate) mod draft;
pub mod handover;
mod known;
pub mod links;
pub(crate) mod names;
pub mod pin;
pub mod read;
pub mod snapshot;
pub mod writer;

use std::sync::Arc;

use chrono::TimeDelta;

use self::create::Idempotency;
use self::names::{Numbers, Reserved};
use self::pin::Pins;
use self::read::{Cursor, Page, PageSize, Wanted};
use self::snapshot::{Snapshot, Snapshots};
use self::writer::{Work, Writer};
use crate::base::clock::{Clock, Time};
use crate::base::config::Limits;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::cluster::Cluster;
use crate::event::log;
use crate::event::relay::Relay;
use crate::model::new_order::NewOrder;
use crate::model::{
    Action, Asked, Order, OrderEvent, OrderId, OrderStatus, Party, Principal, UserId, access,
};

/// The use cases of orders. Cheap to clone.
#[derive(Clone)]
pub struct Orders {
    db: Db,
    clock: Clock,
    events: Relay,
    writer: Writer,
    numbers: Numbers,
    snapshots: Arc<Snapshots>,
    /// How long an `Idempotency-Key` is kept.
    key_lifetime: TimeDelta,
    /// The size of a page of a list, in bytes.
    page_bytes: usize,
    pins: Pins,
    metrics: Metrics,
}

impl Orders {
    #[must_use]
    pub fn new(
        db: Db,
        clock: Clock,
        events: Relay,
        writer: Writer,
        cluster: Cluster,
        limits: &Limits,
        metrics: Metrics,
    ) -> Self {
        let key_lifetime = TimeDelta::hours(i64::from(limits.idempotency_hours));
        let snapshots = Arc::new(Snapshots::new(limits.snapshot_bytes));
        let page_bytes = limits.page_bytes_max;
        let numbers = Numbers::new(db.clone(), cluster);
        let pins = Pins::new(db.clone(), clock.clone());
        Self { db, clock, events, writer, numbers, snapshots, key_lifetime, page_bytes, pins, metrics }
    }

    /// Creates an order, or finds the one that this key created before. The answer is then the same as the first one.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for somebody who may not create, or a customer who creates for somebody else;
    /// [`Refusal::Taken`] for an id or number in use; [`Refusal::KeyReused`]; those of the database.
    pub async fn create(
        &self,
        who: &Principal,
        new: NewOrder,
        idempotency: Option<Idempotency>,
    ) -> Result<Order, Refusal> {
        create::create(self, who, new, idempotency).await
    }

    /// Carries out an action and returns the order after it. An action that changes nothing (a retry) succeeds. When
    /// this returns, the change is on disk and its events have been delivered to every session of this node.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for an order that the caller may not see, [`Refusal::Illegal`], [`Refusal::StaleSeq`],
    /// [`Refusal::Forbidden`], or those of the database.
    pub async fn change(
        &self,
        id: &OrderId,
        who: &Principal,
        asked: impl Into<Asked>,
    ) -> Result<Order, Refusal> {
        let asked = asked.into();
        let action = &asked.action;
        // Callers without the right get this answer whether or not the order exists. Moves depend on the order.
        let is_move = matches!(action, Action::Status { .. });
        if matches!(action, Action::Correct { .. }) {
            access::only_admin(who)?;
        }
        if !is_move && access::is_for_staff_only(action.right(OrderStatus::Pending)) {
            access::only_staff(who)?;
        }
        self.writer.write(id.clone(), Work::Change { who: who.clone(), asked }).await
    }

    /// Reserves a number for a new order, unless this node is alone.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn reserve_number(&self) -> Result<Option<Reserved>, Refusal> {
        self.numbers.reserve(self.clock.now()).await
    }

    /// Runs other work that creates or reads an order in the write path. The names are what it takes besides the id, see
    /// [`Work::Other`].
    ///
    /// # Errors
    /// Those of the work; see [`Writer::write`].
    pub async fn write(
        &self,
        id: OrderId,
        names: Vec<String>,
        work: writer::Other,
    ) -> Result<Order, Refusal> {
        self.writer.write(id, Work::Other { names, work }).await
    }

    /// One order that the caller is party to, and as which party.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when it exists and the caller may not see it.
    pub async fn get(&self, id: &OrderId, who: &Principal) -> Result<(Order, Party), Refusal> {
        read::order(self.db.reader(), id, who).await
    }

    /// A page of the caller's orders, newest first, with any of these statuses; with no statuses, all of them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        who: &Principal,
        wanted: Wanted<'_>,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Page, Refusal> {
        let size = PageSize { orders: limit, bytes: self.page_bytes };
        read::list(self.db.reader(), who, wanted, size, after).await
    }

    /// Up to `limit` durable events of an order after a seq, in order, or fewer if they are large. The caller has to be party to the order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn events(&self, id: &OrderId, after: i64, limit: u32) -> Result<Vec<OrderEvent>, Refusal> {
        Ok(log::of_order(self.events.log(), id, after, u64::from(limit)).await?.events())
    }

    /// A page of what is offered to a driver, the oldest first. It may be shorter than `limit` though there are more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn offers(&self, driver: &UserId, after: Option<Cursor>, limit: u32) -> Result<Page, Refusal> {
        let limit = u64::from(limit);
        let found = read::without_driver(self.db.reader(), after.as_ref(), limit).await?;
        let next = found.last().filter(|_| found.len() as u64 >= limit).map(Cursor::after);
        let orders = found.into_iter().filter(|order| access::is_offered_to(order, driver)).collect();
        Ok(Page { orders, next })
    }

    /// The number of orders in each status.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_by_status(&self) -> Result<Vec<(OrderStatus, i64)>, Refusal> {
        read::count_by_status(self.db.reader()).await
    }

    /// An order as it is now. Concurrent callers share one read.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; those of the database; [`Refusal::Unavailable`] while this node may not know who has lost the
    /// right to see it.
    pub async fn snapshot(&self, id: &OrderId) -> Result<Arc<Snapshot>, Refusal> {
        if !self.events.lease().until_fresh().await {
            return Err(Refusal::Unavailable);
        }
        self.snapshots.get(id, || snapshot::read(self.events.log(), &self.metrics, id)).await
    }

    /// An event of any node is being delivered.
    pub fn learn(&self, event: &OrderEvent) {
        self.writer.learn(event);
    }

    /// Removes snapshots of an order from before `position`. Called before its event there is delivered.
    pub fn outdate(&self, id: &OrderId, position: i64) {
        self.snapshots.outdate(id, position);
    }

    /// Drops from memory finished orders that changed last before a time: they are not kept any longer.
    pub fn forget_before(&self, time: Time) {
        self.snapshots.forget_before(time);
    }

    /// Drops all orders from memory, because they were changed on disk. The writer's own memory needs none of this: it
    /// compares what it has with the disk.
    pub fn forget_all(&self) {
        self.snapshots.forget_all();
    }

    /// How many changes wait for their turn or for their commit.
    #[must_use]
    pub fn writes_waiting(&self) -> usize {
        self.writer.waiting()
    }

    /// Deletes idempotency keys past their lifetime.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep(&self) -> Result<(), Refusal> {
        create::forget_keys(&self.db, self.clock.now() - self.key_lifetime).await
    }
}
