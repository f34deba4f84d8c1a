//! The orders that a session follows.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session_order")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    /// Position of the event that took the order from the session's user; `None` while it is followed.
    pub lost_at: Option<i64>,
    /// After which seq it asked for a replay, at which place in the log it was, and which of its replays that was.
    pub since: Option<i64>,
    pub place: Option<String>,
    pub number: Option<i32>,
}

impl ActiveModelBehavior for ActiveModel {}
