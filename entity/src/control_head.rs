//! A single row with the position of the newest entry of the control log. Appending updates it last, so that positions are
//! assigned in commit order.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "control_head")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
