//! The trail: all fixes of all drivers, written to the database in batches in the background, and deleted after some
//! days.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::TimeDelta;
use entity::driver_position::{self, Column as LastColumn};
use entity::position_trail;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::filter::Judgement;
use super::judge::Judged;
use crate::base::clock::{Clock, Time};
use crate::base::config::Limits;
use crate::base::db::{Db, InsertMany, stored_time};
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::model::{Fix, UserId, Verdict};

/// Maximum number of fixes that wait to be written. Further fixes are dropped and counted. Live positions are not
/// affected.
const QUEUE_CAPACITY: usize = 16_384;
/// Rows in one statement. `SQLite` allows 32,766 parameters. Larger batches mean fewer waits between batches on a busy
/// server, but beyond this size the memory of the statement costs more than that saves.
const BATCH_ROWS: usize = 1_000;
/// How long the first fix of a batch waits for more.
const LINGER: Duration = Duration::from_secs(1);
/// How often the last positions of drivers are written. Less often than the trail, because each one updates a different
/// row, while the trail only appends.
const LAST_POSITION_INTERVAL: Duration = Duration::from_secs(5);
/// How often old fixes are deleted.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// Rows deleted in one statement. Kept small, so that other writes do not wait long.
const RETENTION_ROWS: u64 = 3_600;

static TRAIL: LazyLock<InsertMany<17>> = LazyLock::new(|| {
    InsertMany::new(
        "INSERT INTO position_trail
            (driver_id, latitude, longitude, heading, speed, accuracy, recorded_at, received_at, verdict, source,
            reanchored, mocked, shown_latitude, shown_longitude, uncertainty, implied_speed, innovation)",
        "",
    )
});
/// A batch that was collected offline may be older than the stored position.
static LAST: LazyLock<InsertMany<7>> = LazyLock::new(|| {
    InsertMany::new(
        "INSERT INTO driver_position (driver_id, latitude, longitude, recorded_at, received_at, heading, speed)",
        "ON CONFLICT (driver_id) DO UPDATE SET latitude = excluded.latitude, longitude = excluded.longitude,
            recorded_at = excluded.recorded_at, received_at = excluded.received_at, heading = excluded.heading,
            speed = excluded.speed
        WHERE driver_position.recorded_at <= excluded.recorded_at",
    )
});

/// A driver's fix on its way to the database.
#[derive(Clone, Debug)]
pub struct TrailPoint {
    pub driver: UserId,
    pub fix: Fix,
    pub judgement: Judgement,
    /// Whether it was published. Only such a fix can be a last position.
    pub shown: bool,
}

impl TrailPoint {
    /// With whether the trail keeps it.
    pub(super) fn of(driver: &UserId, judged: &Judged, shown: bool) -> (Self, bool) {
        let &Judged { fix, judgement, is_kept, .. } = judged;
        (Self { driver: driver.clone(), fix, judgement, shown }, is_kept)
    }
}

/// The newest fix of each driver whose last position is not written yet. Bounded by the fixes of one
/// [`LAST_POSITION_INTERVAL`].
type NewestFixes = HashMap<UserId, TrailPoint>;

/// The sending end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Trail {
    queue: mpsc::Sender<TrailPoint>,
    metrics: Metrics,
}

impl Trail {
    /// Makes a queue and returns both of its ends.
    #[must_use]
    pub fn new(db: Db, clock: Clock, limits: &Limits, metrics: Metrics) -> (Self, TrailWriter) {
        let (sender, queue) = mpsc::channel(QUEUE_CAPACITY);
        let retention = TimeDelta::days(i64::from(limits.position_retention_days));
        let writer = TrailWriter { queue, db, clock, retention, metrics: metrics.clone() };
        (Self { queue: sender, metrics }, writer)
    }

    /// Queues a fix without waiting. If the queue is full, the fix is dropped and counted.
    pub fn push(&self, fix: TrailPoint) {
        if self.queue.try_send(fix).is_err() {
            self.metrics.trail_dropped.inc();
        }
    }

    /// Number of fixes that wait to be written.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// The receiving end of the queue. Writes fixes and deletes old ones.
pub struct TrailWriter {
    queue: mpsc::Receiver<TrailPoint>,
    db: Db,
    clock: Clock,
    retention: TimeDelta,
    metrics: Metrics,
}

impl TrailWriter {
    /// Writes fixes until `stop`, then writes all fixes that are still in the queue.
    pub async fn run(self, stop: CancellationToken) {
        let Self { mut queue, db, clock, retention, metrics } = self;
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        let mut newest = HashMap::new();
        let mut last_position_tick = tokio::time::interval(LAST_POSITION_INTERVAL);
        let mut retention_tick = tokio::time::interval(RETENTION_INTERVAL);
        loop {
            tokio::select! {
                count = queue.recv_many(&mut batch, BATCH_ROWS) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = last_position_tick.tick() => {
                    write_last_positions(&db, &mut newest).await;
                    continue;
                }
                _ = retention_tick.tick() => {
                    delete_old(&db, clock.now() - retention).await;
                    continue;
                }
                () = stop.cancelled() => break,
            }
            let linger = tokio::time::sleep(LINGER);
            tokio::pin!(linger);
            while batch.len() < BATCH_ROWS {
                let room = BATCH_ROWS - batch.len();
                tokio::select! {
                    count = queue.recv_many(&mut batch, room) => if count == 0 { break },
                    () = &mut linger => break,
                    () = stop.cancelled() => break,
                }
            }
            flush(&db, &metrics, &mut batch, &mut newest).await;
        }
        queue.close();
        while queue.recv_many(&mut batch, BATCH_ROWS).await > 0 {
            flush(&db, &metrics, &mut batch, &mut newest).await;
        }
        write_last_positions(&db, &mut newest).await;
    }
}

/// Writes and empties a batch. What cannot be written is dropped and counted, because a retry would block the queue.
async fn flush(db: &Db, metrics: &Metrics, batch: &mut Vec<TrailPoint>, newest: &mut NewestFixes) {
    match insert_fixes(db, batch).await {
        Ok(()) => {}
        Err(error @ Refusal::Unavailable) => {
            metrics.trail_dropped.inc_by(batch.len() as u64);
            tracing::warn!(%error, fixes = batch.len(), "positions could not be written");
        }
        // The database refuses a value of one row, and must not cost the others.
        Err(error) => {
            let before = metrics.trail_dropped.get();
            for point in &*batch {
                if insert_fixes(db, std::slice::from_ref(point)).await.is_err() {
                    metrics.trail_dropped.inc();
                }
            }
            let fixes = metrics.trail_dropped.get() - before;
            tracing::warn!(%error, fixes, "positions could not be written");
        }
    }
    for point in batch.drain(..) {
        if !point.shown {
            continue;
        }
        // A phone's clock may be fast. The last position has the time that was shown, in memory as on disk, so that no later
        // fix looks older than it.
        let seen_at = |fix: &Fix| std::cmp::min(fix.recorded_at, fix.received_at);
        let entry = newest.entry(point.driver.clone()).or_insert_with(|| point.clone());
        if seen_at(&point.fix) >= seen_at(&entry.fix) {
            *entry = point;
        }
    }
}

/// Writes the last positions of drivers. There is no retry, because newer positions replace them soon.
async fn write_last_positions(db: &Db, newest: &mut NewestFixes) {
    let mut positions: Vec<TrailPoint> = newest.drain().map(|(_, fix)| fix).collect();
    // Every process in the same order, so that none waits for another that waits for it.
    positions.sort_unstable_by(|one, other| one.driver.cmp(&other.driver));
    for chunk in positions.chunks(BATCH_ROWS) {
        match upsert_last_positions(db, chunk).await {
            Ok(()) => {}
            Err(error @ Refusal::Unavailable) => {
                tracing::warn!(%error, drivers = chunk.len(), "last positions could not be written");
            }
            Err(error) => {
                let mut drivers = 0;
                for point in chunk {
                    drivers +=
                        u32::from(upsert_last_positions(db, std::slice::from_ref(point)).await.is_err());
                }
                tracing::warn!(%error, drivers, "last positions could not be written");
            }
        }
    }
}

async fn insert_fixes(db: &Db, batch: &[TrailPoint]) -> Result<(), Refusal> {
    let tx = db.begin().await?;
    let backend = tx.get_database_backend();
    let row = |TrailPoint { driver, fix, judgement, .. }: &TrailPoint| {
        let (latitude, longitude) = (fix.place.lat().into(), fix.place.lon().into());
        let [heading, speed, accuracy] = [fix.heading, fix.speed, fix.accuracy].map(Value::from);
        let [recorded_at, received_at] =
            [fix.recorded_at, fix.received_at].map(|at| stored_time(at, backend));
        let shown = (judgement.verdict == Verdict::Shown).then_some(judgement);
        let place = shown.map(|shown| shown.place);
        let [shown_latitude, shown_longitude, uncertainty] = [
            place.map(|place| place.lat()),
            place.map(|place| place.lon()),
            shown.and_then(|shown| shown.uncertainty),
        ]
        .map(Value::from);
        [
            driver.as_str().into(),
            latitude,
            longitude,
            heading,
            speed,
            accuracy,
            recorded_at,
            received_at,
            judgement.verdict.stored().into(),
            shown.map(|shown| shown.source.stored()).into(),
            judgement.reanchored.into(),
            fix.mocked.into(),
            shown_latitude,
            shown_longitude,
            uncertainty,
            judgement.speed.into(),
            judgement.innovation.into(),
        ]
    };
    TRAIL.execute(&tx, batch.iter().map(row).collect()).await?;
    tx.commit().await?;
    Ok(())
}

async fn upsert_last_positions(db: &Db, newest: &[TrailPoint]) -> Result<(), Refusal> {
    let tx = db.begin().await?;
    let backend = tx.get_database_backend();
    let row = |TrailPoint { driver, fix, judgement, .. }: &TrailPoint| {
        let place = judgement.place;
        let times = [std::cmp::min(fix.recorded_at, fix.received_at), fix.received_at];
        let [recorded_at, received_at] = times.map(|at| stored_time(at, backend));
        [
            driver.as_str().into(),
            place.lat().into(),
            place.lon().into(),
            recorded_at,
            received_at,
            fix.heading.into(),
            fix.speed.into(),
        ]
    };
    LAST.execute(&tx, newest.iter().map(row).collect()).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes all fixes that were received before a time, in batches, and last positions from before it.
async fn delete_old(db: &Db, before: Time) {
    let last = driver_position::Entity::delete_many().filter(LastColumn::ReceivedAt.lt(before));
    if let Err(error) = last.exec(db.writer()).await {
        tracing::warn!(%error, "old last positions could not be deleted");
    }
    loop {
        match delete_batch(db, before).await {
            Ok(0) => return,
            Ok(deleted) => tracing::debug!(deleted, "old positions deleted"),
            Err(error) => {
                tracing::warn!(%error, "old positions could not be deleted");
                return;
            }
        }
    }
}

/// Deletes one batch of the oldest fixes that were received before a time. Returns the number of deleted rows.
///
/// # Errors
/// Those of the database.
pub async fn delete_batch(db: &Db, before: Time) -> Result<u64, Refusal> {
    // Ids rise in the order of reception, so the oldest rows have the lowest ids and no index on the time is needed.
    let oldest: Vec<(i64, Time)> = position_trail::Entity::find()
        .select_only()
        .columns([position_trail::Column::Id, position_trail::Column::ReceivedAt])
        .order_by_asc(position_trail::Column::Id)
        .limit(RETENTION_ROWS)
        .into_tuple()
        .all(db.reader())
        .await?;
    let Some((last, _)) = oldest.into_iter().take_while(|(_, received_at)| *received_at < before).last()
    else {
        return Ok(0);
    };
    let result = position_trail::Entity::delete_many()
        .filter(position_trail::Column::Id.lte(last))
        .exec(db.writer())
        .await?;
    Ok(result.rows_affected)
}
