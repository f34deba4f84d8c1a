//! A phone that wants no texts.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "opt_out")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub phone_hash: String,
    pub at: ChronoDateTimeUtc,
    /// Who said so: `stop`, `provider`.
    pub source: String,
}

impl ActiveModelBehavior for ActiveModel {}
