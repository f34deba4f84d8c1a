//! Where drivers have been: written in batches behind the live path, kept for some days.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use entity::driver_position::{self, Column as LastColumn};
use entity::position_trail;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::base::clock::{Clock, Time};
use crate::base::config::Limits;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::model::{Fix, UserId};

/// Fixes waiting to be written; beyond it they are dropped and counted, and only the trail has a hole.
const QUEUE: usize = 16_384;
/// Rows in one statement: `SQLite` takes 32,766 parameters. The more, the fewer waits there are between two batches when
/// the server is busy; more than this and the statement's own memory costs more than that.
const BATCH: usize = 1_000;
/// How long the first fix of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How often drivers' last positions are written: each is a row of its own somewhere, where the trail is only appended.
const LAST_EVERY: Duration = Duration::from_secs(5);
/// How often old fixes are removed.
const RETENTION_EVERY: Duration = Duration::from_secs(600);
/// Rows removed at a time, so that nobody waits long for the writer.
const RETENTION_BATCH: u64 = 3_600;

/// A driver's fix on its way to the database.
#[derive(Clone, Debug)]
pub struct TrailPoint {
    pub driver: UserId,
    pub fix: Fix,
}

/// The newest fix of each driver that was not written as their last position yet; bounded by a batch interval's fixes.
type Newest = HashMap<UserId, TrailPoint>;

/// The near end of the queue.
#[derive(Clone)]
pub struct Trail {
    queue: mpsc::Sender<TrailPoint>,
    metrics: Metrics,
}

impl Trail {
    /// Both ends of a new queue.
    #[must_use]
    pub fn new(db: Db, clock: Clock, limits: &Limits, metrics: Metrics) -> (Self, TrailWriter) {
        let (near, queue) = mpsc::channel(QUEUE);
        let keep = TimeDelta::days(i64::from(limits.position_retention_days));
        let writer = TrailWriter { queue, db, clock, keep, metrics: metrics.clone() };
        (Self { queue: near, metrics }, writer)
    }

    /// Queues a fix; never waits.
    pub fn push(&self, fix: TrailPoint) {
        if self.queue.try_send(fix).is_err() {
            self.metrics.trail_dropped.inc();
        }
    }

    /// How many fixes wait to be written.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// The far end of the queue: writes fixes, and forgets old ones.
pub struct TrailWriter {
    queue: mpsc::Receiver<TrailPoint>,
    db: Db,
    clock: Clock,
    keep: TimeDelta,
    metrics: Metrics,
}

impl TrailWriter {
    /// Writes fixes until told to stop, then what is left.
    pub async fn run(self, stop: CancellationToken) {
        let Self { mut queue, db, clock, keep, metrics } = self;
        let mut batch = Vec::with_capacity(BATCH);
        let mut newest = HashMap::new();
        let mut last = tokio::time::interval(LAST_EVERY);
        let mut retention = tokio::time::interval(RETENTION_EVERY);
        loop {
            tokio::select! {
                count = queue.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = last.tick() => {
                    write_last(&db, &mut newest).await;
                    continue;
                }
                _ = retention.tick() => {
                    forget_old(&db, clock.now() - keep).await;
                    continue;
                }
                () = stop.cancelled() => break,
            }
            let linger = tokio::time::sleep(LINGER);
            tokio::pin!(linger);
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                tokio::select! {
                    count = queue.recv_many(&mut batch, room) => if count == 0 { break },
                    () = &mut linger => break,
                    () = stop.cancelled() => break,
                }
            }
            flush(&db, &metrics, &mut batch, &mut newest).await;
        }
        queue.close();
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            flush(&db, &metrics, &mut batch, &mut newest).await;
        }
        write_last(&db, &mut newest).await;
    }
}

/// Writes a batch. A batch that cannot be written is dropped and counted: the trail is not worth blocking for.
async fn flush(db: &Db, metrics: &Metrics, batch: &mut Vec<TrailPoint>, newest: &mut Newest) {
    if let Err(error) = append(db, batch).await {
        metrics.trail_dropped.inc_by(batch.len() as u64);
        tracing::warn!(%error, fixes = batch.len(), "positions could not be written");
    }
    for point in batch.drain(..) {
        let known = newest.entry(point.driver.clone()).or_insert_with(|| point.clone());
        if point.fix.recorded_at >= known.fix.recorded_at {
            *known = point;
        }
    }
}

/// Writes drivers' last positions. What cannot be written now is superseded by what comes.
async fn write_last(db: &Db, newest: &mut Newest) {
    let positions: Vec<TrailPoint> = newest.drain().map(|(_, fix)| fix).collect();
    for chunk in positions.chunks(BATCH) {
        if let Err(error) = upsert(db, chunk).await {
            tracing::warn!(%error, drivers = chunk.len(), "last positions could not be written");
        }
    }
}

async fn append(db: &Db, batch: &[TrailPoint]) -> Result<(), Refusal> {
    let rows = batch.iter().map(|TrailPoint { driver, fix }| position_trail::ActiveModel {
        id: NotSet,
        driver_id: Set(driver.to_string()),
        latitude: Set(fix.place.lat()),
        longitude: Set(fix.place.lon()),
        heading: Set(fix.heading),
        speed: Set(fix.speed),
        accuracy: Set(fix.accuracy),
        recorded_at: Set(fix.recorded_at),
        received_at: Set(fix.received_at),
    });
    position_trail::Entity::insert_many(rows).exec_without_returning(db.writer()).await?;
    Ok(())
}

async fn upsert(db: &Db, newest: &[TrailPoint]) -> Result<(), Refusal> {
    let last = newest.iter().map(|TrailPoint { driver, fix }| driver_position::ActiveModel {
        driver_id: Set(driver.to_string()),
        latitude: Set(fix.place.lat()),
        longitude: Set(fix.place.lon()),
        recorded_at: Set(fix.recorded_at),
        received_at: Set(fix.received_at),
    });
    driver_position::Entity::insert_many(last)
        .on_conflict(
            OnConflict::column(LastColumn::DriverId)
                .update_columns([
                    LastColumn::Latitude,
                    LastColumn::Longitude,
                    LastColumn::RecordedAt,
                    LastColumn::ReceivedAt,
                ])
                // A batch collected offline may be older than what is known.
                .action_and_where(
                    Expr::col((driver_position::Entity, LastColumn::RecordedAt))
                        .lte(Expr::col(("excluded", "recorded_at"))),
                )
                .to_owned(),
        )
        .exec_without_returning(db.writer())
        .await?;
    Ok(())
}

/// Removes what is past its retention, a batch at a time.
async fn forget_old(db: &Db, before: Time) {
    loop {
        match forget_batch(db, before).await {
            Ok(0) => return,
            Ok(removed) => tracing::debug!(removed, "old positions removed"),
            Err(error) => {
                tracing::warn!(%error, "old positions could not be removed");
                return;
            }
        }
    }
}

/// Removes up to a batch of fixes received before a time; how many.
///
/// # Errors
/// Those of the database.
pub async fn forget_batch(db: &Db, before: Time) -> Result<u64, Refusal> {
    // Ids rise as fixes are received, so the oldest come first and no index on the time is needed.
    let oldest: Vec<(i64, Time)> = position_trail::Entity::find()
        .select_only()
        .columns([position_trail::Column::Id, position_trail::Column::ReceivedAt])
        .order_by_asc(position_trail::Column::Id)
        .limit(RETENTION_BATCH)
        .into_tuple()
        .all(db.reader())
        .await?;
    let Some((last, _)) = oldest.into_iter().take_while(|(_, received_at)| *received_at < before).last()
    else {
        return Ok(0);
    };
    let removed = position_trail::Entity::delete_many()
        .filter(position_trail::Column::Id.lte(last))
        .exec(db.writer())
        .await?;
    Ok(removed.rows_affected)
}
