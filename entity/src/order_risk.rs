//! What an order was promised, and whether it is late.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "order_risk")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    /// `on_time`, `at_risk` or `delayed`.
    pub risk: String,
    pub reason: Option<String>,
    pub promised_from: Option<ChronoDateTimeUtc>,
    pub promised_to: Option<ChronoDateTimeUtc>,
    pub at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
