//! Starts tracking sessions.

use std::sync::Arc;

use entity::tracking_session as row;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder};
use tokio::sync::Mutex;

use super::Tracking;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::access::may;
use crate::model::tracking::ID_LENGTH;
use crate::model::{
    Chef, Customer, Delivery, Details, Driver, Order, OrderEvent, OrderId, OrderStatus, Party, PaymentStatus,
    Permit, Point, Principal, Right, Role, TrackingId, TrackingSession, UserId, status,
};
use crate::order::change::Step;
use crate::order::draft::Draft;
use crate::order::names::Reserved;
use crate::order::writer::Other;
use crate::order::{create, read};

/// The rider's request.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub order: OrderId,
    /// The caller if absent.
    pub rider: Option<UserId>,
    /// The order's dropoff if absent.
    pub dropoff: Option<Point>,
    /// The customer's phone number.
    pub phone: Option<String>,
}

/// How often a start is tried again after a concurrent one created the same order.
const TRIES: usize = 3;

impl Tracking {
    /// Starts a session, or finds the one that this rider already has for this order. Creates an order that does not
    /// exist yet, with the little that the request says of it.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for another driver's order or rider, [`Refusal::Taken`] for an order that is not with
    /// that rider,
    /// [`Refusal::Illegal`] for a finished one, [`Refusal::Invalid`], or those of the database.
    pub async fn start(&self, who: &Principal, new: NewSession) -> Result<(TrackingSession, Order), Refusal> {
        let rider = new.rider.clone().unwrap_or_else(|| who.id.clone());
        let permit =
            may(Party::of(who.role), Right::StartTracking { own: rider == who.id }).ok_or_else(|| {
                let detail = match who.role {
                    Role::Driver => "a driver may start tracking only for themself",
                    _ => "only drivers, admin and service may start tracking",
                };
                Refusal::Forbidden(detail.to_owned())
            })?;
        if new.rider.is_none() && who.role.is_staff() {
            return Err(Refusal::invalid("rider_id", "is required"));
        }
        let id = new.order.clone();
        // The writer may run it more than once. The last run is the one that is committed.
        let started = Arc::new(Mutex::new(None));
        let request = Arc::new((who.clone(), new, rider));
        let reserved = Arc::new(self.orders.reserve_number().await?);
        let names: Vec<_> = reserved.iter().map(|number| format!("number {}", number.text())).collect();
        let mut attempt = 1;
        loop {
            let (tracking, request, result) = (self.clone(), Arc::clone(&request), Arc::clone(&started));
            let reserved = Arc::clone(&reserved);
            let work: Other = Box::new(move |tx| {
                let (tracking, request, result) =
                    (tracking.clone(), Arc::clone(&request), Arc::clone(&result));
                let reserved = Arc::clone(&reserved);
                Box::pin(async move {
                    let (who, new, rider) = &*request;
                    let (session, order, events) =
                        tracking.try_start(tx, permit, who, (new, rider), reserved.as_ref().as_ref()).await?;
                    *result.lock().await = Some(session);
                    Ok((order, events))
                })
            });
            match self.orders.write(id.clone(), names.clone(), work).await {
                Err(Refusal::Conflict(_)) if attempt < TRIES => attempt += 1,
                Err(refusal) => return Err(refusal),
                Ok(order) => {
                    let session = started.lock().await.take().ok_or(Refusal::Unavailable)?;
                    self.notify.look();
                    return Ok((session, order));
                }
            }
        }
    }

    async fn try_start(
        &self,
        tx: &DatabaseTransaction,
        permit: Permit,
        who: &Principal,
        (new, rider): (&NewSession, &UserId),
        reserved: Option<&Reserved>,
    ) -> Result<(TrackingSession, Order, Vec<OrderEvent>), Refusal> {
        let now = self.clock.now();
        let id = TrackingId::from_random(&self.clock.alphanumeric(ID_LENGTH));
        let mut events = Vec::new();
        let order = if let Some(order) = read::load_locked(tx, [&new.order]).await?.pop() {
            check(&order, who, rider)?;
            if let Some(session) = self.present(tx, &order, rider, now).await? {
                return Ok((session, order, events));
            }
            order
        } else {
            let dropoff = new.dropoff.ok_or_else(|| Refusal::invalid("dropoff_lat", "is required"))?;
            let mut order = minimal(new, &id, dropoff, now);
            let mut draft = Draft::new(now);
            draft.add(create::write(tx, permit, &mut order, &who.id, reserved).await?);
            let driver = Driver { id: rider.clone(), name: rider.to_string(), phone: None };
            order = draft.step(&order.id, Step::hand_over(permit, driver), &who.id)?;
            draft.write(tx).await?;
            events = draft.events;
            order
        };
        let session = TrackingSession {
            id,
            order: order.id.clone(),
            rider: rider.clone(),
            // 0, 0 stands for a place that is not known.
            dropoff: new.dropoff.or_else(|| order.destination()).unwrap_or(Point::stored(0.0, 0.0)),
            started_at: now,
        };
        row::Entity::insert(active(&session)).exec_without_returning(tx).await?;
        self.notify.tracking_started(tx, &session.id, &order, new.phone.as_deref()).await?;
        Ok((session, order, events))
    }

    /// The session that a rider already has for an order.
    async fn present(
        &self,
        tx: &DatabaseTransaction,
        order: &Order,
        rider: &UserId,
        now: Time,
    ) -> Result<Option<TrackingSession>, Refusal> {
        let oldest = now - self.lifetimes.from_start;
        let known = row::Entity::find()
            .filter(row::Column::OrderId.eq(order.id.as_str()))
            .filter(row::Column::RiderId.eq(rider.as_str()))
            .filter(row::Column::StartedAt.gt(oldest))
            .order_by_desc(row::Column::StartedAt)
            .one(tx)
            .await?;
        Ok(known.map(super::find::from_row))
    }
}

fn check(order: &Order, who: &Principal, rider: &UserId) -> Result<(), Refusal> {
    let theirs = order.driver.as_ref().is_some_and(|driver| driver.id == *rider);
    if !theirs && who.role == Role::Driver {
        return Err(Refusal::Forbidden("this order is not assigned to you".to_owned()));
    }
    let illegal = |detail: &str| Refusal::Illegal {
        detail: detail.to_owned(),
        status: order.status,
        allowed: Vec::new(),
    };
    if status::is_final(order.status) {
        return Err(illegal("the order is finished"));
    }
    if theirs { Ok(()) } else { Err(illegal("the order is not assigned to this rider")) }
}

/// An order of which only the destination is known. No token can belong to its customer and store; they watch by the
/// session's id.
fn minimal(new: &NewSession, id: &TrackingId, dropoff: Point, now: Time) -> Order {
    let nobody = UserId::stored(id.as_str());
    Order {
        id: new.order.clone(),
        order_number: String::new(),
        tracking_number: None,
        customer: Customer { id: nobody.clone(), name: "Customer".to_owned(), phone: new.phone.clone() },
        chef: Chef {
            id: nobody,
            name: "Store".to_owned(),
            business_name: None,
            address: None,
            latitude: None,
            longitude: None,
        },
        delivery: Delivery {
            address: format!("{:.5}, {:.5}", dropoff.lat(), dropoff.lon()),
            latitude: Some(dropoff.lat()),
            longitude: Some(dropoff.lon()),
        },
        items: Vec::new(),
        total: None,
        currency: None,
        notes: None,
        status: OrderStatus::Pending,
        payment_status: PaymentStatus::Pending,
        payment_confirmed_at: None,
        driver: None,
        seq: 1,
        estimated_delivery_time: None,
        kitchen_ready_at: None,
        details: Details::default(),
        created_at: now,
        updated_at: now,
    }
}

fn active(session: &TrackingSession) -> row::ActiveModel {
    row::ActiveModel {
        id: Set(session.id.as_str().to_owned()),
        order_id: Set(session.order.to_string()),
        rider_id: Set(session.rider.to_string()),
        dropoff_latitude: Set(session.dropoff.lat()),
        dropoff_longitude: Set(session.dropoff.lon()),
        started_at: Set(session.started_at),
    }
}
