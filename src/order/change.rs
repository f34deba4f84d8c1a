//! What may be asked of an order, and what it comes to. [`writer`](super::writer) carries it out.

use entity::order as row;
use sea_orm::ActiveModelTrait;
use sea_orm::ActiveValue::Set;

use super::read;
use super::writer::Work;
use crate::app::App;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::status::{self, Transition};
use crate::model::{
    Driver, EventKind, Order, OrderId, OrderStatus, Party, PastStatus, PaymentStatus, Principal, access,
};

/// What is asked of an order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Move it to a status; `expected_seq` refuses if somebody else was faster.
    Status { to: OrderStatus, note: Option<String>, expected_seq: Option<i64> },
    /// The payment has arrived; with it, clients of `/api/v1` accept the order.
    VerifyPayment { reference: Option<String>, accept: bool },
    /// Give it to a driver, or to another driver.
    Assign { driver: Driver },
    /// Take it from its driver.
    Unassign,
}

/// One durable event to come, and what it changes.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub kind: EventKind,
    pub status: Option<OrderStatus>,
    pub payment_completed: bool,
    pub driver: DriverChange,
    pub note: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum DriverChange {
    Keep,
    Set(Driver),
    Remove,
}

impl Step {
    const fn status(to: OrderStatus, note: Option<String>) -> Self {
        Self {
            kind: EventKind::Status,
            status: Some(to),
            payment_completed: matches!(to, OrderStatus::PaymentConfirmed),
            driver: DriverChange::Keep,
            note,
        }
    }

    /// An order that has just been made goes to its driver.
    pub const fn hand_over(driver: Driver) -> Self {
        Self {
            kind: EventKind::Assigned,
            status: Some(OrderStatus::AssignedToDriver),
            payment_completed: false,
            driver: DriverChange::Set(driver),
            note: None,
        }
    }
}

/// Carries out an action and answers with the order as it is then. An action that changes nothing (a retry)
/// succeeds. When this returns, the change is on disk and its events have been handed to every session of
/// this node.
///
/// # Errors
/// [`Refusal::NotFound`] for an order that the caller may not see, [`Refusal::Illegal`],
/// [`Refusal::StaleSeq`], [`Refusal::Forbidden`], or those of the database.
pub async fn change(app: &App, id: &OrderId, who: &Principal, action: Action) -> Result<Order, Refusal> {
    app.writer.write(app, id.clone(), Work::Change { who: who.clone(), action }).await
}

/// What the action comes to, pure: the events it causes, none when there is nothing to do.
///
/// # Errors
/// [`Refusal::Illegal`] or [`Refusal::StaleSeq`].
pub(super) fn decide(
    order: &Order,
    history: &[PastStatus],
    party: Party,
    action: &Action,
) -> Result<Vec<Step>, Refusal> {
    match action {
        // It was done, and a driver who had been assigned early took over with it: a retry must not fail.
        Action::Status { to: OrderStatus::ReadyForPickup, .. }
            if matches!(party, Party::Chef | Party::Staff) && went_on(order, history) =>
        {
            Ok(Vec::new())
        }
        Action::Status { to, note, expected_seq } => {
            match status::transition(order.status, *to, party) {
                Transition::Already => return Ok(Vec::new()),
                // Who is at the wrong seq has the wrong picture: tell them that first.
                _ if expected_seq.is_some_and(|seq| seq != order.seq) => {
                    let expected = expected_seq.unwrap_or_default();
                    return Err(Refusal::StaleSeq { expected, seq: order.seq });
                }
                Transition::Refused => {
                    let detail = format!(
                        "an order that is {} cannot become {} by you",
                        order.status.as_str(),
                        to.as_str()
                    );
                    return Err(illegal(order, party, detail));
                }
                Transition::Moves => {}
            }
            let mut steps = vec![Step::status(*to, note.clone())];
            // A driver who was assigned early takes over as soon as the order is ready.
            if *to == OrderStatus::ReadyForPickup && order.driver.is_some() {
                steps.push(Step::status(OrderStatus::AssignedToDriver, None));
            }
            Ok(steps)
        }
        Action::VerifyPayment { accept, .. } => {
            let mut steps = Vec::new();
            if order.payment_status != PaymentStatus::Completed {
                if order.status == OrderStatus::Cancelled {
                    return Err(illegal(order, party, "a cancelled order cannot be paid".to_owned()));
                }
                let status = (order.status == OrderStatus::Pending).then_some(OrderStatus::PaymentConfirmed);
                let driver = DriverChange::Keep;
                steps.push(Step {
                    kind: EventKind::Payment,
                    status,
                    payment_completed: true,
                    driver,
                    note: None,
                });
            }
            if *accept && order.status < OrderStatus::Accepted {
                steps.push(Step::status(OrderStatus::Accepted, None));
            }
            Ok(steps)
        }
        Action::Assign { driver } => {
            if order.driver.as_ref().is_some_and(|present| present.id == driver.id) {
                return Ok(Vec::new());
            }
            if !status::may_assign(order.status) {
                let detail =
                    format!("no driver can be assigned to an order that is {}", order.status.as_str());
                return Err(illegal(order, party, detail));
            }
            let status =
                (order.status == OrderStatus::ReadyForPickup).then_some(OrderStatus::AssignedToDriver);
            let driver = DriverChange::Set(driver.clone());
            Ok(vec![Step { kind: EventKind::Assigned, status, payment_completed: false, driver, note: None }])
        }
        Action::Unassign => {
            // By hand an order gets there without a driver as well.
            if order.driver.is_none() && order.status != OrderStatus::AssignedToDriver {
                return Ok(Vec::new());
            }
            if !status::may_unassign(order.status) {
                let detail =
                    format!("the driver cannot be taken off an order that is {}", order.status.as_str());
                return Err(illegal(order, party, detail));
            }
            let status =
                (order.status == OrderStatus::AssignedToDriver).then_some(OrderStatus::ReadyForPickup);
            let driver = DriverChange::Remove;
            Ok(vec![Step {
                kind: EventKind::Unassigned,
                status,
                payment_completed: false,
                driver,
                note: None,
            }])
        }
    }
}

/// Whether an order has become ready and gone on to its driver at once.
fn went_on(order: &Order, history: &[PastStatus]) -> bool {
    let [.., ready, assigned] = history else { return false };
    order.status == OrderStatus::AssignedToDriver
        && ready.status == OrderStatus::ReadyForPickup
        && (ready.at, ready.seq + 1) == (assigned.at, assigned.seq)
}

fn illegal(order: &Order, party: Party, detail: String) -> Refusal {
    Refusal::Illegal { detail, status: order.status, allowed: status::allowed(order.status, party) }
}

/// Overrides the computed ETA of an order that is under way. Not a durable event: it has no seq.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Illegal`] for a finished order, or those of the database.
pub async fn override_eta(app: &App, id: &OrderId, who: &Principal, at: Time) -> Result<Order, Refusal> {
    let (app, id, who) = (app.clone(), id.clone(), who.clone());
    let work = async move {
        let tx = app.db.begin().await?;
        let mut order = read::load_locked(&tx, [&id]).await?.pop().ok_or(Refusal::NotFound("order"))?;
        let party = access::party(&order, &who).ok_or(Refusal::NotFound("order"))?;
        if status::is_final(order.status) {
            let detail = format!("an order that is {} has no ETA", order.status.as_str());
            return Err(illegal(&order, party, detail));
        }
        order.estimated_delivery_time = Some(at);
        let changed = row::ActiveModel {
            id: Set(order.id.to_string()),
            estimated_delivery_time: Set(Some(at)),
            ..Default::default()
        };
        changed.update(&tx).await?;
        tx.commit().await?;
        app.live.override_eta(&order, app.clock.now(), &app.bus);
        Ok(order)
    };
    crate::base::spawn::uninterrupted(work).await
}
