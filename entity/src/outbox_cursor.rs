//! How far in the log each consumer has told another system, and which process reads on for it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox_cursor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub consumer: String,
    /// Everything up to this position of the log is done.
    pub position: i64,
    /// The process that reads on.
    pub holder: String,
    /// After this another process may take over.
    pub lease_until: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
