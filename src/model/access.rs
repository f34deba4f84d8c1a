//! Who may see an order, and as whom. The one place that decides it.

use super::{Order, OrderStatus, Principal, Role};

/// As whom a caller looks at one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    Customer,
    Chef,
    Driver,
    /// Admin or service.
    Staff,
    /// Somebody unknown, let in where an order may be read without a token: sees status, ETA and location.
    Anonymous,
}

impl Party {
    /// Every party.
    pub const ALL: [Self; 5] = [Self::Customer, Self::Chef, Self::Driver, Self::Staff, Self::Anonymous];

    /// Those who see the driver only while the order is on its way.
    #[must_use]
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Customer | Self::Anonymous)
    }
}

/// As whom the caller is party to the order; `None` when the order is none of theirs.
#[must_use]
pub fn party(order: &Order, who: &Principal) -> Option<Party> {
    match who.role {
        Role::Admin | Role::Service => Some(Party::Staff),
        Role::Customer => (order.customer.id == who.id).then_some(Party::Customer),
        Role::Chef => (order.chef.id == who.id).then_some(Party::Chef),
        Role::Driver => {
            order.driver.as_ref().is_some_and(|driver| driver.id == who.id).then_some(Party::Driver)
        }
        // Who is let in without a token may see what anybody may.
        Role::Anonymous => Some(Party::Anonymous),
    }
}

/// Whether the driver's position and phone may reach the customer in this status.
#[must_use]
pub const fn driver_visible_to_customer(status: OrderStatus) -> bool {
    match status {
        OrderStatus::AssignedToDriver | OrderStatus::PickedUp | OrderStatus::InTransit => true,
        OrderStatus::Pending
        | OrderStatus::PaymentConfirmed
        | OrderStatus::Accepted
        | OrderStatus::Preparing
        | OrderStatus::ReadyForPickup
        | OrderStatus::Delivered
        | OrderStatus::Cancelled => false,
    }
}

/// The actions that only those who own the orders may do.
///
/// # Errors
/// [`crate::base::error::Refusal::Forbidden`] for everybody else.
pub fn staff_only(who: &Principal) -> Result<(), crate::base::error::Refusal> {
    if who.role.is_staff() {
        Ok(())
    } else {
        Err(crate::base::error::Refusal::Forbidden("only admin and service may do this".to_owned()))
    }
}
