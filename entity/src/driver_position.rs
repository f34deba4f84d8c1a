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
    /// Degrees clockwise from north, [0, 360).
    pub heading: Option<f64>,
    /// Metres per second.
    pub speed: Option<f64>,
}

impl ActiveModelBehavior for ActiveModel {}
