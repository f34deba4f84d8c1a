//! Rights: who may see an order, as which party, and what each party may do. All such decisions are made here.

use super::{Order, OrderStatus, Principal, Role};
use crate::base::error::Refusal;
use OrderStatus::{
    Accepted, AssignedToDriver, Cancelled, Delivered, Failed, InTransit, PaymentConfirmed, Pending, PickedUp,
    Preparing, ReadyForPickup, Returned,
};

/// As which party a caller acts on an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    Customer,
    Chef,
    Driver,
    /// Admin or service.
    Staff,
    /// A reader without a token, where that is allowed. Sees status, ETA and location.
    Anonymous,
}

impl Party {
    /// Every party.
    pub const ALL: [Self; 5] = [Self::Customer, Self::Chef, Self::Driver, Self::Staff, Self::Anonymous];

    /// The party that users of a role are on their own orders.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        match role {
            Role::Customer => Self::Customer,
            Role::Chef => Self::Chef,
            Role::Driver => Self::Driver,
            Role::Admin | Role::Service => Self::Staff,
            Role::Anonymous => Self::Anonymous,
        }
    }

    /// Whether this party sees the driver only while the order is on its way.
    #[must_use]
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Customer | Self::Anonymous)
    }
}

/// The caller's party on the order; `None` if the caller may not see the order.
#[must_use]
pub fn party(order: &Order, who: &Principal) -> Option<Party> {
    let is_theirs = match who.role {
        Role::Customer => order.customer.id == who.id,
        Role::Chef => order.chef.id == who.id,
        Role::Driver => order.driver.as_ref().is_some_and(|driver| driver.id == who.id),
        // Callers without a token get here only where the operator allows public reads.
        Role::Admin | Role::Service => true,
        Role::Anonymous => who.share.as_ref().is_none_or(|share| share.order == order.id),
    };
    is_theirs.then(|| Party::of(who.role))
}

/// Something that needs a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Create an order. `own`: the caller is its customer.
    Create {
        own: bool,
    },
    /// Move an order between two statuses.
    Move {
        from: OrderStatus,
        to: OrderStatus,
    },
    /// Confirm a payment. `accept`: and accept the order too, as `/api/v1` does.
    VerifyPayment {
        accept: bool,
    },
    /// Give an order that is ready to the customer who fetches it.
    HandOver,
    /// Set any status, also back from a final one. Admins only.
    Correct,
    /// Change what an order says: its place, its items.
    Amend,
    Assign,
    Unassign,
    /// Give an order back that one was assigned.
    Decline,
    /// Take an order that is offered.
    Claim,
    /// Show that an order was handed over.
    Prove,
    /// Deliver without the proof that the order asks for.
    DeliverUnproven,
    OverrideEta,
    SetReady,
    /// Start a tracking session. `own`: the caller is its rider.
    StartTracking {
        own: bool,
    },
    /// Report a position, and perhaps a status, to a tracking session. `own`: the caller is its rider.
    UpdateTracking {
        own: bool,
    },
    /// Look up the tracking session of a rider. `own`: the caller is the rider.
    FindTracking {
        own: bool,
    },
}

/// Proof that [`may`] allowed an action. Every function that changes an order takes one, so no caller can forget to
/// ask.
#[derive(Clone, Copy, Debug)]
pub struct Permit(());

/// The table of rights. `None` means no.
#[must_use]
pub const fn may(party: Party, right: Right) -> Option<Permit> {
    use Right::{
        Claim, Create, Decline, FindTracking, HandOver, Move, Prove, SetReady, StartTracking, UpdateTracking,
        VerifyPayment,
    };
    let allowed = match party {
        // What only the driver can say.
        Party::Staff => !matches!(right, Decline | Claim | Prove),
        Party::Customer => match right {
            Create { own } => own,
            Move { from, to: Cancelled } => matches!(from, Pending | PaymentConfirmed | Accepted),
            VerifyPayment { accept } => accept,
            _ => false,
        },
        Party::Chef => match right {
            Move { from, to: Cancelled } => matches!(
                from,
                Pending | PaymentConfirmed | Accepted | Preparing | ReadyForPickup | AssignedToDriver
            ),
            Move { to, .. } => matches!(to, Accepted | Preparing | ReadyForPickup),
            SetReady | HandOver => true,
            _ => false,
        },
        Party::Driver => match right {
            // What is in the driver's hand is in their hand, whatever the kitchen has said so far.
            Move { from, to: PickedUp } => {
                matches!(from, Accepted | Preparing | ReadyForPickup | AssignedToDriver)
            }
            Move { from, to: InTransit | Delivered } => {
                matches!(from, ReadyForPickup | AssignedToDriver | PickedUp | InTransit | Failed)
            }
            Move { from, to: Failed } => matches!(from, PickedUp | InTransit),
            Move { from, to: Returned } => matches!(from, Failed),
            Decline | Claim | Prove => true,
            StartTracking { own } | UpdateTracking { own } | FindTracking { own } => own,
            _ => false,
        },
        Party::Anonymous => false,
    };
    if allowed { Some(Permit(())) } else { None }
}

/// Whether only staff has the right.
#[must_use]
pub fn is_for_staff_only(right: Right) -> bool {
    Party::ALL.into_iter().all(|party| party == Party::Staff || may(party, right).is_none())
}

/// Refuses everybody except admin and service.
///
/// # Errors
/// [`Refusal::Forbidden`].
pub fn only_staff(who: &Principal) -> Result<(), Refusal> {
    if who.role.is_staff() { Ok(()) } else { Err(staff_only()) }
}

/// Refuses everybody except admins.
///
/// # Errors
/// [`Refusal::Forbidden`].
pub fn only_admin(who: &Principal) -> Result<(), Refusal> {
    if who.role == Role::Admin {
        return Ok(());
    }
    Err(Refusal::Forbidden("only an admin may do this".to_owned()))
}

/// Whether an order may be offered to this driver: it is ready, nobody has it, and they have not declined it.
#[must_use]
pub fn is_offered_to(order: &Order, driver: &super::UserId) -> bool {
    order.is_available() && !order.details.is_declined_by(driver)
}

/// The refusal of an action that is for staff only.
#[must_use]
pub fn staff_only() -> Refusal {
    Refusal::Forbidden("only admin and service may do this".to_owned())
}

/// Whether a customer may see the driver's phone number in this status, and also the position of one who is near: see
/// [`may_see_place`].
#[must_use]
pub const fn driver_visible_to_customer(status: OrderStatus) -> bool {
    match status {
        AssignedToDriver | PickedUp | InTransit | Failed => true,
        Pending | PaymentConfirmed | Accepted | Preparing | ReadyForPickup | Delivered | Returned
        | Cancelled => false,
    }
}

/// Whether a party may see where the driver of an order is. `is_near`: the driver has fewer stops before it than
/// `SHOW_DRIVER_WITHIN_STOPS` says.
#[must_use]
pub const fn may_see_place(status: OrderStatus, is_near: bool, party: Party) -> bool {
    !party.is_public() || (is_near && driver_visible_to_customer(status))
}

/// Whether a customer may see the driver of an order's earlier state: the order is on its way now, and still with that
/// driver.
#[must_use]
pub fn driver_still_visible(earlier: &Order, now: &Order) -> bool {
    let driver = |order: &Order| order.driver.as_ref().map(|driver| driver.id.clone());
    driver_visible_to_customer(now.status) && driver(earlier) == driver(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every right, and the letters of the parties that have it: c(ustomer), k (chef, who cooks), d(river), s(taff).
    /// `status` has the table of moves between statuses.
    const TABLE: [(Right, &str); 21] = [
        (Right::Create { own: true }, "cs"),
        (Right::Create { own: false }, "s"),
        (Right::VerifyPayment { accept: true }, "cs"),
        (Right::VerifyPayment { accept: false }, "s"),
        (Right::Assign, "s"),
        (Right::Unassign, "s"),
        (Right::HandOver, "ks"),
        (Right::Correct, "s"),
        (Right::Amend, "s"),
        (Right::DeliverUnproven, "s"),
        (Right::Decline, "d"),
        (Right::Claim, "d"),
        (Right::Prove, "d"),
        (Right::OverrideEta, "s"),
        (Right::SetReady, "ks"),
        (Right::StartTracking { own: true }, "ds"),
        (Right::StartTracking { own: false }, "s"),
        (Right::UpdateTracking { own: true }, "ds"),
        (Right::UpdateTracking { own: false }, "s"),
        (Right::FindTracking { own: true }, "ds"),
        (Right::FindTracking { own: false }, "s"),
    ];

    #[test]
    fn every_right_and_every_party() {
        for (right, letters) in TABLE {
            for (party, letter) in Party::ALL.into_iter().zip(['c', 'k', 'd', 's', 'a']) {
                assert_eq!(may(party, right).is_some(), letters.contains(letter), "{right:?} for {party:?}");
            }
            assert_eq!(is_for_staff_only(right), letters == "s", "{right:?}");
        }
    }

    #[test]
    fn every_action_needs_the_right_of_its_name() {
        use crate::model::{Action, Driver, UserId};
        let driver = Driver { id: UserId::stored("d"), name: "Dario".to_owned(), phone: None };
        let at = crate::base::clock::from_millis(0);
        for (action, right) in [
            (
                Action::Status { to: Accepted, note: None, reason: None },
                Right::Move { from: Pending, to: Accepted },
            ),
            (Action::Correct { to: Accepted, note: String::new() }, Right::Correct),
            (Action::Decline { driver: driver.id.clone(), reason: None }, Right::Decline),
            (Action::Claim { driver: driver.clone() }, Right::Claim),
            (Action::Amend(Box::default()), Right::Amend),
            (Action::VerifyPayment { reference: None, accept: true }, Right::VerifyPayment { accept: true }),
            (Action::Assign { driver }, Right::Assign),
            (Action::Unassign, Right::Unassign),
            (Action::OverrideEta { at }, Right::OverrideEta),
            (Action::SetReady { at }, Right::SetReady),
        ] {
            assert_eq!(action.right(Pending), right);
        }
    }
}
