//! The last time when all tokens of a user were revoked. Older tokens are refused.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revocation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    pub revoked_at: ChronoDateTimeUtc,
    /// A token that was not seen before the revocation counts as newer if it was issued later than this. Empty: than the
    /// revocation.
    pub unseen_from: Option<ChronoDateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
