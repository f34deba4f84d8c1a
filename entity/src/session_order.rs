//! The order subscriptions of a session.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session_order")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    /// Position of the event that ended the user's right to the order; `None` while the session follows the order.
    pub lost_at: Option<i64>,
    /// The seq after which the session asked for a replay; `None` if it did not.
    pub since: Option<i64>,
    /// The session's place in the log when it asked.
    pub place: Option<String>,
    /// The number of that replay among the replays of the session.
    pub number: Option<i32>,
}

impl ActiveModelBehavior for ActiveModel {}
