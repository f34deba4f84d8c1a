//! The stops of a driver in the order that somebody wants.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "driver_plan")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub driver_id: String,
    /// Rises by one with each change.
    pub version: i64,
    /// JSON: a list of stops, each with its order and kind.
    pub stops: String,
    pub updated_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
