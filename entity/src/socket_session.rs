//! Sockets that may come back, connected or not.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "socket_session")]
pub struct Model {
    /// The `pid` that the client was told.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub user_id: String,
    /// The connection that has it now, or had it last.
    pub socket: String,
    /// The process that connection is with.
    pub node: String,
    pub began_at: ChronoDateTimeUtc,
    /// When the connection was gone; `None` while it lasts, or if its process died first.
    pub ended_at: Option<ChronoDateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
