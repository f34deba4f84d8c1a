//! All fixes of all drivers, written in batches in the background and deleted after some days.
//!
//! The id is the only index, because the table is written far more often than read. Rows are in the order of reception,
//! so a range of time is a range of ids.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "position_trail")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub driver_id: String,
    pub latitude: f64,
    pub longitude: f64,
    /// Degrees clockwise from north, [0, 360).
    pub heading: Option<f64>,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Metres.
    pub accuracy: Option<f64>,
    pub recorded_at: ChronoDateTimeUtc,
    pub received_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
