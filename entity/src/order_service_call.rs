//! Deliveries that the order service has not accepted yet.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "order_service_call")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    pub delivered_at: ChronoDateTimeUtc,
    /// Number of calls so far.
    pub tries: i32,
    /// Time of the next call.
    pub next_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
