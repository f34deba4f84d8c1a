//! Where drivers have been, written in batches behind the live path and kept for some days.
//!
//! No index but the id: the table is written far more often than read, and only ever appended to. Rows are in the order
//! received, so that a stretch of time is a range of ids.

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
