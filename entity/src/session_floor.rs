//! Users whose oldest sessions were deleted because they had too many.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session_floor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// When the newest deleted session began.
    pub thrown_away: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
