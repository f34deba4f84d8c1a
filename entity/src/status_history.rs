//! The past and current statuses of an order. A skipped status has no row.

use sea_orm::entity::prelude::*;

use crate::OrderStatus;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "status_history")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    /// Seq of the event that set this status.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub status: OrderStatus,
    pub at: ChronoDateTimeUtc,
    pub changed_by: Option<String>,
    pub note: Option<String>,
    /// It was set because the status before was wrong.
    pub corrected: bool,
}

impl ActiveModelBehavior for ActiveModel {}
