//! How drivers showed that orders were handed over: one row for each kind.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "order_proof")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    /// `pin`, `photo` or `signature`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    /// Of the event that said so.
    pub seq: i64,
    /// Where the business keeps the picture.
    pub reference: Option<String>,
    pub sha256: Option<String>,
    pub media_type: Option<String>,
    pub captured_at: ChronoDateTimeUtc,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    pub by: String,
    pub at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
