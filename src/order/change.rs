//! The decision on an action: which events it causes. Pure; [`writer`](super::writer) carries it out.

use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::access::{self, may};
use crate::model::status::{self, Transition};
use crate::model::{
    Action, Amendment, Asked, Driver, EventKind, FailureReason, Order, OrderStatus, Party, PastStatus,
    PaymentStatus, Permit, Proof, ProofKind, Right, UserId,
};

/// One durable event, and what it changes in the order.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub kind: EventKind,
    pub status: Option<OrderStatus>,
    pub payment_completed: bool,
    pub driver: DriverChange,
    pub note: Option<String>,
    /// Why the delivery failed, or why the driver did not want the order.
    pub reason: Option<String>,
    pub detail: Option<DetailChange>,
}

/// A change of what an order says.
#[derive(Clone, Debug)]
pub(crate) enum DetailChange {
    Failed(FailureReason),
    Declined(UserId),
    Amended(Box<Amendment>),
    Proven(Box<Proof>),
}

#[derive(Clone, Debug)]
pub(crate) enum DriverChange {
    Keep,
    Set(Driver),
    Remove,
}

impl Step {
    /// An event of this kind that changes nothing but the status. Takes the proof that the caller may cause it.
    const fn new(_: Permit, kind: EventKind, status: Option<OrderStatus>) -> Self {
        Self {
            kind,
            status,
            payment_completed: false,
            driver: DriverChange::Keep,
            note: None,
            reason: None,
            detail: None,
        }
    }

    fn status(permit: Permit, to: OrderStatus, note: Option<String>) -> Self {
        let payment_completed = to == OrderStatus::PaymentConfirmed;
        Self { payment_completed, note, ..Self::new(permit, EventKind::Status, Some(to)) }
    }

    /// A new order goes to its driver.
    pub fn hand_over(permit: Permit, driver: Driver) -> Self {
        let driver = DriverChange::Set(driver);
        Self { driver, ..Self::new(permit, EventKind::Assigned, Some(OrderStatus::AssignedToDriver)) }
    }
}

/// The result of an action.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// These durable events in this order; none if there is nothing to change.
    Events(Vec<Step>),
    /// A new ETA, or when the kitchen is ready. It is not a durable event and has no seq.
    Estimate(Estimate),
}

/// What somebody expects.
#[derive(Clone, Copy, Debug)]
pub(super) enum Estimate {
    Arrival(Time),
    Ready(Time),
}

/// Decides whether a party may carry out an action, and which events it causes.
///
/// # Errors
/// [`Refusal::Forbidden`], [`Refusal::Illegal`], [`Refusal::StaleSeq`]; [`Refusal::Invalid`] for a customer's payment
/// without its reference.
pub(super) fn decide(
    order: &Order,
    history: &[PastStatus],
    party: Party,
    Asked { action, expected_seq }: &Asked,
) -> Result<Decision, Refusal> {
    let decision = decide_now(order, history, party, action);
    // A caller at the wrong seq has outdated data, so that error comes before one about the state. What changes nothing is a
    // retry, and succeeds.
    let outdated = match &decision {
        Ok(Decision::Events(steps)) => !steps.is_empty(),
        Ok(Decision::Estimate(_)) | Err(Refusal::Illegal { .. }) => true,
        Err(_) => false,
    };
    match *expected_seq {
        Some(expected) if outdated && expected != order.seq => {
            Err(Refusal::StaleSeq { expected, seq: order.seq })
        }
        _ => decision,
    }
}

fn decide_now(
    order: &Order,
    history: &[PastStatus],
    party: Party,
    action: &Action,
) -> Result<Decision, Refusal> {
    if let Action::Status { to, note, reason } = action {
        return change_status(order, history, party, *to, note.as_ref(), *reason).map(Decision::Events);
    }
    let permit = permit(order, party, action)?;
    match action {
        Action::Correct { to, note } => Ok(Decision::Events(correct(order, permit, *to, note))),
        Action::Amend(amendment) => amend(order, party, permit, amendment),
        Action::Decline { driver, reason } => decline(order, party, permit, (driver, reason.as_ref())),
        Action::Claim { driver } => claim(order, history, permit, driver),
        Action::Prove(proof) => prove(order, party, permit, proof),
        Action::Status { .. } => Ok(Decision::Events(Vec::new())),
        Action::VerifyPayment { reference, accept } => {
            if party == Party::Customer && reference.is_none() {
                return Err(Refusal::invalid("reference", "is required"));
            }
            verify_payment(order, party, permit, *accept)
        }
        Action::Assign { driver } => assign(order, party, permit, driver),
        Action::Unassign => unassign(order, party, permit),
        Action::OverrideEta { at } if !status::is_final(order.status) => {
            Ok(Decision::Estimate(Estimate::Arrival(*at)))
        }
        Action::SetReady { at } if order.status < OrderStatus::ReadyForPickup => {
            Ok(Decision::Estimate(Estimate::Ready(*at)))
        }
        Action::SetReady { .. } => Err(illegal(
            order,
            party,
            format!("an order that is {} is not in the kitchen", order.status.as_str()),
        )),
        Action::OverrideEta { .. } => {
            Err(illegal(order, party, format!("an order that is {} has no ETA", order.status.as_str())))
        }
    }
}

fn permit(order: &Order, party: Party, action: &Action) -> Result<Permit, Refusal> {
    let right = action.right(order.status);
    may(party, right).ok_or_else(|| match right {
        Right::Decline | Right::Prove => {
            Refusal::Forbidden("only the driver of the order may do this".to_owned())
        }
        Right::Claim => Refusal::Forbidden("only drivers may do this".to_owned()),
        Right::SetReady => Refusal::Forbidden("only the chef, admin and service may do this".to_owned()),
        Right::VerifyPayment { accept: true } => {
            Refusal::Forbidden("only the customer, admin and service may do this".to_owned())
        }
        _ => access::staff_only(),
    })
}

fn change_status(
    order: &Order,
    history: &[PastStatus],
    party: Party,
    to: OrderStatus,
    note: Option<&String>,
    reason: Option<FailureReason>,
) -> Result<Vec<Step>, Refusal> {
    // The order became ready, and its driver, assigned early, took over at once. A retry of this request must
    // succeed.
    if to == OrderStatus::ReadyForPickup
        && matches!(party, Party::Chef | Party::Staff)
        && went_on(order, history)
    {
        return Ok(Vec::new());
    }
    match status::transition(order.status, to, party, order.details.fulfilment) {
        Transition::Already => Ok(Vec::new()),
        Transition::Refused => {
            let detail =
                format!("an order that is {} cannot become {} by you", order.status.as_str(), to.as_str());
            Err(illegal(order, party, detail))
        }
        Transition::Moves(permit) if to == OrderStatus::Failed => {
            let words = FailureReason::ALL.map(FailureReason::as_str).join(", ");
            let reason =
                reason.ok_or_else(|| Refusal::invalid("reason", format!("must be one of {words}")))?;
            let detail = Some(DetailChange::Failed(reason));
            let reason = Some(reason.as_str().to_owned());
            Ok(vec![Step { reason, detail, ..Step::status(permit, to, note.cloned()) }])
        }
        Transition::Moves(permit) => {
            let missing: Vec<_> = order.details.missing().into_iter().map(ProofKind::as_str).collect();
            let may_pass = note.is_some_and(|note| !note.trim().is_empty())
                && may(party, Right::DeliverUnproven).is_some();
            if to == OrderStatus::Delivered && !missing.is_empty() && !may_pass {
                return Err(Refusal::ProofRequired { missing });
            }
            let mut steps = vec![Step::status(permit, to, note.cloned())];
            // A driver who was assigned early takes over as soon as the order is ready.
            if to == OrderStatus::ReadyForPickup && order.driver.is_some() {
                steps.push(Step::status(permit, OrderStatus::AssignedToDriver, None));
            }
            Ok(steps)
        }
    }
}

fn verify_payment(order: &Order, party: Party, permit: Permit, accept: bool) -> Result<Decision, Refusal> {
    let mut steps = Vec::new();
    if order.payment_status != PaymentStatus::Completed {
        if order.status == OrderStatus::Cancelled {
            return Err(illegal(order, party, "a cancelled order cannot be paid".to_owned()));
        }
        let status = (order.status == OrderStatus::Pending).then_some(OrderStatus::PaymentConfirmed);
        steps.push(Step { payment_completed: true, ..Step::new(permit, EventKind::Payment, status) });
    }
    if accept && order.status < OrderStatus::Accepted {
        steps.push(Step::status(permit, OrderStatus::Accepted, None));
    }
    Ok(Decision::Events(steps))
}

fn assign(order: &Order, party: Party, permit: Permit, driver: &Driver) -> Result<Decision, Refusal> {
    if order.driver.as_ref().is_some_and(|present| present.id == driver.id) {
        return Ok(Decision::Events(Vec::new()));
    }
    if order.is_fetched() {
        return Err(illegal(order, party, "an order that its customer fetches has no driver".to_owned()));
    }
    if !status::may_assign(order.status) {
        let detail = format!("no driver can be assigned to an order that is {}", order.status.as_str());
        return Err(illegal(order, party, detail));
    }
    let status = (order.status == OrderStatus::ReadyForPickup).then_some(OrderStatus::AssignedToDriver);
    let driver = DriverChange::Set(driver.clone());
    Ok(Decision::Events(vec![Step { driver, ..Step::new(permit, EventKind::Assigned, status) }]))
}

fn unassign(order: &Order, party: Party, permit: Permit) -> Result<Decision, Refusal> {
    // Staff can set `assigned_to_driver` by hand, so an order with that status may have no driver.
    if order.driver.is_none() && order.status != OrderStatus::AssignedToDriver {
        return Ok(Decision::Events(Vec::new()));
    }
    if !status::may_unassign(order.status) {
        let detail = format!("the driver cannot be taken off an order that is {}", order.status.as_str());
        return Err(illegal(order, party, detail));
    }
    let status = (order.status == OrderStatus::AssignedToDriver).then_some(OrderStatus::ReadyForPickup);
    let driver = DriverChange::Remove;
    Ok(Decision::Events(vec![Step { driver, ..Step::new(permit, EventKind::Unassigned, status) }]))
}

/// Sets a status, whatever the present one is. An order that nobody has accepted has no driver.
fn correct(order: &Order, permit: Permit, to: OrderStatus, note: &str) -> Vec<Step> {
    if to == order.status {
        return Vec::new();
    }
    let has_no_driver = to < OrderStatus::Accepted && order.driver.is_some();
    let driver = if has_no_driver { DriverChange::Remove } else { DriverChange::Keep };
    let note = Some(note.to_owned());
    vec![Step { driver, note, ..Step::new(permit, EventKind::Corrected, Some(to)) }]
}

fn amend(order: &Order, party: Party, permit: Permit, amendment: &Amendment) -> Result<Decision, Refusal> {
    if amendment.apply(&mut order.clone()).is_empty() {
        return Ok(Decision::Events(Vec::new()));
    }
    if status::is_final(order.status) {
        let detail = format!("an order that is {} cannot be changed", order.status.as_str());
        return Err(illegal(order, party, detail));
    }
    let detail = Some(DetailChange::Amended(Box::new(amendment.clone())));
    Ok(Decision::Events(vec![Step { detail, ..Step::new(permit, EventKind::Updated, None) }]))
}

fn decline(
    order: &Order,
    party: Party,
    permit: Permit,
    (driver, reason): (&UserId, Option<&String>),
) -> Result<Decision, Refusal> {
    if order.driver.as_ref().is_none_or(|present| present.id != *driver) {
        // Again, or it is with somebody else by now.
        return Ok(Decision::Events(Vec::new()));
    }
    if !status::may_unassign(order.status) {
        let detail = format!("an order that is {} cannot be declined", order.status.as_str());
        return Err(illegal(order, party, detail));
    }
    let status = (order.status == OrderStatus::AssignedToDriver).then_some(OrderStatus::ReadyForPickup);
    let detail = Some(DetailChange::Declined(driver.clone()));
    let (driver, reason) = (DriverChange::Remove, reason.cloned());
    Ok(Decision::Events(vec![Step {
        driver,
        reason,
        detail,
        ..Step::new(permit, EventKind::Unassigned, status)
    }]))
}

/// A driver takes an order. Whoever was never offered it must not learn that it exists.
fn claim(
    order: &Order,
    history: &[PastStatus],
    permit: Permit,
    driver: &Driver,
) -> Result<Decision, Refusal> {
    let has_it = |present: &Driver| present.id == driver.id;
    if order.driver.as_ref().is_some_and(has_it) && !status::is_final(order.status) {
        return Ok(Decision::Events(Vec::new()));
    }
    if access::is_offered_to(order, &driver.id) {
        let driver = DriverChange::Set(driver.clone());
        let status = Some(OrderStatus::AssignedToDriver);
        return Ok(Decision::Events(vec![Step { driver, ..Step::new(permit, EventKind::Assigned, status) }]));
    }
    let was_offered = !order.is_fetched()
        && !order.details.is_declined_by(&driver.id)
        && history.iter().any(|past| past.status == OrderStatus::ReadyForPickup);
    Err(if was_offered { Refusal::OfferTaken } else { Refusal::NotFound("order") })
}

fn prove(order: &Order, party: Party, permit: Permit, proof: &Proof) -> Result<Decision, Refusal> {
    if order.details.proven.contains(&proof.kind) {
        return Ok(Decision::Events(Vec::new()));
    }
    let is_with_driver = (OrderStatus::AssignedToDriver..=OrderStatus::Failed).contains(&order.status);
    if !is_with_driver {
        let detail = format!("an order that is {} is not at its door", order.status.as_str());
        return Err(illegal(order, party, detail));
    }
    let detail = Some(DetailChange::Proven(Box::new(proof.clone())));
    Ok(Decision::Events(vec![Step { detail, ..Step::new(permit, EventKind::Proof, None) }]))
}

/// Whether an order became ready and passed to its driver at once.
fn went_on(order: &Order, history: &[PastStatus]) -> bool {
    let [.., ready, assigned] = history else { return false };
    order.status == OrderStatus::AssignedToDriver
        && ready.status == OrderStatus::ReadyForPickup
        && (ready.at, ready.seq + 1) == (assigned.at, assigned.seq)
}

fn illegal(order: &Order, party: Party, detail: String) -> Refusal {
    Refusal::Illegal {
        detail,
        status: order.status,
        allowed: status::allowed(order.status, party, order.details.fulfilment),
    }
}
