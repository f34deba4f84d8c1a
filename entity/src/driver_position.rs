//! The last known position of a driver.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "driver_position")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub driver_id: String,
    pub latitude: f64,
    pub longitude: f64,
    pub recorded_at: ChronoDateTimeUtc,
    pub received_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
