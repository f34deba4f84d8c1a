//! What was learned from deliveries, one version a day.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "eta_calibration")]
pub struct Model {
    /// The version it was made of, plus one: so only one process makes it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    /// The last day that counts, as `2026-11-28`, in UTC.
    pub day: String,
    pub made_at: ChronoDateTimeUtc,
    /// Who asked for it; without anybody, a day was learned.
    pub made_by: Option<String>,
    /// The version that was gone back to.
    pub copy_of: Option<i64>,
    pub frozen: bool,
    /// JSON.
    pub learned: String,
}

impl ActiveModelBehavior for ActiveModel {}
