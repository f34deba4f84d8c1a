//! What a provider said to one attempt.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery_attempt")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub delivery_id: i64,
    pub n: i32,
    pub at: ChronoDateTimeUtc,
    pub millis: i32,
    /// HTTP status.
    pub status: Option<i32>,
    pub excerpt: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
