//! When an order arrived, to be held against what was shown.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "eta_outcome")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    pub arrived_at: ChronoDateTimeUtc,
    /// When somebody said so.
    pub delivered_at: ChronoDateTimeUtc,
    /// `milestone`: the driver was seen at the door; `status`: only the status says so.
    pub evidence: String,
}

impl ActiveModelBehavior for ActiveModel {}
