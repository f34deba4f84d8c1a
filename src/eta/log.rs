//! Each ETA that was shown, written to the database in batches in the background, and deleted after some days.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::TimeDelta;
use entity::{eta_outcome, eta_shown};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::base::clock::{Clock, Time};
use crate::base::config::{Routing, TravelMode};
use crate::base::db::{Db, InsertMany, stored_time};
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::model::{EtaChange, OrderId};

/// ETAs that wait to be written. Further ones are dropped and counted.
const QUEUE: usize = 16_384;
/// Rows in one statement.
const BATCH: usize = 1_000;
/// How long the first of a batch waits for more.
const LINGER: Duration = Duration::from_secs(1);
/// How often old ones are deleted, and how many at a time.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
const RETENTION_ROWS: u64 = 2_000;

static SHOWN: LazyLock<InsertMany<13>> = LazyLock::new(|| {
    InsertMany::new(
        "INSERT INTO eta_shown
            (order_id, at, eta_at, low, high, source, mode, cause, metres, stops_before, stale, base, area)",
        "",
    )
});

/// What made an ETA change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The driver was somewhere else, or another way was found.
    Fix,
    /// The driver goes somewhere else, or the kitchen or the order said something.
    Plan,
    /// Time has passed.
    Clock,
    /// Somebody set it.
    Hand,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fix => "fix",
            Self::Plan => "plan",
            Self::Clock => "clock",
            Self::Hand => "hand",
        }
    }
}

/// The sending end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct EtaLog {
    queue: mpsc::Sender<(EtaChange, Cause, Time)>,
    clock: Clock,
    metrics: Metrics,
}

/// The receiving end of the queue.
pub struct EtaLogWriter {
    queue: mpsc::Receiver<(EtaChange, Cause, Time)>,
    db: Db,
    clock: Clock,
    mode: TravelMode,
    retention: TimeDelta,
    metrics: Metrics,
}

impl EtaLog {
    /// Makes a queue and returns both of its ends.
    #[must_use]
    pub fn new(db: Db, clock: Clock, settings: &Routing, metrics: Metrics) -> (Self, EtaLogWriter) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let retention = TimeDelta::days(i64::from(settings.eta_retention_days));
        let log = Self { queue: sender, clock: clock.clone(), metrics: metrics.clone() };
        (log, EtaLogWriter { queue, db, clock, mode: settings.driver_mode, retention, metrics })
    }

    /// An ETA is shown from now on. Does not wait.
    pub fn shown(&self, change: &EtaChange, cause: Cause) {
        self.metrics.eta_shown(change.eta.source.as_str());
        if self.queue.try_send((change.clone(), cause, self.clock.now())).is_err() {
            self.metrics.eta_log_dropped.inc();
        }
    }
}

impl EtaLogWriter {
    /// Writes what was shown until `stop`, then all that is still in the queue.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retention = tokio::time::interval(RETENTION_INTERVAL);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = self.queue.recv_many(&mut batch, BATCH) => if count == 0 { return },
                _ = retention.tick() => {
                    if let Err(error) = self.delete_old().await {
                        tracing::warn!(%error, "old ETAs could not be deleted");
                    }
                    continue;
                }
                () = stop.cancelled() => break,
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(LINGER)).await;
            while batch.len() < BATCH
                && let Ok(next) = self.queue.try_recv()
            {
                batch.push(next);
            }
            self.flush(&mut batch).await;
        }
        self.queue.close();
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            self.flush(&mut batch).await;
        }
    }

    /// Writes and empties a batch. What cannot be written is dropped and counted, because a retry would block the queue.
    async fn flush(&self, batch: &mut Vec<(EtaChange, Cause, Time)>) {
        if let Err(error) = self.write(batch).await {
            self.metrics.eta_log_dropped.inc_by(batch.len() as u64);
            tracing::warn!(%error, etas = batch.len(), "ETAs could not be written");
        }
        batch.clear();
    }

    async fn write(&self, batch: &[(EtaChange, Cause, Time)]) -> Result<(), Refusal> {
        let tx = self.db.begin().await?;
        let backend = tx.get_database_backend();
        let row = |(change, cause, at): &(EtaChange, Cause, Time)| -> [Value; 13] {
            let eta = &change.eta;
            let [at, eta_at, low, high] = [*at, eta.at, eta.low, eta.high].map(|at| stored_time(at, backend));
            [
                change.order.as_str().into(),
                at,
                eta_at,
                low,
                high,
                eta.source.as_str().into(),
                self.mode.as_str().into(),
                cause.as_str().into(),
                eta.metres.map(i64::from).into(),
                eta.stops_before.map(i32::from).into(),
                eta.stale.into(),
                eta.basis.driving.map(|millis| f64::from(millis) / 1_000.0).into(),
                eta.basis.area.map(|area| area.to_string()).into(),
            ]
        };
        SHOWN.execute(&tx, batch.iter().map(row).collect()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes what was shown too long ago. Ids rise with time.
    async fn delete_old(&self) -> Result<(), Refusal> {
        let before = self.clock.now() - self.retention;
        eta_outcome::Entity::delete_many()
            .filter(eta_outcome::Column::DeliveredAt.lt(before))
            .exec(self.db.writer())
            .await?;
        loop {
            let oldest: Vec<(i64, Time)> = eta_shown::Entity::find()
                .select_only()
                .columns([eta_shown::Column::Id, eta_shown::Column::At])
                .order_by_asc(eta_shown::Column::Id)
                .limit(RETENTION_ROWS)
                .into_tuple()
                .all(self.db.reader())
                .await?;
            let Some((last, _)) = oldest.into_iter().take_while(|(_, at)| *at < before).last() else {
                return Ok(());
            };
            let old = eta_shown::Column::Id.lte(last);
            eta_shown::Entity::delete_many().filter(old).exec(self.db.writer()).await?;
        }
    }
}

/// An ETA as it was shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub at: Time,
    pub eta_at: Time,
    pub low: Time,
    pub high: Time,
    pub source: String,
    pub mode: String,
    pub cause: String,
    pub metres: Option<i64>,
    pub stops_before: Option<i32>,
    pub stale: bool,
    /// How many seconds of driving the router had, if there was nothing but driving before the door.
    pub base: Option<f64>,
    /// Where the door is.
    pub area: Option<String>,
}

impl From<eta_shown::Model> for Shown {
    fn from(row: eta_shown::Model) -> Self {
        let eta_shown::Model {
            at,
            eta_at,
            low,
            high,
            source,
            mode,
            cause,
            metres,
            stops_before,
            stale,
            base,
            area,
            ..
        } = row;
        Self { at, eta_at, low, high, source, mode, cause, metres, stops_before, stale, base, area }
    }
}

/// Up to `limit` ETAs of an order that were shown, in their order, after the one with this id; each with its id.
///
/// # Errors
/// Those of the database.
pub async fn of_order(
    db: &impl ConnectionTrait,
    order: &OrderId,
    after: i64,
    limit: u64,
) -> Result<Vec<(i64, Shown)>, Refusal> {
    let rows = eta_shown::Entity::find()
        .filter(eta_shown::Column::OrderId.eq(order.as_str()))
        .filter(eta_shown::Column::Id.gt(after))
        .order_by_asc(eta_shown::Column::Id)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.into())).collect())
}

/// When an order arrived, if it has, and what shows it.
///
/// # Errors
/// Those of the database.
pub async fn outcome(db: &impl ConnectionTrait, order: &OrderId) -> Result<Option<(Time, String)>, Refusal> {
    let row = eta_outcome::Entity::find_by_id(order.as_str()).one(db).await?;
    Ok(row.map(|row| (row.arrived_at, row.evidence)))
}
