//! One way of telling it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub notification_id: i64,
    pub recipient: String,
    pub order_id: Option<String>,
    pub seq: Option<i64>,
    /// `fcm`, `expo`, `webpush`, `apns` or `sms`.
    pub channel: String,
    /// Device id, or keyed hash of the phone.
    pub target: String,
    /// Sealed; only where no device has it.
    pub address: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub due_at: ChronoDateTimeUtc,
    pub tries: i32,
    /// While it is being sent.
    pub lease_until: Option<ChronoDateTimeUtc>,
    /// The provider's id.
    pub provider_ref: Option<String>,
    /// Of an SMS.
    pub segments: Option<i32>,
    pub sent_at: Option<ChronoDateTimeUtc>,
    pub done_at: Option<ChronoDateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
