//! Orders in a transaction: locked, read unless they are in memory, changed in memory, and written together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::{driver_assignment, order as row, order_item, order_proof};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::change::{self, Decision, DetailChange, DriverChange, Estimate, Step};
use super::create::{active_item, stored_details};
use super::known::{self, Known, OrderWithHistory};
use super::read;
use crate::base::clock::Time;
use crate::base::db::{Sql, padded, pieces, rows};
use crate::base::error::Refusal;
use crate::model::{
    Action, Asked, Driver, EventKind, Order, OrderEvent, OrderId, OrderStatus, Party, PastStatus,
    PaymentStatus, Principal, Proof, UserId, access, status,
};

/// Writes changed columns of orders, and their new statuses. It writes no others: each column with an index costs one
/// more page. (`PostgreSQL` expects few rows from an array, so it looks orders up by key.)
const CHANGE: Sql = Sql {
    sqlite: "UPDATE orders SET status = t.value->>1, payment_status = t.value->>2, seq = t.value->>3, updated_at = $2,
            payment_confirmed_at = CASE WHEN t.value->>4 THEN $2 ELSE payment_confirmed_at END
        FROM json_each($1) AS t WHERE orders.id = t.value->>0;
        INSERT INTO status_history (order_id, seq, status, at, changed_by, note, corrected)
        SELECT value->>0, value->>1, value->>2, $2, value->>3, value->>4, value->>5 FROM json_each($3)",
    postgres: "WITH changed AS (
            UPDATE orders SET status = value->>1, payment_status = value->>2, seq = CAST(value->>3 AS bigint),
                updated_at = $2,
                payment_confirmed_at = CASE WHEN CAST(value->>4 AS boolean) THEN $2 ELSE payment_confirmed_at END
            FROM unnest(ARRAY (SELECT json_array_elements(CAST($1 AS json)))) AS t (value)
            WHERE orders.id = value->>0)
        INSERT INTO status_history (order_id, seq, status, at, changed_by, note, corrected)
        SELECT value->>0, CAST(value->>1 AS bigint), value->>2, $2, value->>3, value->>4, CAST(value->>5 AS boolean)
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
    history: Vec<(OrderId, i64, OrderStatus, UserId, Option<String>, bool)>,
    /// Orders that say something else now.
    amended: BTreeSet<OrderId>,
    proofs: Vec<order_proof::ActiveModel>,
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
            amended: BTreeSet::new(),
            proofs: Vec::new(),
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
        // Who takes an order is not party to it yet, and who has declined it no longer: what they may learn of it is in the decision.
        let is_beside = match &asked.action {
            Action::Claim { .. } => true,
            // Again.
            Action::Decline { driver, .. } => order.details.is_declined_by(driver),
            _ => false,
        };
        let party = is_beside
            .then(|| Party::of(who.role))
            .or_else(|| access::party(order, who))
            .ok_or(Refusal::NotFound("order"))?;
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
            let corrected = step.kind == EventKind::Corrected;
            let (id, note) = (order.id.clone(), step.note.clone());
            self.history.push((id, order.seq, status, by.clone(), note, corrected));
            history.push(PastStatus { corrected, ..PastStatus::of(order, by, now) });
            if let Some(driver) = &order.driver {
                match (status::is_final(previous_status), status::is_final(status)) {
                    (false, true) => end_assignment(&mut self.ended, &mut self.begun, &order.id, now),
                    (true, false) => self.begun.push(assignment(order, driver.clone(), by, now)),
                    _ => {}
                }
            }
            if order.details.failure.take().is_some() {
                self.amended.insert(order.id.clone());
            }
        }
        let mut changed = Vec::new();
        if let Some(detail) = step.detail {
            self.amended.insert(order.id.clone());
            match detail {
                DetailChange::Failed(reason) => order.details.failure = Some(reason),
                DetailChange::Declined(driver) => order.details.decline(driver),
                DetailChange::Amended(amendment) => {
                    changed = amendment.apply(order).into_iter().map(Into::into).collect();
                }
                DetailChange::Proven(proof) => {
                    order.details.proven.push(proof.kind);
                    self.proofs.push(proof_row(order, &proof, by, now));
                }
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
            reason: step.reason,
            changed,
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

    /// Writes what orders say, and the proofs of them. Few changes do that.
    async fn save_amended(&self, tx: &DatabaseTransaction) -> Result<(), Refusal> {
        for (order, _) in self.amended.iter().filter_map(|id| self.orders.get(id)) {
            let (latitude, longitude) = order.delivery.columns();
            let new = row::ActiveModel {
                details: Set(stored_details(order)?),
                delivery_address: Set(order.delivery.address.clone()),
                delivery_latitude: Set(latitude),
                delivery_longitude: Set(longitude),
                customer_name: Set(order.customer.name.clone()),
                customer_phone: Set(order.customer.phone.clone()),
                notes: Set(order.notes.clone()),
                total: Set(order.total),
                ..Default::default()
            };
            let id = order.id.as_str();
            row::Entity::update_many().set(new).filter(row::Column::Id.eq(id)).exec(tx).await?;
            let with_items =
                |event: &&OrderEvent| event.order.id == order.id && event.changed.contains(&"items".into());
            if self.events.iter().find(with_items).is_some() {
                order_item::Entity::delete_many().filter(order_item::Column::OrderId.eq(id)).exec(tx).await?;
                let items =
                    order.items.iter().zip(1_i32..).map(|(item, line)| active_item(order, item, line));
                for items in pieces(items.collect()) {
                    order_item::Entity::insert_many(items).exec_without_returning(tx).await?;
                }
            }
        }
        for proofs in pieces(self.proofs.clone()) {
            order_proof::Entity::insert_many(proofs).exec_without_returning(tx).await?;
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
        self.save_amended(tx).await?;
        for (id, reference) in &self.references {
            let paid =
                row::ActiveModel { payment_reference: Set(Some(reference.clone())), ..Default::default() };
            let order = row::Entity::update_many().set(paid).filter(row::Column::Id.eq(id.as_str()));
            order.exec(tx).await?;
        }
        Ok(())
    }
}

/// The row of a proof.
fn proof_row(order: &Order, proof: &Proof, by: &UserId, now: Time) -> order_proof::ActiveModel {
    let picture = proof.picture.as_ref();
    let place = picture.and_then(|picture| picture.place);
    order_proof::ActiveModel {
        order_id: Set(order.id.to_string()),
        kind: Set(proof.kind.as_str().to_owned()),
        seq: Set(order.seq),
        reference: Set(picture.map(|picture| picture.reference.clone())),
        sha256: Set(picture.map(|picture| picture.sha256.clone())),
        media_type: Set(picture.map(|picture| picture.media_type.clone())),
        captured_at: Set(picture.map_or(now, |picture| picture.captured_at)),
        latitude: Set(place.map(|place| place.lat())),
        longitude: Set(place.map(|place| place.lon())),
        by: Set(by.to_string()),
        at: Set(now),
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
