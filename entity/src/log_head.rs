//! A single row with the position of the newest event. Every transaction that appends events updates it last, so that
//! positions are assigned in commit order.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "log_head")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    pub position: i64,
    /// The timeline of `PostgreSQL` on which it was last written.
    pub timeline: Option<String>,
    /// What followed this position was lost when that timeline began.
    pub lost_after: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
