//! Whom an event of the log is for: an index beside the log, for reading one client's share of it. It is kept by stretches
//! of the log, so that what is written at a time lies close together.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_audience")]
pub struct Model {
    /// The position, divided by 512.
    #[sea_orm(primary_key, auto_increment = false)]
    pub stretch: i64,
    /// `user:<id>` or `role:<role>`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub audience: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
