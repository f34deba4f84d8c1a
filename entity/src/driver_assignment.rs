//! The drivers of an order over time. `ended_at` is NULL for the current driver.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "driver_assignment")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    /// Seq of the event that assigned the driver.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub driver_id: String,
    pub driver_name: String,
    pub driver_phone: Option<String>,
    pub assigned_by: Option<String>,
    pub assigned_at: ChronoDateTimeUtc,
    pub ended_at: Option<ChronoDateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
