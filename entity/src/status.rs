//! Order status and payment status, with their words in the database, in `/realtime` and in REST.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// The status of an order. The variants are in the order of an order's life, and rules compare them with `<`.
/// `Failed`, `Returned` and `Cancelled` are not part of that sequence.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(32))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    Pending,
    PaymentConfirmed,
    Accepted,
    Preparing,
    ReadyForPickup,
    AssignedToDriver,
    PickedUp,
    InTransit,
    /// The driver could not deliver it, and has the goods.
    Failed,
    Delivered,
    /// The goods are back.
    Returned,
    Cancelled,
}

impl OrderStatus {
    /// All statuses in the order of an order's life, `Cancelled` last.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::PaymentConfirmed,
        Self::Accepted,
        Self::Preparing,
        Self::ReadyForPickup,
        Self::AssignedToDriver,
        Self::PickedUp,
        Self::InTransit,
        Self::Failed,
        Self::Delivered,
        Self::Returned,
        Self::Cancelled,
    ];

    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::PaymentConfirmed => "payment_confirmed",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::ReadyForPickup => "ready_for_pickup",
            Self::AssignedToDriver => "assigned_to_driver",
            Self::PickedUp => "picked_up",
            Self::InTransit => "in_transit",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Returned => "returned",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The payment status, which is independent of the order status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    Pending,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

impl PaymentStatus {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
