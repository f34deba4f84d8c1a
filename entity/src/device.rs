//! A device that a user can be reached at.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "device")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `fcm`, `expo`, `webpush` or `apns`.
    pub kind: String,
    /// Token or subscription, sealed.
    pub address: String,
    /// Keyed hash: an address is with one user only.
    pub address_hash: String,
    /// The order that it shows: then it is a Live Activity, and gets nothing else.
    pub order_id: Option<String>,
    pub app: Option<String>,
    pub platform: Option<String>,
    pub locale: Option<String>,
    pub time_zone: Option<String>,
    pub created_at: ChronoDateTimeUtc,
    /// When it was last registered or reached.
    pub seen_at: ChronoDateTimeUtc,
    /// Nothing is sent to it from then on.
    pub disabled_at: Option<ChronoDateTimeUtc>,
    pub reason: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
