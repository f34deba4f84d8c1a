//! Orders in a transaction: locked, read unless they are in memory, changed in memory, and written together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::{driver_assignment, order as row};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::change::{self, Decision, DriverChange, Estimate, Step};
use super::known::{self, Known, OrderWithHistory};
use super::read;
use crate::base::clock::Time;
use crate::base::db::{Sql, padded, pieces, rows};
use crate::base::error::Refusal;
use crate::model::{
    Action, Asked, Driver, Order, OrderEvent, OrderId, OrderStatus, PastStatus, PaymentStatus, Principal,
    UserId, access, status,
};

/// Writes changed columns of orders, and their new statuses. It writes no others: each column with an index costs one
/// more page. (`PostgreSQL` expects few rows from an array, so it looks orders up by key.)
const CHANGE: Sql = Sql {
    sqlite: "UPDATE orders SET status = t.value->>1, payment_status = t.value->>2, seq = t.value->>3, updated_at = $2,
            payment_confirmed_at = CASE WHEN t.value->>4 THEN $2 ELSE payment_confirmed_at END
        FROM json_each($1) AS t WHERE orders.id = t.value->>0;
        INSERT INTO status_history (order_id, seq, status, at, changed_by, note)
        SELECT value->>0, value->>1, value->>2, $2, value->>3, value->>4 FROM json_each($3)",
    postgres: "WITH changed AS (
            UPDATE orders SET status = value->>1, payment_status = value->>2, seq = CAST(value->>3 AS bigint),
                updated_at = $2,
                payment_confirmed_at = CASE WHEN CAST(value->>4 AS boolean) THEN $2 ELSE payment_confirmed_at END
            FROM unnest(ARRAY (SELECT json_array_elements(CAST($1 AS json)))) AS t (value)
            WHERE orders.id = value->>0)
        INSERT INTO status_history (order_id, seq, status, at, changed_by, note)
        SELECT value->>0, CAST(value->>1 AS bigint), value->>2, $2, value->>3, value->>4
        FROM json_array_elements(CAST($3 AS json)) AS t (value)",
};

/// Writes new drivers of orders. It removes the estimated delivery time, because the new driver starts elsewhere.
const HAND_OVER: Sql = Sql {
    sqlite:
        "UPDATE orders SET driver_id = t.value->>1, driver_name = t.value->>2, driver_phone = t.value->>3,
            estimated_delivery_time = NULL
        FROM json_each($1) AS t WHERE orders.id = t.value->>0",
    postgres: "UPDATE orders SET driver_id = value->>1, driver_name = value->>2, driver_phone = value->>3,
            estimated_delivery_time = NULL
        FROM unnest(ARRAY (SELECT json_array_elements(CAST($1 AS json)))) AS t (value)
        WHERE orders.id = value->>0",
};

/// Orders in memory, and their rows that must be written.
pub(crate) struct Draft {
    orders: HashMap<OrderId, OrderWithHistory>,
    now: Time,
    /// Orders whose row must be written, in the order of their ids.
    changed: BTreeSet<OrderId>,
    /// Those of them that changed drivers.
    handed_over: BTreeSet<OrderId>,
    references: BTreeMap<OrderId, String>,
    history: Vec<(OrderId, i64, OrderStatus, UserId, Option<String>)>,
    /// Orders whose assignment ends, and assignments that begin after that.
    ended: BTreeSet<OrderId>,
    begun: Vec<driver_assignment::ActiveModel>,
    /// Orders whose ETA was set by hand.
    estimated: BTreeSet<OrderId>,
    /// The events to be logged.
    pub events: Vec<OrderEvent>,
}

impl Draft {
    /// An empty draft.
    pub fn new(now: Time) -> Self {
        Self {
            orders: HashMap::new(),
            now,
            changed: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            references: BTreeMap::new(),
            history: Vec::new(),
            ended: BTreeSet::new(),
            begun: Vec::new(),
            estimated: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Locks orders, and reads those that are not in memory in their present version.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn read(
        tx: &DatabaseTransaction,
        ids: &BTreeSet<&OrderId>,
        kept: &Known,
        now: Time,
    ) -> Result<Self, Refusal> {
        let mut draft = Self::new(now);
        let mut others = Vec::new();
        let locked = known::lock(tx, ids).await?;
        for version in &locked {
            match kept.take(version) {
                Some(whole) => draft.hold(whole),
                None => others.push(&version.id),
            }
        }
        read::wholes(tx, others).await?.into_iter().for_each(|whole| draft.hold(whole));
        Ok(draft)
    }

    fn hold(&mut self, whole: OrderWithHistory) {
        self.orders.insert(whole.0.id.clone(), whole);
    }

    /// Adds an order that was just created, from its event.
    pub fn add(&mut self, created: OrderEvent) {
        self.hold((created.order.clone(), created.history.clone()));
        self.events.push(created);
    }

    /// Carries out an action on one of the orders, in memory. An action that changes nothing succeeds.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also for an order that the caller may not see, or as [`change::decide`]; then nothing is
    /// changed.
    pub fn change(&mut self, id: &OrderId, who: &Principal, asked: &Asked) -> Result<Order, Refusal> {
        let (order, history) = self.orders.get(id).ok_or(Refusal::NotFound("order"))?;
        let party = access::party(order, who).ok_or(Refusal::NotFound("order"))?;
        let steps = match change::decide(order, history, party, asked)? {
            Decision::Events(steps) => steps,
            Decision::Estimate(estimate) => return self.estimate(id, estimate),
        };
        if let Action::VerifyPayment { reference: Some(reference), .. } = &asked.action
            && steps.iter().any(|step| step.payment_completed)
        {
            self.references.insert(id.clone(), reference.clone());
        }
        for step in steps {
            self.carry_out(id, step, &who.id)?;
        }
        self.order(id)
    }

    /// Carries out one step, which is one event, on an order of this draft. Returns the order after it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for another order.
    pub fn step(&mut self, id: &OrderId, step: Step, by: &UserId) -> Result<Order, Refusal> {
        self.carry_out(id, step, by)?;
        self.order(id)
    }

    fn estimate(&mut self, id: &OrderId, estimate: Estimate) -> Result<Order, Refusal> {
        let (order, _) = self.orders.get_mut(id).ok_or(Refusal::NotFound("order"))?;
        match estimate {
            Estimate::Arrival(at) => order.estimated_delivery_time = Some(at),
            Estimate::Ready(at) => order.kitchen_ready_at = Some(at),
        }
        self.estimated.insert(id.clone());
        self.order(id)
    }

    fn order(&self, id: &OrderId) -> Result<Order, Refusal> {
        self.orders.get(id).map(|(order, _)| order.clone()).ok_or(Refusal::NotFound("order"))
    }

    fn carry_out(&mut self, id: &OrderId, step: Step, by: &UserId) -> Result<(), Refusal> {
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
                // The new driver starts elsewhere.
                order.estimated_delivery_time = None;
                self.handed_over.insert(order.id.clone());
                end_assignment(&mut self.ended, &mut self.begun, &order.id, now);
                self.begun.extend(order.driver.clone().map(|driver| assignment(order, driver, by, now)));
                former
            }
        };
        if let Some(status) = step.status {
            order.status = status;
            self.history.push((order.id.clone(), order.seq, status, by.clone(), step.note.clone()));
            history.push(PastStatus::of(order, by, now));
            if status::is_final(status) && order.driver.is_some() {
                end_assignment(&mut self.ended, &mut self.begun, &order.id, now);
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
        Ok(())
    }

    /// The orders in their new state.
    pub(super) fn into_orders(self) -> impl Iterator<Item = OrderWithHistory> {
        self.orders.into_values()
    }

    /// Writes every row except those of the log.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn write(&mut self, tx: &DatabaseTransaction) -> Result<(), Refusal> {
        self.save(tx).await?;
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
        for id in &self.estimated {
            // The values at the end of the draft: an assignment after the override removes it.
            let Some((order, _)) = self.orders.get(id) else { continue };
            let eta = row::ActiveModel {
                estimated_delivery_time: Set(order.estimated_delivery_time),
                kitchen_ready_at: Set(order.kitchen_ready_at),
                ..Default::default()
            };
            row::Entity::update_many().set(eta).filter(row::Column::Id.eq(id.as_str())).exec(tx).await?;
        }
        Ok(())
    }

    /// Writes the changed rows of orders, and their histories.
    async fn save(&self, tx: &DatabaseTransaction) -> Result<(), Refusal> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let changed = self.changed.iter().filter_map(|id| self.orders.get(id)).map(|(order, _)| {
            let paid_now = order.payment_confirmed_at == Some(self.now);
            (&order.id, order.status, order.payment_status, order.seq, paid_now)
        });
        let values = [rows(&changed.collect::<Vec<_>>())?, self.now.into(), rows(&self.history)?];
        tx.execute_raw(CHANGE.with(tx, values)).await?;
        if !self.handed_over.is_empty() {
            let handed_over =
                self.handed_over.iter().filter_map(|id| self.orders.get(id)).map(|(order, _)| {
                    let driver = order.driver.as_ref();
                    let (name, phone) =
                        (driver.map(|driver| &driver.name), driver.map(|driver| &driver.phone));
                    (&order.id, driver.map(|driver| &driver.id), name, phone)
                });
            tx.execute_raw(HAND_OVER.with(tx, [rows(&handed_over.collect::<Vec<_>>())?])).await?;
        }
        for (id, reference) in &self.references {
            let paid =
                row::ActiveModel { payment_reference: Set(Some(reference.clone())), ..Default::default() };
            let order = row::Entity::update_many().set(paid).filter(row::Column::Id.eq(id.as_str()));
            order.exec(tx).await?;
        }
        Ok(())
    }
}

/// Ends the present assignment of an order, in the database, or in this draft if it began there.
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
