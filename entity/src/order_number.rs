//! The last order number assigned on each day, for numbers of the form `RND-YYYYMMDD-NNNN`.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "order_number")]
pub struct Model {
    /// `YYYYMMDD`, UTC.
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: String,
    pub last: i64,
}

impl ActiveModelBehavior for ActiveModel {}
