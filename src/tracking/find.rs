//! Finds tracking sessions.

use entity::tracking_session as row;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use super::Tracking;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::access::may;
use crate::model::{
    Order, OrderId, OrderStatus, Party, Point, Principal, Right, TrackingId, TrackingSession, UserId,
};
use crate::order::read;

/// Sessions of one rider in one read.
const SESSIONS_PAGE: u64 = 20;

/// A session from its row.
pub(super) fn from_row(row: row::Model) -> TrackingSession {
    TrackingSession {
        id: TrackingId::stored(row.id),
        order: OrderId::stored(&row.order_id),
        rider: UserId::stored(&row.rider_id),
        dropoff: Point::stored(row.dropoff_latitude, row.dropoff_longitude),
        started_at: row.started_at,
    }
}

impl Tracking {
    /// When a session ends, given its order's state now.
    ///
    /// # Errors
    /// [`Refusal::Gone`] when it is over already, or those of the database.
    pub async fn end(&self, session: &TrackingSession, order: &Order) -> Result<Time, Refusal> {
        let delivered = order.status == OrderStatus::Delivered;
        let history = if delivered { read::history(self.db.reader(), order).await? } else { Vec::new() };
        let ends_at = session.ends_at(order, &history, self.lifetimes);
        if self.clock.now() < ends_at { Ok(ends_at) } else { Err(Refusal::Gone("tracking session")) }
    }

    /// A session by its id, with its order.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Gone`] when it is over, or those of the database.
    pub async fn find(&self, id: &str) -> Result<(TrackingSession, Order), Refusal> {
        let id = TrackingId::parse(id).ok_or(Refusal::NotFound("tracking session"))?;
        let row = row::Entity::find_by_id(id.as_str()).one(self.db.reader()).await?;
        let session = row.map(from_row).ok_or(Refusal::NotFound("tracking session"))?;
        let order = read::load(self.db.reader(), &session.order).await?;
        let order = order.ok_or(Refusal::NotFound("tracking session"))?;
        self.end(&session, &order).await?;
        Ok((session, order))
    }

    /// A rider's newest session that has not ended.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for everybody but the rider and staff, [`Refusal::NotFound`], or those of the database.
    pub async fn of_rider(
        &self,
        who: &Principal,
        rider: &UserId,
    ) -> Result<(TrackingSession, Order), Refusal> {
        let own = who.id == *rider;
        if may(Party::of(who.role), Right::FindTracking { own }).is_none() {
            return Err(Refusal::Forbidden("only the rider, admin and service may see this".to_owned()));
        }
        let oldest = self.clock.now() - self.lifetimes.from_start;
        let mut newest_first = row::Entity::find()
            .filter(row::Column::RiderId.eq(rider.as_str()))
            .filter(row::Column::StartedAt.gt(oldest))
            .order_by_desc(row::Column::StartedAt)
            .order_by_desc(row::Column::Id)
            .paginate(self.db.reader(), SESSIONS_PAGE);
        while let Some(page) = newest_first.fetch_and_next().await? {
            for session in page.into_iter().map(from_row) {
                if let Some(order) = read::load(self.db.reader(), &session.order).await? {
                    match self.end(&session, &order).await {
                        Ok(_) => return Ok((session, order)),
                        Err(Refusal::Gone(_)) => {}
                        Err(refusal) => return Err(refusal),
                    }
                }
            }
        }
        Err(Refusal::NotFound("tracking session"))
    }
}
