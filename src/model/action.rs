//! The changes that callers may ask of an existing order.

use super::access::Right;
use super::{Driver, OrderStatus};
use crate::base::clock::Time;

/// A change that a caller asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Move the order to a status.
    Status { to: OrderStatus, note: Option<String> },
    /// Confirm the payment. `/api/v1` accepts the order with it.
    VerifyPayment { reference: Option<String>, accept: bool },
    /// Give the order to a driver, or to another driver.
    Assign { driver: Driver },
    /// Take the order from its driver.
    Unassign,
    /// Replace the computed ETA.
    OverrideEta { at: Time },
    /// Say when the kitchen is ready.
    SetReady { at: Time },
}

/// An action that is refused if the order has changed since this seq.
#[derive(Clone, Debug)]
pub struct Asked {
    pub action: Action,
    pub expected_seq: Option<i64>,
}

impl From<Action> for Asked {
    fn from(action: Action) -> Self {
        Self { action, expected_seq: None }
    }
}

impl Action {
    /// The action, unless the order has changed since a seq.
    #[must_use]
    pub const fn at(self, expected_seq: Option<i64>) -> Asked {
        Asked { action: self, expected_seq }
    }

    /// The right that this action needs on an order in the status `from`.
    #[must_use]
    pub const fn right(&self, from: OrderStatus) -> Right {
        match self {
            Self::Status { to, .. } => Right::Move { from, to: *to },
            Self::VerifyPayment { accept, .. } => Right::VerifyPayment { accept: *accept },
            Self::Assign { .. } => Right::Assign,
            Self::Unassign => Right::Unassign,
            Self::OverrideEta { .. } => Right::OverrideEta,
            Self::SetReady { .. } => Right::SetReady,
        }
    }
}
