//! Users of whom sessions were thrown away because there were too many.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session_floor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// The newest of them was made then.
    pub thrown_away: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
