//! Sessions that a client can recover, whether it is connected now or not.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "socket_session")]
pub struct Model {
    /// The `pid` that was sent to the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub user_id: String,
    /// The current connection of the session, or its last one.
    pub socket: String,
    /// The process that has or had this connection.
    pub node: String,
    pub began_at: ChronoDateTimeUtc,
    /// When this connection got the session; `None` for sessions from before this was recorded.
    pub held_at: Option<ChronoDateTimeUtc>,
    /// When the connection ended; `None` while it is open, or if its process died first.
    pub ended_at: Option<ChronoDateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
