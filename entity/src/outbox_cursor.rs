//! The progress of each outbox consumer in the log, and the process that holds its lease.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox_cursor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub consumer: String,
    /// All events up to this position are processed.
    pub position: i64,
    /// The process that holds the lease.
    pub holder: String,
    /// After this time another process may take the lease.
    pub lease_until: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
