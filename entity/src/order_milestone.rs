//! What has happened at the stops of an order: each once.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "order_milestone")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    /// `pickup` or `dropoff`.
    pub stop: String,
    #[sea_orm(primary_key, auto_increment = false)]
    /// `arriving`, `arrived` or `departed`.
    pub milestone: String,
    pub at: ChronoDateTimeUtc,
    /// Metres from the stop.
    pub distance: f64,
    /// What showed it.
    pub evidence: String,
}

impl ActiveModelBehavior for ActiveModel {}
