//! Reads the log for a consumer: one process at a time, and each event's work is committed together with the position.

use std::future::Future;
use std::time::Duration;

use sea_orm::DatabaseTransaction;

use super::cursor::{Cursor, LEASE};
use crate::base::clock::instant;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::event::log::{self, Entry};
use crate::event::relay::Relay;
use crate::model::OrderEvent;

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// After this many events without work the position is written anyway.
const SAVE_EVERY: i64 = 256;

/// Events that cost as much as one message that is sent: what they lead to is written many at a time.
const EVENTS: usize = 2;

/// What a consumer does with the events of the log.
pub trait Consumer: Sync {
    /// What is to be written for some events.
    type Work: Send + Sync;

    /// How long to wait for more events before the first ones are worked on.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// Thinks about some events. `None`: there is nothing to write.
    fn prepare(
        &self,
        events: Vec<OrderEvent>,
    ) -> impl Future<Output = Result<Option<Self::Work>, Refusal>> + Send;

    /// Writes it.
    fn write(
        &self,
        tx: &DatabaseTransaction,
        work: &Self::Work,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// It is committed.
    fn written(&self);
}

/// Reads the log, for ever.
pub async fn consume(consumer: &impl Consumer, db: &Db, events: &Relay, cursor: &Cursor) {
    let mut seen = 0;
    loop {
        events.fullness().turn().await;
        if let Err(error) = read_on(consumer, db, events, cursor, &mut seen).await {
            tracing::debug!(%error, "the log cannot be read on for a consumer; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Reads on while the lease holds. `seen` is the position up to which nothing is left to write.
async fn read_on(
    consumer: &impl Consumer,
    db: &Db,
    events: &Relay,
    cursor: &Cursor,
    seen: &mut i64,
) -> Result<(), Refusal> {
    let renew_at = instant() + LEASE / 2;
    let Some(mut saved) = cursor.claim().await? else {
        tokio::time::sleep_until(renew_at).await;
        return Ok(());
    };
    *seen = saved.max(*seen);
    loop {
        let reached = events.position();
        let page = log::after(events.log(), *seen).await?;
        let Some(last) = page.entries.last().map(Entry::position) else {
            // Where there is nothing up to what was handed on, the log has a gap: nothing comes there any more.
            *seen = reached.max(*seen);
            if tokio::time::timeout_at(renew_at, events.beyond(*seen)).await.is_err() {
                return Ok(());
            }
            tokio::time::sleep(consumer.linger()).await;
            continue;
        };
        let count = page.entries.len();
        let work = consumer.prepare(page.events()).await?;
        if work.is_some() || last - saved >= SAVE_EVERY {
            let tx = db.begin().await?;
            if let Some(work) = &work {
                consumer.write(&tx, work).await?;
            }
            if !cursor.advance(&tx, saved, last).await? {
                tx.rollback().await?;
                *seen = 0;
                return Ok(());
            }
            tx.commit().await?;
            saved = last;
            if work.is_some() {
                consumer.written();
            }
        }
        *seen = last;
        events.fullness().spent(count / EVENTS);
        if instant() >= renew_at || events.fullness().is_full() {
            return Ok(());
        }
    }
}
