//! Orders being changed in a transaction: read at once, changed in memory, written at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::{driver_assignment, order as row, status_history};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::change::{self, Action, DriverChange, Step};
use super::read::{self, Past};
use super::{Driver, Order, OrderStatus, PaymentStatus, access, create, status};
use crate::app::App;
use crate::auth::Principal;
use crate::clock::Time;
use crate::db::{padded, pieces};
use crate::error::Refusal;
use crate::event::OrderEvent;
use crate::id::{OrderId, UserId};
use crate::tracking;

/// Orders in memory, and the rows that are to be written of them.
pub(crate) struct Draft {
    orders: HashMap<OrderId, (Order, Vec<Past>)>,
    now: Time,
    /// Orders whose row is to be written, in the order of their ids.
    changed: BTreeSet<OrderId>,
    references: BTreeMap<OrderId, String>,
    history: Vec<status_history::ActiveModel>,
    /// Orders whose assignment ends, and assignments that begin after that.
    ended: BTreeSet<OrderId>,
    begun: Vec<driver_assignment::ActiveModel>,
    delivered: BTreeSet<OrderId>,
    /// What has happened, to be logged.
    pub events: Vec<OrderEvent>,
}

impl Draft {
    /// A draft of nothing yet.
    pub fn new(now: Time) -> Self {
        Self {
            orders: HashMap::new(),
            now,
            changed: BTreeSet::new(),
            references: BTreeMap::new(),
            history: Vec::new(),
            ended: BTreeSet::new(),
            begun: Vec::new(),
            delivered: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Reads and locks orders.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn read(
        tx: &DatabaseTransaction,
        ids: &BTreeSet<&OrderId>,
        now: Time,
    ) -> Result<Self, Refusal> {
        let orders = read::load_locked(tx, ids.iter().copied()).await?;
        let mut histories = read::histories(tx, &orders.iter().collect::<Vec<_>>()).await?;
        let with_history = |order: Order| {
            let history = histories.remove(&order.id).unwrap_or_default();
            (order.id.clone(), (order, history))
        };
        Ok(Self { orders: orders.into_iter().map(with_history).collect(), ..Self::new(now) })
    }

    /// Takes in an order that has just been made, as its event says it.
    pub fn add(&mut self, created: OrderEvent) {
        let known = (created.order.clone(), created.history.clone());
        self.orders.insert(created.order.id.clone(), known);
        self.events.push(created);
    }

    /// Carries out an action on one of the orders, in memory. An action that changes nothing succeeds.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also for an order that the caller may not see, or as [`change::decide`]; then nothing is changed.
    pub fn change(&mut self, id: &OrderId, who: &Principal, action: &Action) -> Result<Order, Refusal> {
        let (order, _) = self.orders.get(id).ok_or(Refusal::NotFound("order"))?;
        let party = access::party(order, who).ok_or(Refusal::NotFound("order"))?;
        let steps = change::decide(order, party, action)?;
        let mut changed = order.clone();
        if let Action::VerifyPayment { reference: Some(reference), .. } = action
            && !steps.is_empty()
        {
            self.references.insert(id.clone(), reference.clone());
        }
        for step in steps {
            changed = self.step(id, step, &who.id)?;
        }
        Ok(changed)
    }

    /// Carries out one step, one event, on an order of this draft; the order as it is then.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for another order.
    pub fn step(&mut self, id: &OrderId, step: Step, by: &UserId) -> Result<Order, Refusal> {
        let now = self.now;
        let (order, history) = self.orders.get_mut(id).ok_or(Refusal::NotFound("order"))?;
        let previous_status = order.status;
        order.seq += 1;
        order.updated_at = now;
        if step.payment_completed {
            order.payment_status = PaymentStatus::Completed;
            order.payment_confirmed_at.get_or_insert(now);
        }
        let former_driver = match step.driver {
            DriverChange::Keep => None,
            change => {
                let next = if let DriverChange::Set(driver) = change { Some(driver) } else { None };
                let former = std::mem::replace(&mut order.driver, next);
                // Somebody else is coming from somewhere else.
                order.estimated_delivery_time = None;
                end_assignment(&mut self.ended, &mut self.begun, &order.id, now);
                self.begun.extend(order.driver.clone().map(|driver| assignment(order, driver, by, now)));
                former
            }
        };
        if let Some(status) = step.status {
            order.status = status;
            let (row, past) = history_row(order, by, step.note.clone(), now);
            self.history.push(row);
            history.push(past);
            if status::is_final(status) && order.driver.is_some() {
                end_assignment(&mut self.ended, &mut self.begun, &order.id, now);
            }
            if status == OrderStatus::Delivered {
                self.delivered.insert(id.clone());
            }
        }
        self.changed.insert(id.clone());
        self.events.push(OrderEvent {
            position: 0,
            kind: step.kind,
            order: order.clone(),
            previous_status,
            changed_by: Some(by.clone()),
            note: step.note,
            former_driver: former_driver.map(|driver| driver.id),
            history: history.clone(),
            at: now,
        });
        Ok(order.clone())
    }

    /// Whether an order was delivered.
    pub fn delivers(&self) -> bool {
        !self.delivered.is_empty()
    }

    /// Writes every row, but not the log.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn write(&mut self, tx: &DatabaseTransaction, app: &App) -> Result<(), Refusal> {
        self.save(tx).await?;
        for rows in pieces(std::mem::take(&mut self.history)) {
            status_history::Entity::insert_many(rows).exec_without_returning(tx).await?;
        }
        if !self.ended.is_empty() {
            let orders = padded(self.ended.iter().map(OrderId::as_str).collect());
            driver_assignment::Entity::update_many()
                .set(driver_assignment::ActiveModel { ended_at: Set(Some(self.now)), ..Default::default() })
                .filter(driver_assignment::Column::OrderId.is_in(orders))
                .filter(driver_assignment::Column::EndedAt.is_null())
                .exec(tx)
                .await?;
        }
        for rows in pieces(std::mem::take(&mut self.begun)) {
            driver_assignment::Entity::insert_many(rows).exec_without_returning(tx).await?;
        }
        for id in &self.delivered {
            tracking::calls::note(tx, app, id, self.now).await?;
        }
        Ok(())
    }

    /// Writes the rows of the orders that were changed. They are there, so that each insertion becomes an update.
    async fn save(&self, tx: &DatabaseTransaction) -> Result<(), Refusal> {
        use row::Column;
        let changed = self.changed.iter().filter_map(|id| self.orders.get(id));
        let update = OnConflict::column(Column::Id)
            .update_columns([
                Column::Status,
                Column::PaymentStatus,
                Column::PaymentConfirmedAt,
                Column::DriverId,
                Column::DriverName,
                Column::DriverPhone,
                Column::EstimatedDeliveryTime,
                Column::Seq,
                Column::UpdatedAt,
            ])
            .to_owned();
        for rows in pieces(changed.map(|(order, _)| create::active(order)).collect()) {
            let rows = row::Entity::insert_many(rows).on_conflict(update.clone());
            rows.exec_without_returning(tx).await?;
        }
        for (id, reference) in &self.references {
            let paid =
                row::ActiveModel { payment_reference: Set(Some(reference.clone())), ..Default::default() };
            let order = row::Entity::update_many().set(paid).filter(Column::Id.eq(id.as_str()));
            order.exec(tx).await?;
        }
        Ok(())
    }
}

/// Ends the assignment that an order has: in the database, or if it has begun in the same draft, before it is written.
fn end_assignment(
    ended: &mut BTreeSet<OrderId>,
    begun: &mut [driver_assignment::ActiveModel],
    order: &OrderId,
    now: Time,
) {
    ended.insert(order.clone());
    for assignment in begun.iter_mut().filter(|begun| begun.order_id.as_ref() == order.as_str()) {
        assignment.ended_at = Set(assignment.ended_at.take().flatten().or(Some(now)));
    }
}

fn assignment(order: &Order, driver: Driver, by: &UserId, now: Time) -> driver_assignment::ActiveModel {
    driver_assignment::ActiveModel {
        order_id: Set(order.id.to_string()),
        seq: Set(order.seq),
        driver_id: Set(driver.id.to_string()),
        driver_name: Set(driver.name),
        driver_phone: Set(driver.phone),
        assigned_by: Set(Some(by.to_string())),
        assigned_at: Set(now),
        ended_at: Set(None),
    }
}

/// The history row of the status that the order has now.
pub(super) fn history_row(
    order: &Order,
    by: &UserId,
    note: Option<String>,
    now: Time,
) -> (status_history::ActiveModel, Past) {
    let row = status_history::ActiveModel {
        order_id: Set(order.id.to_string()),
        seq: Set(order.seq),
        status: Set(order.status),
        at: Set(now),
        changed_by: Set(Some(by.to_string())),
        note: Set(note),
    };
    let past = Past { seq: order.seq, status: order.status, at: now, changed_by: Some(by.to_string()) };
    (row, past)
}
