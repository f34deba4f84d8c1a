//! Statistics of all sessions that have not ended.

use chrono::TimeDelta;
use entity::{driver_position, order, status_history, tracking_session as row};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Func, IntoCondition, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait};

use super::Tracking;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::OrderStatus;

/// The number of sessions.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub active: i64,
    pub by_status: Vec<(OrderStatus, i64)>,
    pub recency: Recency,
}

/// When sessions were last updated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recency {
    pub last_5_min: i64,
    pub last_hour: i64,
    pub older: i64,
}

/// Counts sessions with their orders and riders.
fn sessions(which: &Condition) -> SelectStatement {
    Query::select()
        .expr_as(Func::count(Expr::col((row::Entity, row::Column::Id))), Alias::new("sessions"))
        .from(row::Entity)
        .inner_join(
            order::Entity,
            Expr::col((order::Entity, order::Column::Id)).equals((row::Entity, row::Column::OrderId)),
        )
        .left_join(
            driver_position::Entity,
            Expr::col((driver_position::Entity, driver_position::Column::DriverId))
                .equals((row::Entity, row::Column::RiderId)),
        )
        .cond_where(which.clone().into_condition())
        .to_owned()
}

impl Tracking {
    /// Counts the sessions.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn stats(&self) -> Result<Stats, Refusal> {
        let now = self.clock.now();
        let alive = Condition::all()
            .add(row::Column::StartedAt.gt(now - self.lifetimes.from_start))
            .add(
                Expr::col((order::Entity, order::Column::DriverId))
                    .equals((row::Entity, row::Column::RiderId)),
            )
            .add(order::Column::Status.is_not_in([OrderStatus::Cancelled, OrderStatus::Returned]))
            .add(
                Condition::any().add(order::Column::Status.ne(OrderStatus::Delivered)).add(
                    order::Column::Id.in_subquery(
                        Query::select()
                            .column(status_history::Column::OrderId)
                            .from(status_history::Entity)
                            .and_where(status_history::Column::Status.eq(OrderStatus::Delivered))
                            .and_where(status_history::Column::At.gt(now - self.lifetimes.from_delivery))
                            .to_owned(),
                    ),
                ),
            );
        let mut select = sessions(&alive);
        select
            .column((order::Entity, order::Column::Status))
            .group_by_col((order::Entity, order::Column::Status));
        let mut by_status = Vec::new();
        for found in self.db.reader().query_all(&select).await? {
            by_status.push((found.try_get("", "status")?, found.try_get("", "sessions")?));
        }
        let active = by_status.iter().map(|(_, count)| count).sum();
        let five_minutes = self.newer(&alive, now - TimeDelta::minutes(5)).await?;
        let hour = self.newer(&alive, now - TimeDelta::hours(1)).await?;
        let recency =
            Recency { last_5_min: five_minutes, last_hour: hour - five_minutes, older: active - hour };
        Ok(Stats { active, by_status, recency })
    }

    /// How many of them were updated since then, by their order or by their rider's position.
    async fn newer(&self, which: &Condition, since: Time) -> Result<i64, Refusal> {
        let news = Condition::any()
            .add(order::Column::UpdatedAt.gte(since))
            .add(driver_position::Column::ReceivedAt.gte(since));
        let mut select = sessions(which);
        let found = self.db.reader().query_one(select.cond_where(news)).await?;
        Ok(found.map(|found| found.try_get("", "sessions")).transpose()?.unwrap_or_default())
    }
}
