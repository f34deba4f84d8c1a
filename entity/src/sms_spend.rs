//! Texts of a day, in UTC.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_spend")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: String,
    pub texts: i64,
    pub segments: i64,
}

impl ActiveModelBehavior for ActiveModel {}
