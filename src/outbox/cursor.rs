//! A consumer's position in the log, on disk. One process at a time reads for the consumer, under a lease that
//! expires when the process dies. The position moves in the transaction of the work itself, so work is neither lost
//! nor recorded twice.

use std::time::Duration;

use chrono::TimeDelta;
use entity::outbox_cursor::{ActiveModel, Column, Entity};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::base::clock::Clock;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::event::log;

/// The lifetime of a lease: how long another process waits for one that died.
pub const LEASE: Duration = Duration::from_secs(5);

/// A consumer's position in the log.
#[derive(Debug)]
pub struct Cursor {
    consumer: String,
    holder: String,
    db: Db,
    clock: Clock,
}

impl Cursor {
    /// The cursor of a consumer. A new one begins at the end of the log.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(db: Db, clock: Clock, consumer: &str) -> Result<Self, Refusal> {
        let cursor = ActiveModel {
            consumer: Set(consumer.to_owned()),
            position: Set(log::head(db.writer()).await?),
            holder: Set(String::new()),
            lease_until: Set(clock.now()),
        };
        Entity::insert(cursor)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(db.writer())
            .await?;
        Ok(Self { consumer: consumer.to_owned(), holder: clock.uuid().to_string(), db, clock })
    }

    /// Takes or renews the lease. Returns the position; `None` while another process has the lease.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn claim(&self) -> Result<Option<i64>, Refusal> {
        let now = self.clock.now();
        let until = now + TimeDelta::from_std(LEASE).unwrap_or_default();
        let ours = Column::Holder.eq(&*self.holder).or(Column::LeaseUntil.lte(now));
        let claimed = Entity::update_many()
            .col_expr(Column::Holder, Expr::value(&*self.holder))
            .col_expr(Column::LeaseUntil, Expr::value(until))
            .filter(Column::Consumer.eq(&*self.consumer))
            .filter(ours)
            .exec(self.db.writer())
            .await?;
        if claimed.rows_affected == 0 {
            return Ok(None);
        }
        let cursor = Entity::find_by_id(&*self.consumer).one(self.db.writer()).await?;
        Ok(cursor.filter(|cursor| cursor.holder == self.holder).map(|cursor| cursor.position))
    }

    /// Moves the position, in the transaction of the work up to it. `false` means that another process has taken the
    /// lease: roll the transaction back and leave the work to that process.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn advance(&self, tx: &DatabaseTransaction, from: i64, to: i64) -> Result<bool, Refusal> {
        let moved = Entity::update_many()
            .col_expr(Column::Position, Expr::value(to))
            .filter(Column::Consumer.eq(&*self.consumer))
            .filter(Column::Holder.eq(&*self.holder))
            .filter(Column::Position.eq(from))
            .exec(tx)
            .await?;
        Ok(moved.rows_affected == 1)
    }

    /// Forgets the position of a consumer that is no more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget(db: &impl ConnectionTrait, consumer: &str) -> Result<(), Refusal> {
        Entity::delete_by_id(consumer).exec(db).await?;
        Ok(())
    }

    /// Gives up the lease, so that the next process need not wait.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn release(&self) -> Result<(), Refusal> {
        Entity::update_many()
            .col_expr(Column::LeaseUntil, Expr::value(self.clock.now()))
            .filter(Column::Consumer.eq(&*self.consumer))
            .filter(Column::Holder.eq(&*self.holder))
            .exec(self.db.writer())
            .await?;
        Ok(())
    }
}
