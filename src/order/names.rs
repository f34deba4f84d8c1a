//! What a new order takes that no other order may have: its id, its number, and the key of its request.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use entity::{order as row, order_number};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, DatabaseTransaction, EntityTrait, QueryFilter, Statement,
};
use tokio::sync::Mutex;

use crate::base::clock::Time;
use crate::base::db::{ACQUIRE_TIMEOUT, Db, NAME_LOCKS, rows};
use crate::base::error::Refusal;
use crate::cluster::Cluster;

/// How often the search for a free number of the day goes on. It doubles its step, so this skips a million taken numbers.
const TRIES: u32 = 20;
/// How many numbers a node reserves at a time.
const BLOCK: i64 = 32;

/// The subquery sorts, so two groups never wait for each other.
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, hash) FROM (
        SELECT DISTINCT hashtext(value) AS hash FROM json_array_elements_text(CAST($2 AS json)) ORDER BY hash
    ) AS names";
const RESERVE: &str = "INSERT INTO order_number (day, last) VALUES ($1, $2)
    ON CONFLICT (day) DO UPDATE SET last = order_number.last + $2 RETURNING last";

/// Locks names until the end of the transaction. Nodes that take the same names in different orders would be a deadlock.
/// On `SQLite` the transaction itself is the lock.
///
/// # Errors
/// Those of the database.
pub(super) async fn lock(tx: &DatabaseTransaction, names: &BTreeSet<&str>) -> Result<(), Refusal> {
    if !names.is_empty() && tx.get_database_backend() != DatabaseBackend::Sqlite {
        let values = [NAME_LOCKS.into(), rows(names)?];
        tx.execute_raw(Statement::from_sql_and_values(DatabaseBackend::Postgres, LOCK, values)).await?;
    }
    Ok(())
}

/// Numbers for new orders that this node has reserved. The counter of the day is one row, and a transaction that takes a
/// number from it keeps it locked while it waits for the log. So nodes that have others beside them take numbers
/// beforehand. Cheap to clone.
#[derive(Clone)]
pub(super) struct Numbers {
    db: Db,
    cluster: Cluster,
    stock: Arc<Mutex<Stock>>,
}

#[derive(Default)]
struct Stock {
    day: String,
    numbers: VecDeque<i64>,
}

/// A number for one new order. If the order does not need it, another one gets it.
pub(crate) struct Reserved {
    day: String,
    number: i64,
    tried: AtomicBool,
    stock: Arc<Mutex<Stock>>,
}

impl Numbers {
    pub fn new(db: Db, cluster: Cluster) -> Self {
        Self { db, cluster, stock: Arc::default() }
    }

    /// Reserves a number of this day. `None` if this node is alone: then the counter serves nobody else.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reserve(&self, now: Time) -> Result<Option<Reserved>, Refusal> {
        if !self.db.is_shared() || !self.cluster.has_others() {
            return Ok(None);
        }
        // Callers wait for each other, so the limit is for the whole wait.
        let taken = tokio::time::timeout(ACQUIRE_TIMEOUT, self.take(day(now))).await;
        taken.unwrap_or(Err(Refusal::Unavailable)).map(Some)
    }

    async fn take(&self, day: String) -> Result<Reserved, Refusal> {
        let mut stock = self.stock.lock().await;
        if stock.day != day {
            *stock = Stock { day: day.clone(), numbers: VecDeque::new() };
        }
        if stock.numbers.is_empty() {
            let values = [day.clone().into(), BLOCK.into()];
            let reserve = Statement::from_sql_and_values(DatabaseBackend::Postgres, RESERVE, values);
            let row = self.db.writer().query_one_raw(reserve).await?;
            let row = row.ok_or_else(|| Refusal::internal("the counter of order numbers has no row"))?;
            let last: i64 = row.try_get("", "last")?;
            stock.numbers.extend(last - BLOCK + 1..=last);
        }
        let number = stock.numbers.pop_front().ok_or(Refusal::Unavailable)?;
        Ok(Reserved { day, number, tried: AtomicBool::new(false), stock: Arc::clone(&self.stock) })
    }
}

impl Reserved {
    pub fn text(&self) -> String {
        text(&self.day, self.number)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // While somebody holds the stock the number is lost, which is no harm: numbers may have gaps.
        if !*self.tried.get_mut()
            && let Ok(mut stock) = self.stock.try_lock()
            && stock.day == self.day
        {
            stock.numbers.push_front(self.number);
        }
    }
}

fn day(now: Time) -> String {
    now.format("%Y%m%d").to_string()
}

fn text(day: &str, number: i64) -> String {
    format!("RND-{day}-{number:04}")
}

/// The reserved number, or the next free one of the day: `RND-YYYYMMDD-NNNN`.
///
/// # Errors
/// [`Refusal::Taken`] if the search takes too long; those of the database.
pub(super) async fn free_number(
    tx: &DatabaseTransaction,
    now: Time,
    reserved: Option<&Reserved>,
) -> Result<String, Refusal> {
    use order_number::{ActiveModel, Column, Entity};
    if let Some(reserved) = reserved {
        reserved.tried.store(true, Ordering::Relaxed);
        let number = reserved.text();
        // Staff may have brought it from another system.
        if !is_taken(tx, &number).await? {
            return Ok(number);
        }
    }
    let day = day(now);
    for attempt in 0..TRIES {
        let step = 1_i64 << attempt.saturating_sub(1);
        Entity::insert(ActiveModel { day: Set(day.clone()), last: Set(step) })
            .on_conflict(
                OnConflict::column(Column::Day)
                    .value(Column::Last, Expr::col((Entity, Column::Last)).add(step))
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
        let row = Entity::find_by_id(day.clone()).one(tx).await?;
        let number = text(&day, row.map_or(1, |row| row.last));
        if !is_taken(tx, &number).await? {
            return Ok(number);
        }
    }
    Err(Refusal::Taken("orderNumber"))
}

/// Whether it looks like a number that [`free_number`] makes. Only staff may bring such numbers, from another system: a
/// customer could take those of the day ahead.
pub(super) fn is_made_form(number: &str) -> bool {
    number.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("RND-"))
}

/// Whether an order has this number.
///
/// # Errors
/// Those of the database.
pub(super) async fn is_taken(tx: &DatabaseTransaction, number: &str) -> Result<bool, Refusal> {
    let found = row::Entity::find().filter(row::Column::OrderNumber.eq(number)).one(tx).await?;
    Ok(found.is_some())
}
