//! Orders as they are now. Concurrent readers share one read. The relay removes an order here before it delivers the
//! order's next event, so a snapshot is never older than what clients have been told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::ConnectionTrait;
use tokio::sync::OnceCell;

use super::read;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::event::log;
use crate::model::{Order, OrderEvent, OrderId, PastStatus, status};

/// The most orders kept. Beyond it, or beyond the limit in bytes, all are removed, and read again on demand.
const CAPACITY: usize = 4_096;
/// What an event takes beside its order, in bytes: mostly the statuses so far.
const EVENT_BYTES: usize = 1_024;

/// One order with everything that sessions may need of it.
#[derive(Debug)]
pub struct Snapshot {
    pub order: Order,
    pub history: Vec<PastStatus>,
    /// Its newest events, up to [`log::PAGE`] of them or fewer if they are large, oldest first.
    pub events: Vec<OrderEvent>,
}

impl Snapshot {
    /// Position of the newest event.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.events.last().map_or(0, |event| event.position)
    }

    /// The order after the event at a position, with its history and that event. The snapshot must not be older.
    #[must_use]
    pub fn at(&self, position: i64) -> Option<(&Order, &[PastStatus], &OrderEvent)> {
        let event = self.events.iter().rfind(|event| event.position <= position)?;
        let history = self.history.partition_point(|past| past.seq <= event.order.seq);
        Some((&event.order, &self.history[..history], event))
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        let events: usize = self.events.iter().map(|event| event.order.bytes() + EVENT_BYTES).sum();
        self.order.bytes() + events
    }

    /// Whether it has every event after a seq.
    #[must_use]
    pub fn reaches(&self, seq: i64) -> bool {
        self.events.first().is_some_and(|event| event.order.seq <= seq + 1)
    }
}

type Cell = Arc<OnceCell<Arc<Snapshot>>>;

/// The orders that were read last.
pub struct Snapshots {
    max_bytes: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    orders: HashMap<OrderId, Cell>,
    /// The sizes of those that were read.
    sizes: HashMap<OrderId, usize>,
    bytes: usize,
}

impl Known {
    /// An order was read into this cell.
    fn grows(&mut self, id: &OrderId, cell: &Cell, bytes: usize) {
        let is_here = self.orders.get(id).is_some_and(|known| Arc::ptr_eq(known, cell));
        if is_here && self.sizes.insert(id.clone(), bytes).is_none() {
            self.bytes += bytes;
        }
    }

    fn remove(&mut self, id: &OrderId) {
        self.orders.remove(id);
        self.bytes -= self.sizes.remove(id).unwrap_or(0);
    }
}

impl Snapshots {
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, known: Mutex::default() }
    }

    /// An order as it is now.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; those of the database.
    pub async fn get<R>(&self, id: &OrderId, read: impl FnOnce() -> R) -> Result<Arc<Snapshot>, Refusal>
    where
        R: Future<Output = Result<Arc<Snapshot>, Refusal>>,
    {
        let cell = {
            let mut known = self.known();
            let full = known.orders.len() >= CAPACITY || known.bytes >= self.max_bytes;
            if full && !known.orders.contains_key(id) {
                *known = Known::default();
            }
            Arc::clone(known.orders.entry(id.clone()).or_default())
        };
        if let Some(known) = cell.get() {
            return Ok(Arc::clone(known));
        }
        let read = cell.get_or_try_init(read).await;
        match &read {
            Ok(snapshot) => self.known().grows(id, &cell, snapshot.bytes()),
            Err(_) => self.forget_if(id, |known| Arc::ptr_eq(known, &cell)),
        }
        read.cloned()
    }

    /// The event at `position` happened to the order. The relay calls this before it delivers the event.
    pub fn outdate(&self, id: &OrderId, position: i64) {
        self.forget_if(id, |cell| cell.get().is_none_or(|known| known.position() < position));
    }

    /// Drops finished orders that changed last before a time.
    pub fn forget_before(&self, time: Time) {
        let old = |known: &Snapshot| known.order.updated_at < time && status::is_final(known.order.status);
        let mut known = self.known();
        let old = known.orders.iter().filter(|(_, cell)| cell.get().is_some_and(|known| old(known)));
        for id in old.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            known.remove(&id);
        }
    }

    /// Drops all orders. They are read again when they are needed.
    pub fn forget_all(&self) {
        *self.known() = Known::default();
    }

    fn forget_if(&self, id: &OrderId, is: impl FnOnce(&Cell) -> bool) {
        let mut known = self.known();
        if known.orders.get(id).is_some_and(is) {
            known.remove(id);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an order with everything that sessions may need of it.
pub(super) async fn read(
    db: &impl ConnectionTrait,
    metrics: &Metrics,
    id: &OrderId,
) -> Result<Arc<Snapshot>, Refusal> {
    metrics.log_reads.inc();
    let order = read::load(db, id).await?.ok_or(Refusal::NotFound("order"))?;
    let history = read::history(db, &order).await?;
    let mut events = log::newest_of_order(db, id, log::PAGE).await?;
    // An event that was committed between the two reads belongs to the next snapshot.
    events.retain(|event| event.order.seq <= order.seq);
    Ok(Arc::new(Snapshot { order, history, events }))
}
