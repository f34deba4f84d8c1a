//! What a user wants to be told, and when.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification_preference")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    pub locale: Option<String>,
    /// IANA name.
    pub time_zone: Option<String>,
    /// `22:00`, in that zone.
    pub quiet_from: Option<String>,
    pub quiet_to: Option<String>,
    /// JSON: kind to channels.
    pub kinds: Option<String>,
    pub updated_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
