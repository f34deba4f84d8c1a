//! Reads of orders: one, a page, or one with everything for its tracking view.

use std::collections::HashMap;

use entity::{order as row, order_item, order_risk, status_history};
use sea_orm::sea_query::{Expr, ExprTrait, Func, LikeExpr, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};

use super::known::OrderWithHistory;
use crate::base::clock::{Time, from_millis};
use crate::base::db::padded;
use crate::base::error::Refusal;
use crate::model::status::FINAL;
use crate::model::{
    Chef, Customer, Delivery, Driver, Item, Order, OrderId, OrderStatus, Party, PastStatus, Principal,
    Quantity, Role, UserId, access,
};

/// The place where the next page of a list begins: after this order.
#[derive(Clone, Debug)]
pub struct Cursor {
    pub created_at: Time,
    pub id: OrderId,
}

/// The end of the year 9999.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// A page of orders, newest first.
#[derive(Debug)]
pub struct Page {
    pub orders: Vec<Order>,
    pub next: Option<Cursor>,
}

/// One order that the caller is party to, and as which party.
///
/// # Errors
/// [`Refusal::NotFound`] also when it exists and the caller may not see it.
pub async fn order(
    db: &impl ConnectionTrait,
    id: &OrderId,
    who: &Principal,
) -> Result<(Order, Party), Refusal> {
    let order = load(db, id).await?.ok_or(Refusal::NotFound("order"))?;
    let party = access::party(&order, who).ok_or(Refusal::NotFound("order"))?;
    Ok((order, party))
}

/// The statuses of an order so far, up to its seq.
///
/// # Errors
/// Those of the database.
pub async fn history(db: &impl ConnectionTrait, order: &Order) -> Result<Vec<PastStatus>, Refusal> {
    let mut history = histories(db, &[order]).await?.remove(&order.id).unwrap_or_default();
    history.retain(|past| past.seq <= order.seq);
    Ok(history)
}

/// The statuses of orders so far, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn histories(
    db: &impl ConnectionTrait,
    orders: &[&Order],
) -> Result<HashMap<OrderId, Vec<PastStatus>>, Refusal> {
    let ids = padded(orders.iter().map(|order| order.id.as_str()).collect());
    let rows = status_history::Entity::find()
        .filter(status_history::Column::OrderId.is_in(ids))
        .order_by_asc(status_history::Column::OrderId)
        .order_by_asc(status_history::Column::Seq)
        .all(db)
        .await?;
    let mut histories: HashMap<OrderId, Vec<PastStatus>> = HashMap::new();
    for row in rows {
        histories.entry(OrderId::stored(&row.order_id)).or_default().push(PastStatus {
            seq: row.seq,
            status: row.status,
            at: row.at,
            changed_by: row.changed_by,
            corrected: row.corrected,
        });
    }
    Ok(histories)
}

/// How long a page may be.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    pub orders: u32,
    pub bytes: usize,
}

/// Orders that are read at a time until it is known how large they are.
const FIRST_READ: u32 = 64;

/// Which orders of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Of one of these statuses; of any if there is none.
    pub statuses: &'a [OrderStatus],
    /// Of this risk, as it is on the wire, and not finished.
    pub risk: Option<&'a str>,
    /// With this id or tracking number, a number that begins so, or a customer whose name has this in it.
    pub text: Option<&'a str>,
}

/// The condition of [`Wanted::text`].
fn matching(text: &str) -> Condition {
    let escaped = text.to_lowercase().replace('!', "!!").replace('%', "!%").replace('_', "!_");
    let like = |column: row::Column, pattern: String| {
        Expr::expr(Func::lower(Expr::col(column))).like(LikeExpr::new(pattern).escape('!'))
    };
    Condition::any()
        .add(row::Column::Id.eq(text))
        .add(row::Column::TrackingNumber.eq(text))
        .add(like(row::Column::OrderNumber, format!("{escaped}%")))
        .add(like(row::Column::CustomerName, format!("%{escaped}%")))
}

/// A page of the caller's orders, newest first, with any of these statuses; with no statuses, all of them. It has fewer
/// orders than asked for when they are large, and always one if there is one.
///
/// # Errors
/// Those of the database.
pub async fn list(
    db: &impl ConnectionTrait,
    who: &Principal,
    wanted: Wanted<'_>,
    size: PageSize,
    mut after: Option<Cursor>,
) -> Result<Page, Refusal> {
    let (mut orders, mut bytes) = (Vec::new(), 0);
    loop {
        let left = size.orders - u32::try_from(orders.len()).unwrap_or(u32::MAX);
        let next = Ord::min(next_read(orders.len(), bytes, size.bytes), left);
        let (read, more) = stretch(db, who, wanted, next, after).await?;
        for order in read {
            let grown = bytes + order.bytes();
            if grown > size.bytes && !orders.is_empty() {
                let next = orders.last().map(Cursor::after);
                return Ok(Page { orders, next });
            }
            bytes = grown;
            orders.push(order);
        }
        after = orders.last().map(Cursor::after).filter(|_| more);
        if after.is_none() || orders.len() >= size.orders as usize {
            return Ok(Page { orders, next: after });
        }
    }
}

/// How many orders to read next, if the next are as large as those that were read.
fn next_read(read: usize, bytes: usize, limit: usize) -> u32 {
    if read == 0 {
        return FIRST_READ;
    }
    let fit = limit.saturating_sub(bytes) / Ord::max(bytes / read, 1);
    Ord::max(u32::try_from(fit).unwrap_or(u32::MAX), 1)
}

/// The next orders of a list, and whether there are more.
async fn stretch(
    db: &impl ConnectionTrait,
    who: &Principal,
    Wanted { statuses, risk, text }: Wanted<'_>,
    limit: u32,
    after: Option<Cursor>,
) -> Result<(Vec<Order>, bool), Refusal> {
    let mut rows =
        row::Entity::find()
            .filter(visible_to(who))
            .filter(Condition::all().add_option(text.map(matching)))
            .filter(Condition::all().add_option(
                (!statuses.is_empty()).then(|| row::Column::Status.is_in(statuses.iter().copied())),
            ))
            .filter(Condition::all().add_option(risk.map(|risk| {
                let of_risk = order_risk::Entity::find()
                    .select_only()
                    .column(order_risk::Column::OrderId)
                    .filter(order_risk::Column::Risk.eq(risk))
                    .into_query();
                row::Column::Id.in_subquery(of_risk).and(row::Column::Status.is_not_in(FINAL))
            })))
            .filter(Condition::all().add_option(after.map(|cursor| {
                row::Column::CreatedAt.lt(cursor.created_at).or(row::Column::CreatedAt
                    .eq(cursor.created_at)
                    .and(row::Column::Id.lt(cursor.id.as_str())))
            })))
            .order_by_desc(row::Column::CreatedAt)
            .order_by_desc(row::Column::Id)
            // One more than the limit shows whether there are more.
            .limit(u64::from(limit) + 1)
            .all(db)
            .await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    Ok((with_items(db, rows).await?, more))
}

/// The chefs of orders, as far as those exist.
///
/// # Errors
/// Those of the database.
pub async fn chefs(
    db: &impl ConnectionTrait,
    orders: &[OrderId],
) -> Result<HashMap<String, String>, Refusal> {
    let found: Vec<(String, String)> = row::Entity::find()
        .select_only()
        .columns([row::Column::Id, row::Column::ChefId])
        .filter(row::Column::Id.is_in(padded(orders.iter().map(OrderId::as_str).collect())))
        .into_tuple()
        .all(db)
        .await?;
    Ok(found.into_iter().collect())
}

/// A page of orders that are ready and that nobody has, the oldest first, after one of them. Some may not be for everybody.
///
/// # Errors
/// Those of the database.
pub async fn without_driver(
    db: &impl ConnectionTrait,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Vec<Order>, Refusal> {
    let rows = row::Entity::find()
        .filter(row::Column::Status.eq(OrderStatus::ReadyForPickup))
        .filter(row::Column::DriverId.is_null())
        .filter(Condition::all().add_option(after.map(|cursor| {
            row::Column::CreatedAt
                .gt(cursor.created_at)
                .or(row::Column::CreatedAt.eq(cursor.created_at).and(row::Column::Id.gt(cursor.id.as_str())))
        })))
        .order_by_asc(row::Column::CreatedAt)
        .order_by_asc(row::Column::Id)
        .limit(limit)
        .all(db)
        .await?;
    with_items(db, rows).await
}

/// Up to `limit` orders with a driver, after an id, for the live state at startup.
///
/// # Errors
/// Those of the database.
pub async fn with_drivers(
    db: &impl ConnectionTrait,
    after: Option<&OrderId>,
    limit: u64,
) -> Result<Vec<Order>, Refusal> {
    let rows = row::Entity::find()
        .filter(row::Column::DriverId.is_not_null())
        .filter(row::Column::Status.is_not_in(FINAL))
        .filter(Condition::all().add_option(after.map(|id| row::Column::Id.gt(id.as_str()))))
        .order_by_asc(row::Column::Id)
        .limit(limit)
        .all(db)
        .await?;
    with_items(db, rows).await
}

/// The number of orders in each status.
///
/// # Errors
/// Those of the database.
pub async fn count_by_status(db: &impl ConnectionTrait) -> Result<Vec<(OrderStatus, i64)>, Refusal> {
    let counts = row::Entity::find()
        .select_only()
        .column(row::Column::Status)
        .column_as(row::Column::Id.count(), "orders")
        .group_by(row::Column::Status)
        .into_tuple::<(OrderStatus, i64)>()
        .all(db)
        .await?;
    Ok(counts)
}

/// Reads and locks orders, in the order of their ids, so that two transactions cannot deadlock. On `SQLite` the
/// transaction itself is the lock.
pub(crate) async fn load_locked(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = &OrderId>,
) -> Result<Vec<Order>, Refusal> {
    let rows = row::Entity::find()
        .filter(row::Column::Id.is_in(padded(ids.into_iter().map(OrderId::as_str).collect())))
        .order_by_asc(row::Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    with_items(tx, rows).await
}

/// Reads orders with their histories.
pub(super) async fn wholes(
    tx: &DatabaseTransaction,
    ids: Vec<&OrderId>,
) -> Result<Vec<OrderWithHistory>, Refusal> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = padded(ids.into_iter().map(OrderId::as_str).collect());
    let rows = row::Entity::find().filter(row::Column::Id.is_in(ids)).all(tx).await?;
    let orders = with_items(tx, rows).await?;
    let mut histories = histories(tx, &orders.iter().collect::<Vec<_>>()).await?;
    let with_history = |order: Order| {
        let history = histories.remove(&order.id).unwrap_or_default();
        (order, history)
    };
    Ok(orders.into_iter().map(with_history).collect())
}

pub(crate) async fn load(db: &impl ConnectionTrait, id: &OrderId) -> Result<Option<Order>, Refusal> {
    let row = row::Entity::find_by_id(id.as_str()).one(db).await?;
    one(db, row).await
}

async fn one(db: &impl ConnectionTrait, row: Option<row::Model>) -> Result<Option<Order>, Refusal> {
    Ok(with_items(db, row.into_iter().collect()).await?.pop())
}

async fn with_items(db: &impl ConnectionTrait, rows: Vec<row::Model>) -> Result<Vec<Order>, Refusal> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let items = order_item::Entity::find()
        .filter(order_item::Column::OrderId.is_in(padded(rows.iter().map(|row| row.id.as_str()).collect())))
        .order_by_asc(order_item::Column::Line)
        .all(db)
        .await?;
    let mut orders: Vec<Order> = rows.into_iter().map(from_row).collect();
    let mut by_id: HashMap<OrderId, Vec<Item>> = HashMap::new();
    for item in items {
        by_id.entry(OrderId::stored(&item.order_id)).or_default().push(Item {
            name: item.name,
            quantity: Quantity::stored(item.quantity),
            unit_price: item.unit_price,
        });
    }
    for order in &mut orders {
        order.items = by_id.remove(&order.id).unwrap_or_default();
    }
    Ok(orders)
}

fn from_row(row: row::Model) -> Order {
    let driver = row.driver_id.zip(row.driver_name).map(|(id, name)| Driver {
        id: UserId::stored(&id),
        name,
        phone: row.driver_phone,
    });
    Order {
        id: OrderId::stored(&row.id),
        order_number: row.order_number,
        tracking_number: row.tracking_number,
        customer: Customer {
            id: UserId::stored(&row.customer_id),
            name: row.customer_name,
            phone: row.customer_phone,
        },
        chef: Chef {
            id: UserId::stored(&row.chef_id),
            name: row.chef_name,
            business_name: row.chef_business_name,
            address: row.chef_address,
            latitude: row.chef_latitude,
            longitude: row.chef_longitude,
        },
        delivery: Delivery::stored(row.delivery_address, row.delivery_latitude, row.delivery_longitude),
        items: Vec::new(),
        total: row.total,
        currency: row.currency,
        notes: row.notes,
        status: row.status,
        payment_status: row.payment_status,
        payment_confirmed_at: row.payment_confirmed_at,
        driver,
        seq: row.seq,
        estimated_delivery_time: row.estimated_delivery_time,
        kitchen_ready_at: row.kitchen_ready_at,
        // What a newer version has added is not lost on disk, and not known here.
        details: row.details.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

impl Cursor {
    /// After this order.
    pub(super) fn after(order: &Order) -> Self {
        Self { created_at: order.created_at, id: order.id.clone() }
    }

    /// The cursor in the form that clients get: opaque to them.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("{}.{}", self.created_at.timestamp_millis(), self.id)
    }

    /// # Errors
    /// When it is not one of ours.
    pub fn decode(text: &str) -> Result<Self, Refusal> {
        text.split_once('.')
            .and_then(|(millis, id)| {
                // Databases cannot compare with every time that chrono knows.
                let millis = millis.parse().ok().filter(|millis| (0..=LAST_MILLIS).contains(millis))?;
                Some(Self { created_at: from_millis(millis), id: OrderId::parse(id).ok()? })
            })
            .ok_or_else(|| Refusal::invalid("cursor", "is not one that this server gave out"))
    }
}

/// The rule of visibility as a condition on the `orders` table. Every query of orders uses it.
#[must_use]
pub fn visible_to(who: &Principal) -> Condition {
    use entity::order::Column;
    use sea_orm::ColumnTrait;
    let own: Option<SimpleExpr> = match who.role {
        Role::Admin | Role::Service => None,
        Role::Customer => Some(Column::CustomerId.eq(who.id.as_str())),
        Role::Chef => Some(Column::ChefId.eq(who.id.as_str())),
        Role::Driver => Some(Column::DriverId.eq(who.id.as_str())),
        // A single order by its id, never a list.
        Role::Anonymous => Some(Column::Id.is_in(std::iter::empty::<&str>())),
    };
    Condition::all().add_option(own)
}
