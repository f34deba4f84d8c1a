//! The one write path of an order: lock, decide, write, log, commit.

use entity::{driver_assignment, order as row, status_history};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QuerySelect,
};

use super::access::{self, Party};
use super::read::{self, Past};
use super::status::{self, Transition};
use super::{Driver, Order, OrderStatus, PaymentStatus};
use crate::app::App;
use crate::auth::Principal;
use crate::clock::Time;
use crate::error::Refusal;
use crate::event::{Kind, OrderEvent};
use crate::id::{OrderId, UserId};
use crate::tracking;

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
struct Step {
    kind: Kind,
    status: Option<OrderStatus>,
    payment_completed: bool,
    driver: DriverChange,
    note: Option<String>,
}

#[derive(Clone, Debug)]
enum DriverChange {
    Keep,
    Set(Driver),
    Remove,
}

impl Step {
    const fn status(to: OrderStatus, note: Option<String>) -> Self {
        Self {
            kind: Kind::Status,
            status: Some(to),
            payment_completed: matches!(to, OrderStatus::PaymentConfirmed),
            driver: DriverChange::Keep,
            note,
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
    let (app, id, who) = (app.clone(), id.clone(), who.clone());
    // In a task of its own: a caller that hangs up must not leave a commit without its wake-up.
    let work = async move {
        let tx = app.db.begin().await?;
        let mut order = read::load_locked(&tx, &id).await?.ok_or(Refusal::NotFound("order"))?;
        let party = access::party(&order, &who).ok_or(Refusal::NotFound("order"))?;
        let steps = decide(&order, party, &action)?;
        if steps.is_empty() {
            tx.rollback().await?;
            return Ok(order);
        }
        let now = app.clock.now();
        let mut history = read::history(&tx, &order).await?;
        let mut events = Vec::with_capacity(steps.len());
        for step in steps {
            events.push(apply(&tx, &mut order, &mut history, step, &who, now).await?);
        }
        save(&tx, &order, &action).await?;
        if order.status == OrderStatus::Delivered {
            tracking::calls::note(&tx, &app, &order, now).await?;
        }
        app.commit(tx, &mut events).await?;
        if order.status == OrderStatus::Delivered {
            // There may be a call to make, and it is on disk now.
            app.calls.notify_one();
        }
        Ok(order)
    };
    crate::app::uninterrupted(work).await
}

/// What the action comes to, pure: the events it causes, none when there is nothing to do.
fn decide(order: &Order, party: Party, action: &Action) -> Result<Vec<Step>, Refusal> {
    match action {
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
                steps.push(Step { kind: Kind::Payment, status, payment_completed: true, driver, note: None });
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
            Ok(vec![Step { kind: Kind::Assigned, status, payment_completed: false, driver, note: None }])
        }
        Action::Unassign => {
            if order.driver.is_none() {
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
            Ok(vec![Step { kind: Kind::Unassigned, status, payment_completed: false, driver, note: None }])
        }
    }
}

fn illegal(order: &Order, party: Party, detail: String) -> Refusal {
    Refusal::Illegal { detail, status: order.status, allowed: status::allowed(order.status, party) }
}

/// Carries out one step on the order in memory and writes its rows.
async fn apply(
    tx: &DatabaseTransaction,
    order: &mut Order,
    history: &mut Vec<Past>,
    step: Step,
    who: &Principal,
    now: Time,
) -> Result<OrderEvent, Refusal> {
    let previous_status = order.status;
    order.seq += 1;
    order.updated_at = now;
    if step.payment_completed {
        order.payment_status = PaymentStatus::Completed;
        order.payment_confirmed_at.get_or_insert(now);
    }
    let former_driver = match step.driver {
        DriverChange::Keep => None,
        DriverChange::Set(driver) => {
            let former = order.driver.replace(driver.clone());
            end_assignment(tx, order, now).await?;
            begin_assignment(tx, order, driver, who, now).await?;
            // Somebody else is coming from somewhere else.
            order.estimated_delivery_time = None;
            former
        }
        DriverChange::Remove => {
            end_assignment(tx, order, now).await?;
            order.estimated_delivery_time = None;
            order.driver.take()
        }
    };
    if let Some(status) = step.status {
        order.status = status;
        history.push(write_history(tx, order, &who.id, step.note.clone(), now).await?);
        if status::is_final(status) {
            end_assignment(tx, order, now).await?;
        }
    }
    Ok(OrderEvent {
        position: 0,
        kind: step.kind,
        order: order.clone(),
        previous_status,
        changed_by: Some(who.id.clone()),
        note: step.note,
        former_driver: former_driver.map(|driver| driver.id),
        history: history.clone(),
        at: now,
    })
}

/// Gives an order that has just been made to its driver, in the same transaction.
pub(crate) async fn hand_over(
    tx: &DatabaseTransaction,
    order: &mut Order,
    history: &[Past],
    driver: Driver,
    who: &Principal,
    now: Time,
) -> Result<OrderEvent, Refusal> {
    let step = Step {
        kind: Kind::Assigned,
        status: Some(OrderStatus::AssignedToDriver),
        payment_completed: false,
        driver: DriverChange::Set(driver.clone()),
        note: None,
    };
    let event = apply(tx, order, &mut history.to_vec(), step, who, now).await?;
    save(tx, order, &Action::Assign { driver }).await?;
    Ok(event)
}

/// Writes the history row of the status that the order has now.
pub(super) async fn write_history(
    tx: &DatabaseTransaction,
    order: &Order,
    by: &UserId,
    note: Option<String>,
    now: Time,
) -> Result<Past, Refusal> {
    let history = status_history::ActiveModel {
        order_id: Set(order.id.to_string()),
        seq: Set(order.seq),
        status: Set(order.status),
        at: Set(now),
        changed_by: Set(Some(by.to_string())),
        note: Set(note),
    };
    status_history::Entity::insert(history).exec_without_returning(tx).await?;
    Ok(Past { seq: order.seq, status: order.status, at: now, changed_by: Some(by.to_string()) })
}

async fn begin_assignment(
    tx: &DatabaseTransaction,
    order: &Order,
    driver: Driver,
    who: &Principal,
    now: Time,
) -> Result<(), Refusal> {
    let assignment = driver_assignment::ActiveModel {
        order_id: Set(order.id.to_string()),
        seq: Set(order.seq),
        driver_id: Set(driver.id.to_string()),
        driver_name: Set(driver.name),
        driver_phone: Set(driver.phone),
        assigned_by: Set(Some(who.id.to_string())),
        assigned_at: Set(now),
        ended_at: Set(None),
    };
    driver_assignment::Entity::insert(assignment).exec_without_returning(tx).await?;
    Ok(())
}

async fn end_assignment(tx: &DatabaseTransaction, order: &Order, now: Time) -> Result<(), Refusal> {
    driver_assignment::Entity::update_many()
        .set(driver_assignment::ActiveModel { ended_at: Set(Some(now)), ..Default::default() })
        .filter(driver_assignment::Column::OrderId.eq(order.id.as_str()))
        .filter(driver_assignment::Column::EndedAt.is_null())
        .exec(tx)
        .await?;
    Ok(())
}

/// Writes the order's row as it is in memory now.
async fn save(tx: &DatabaseTransaction, order: &Order, action: &Action) -> Result<(), Refusal> {
    let mut changed = row::ActiveModel {
        id: Set(order.id.to_string()),
        status: Set(order.status),
        payment_status: Set(order.payment_status),
        payment_confirmed_at: Set(order.payment_confirmed_at),
        driver_id: Set(order.driver.as_ref().map(|driver| driver.id.to_string())),
        driver_name: Set(order.driver.as_ref().map(|driver| driver.name.clone())),
        driver_phone: Set(order.driver.as_ref().and_then(|driver| driver.phone.clone())),
        estimated_delivery_time: Set(order.estimated_delivery_time),
        seq: Set(order.seq),
        updated_at: Set(order.updated_at),
        ..Default::default()
    };
    if let Action::VerifyPayment { reference: Some(reference), .. } = action {
        changed.payment_reference = Set(Some(reference.clone()));
    }
    row::Entity::update(changed).exec(tx).await?;
    Ok(())
}

/// Overrides the computed ETA of an order that is under way. Not a durable event: it has no seq.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Illegal`] for a finished order, or those of the database.
pub async fn override_eta(app: &App, id: &OrderId, who: &Principal, at: Time) -> Result<Order, Refusal> {
    let (app, id, who) = (app.clone(), id.clone(), who.clone());
    let work = async move {
        let tx = app.db.begin().await?;
        let mut order = read::load_locked(&tx, &id).await?.ok_or(Refusal::NotFound("order"))?;
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
    crate::app::uninterrupted(work).await
}

/// Locks the row so that changes of one order come one after the other, on `PostgreSQL` too.
pub(super) fn locked(id: &OrderId) -> sea_orm::Select<row::Entity> {
    row::Entity::find_by_id(id.as_str()).lock_exclusive()
}
