//! The recipients of each event: an index of the log, for reading the events of one client. The primary key begins with
//! the stretch of the log, so that rows written at the same time are stored close together.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_audience")]
pub struct Model {
    /// The position divided by 512, rounded down.
    #[sea_orm(primary_key, auto_increment = false)]
    pub stretch: i64,
    /// `user:<id>` or `role:<role>`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub audience: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
