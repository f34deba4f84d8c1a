//! Creation of orders. One `Idempotency-Key` never creates a second order.

use std::sync::Arc;

use chrono::TimeDelta;
use entity::{idempotency_key, order as row, order_item, order_number, status_history};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::names::{self, Reserved};
use super::writer::Other;
use super::{Orders, read};
use crate::base::clock::{Clock, Time};
use crate::base::db::{Db, Sql};
use crate::base::error::Refusal;
use crate::event::log;
use crate::model::access::may;
use crate::model::new_order::{ItemIn, NewOrder};
use crate::model::{
    Chef, Customer, Delivery, Details, EventKind, Fulfilment, Item, Order, OrderEvent, OrderId, OrderStatus,
    Party, PastStatus, PaymentStatus, Permit, Principal, Right, Role, UserId,
};

/// How often a creation is tried again after a concurrent one took the same key or number.
const TRIES: usize = 3;

/// The key of a repeatable creation, and a hash of its request.
#[derive(Clone, Debug)]
pub struct Idempotency {
    pub key: String,
    /// SHA-256 of the request body, in hex.
    pub request_hash: String,
}

pub(super) async fn create(
    orders: &Orders,
    who: &Principal,
    new: NewOrder,
    idempotency: Option<Idempotency>,
) -> Result<Order, Refusal> {
    let own = new.customer.id == who.id;
    let permit = may(Party::of(who.role), Right::Create { own }).ok_or_else(|| {
        let detail = match who.role {
            Role::Customer => "a customer may order only for themself",
            _ => "only customers, admin and service may create orders",
        };
        Refusal::Forbidden(detail.to_owned())
    })?;
    if who.role == Role::Customer
        && new.order_number.as_ref().is_some_and(|number| names::is_made_form(&number.0))
    {
        return Err(Refusal::invalid("orderNumber", "must not have the form of numbers that are made here"));
    }
    let new = build(&orders.clock, new)?;
    let id = new.id.clone();
    let reserved = if new.order_number.is_empty() { orders.reserve_number().await? } else { None };
    let number = reserved.as_ref().map_or_else(|| new.order_number.clone(), Reserved::text);
    let key = idempotency.as_ref().map(|asked| format!("key {} {}", asked.key, who.id));
    // Without a number yet, those that take the next one from the counter have this name in common.
    let names: Vec<_> = [format!("number {number}")].into_iter().chain(key).collect();
    // The writer may run it more than once.
    let request = Arc::new((who.clone(), new, idempotency, reserved));
    let (lifetime, mut attempt) = (orders.key_lifetime, 1);
    loop {
        let request = Arc::clone(&request);
        let work: Other = Box::new(move |tx| {
            let request = Arc::clone(&request);
            Box::pin(async move {
                let (who, new, idempotency, reserved) = &*request;
                let asked = idempotency.as_ref().map(|asked| (asked, lifetime));
                insert(tx, permit, who, new.clone(), asked, reserved.as_ref()).await
            })
        });
        match orders.write(id.clone(), names.clone(), work).await {
            // A concurrent request took the same key or number.
            Err(Refusal::Conflict(_)) if attempt < TRIES => attempt += 1,
            answer => return answer,
        }
    }
}

/// Deletes some of the keys from before a time.
const FORGET_KEYS: Sql = {
    const SQL: &str = "DELETE FROM idempotency_key WHERE (user_id, key) IN
        (SELECT user_id, key FROM idempotency_key WHERE created_at < $1 ORDER BY created_at LIMIT 500)";
    Sql { sqlite: SQL, postgres: SQL }
};
/// How long the counter of a day's order numbers is kept.
const COUNTER_KEPT: TimeDelta = TimeDelta::days(7);

/// Deletes idempotency keys from before a time, and counters of order numbers that nobody needs any more.
pub(super) async fn forget_keys(db: &Db, before: Time) -> Result<(), Refusal> {
    while db.writer().execute_raw(FORGET_KEYS.with(db.writer(), [before.into()])).await?.rows_affected() > 0 {
    }
    // The numbers of a day are given out on that day.
    let day = (before - COUNTER_KEPT).format("%Y%m%d").to_string();
    let counters = order_number::Entity::delete_many().filter(order_number::Column::Day.lt(day));
    counters.exec(db.writer()).await?;
    Ok(())
}

fn build(clock: &Clock, new: NewOrder) -> Result<Order, Refusal> {
    let now = clock.now();
    let fulfilment = new.fulfilment.unwrap_or_default();
    let delivery = match new.delivery {
        Some(delivery) => {
            let (latitude, longitude) = delivery.place()?.unzip();
            Delivery { address: delivery.address.0, latitude, longitude }
        }
        None if fulfilment == Fulfilment::Collection => Delivery::default(),
        None => return Err(Refusal::invalid("delivery", "is required")),
    };
    if new.chef.latitude.is_some() != new.chef.longitude.is_some() {
        let member = if new.chef.latitude.is_some() { "chef.longitude" } else { "chef.latitude" };
        return Err(Refusal::invalid(member, "is required with the other half of the place"));
    }
    let mut proof_required = new.proof_required.unwrap_or_default();
    proof_required.sort_unstable_by_key(|kind| kind.as_str());
    proof_required.dedup();
    let details = Details {
        fulfilment,
        scheduled_for: new.scheduled_for.map(|window| window.0),
        proof_required,
        silent: new.notify == Some(false),
        ..Details::default()
    };
    Ok(Order {
        id: new.id.unwrap_or_else(|| OrderId::stored(&clock.uuid().to_string())),
        order_number: new.order_number.map(|number| number.0).unwrap_or_default(),
        tracking_number: new.tracking_number.map(|number| number.0),
        customer: Customer {
            id: new.customer.id,
            name: new.customer.name.0,
            phone: new.customer.phone.map(|phone| phone.0),
        },
        chef: Chef {
            id: new.chef.id,
            name: new.chef.name.0,
            business_name: new.chef.business_name.map(|name| name.0),
            address: new.chef.address.map(|address| address.0),
            latitude: new.chef.latitude.map(|latitude| latitude.0),
            longitude: new.chef.longitude.map(|longitude| longitude.0),
        },
        delivery,
        items: new.items.unwrap_or_default().0.into_iter().map(item).collect(),
        total: new.total.map(|total| total.0),
        currency: new.currency.map(|currency| currency.0),
        notes: new.notes.map(|notes| notes.0),
        status: OrderStatus::Pending,
        payment_status: PaymentStatus::Pending,
        payment_confirmed_at: None,
        driver: None,
        seq: 1,
        estimated_delivery_time: None,
        kitchen_ready_at: None,
        details,
        created_at: now,
        updated_at: now,
    })
}

/// An item as it is kept.
#[must_use]
pub fn item(new: ItemIn) -> Item {
    Item { name: new.name.0, quantity: new.quantity, unit_price: new.unit_price.map(|price| price.0) }
}

async fn insert(
    tx: &DatabaseTransaction,
    permit: Permit,
    who: &Principal,
    mut order: Order,
    idempotency: Option<(&Idempotency, TimeDelta)>,
    reserved: Option<&Reserved>,
) -> Result<(Order, Vec<OrderEvent>), Refusal> {
    let now = order.created_at;
    if let Some((asked, lifetime)) = idempotency
        && let Some(first) = first_answer(tx, who, asked, now - lifetime).await?
    {
        return Ok((first, Vec::new()));
    }
    if row::Entity::find_by_id(order.id.as_str()).one(tx).await?.is_some() {
        return Err(Refusal::Taken("id"));
    }
    let created = write(tx, permit, &mut order, &who.id, reserved).await?;
    if let Some((asked, _)) = idempotency {
        let key = idempotency_key::ActiveModel {
            user_id: Set(who.id.to_string()),
            key: Set(asked.key.clone()),
            request_hash: Set(asked.request_hash.clone()),
            order_id: Set(order.id.to_string()),
            created_at: Set(now),
        };
        idempotency_key::Entity::insert(key).exec_without_returning(tx).await?;
    }
    Ok((order, vec![created]))
}

/// Writes the rows of a new order and gives it a number if it has none: the reserved one, if there is one. Returns the
/// event. Takes the proof that the caller may create the order.
pub(crate) async fn write(
    tx: &DatabaseTransaction,
    _: Permit,
    order: &mut Order,
    by: &UserId,
    reserved: Option<&Reserved>,
) -> Result<OrderEvent, Refusal> {
    let now = order.created_at;
    if order.order_number.is_empty() {
        order.order_number = names::free_number(tx, now, reserved).await?;
    } else if names::is_taken(tx, &order.order_number).await? {
        return Err(Refusal::Taken("orderNumber"));
    }
    row::Entity::insert(active(order)?).exec_without_returning(tx).await?;
    let items: Vec<_> =
        order.items.iter().zip(1_i32..).map(|(item, line)| active_item(order, item, line)).collect();
    if !items.is_empty() {
        order_item::Entity::insert_many(items).exec_without_returning(tx).await?;
    }
    let history = status_history::ActiveModel {
        order_id: Set(order.id.to_string()),
        seq: Set(order.seq),
        status: Set(order.status),
        at: Set(now),
        changed_by: Set(Some(by.to_string())),
        note: Set(None),
        corrected: Set(false),
    };
    status_history::Entity::insert(history).exec_without_returning(tx).await?;
    Ok(OrderEvent {
        position: 0,
        kind: EventKind::Created,
        order: order.clone(),
        previous_status: order.status,
        changed_by: Some(by.clone()),
        note: None,
        reason: None,
        changed: Vec::new(),
        former_driver: None,
        history: vec![PastStatus::of(order, by, now)],
        at: now,
    })
}

/// The order that this key created before, as it was then.
async fn first_answer(
    tx: &DatabaseTransaction,
    who: &Principal,
    asked: &Idempotency,
    forgotten: Time,
) -> Result<Option<Order>, Refusal> {
    let id = (who.id.to_string(), asked.key.clone());
    let Some(known) = idempotency_key::Entity::find_by_id(id.clone()).one(tx).await? else {
        return Ok(None);
    };
    if known.created_at <= forgotten {
        idempotency_key::Entity::delete_by_id(id).exec(tx).await?;
        return Ok(None);
    }
    if known.request_hash != asked.request_hash {
        return Err(Refusal::KeyReused);
    }
    let order = OrderId::stored(&known.order_id);
    let first = match log::of_order(tx, &order, 0, 1).await?.events().pop() {
        Some(created) => Some(created.order),
        // It was created in this transaction, so the log does not have it yet.
        None => read::load(tx, &order).await?,
    };
    if first.is_none() {
        // The order is older than orders are kept, and so is its key.
        idempotency_key::Entity::delete_by_id(id).exec(tx).await?;
    }
    Ok(first)
}

/// The row of an order in memory. It has only those details of the payment that the order has.
fn active(order: &Order) -> Result<row::ActiveModel, Refusal> {
    let (latitude, longitude) = order.delivery.columns();
    Ok(row::ActiveModel {
        id: Set(order.id.to_string()),
        order_number: Set(order.order_number.clone()),
        tracking_number: Set(order.tracking_number.clone()),
        status: Set(order.status),
        payment_status: Set(order.payment_status),
        payment_confirmed_at: Set(order.payment_confirmed_at),
        payment_reference: Set(None),
        customer_id: Set(order.customer.id.to_string()),
        customer_name: Set(order.customer.name.clone()),
        customer_phone: Set(order.customer.phone.clone()),
        chef_id: Set(order.chef.id.to_string()),
        chef_name: Set(order.chef.name.clone()),
        chef_business_name: Set(order.chef.business_name.clone()),
        chef_address: Set(order.chef.address.clone()),
        chef_latitude: Set(order.chef.latitude),
        chef_longitude: Set(order.chef.longitude),
        delivery_address: Set(order.delivery.address.clone()),
        delivery_latitude: Set(latitude),
        delivery_longitude: Set(longitude),
        driver_id: Set(order.driver.as_ref().map(|driver| driver.id.to_string())),
        driver_name: Set(order.driver.as_ref().map(|driver| driver.name.clone())),
        driver_phone: Set(order.driver.as_ref().and_then(|driver| driver.phone.clone())),
        total: Set(order.total),
        currency: Set(order.currency.clone()),
        notes: Set(order.notes.clone()),
        estimated_delivery_time: Set(order.estimated_delivery_time),
        kitchen_ready_at: Set(order.kitchen_ready_at),
        details: Set(stored_details(order)?),
        seq: Set(order.seq),
        created_at: Set(order.created_at),
        updated_at: Set(order.updated_at),
    })
}

/// The details of an order as they are stored.
///
/// # Errors
/// None that is known.
pub(super) fn stored_details(order: &Order) -> Result<Option<String>, Refusal> {
    let details = &order.details;
    Ok(if details.is_plain() { None } else { Some(serde_json::to_string(details)?) })
}

pub(super) fn active_item(order: &Order, item: &Item, line: i32) -> order_item::ActiveModel {
    order_item::ActiveModel {
        order_id: Set(order.id.to_string()),
        line: Set(line),
        name: Set(item.name.clone()),
        quantity: Set(item.quantity.value()),
        unit_price: Set(item.unit_price),
    }
}
