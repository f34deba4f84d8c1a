//! The changes that callers may ask of an existing order.

use super::access::Right;
use super::proof::Proof;
use super::{Customer, Delivery, Details, Driver, FailureReason, Item, Order, OrderStatus, UserId, Window};
use crate::base::clock::Time;

/// A change that a caller asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Move the order to a status. `reason`: why it could not be delivered.
    Status { to: OrderStatus, note: Option<String>, reason: Option<FailureReason> },
    /// Set a status because the present one is wrong.
    Correct { to: OrderStatus, note: String },
    /// Change what the order says.
    Amend(Box<Amendment>),
    /// The driver does not want the order.
    Decline { driver: UserId, reason: Option<String> },
    /// A driver takes an order that was offered.
    Claim { driver: Driver },
    /// The driver shows that the order was handed over.
    Prove(Box<Proof>),
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

/// New values for what an order says. What is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Amendment {
    /// Another address without a place makes the place unknown.
    pub address: Option<String>,
    /// Degrees north and east.
    pub place: Option<(f64, f64)>,
    pub items: Option<Vec<Item>>,
    pub customer_name: Option<String>,
    /// `Some(None)` takes the value away; so below.
    pub customer_phone: Option<Option<String>>,
    pub notes: Option<Option<String>>,
    pub total: Option<Option<f64>>,
    pub scheduled_for: Option<Option<Window>>,
}

impl Amendment {
    /// Changes the order. Returns the names of the members that are not as they were, as clients know them.
    pub fn apply(&self, order: &mut Order) -> Vec<&'static str> {
        let mut changed = Vec::new();
        let mut note = |name, is_changed: bool| {
            if is_changed {
                changed.push(name);
            }
        };
        let delivery = self.delivery(&order.delivery);
        note("delivery", replace(&mut order.delivery, delivery));
        note("items", self.items.clone().is_some_and(|items| replace(&mut order.items, items)));
        note("notes", self.notes.clone().is_some_and(|notes| replace(&mut order.notes, notes)));
        note("total", self.total.is_some_and(|total| replace(&mut order.total, total)));
        let Customer { id, name, phone } = order.customer.clone();
        let (name, phone) =
            (self.customer_name.clone().unwrap_or(name), self.customer_phone.clone().unwrap_or(phone));
        note("customer", replace(&mut order.customer, Customer { id, name, phone }));
        let Details { scheduled_for, .. } = &mut order.details;
        note("scheduledFor", self.scheduled_for.is_some_and(|window| replace(scheduled_for, window)));
        changed
    }

    fn delivery(&self, present: &Delivery) -> Delivery {
        let address = self.address.clone().unwrap_or_else(|| present.address.clone());
        let stays = address == present.address;
        let place = self.place.or_else(|| present.latitude.zip(present.longitude).filter(|_| stays));
        let (latitude, longitude) = place.unzip();
        Delivery { address, latitude, longitude }
    }
}

/// Puts a value in the place of another. Returns whether they differ.
fn replace<T: PartialEq>(present: &mut T, new: T) -> bool {
    let differs = *present != new;
    *present = new;
    differs
}

impl Action {
    /// Move the order to a status.
    #[must_use]
    pub const fn to(to: OrderStatus) -> Self {
        Self::Status { to, note: None, reason: None }
    }

    /// Cancel the order, and say why.
    #[must_use]
    pub const fn cancel(note: Option<String>) -> Self {
        Self::Status { to: OrderStatus::Cancelled, note, reason: None }
    }

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
            Self::Correct { .. } => Right::Correct,
            Self::Amend(_) => Right::Amend,
            Self::Decline { .. } => Right::Decline,
            Self::Claim { .. } => Right::Claim,
            Self::Prove(_) => Right::Prove,
            Self::Assign { .. } => Right::Assign,
            Self::Unassign => Right::Unassign,
            Self::OverrideEta { .. } => Right::OverrideEta,
            Self::SetReady { .. } => Right::SetReady,
        }
    }
}
