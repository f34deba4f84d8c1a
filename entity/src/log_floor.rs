//! A single row: how far back the log is complete. There is none until the first events were deleted.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "log_floor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// The newest position whose event was deleted. After it, the log has every event.
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
