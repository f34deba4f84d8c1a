//! The last time when all tokens of a user were revoked. Older tokens are refused.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revocation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    pub revoked_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
