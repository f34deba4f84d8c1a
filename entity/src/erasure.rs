//! Persons whose data has to be erased, or was erased lately.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "erasure")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    pub requested_at: ChronoDateTimeUtc,
    /// When the data was gone from all tables: processes then drop what they have in memory.
    pub redacted_at: Option<ChronoDateTimeUtc>,
    /// Positions that other processes had not written yet are gone too.
    pub is_done: bool,
}

impl ActiveModelBehavior for ActiveModel {}
