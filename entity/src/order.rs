//! The current state of an order. Its past is in `status_history`, `driver_assignment` and `order_event`.

use sea_orm::entity::prelude::*;

use crate::{OrderStatus, PaymentStatus};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "orders")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    #[sea_orm(unique)]
    pub order_number: String,
    pub tracking_number: Option<String>,
    pub status: OrderStatus,
    pub payment_status: PaymentStatus,
    pub payment_confirmed_at: Option<ChronoDateTimeUtc>,
    pub payment_reference: Option<String>,
    pub customer_id: String,
    pub customer_name: String,
    pub customer_phone: Option<String>,
    pub chef_id: String,
    pub chef_name: String,
    pub chef_business_name: Option<String>,
    pub chef_address: Option<String>,
    pub chef_latitude: Option<f64>,
    pub chef_longitude: Option<f64>,
    /// Empty for an order that is fetched.
    pub delivery_address: String,
    /// 0, 0 stands for a place that is not known.
    pub delivery_latitude: f64,
    pub delivery_longitude: f64,
    /// The current driver. Former drivers are in `driver_assignment`.
    pub driver_id: Option<String>,
    pub driver_name: Option<String>,
    pub driver_phone: Option<String>,
    pub total: Option<f64>,
    pub currency: Option<String>,
    pub notes: Option<String>,
    /// The ETA that was set by hand; `None` if it is computed.
    pub estimated_delivery_time: Option<ChronoDateTimeUtc>,
    /// Its collection, schedule, proofs and the like, as JSON; `None` for most orders.
    pub details: Option<String>,
    /// When the kitchen says that it is ready.
    pub kitchen_ready_at: Option<ChronoDateTimeUtc>,
    /// Rises by exactly one with each durable event of this order.
    pub seq: i64,
    pub created_at: ChronoDateTimeUtc,
    pub updated_at: ChronoDateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
