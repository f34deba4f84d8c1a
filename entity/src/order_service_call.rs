//! That an order was delivered, as long as the order service has not accepted to know it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "order_service_call")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    pub delivered_at: ChronoDateTimeUtc,
    /// How often it was tried.
    pub tries: i32,
    /// When it is tried next.
    pub next_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
