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
    /// What became of the fix: a number of the server's list of verdicts. Rows of older versions have none.
    pub verdict: Option<i16>,
    /// Where the place that was shown comes from, likewise.
    pub source: Option<i16>,
    /// Whether the dot jumped, because what was shown before was wrong.
    pub reanchored: Option<bool>,
    /// Whether an app invented the fix.
    pub mocked: Option<bool>,
    /// Where the driver was shown, if the verdict is that it is shown.
    pub shown_latitude: Option<f64>,
    pub shown_longitude: Option<f64>,
    /// Metres around that place.
    pub uncertainty: Option<f64>,
    /// Metres per second since the fix before.
    pub implied_speed: Option<f64>,
    /// The square of how far the fix is from where it was expected, in parts of the variance.
    pub innovation: Option<f64>,
}

impl ActiveModelBehavior for ActiveModel {}
