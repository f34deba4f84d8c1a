//! Orders as they are now. Concurrent readers share one read. The relay removes an order here before it delivers the
//! order's next event, so a snapshot is never older than what clients have been told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::ConnectionTrait;
use tokio::sync::OnceCell;

use super::read;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::event::log;
use crate::model::{Order, OrderEvent, OrderId, PastStatus};

/// The most orders kept. Beyond it all are removed, and read again on demand.
const CAPACITY: usize = 4_096;

/// One order with everything that sessions may need of it.
#[derive(Debug)]
pub struct Snapshot {
    pub order: Order,
    pub history: Vec<PastStatus>,
    /// Its newest events, up to [`log::PAGE`] of them, oldest first.
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

    /// Whether it has every event after a seq.
    #[must_use]
    pub fn reaches(&self, seq: i64) -> bool {
        self.events.first().is_some_and(|event| event.order.seq <= seq + 1)
    }
}

type Cell = Arc<OnceCell<Arc<Snapshot>>>;

/// The orders that were read last.
#[derive(Default)]
pub struct Snapshots(Mutex<HashMap<OrderId, Cell>>);

impl Snapshots {
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
            if known.len() >= CAPACITY && !known.contains_key(id) {
                known.clear();
            }
            Arc::clone(known.entry(id.clone()).or_default())
        };
        let read = cell.get_or_try_init(read).await;
        if read.is_err() {
            self.forget_if(id, |known| Arc::ptr_eq(known, &cell));
        }
        read.cloned()
    }

    /// The event at `position` happened to the order. The relay calls this before it delivers the event.
    pub fn outdate(&self, id: &OrderId, position: i64) {
        self.forget_if(id, |cell| cell.get().is_none_or(|known| known.position() < position));
    }

    fn forget_if(&self, id: &OrderId, is: impl FnOnce(&Cell) -> bool) {
        let mut known = self.known();
        if known.get(id).is_some_and(is) {
            known.remove(id);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<OrderId, Cell>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    #[expect(clippy::cast_possible_wrap, reason = "a page is small")]
    let after = (order.seq - log::PAGE as i64).max(0);
    let mut events = log::of_order(db, id, after, log::PAGE).await?.events();
    // An event that was committed between the two reads belongs to the next snapshot.
    events.retain(|event| event.order.seq <= order.seq);
    Ok(Arc::new(Snapshot { order, history, events }))
}
