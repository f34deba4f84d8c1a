//! Tracking sessions: the trip of a rider with one order. `/tracking/…` shows a session to anyone who knows its id.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tracking_session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub order_id: String,
    pub rider_id: String,
    pub dropoff_latitude: f64,
    pub dropoff_longitude: f64,
    pub started_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
