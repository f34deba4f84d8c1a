//! The place of this node among the others: its number, its beats, and the clock that all nodes share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use entity::server_node::{ActiveModel, Column, Entity, Model};
use migration::{Migrator, MigratorTrait};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, Statement,
};
use tokio_util::sync::CancellationToken;

use super::offset::Offset;
use super::{Cluster, Node};
use crate::base::clock::{Clock, Time, instant};
use crate::base::db::{AdvisoryLock, Db};
use crate::base::error::Refusal;
use crate::base::health::Health;
use crate::base::metrics::Metrics;

/// How often a node says that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// How often a node that starts looks whether the others know it.
const LOOK: Duration = Duration::from_millis(50);
/// The most that two nodes' clocks are apart once they were corrected.
const APART: TimeDelta = TimeDelta::milliseconds(50);
/// A node that has said nothing for so long is dead.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(10);
/// The number of a node that is dead for so long may be given to another one.
const NUMBER_KEPT: TimeDelta = TimeDelta::seconds(60);
/// How often the clock is read at the start at most, and how certain it then is to be.
const READINGS: usize = 5;
const CERTAIN: TimeDelta = TimeDelta::milliseconds(5);
const NUMBERS: std::ops::RangeInclusive<u16> = 1..=4095;

/// Keeps this node in the roster. [`Membership::run`] does the work.
pub struct Membership {
    cluster: Cluster,
    db: Db,
    clock: Clock,
    address: Option<String>,
    metrics: Metrics,
    offset: Mutex<Option<Offset>>,
    draining: AtomicBool,
}

impl Membership {
    pub(super) fn new(
        cluster: Cluster,
        db: Db,
        clock: Clock,
        address: Option<String>,
        metrics: Metrics,
    ) -> Self {
        Self {
            cluster,
            db,
            clock,
            address,
            metrics,
            offset: Mutex::default(),
            draining: AtomicBool::new(false),
        }
    }

    pub(super) async fn begin(&self) -> Result<(), Refusal> {
        for _ in 0..READINGS {
            if self.read_clock().await?.is_none_or(|offset| offset.width() <= CERTAIN) {
                break;
            }
        }
        let began = instant();
        let number = self.take_number().await?;
        let since = self.clock.now() + APART;
        self.cluster.has(number, self.read_roster().await?, began);
        self.until_known(since).await
    }

    /// Waits until every living node has looked who is there since a time. A node that does not know of this one may think that it
    /// is alone, or agree with others, and go on when it is cut off: until it counts as dead it may tell somebody what this node has
    /// forbidden.
    async fn until_known(&self, since: Time) -> Result<(), Refusal> {
        let mut told = false;
        loop {
            let roster = self.cluster.roster();
            let silent = roster.iter().filter(|node| node.id != self.cluster.id() && node.seen_at <= since);
            let silent = self.db.connected(&silent.map(|node| node.id.clone()).collect::<Vec<_>>()).await?;
            if silent.is_empty() {
                return Ok(());
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(nodes = silent.len(), "waiting until the other nodes know this one");
            }
            tokio::time::sleep(LOOK).await;
            // Others that start at the same time wait for this one.
            self.beat().await?;
        }
    }

    /// Beats until `stop`, then leaves the roster.
    pub async fn run(self, health: Arc<Health>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(BEAT);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.draining.store(health.is_leaving(), Ordering::Relaxed);
            if let Err(error) = self.beat().await {
                tracing::debug!(%error, "this node could not say that it is alive; trying again");
            }
        }
        if let Err(error) = self.leave().await {
            tracing::debug!(%error, "this node could not leave the roster; it ends there by itself");
        }
    }

    async fn beat(&self) -> Result<(), Refusal> {
        let began = instant();
        self.read_clock().await?;
        let number = self.cluster.number();
        let still_ours = Entity::update_many()
            .set(self.row(number))
            .filter(Column::Id.eq(self.cluster.id()))
            .filter(Column::Number.eq(i32::from(number)))
            .exec(self.db.writer())
            .await?;
        // A process that was frozen for long may find its number with another one.
        let number = if still_ours.rows_affected == 1 { number } else { self.take_number().await? };
        let roster = self.read_roster().await?;
        self.metrics.nodes.set(i64::try_from(roster.0.len()).unwrap_or(i64::MAX));
        self.cluster.has(number, roster, began);
        Ok(())
    }

    /// Takes the lowest free number. Nodes that start together take turns.
    async fn take_number(&self) -> Result<u16, Refusal> {
        let tx = self.db.begin().await?;
        if tx.get_database_backend() != DatabaseBackend::Sqlite {
            let lock = format!("SELECT pg_advisory_xact_lock({})", AdvisoryLock::Nodes.number());
            tx.execute_unprepared(&lock).await?;
        }
        Entity::update_many()
            .col_expr(Column::Number, Expr::value(Option::<i32>::None))
            .filter(Column::Number.is_not_null())
            .filter(Column::SeenAt.lt(self.clock.now() - NUMBER_KEPT))
            .exec(&tx)
            .await?;
        let taken = Entity::find().filter(Column::Number.is_not_null()).all(&tx).await?;
        let is_taken = |number: &u16| {
            taken.iter().any(|row| row.number == Some(i32::from(*number)) && row.id != self.cluster.id())
        };
        let number = NUMBERS
            .into_iter()
            .find(|number| !is_taken(number))
            .ok_or_else(|| Refusal::internal("there are 4095 nodes already"))?;
        let row = ActiveModel { id: Set(self.cluster.id().to_owned()), ..self.row(number) };
        let columns = [
            Column::SeenAt,
            Column::Number,
            Column::Address,
            Column::Version,
            Column::Schema,
            Column::Draining,
            Column::Figures,
        ];
        let again = OnConflict::column(Column::Id).update_columns(columns).to_owned();
        Entity::insert(row).on_conflict(again).exec_without_returning(&tx).await?;
        tx.commit().await?;
        Ok(number)
    }

    fn row(&self, number: u16) -> ActiveModel {
        ActiveModel {
            seen_at: Set(self.clock.now()),
            number: Set(Some(number.into())),
            address: Set(self.address.clone()),
            version: Set(Some(env!("CARGO_PKG_VERSION").to_owned())),
            schema: Set(i32::try_from(Migrator::migrations().len()).ok()),
            draining: Set(self.draining.load(Ordering::Relaxed)),
            figures: Set(self.cluster.figures()),
            ..Default::default()
        }
    }

    /// The nodes that are alive, and the lowest number of migrations that one of them knows. Those of older versions, which
    /// have no number, are not in the list.
    async fn read_roster(&self) -> Result<(Vec<Node>, i32), Refusal> {
        let rows = Entity::find()
            .filter(Column::SeenAt.gte(self.clock.now() - DEAD_AFTER))
            .order_by_asc(Column::Number)
            .all(self.db.reader())
            .await?;
        let oldest = rows.iter().map(|row| row.schema.unwrap_or_default()).min();
        Ok((rows.into_iter().filter_map(node).collect(), oldest.unwrap_or_default()))
    }

    /// Corrects the clock of this node by that of `PostgreSQL`, which is the same for all. On `SQLite` all processes have one
    /// machine's.
    async fn read_clock(&self) -> Result<Option<Offset>, Refusal> {
        if self.db.writer().get_database_backend() == DatabaseBackend::Sqlite {
            return Ok(None);
        }
        let (begun, before) = (instant(), Clock::System.now());
        let sql = "SELECT clock_timestamp() AS now";
        let row = self
            .db
            .reader()
            .query_one_raw(Statement::from_string(DatabaseBackend::Postgres, sql))
            .await?
            .ok_or_else(|| Refusal::internal("the database has no clock"))?;
        let now: Time = row.try_get("", "now")?;
        let reading = Offset::read(before, now, begun.elapsed());
        let mut known = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = known.map_or(reading, |known| known.with(reading));
        *known = Some(offset);
        self.metrics.clock_offset.set(offset.middle().as_seconds_f64());
        self.clock.correct(offset.middle().num_milliseconds());
        Ok(Some(offset))
    }

    /// Gives the number back, so that the others know at once.
    async fn leave(&self) -> Result<(), Refusal> {
        Entity::update_many()
            .col_expr(Column::Number, Expr::value(Option::<i32>::None))
            .filter(Column::Id.eq(self.cluster.id()))
            .exec(self.db.writer())
            .await?;
        Ok(())
    }
}

fn node(row: Model) -> Option<Node> {
    Some(Node {
        number: u16::try_from(row.number?).ok()?,
        id: row.id,
        address: row.address,
        version: row.version.unwrap_or_default(),
        schema: row.schema.unwrap_or_default(),
        draining: row.draining,
        seen_at: row.seen_at,
        figures: row.figures,
    })
}
