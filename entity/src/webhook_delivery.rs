//! What other systems are told, until it is done, and for some days after that.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub webhook_id: String,
    /// The `webhook-id` of every attempt.
    #[sea_orm(unique)]
    pub key: String,
    pub r#type: String,
    pub order_id: Option<String>,
    pub position: Option<i64>,
    pub body: String,
    /// `due`, `delivered` or `dead`.
    pub state: String,
    pub due_at: ChronoDateTimeUtc,
    pub tries: i32,
    /// The HTTP status of the last attempt.
    pub status: Option<i32>,
    pub error: Option<String>,
    pub at: ChronoDateTimeUtc,
    pub done_at: Option<ChronoDateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
