//! Something that somebody is to be told, once.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The id on the wire, a `UUIDv7`.
    pub key: String,
    /// What it is about: unique with recipient and kind.
    pub source: String,
    /// User id, or `phone:` and a keyed hash.
    pub recipient: String,
    pub kind: String,
    pub order_id: Option<String>,
    pub seq: Option<i64>,
    /// JSON, for texts.
    pub args: String,
    pub at: ChronoDateTimeUtc,
    pub expires_at: ChronoDateTimeUtc,
    /// Why it goes nowhere.
    pub reason: Option<String>,
    /// When a device said that it is there.
    pub delivered_at: Option<ChronoDateTimeUtc>,
    pub opened_at: Option<ChronoDateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
