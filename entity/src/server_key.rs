//! Secrets that all servers on this database share. Each one is generated at first use.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "server_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// In hex.
    pub value: String,
}

impl ActiveModelBehavior for ActiveModel {}
