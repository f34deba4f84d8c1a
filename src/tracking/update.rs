//! A rider's updates of a tracking session.

use super::Tracking;
use crate::base::error::Refusal;
use crate::model::access::{self, may};
use crate::model::status::{self, Transition};
use crate::model::tracking::Moved;
use crate::model::{
    Action, LocationReport, Order, OrderStatus, Party, Principal, Right, Role, TrackingSession,
};

impl Tracking {
    /// Reports a rider's position, and perhaps a new status. Returns the order's state afterwards.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for everybody but that rider and staff, [`Refusal::Gone`], [`Refusal::Illegal`] for a
    /// status that
    /// is not ahead, [`Refusal::RateLimited`], or those of the database.
    pub async fn update(
        &self,
        who: &Principal,
        id: &str,
        moved: Moved,
    ) -> Result<(TrackingSession, Order), Refusal> {
        let (session, order) = self.find(id).await?;
        if who.role == Role::Anonymous {
            return Err(Refusal::Unauthorized("a token is required"));
        }
        let own = who.id == session.rider;
        if may(Party::of(who.role), Right::UpdateTracking { own }).is_none() {
            return Err(Refusal::Forbidden("only the rider of this session may update it".to_owned()));
        }
        if who.expires_at <= self.clock.now() {
            return Err(Refusal::TokenExpired);
        }
        let asked = moved.status;
        if order.status == OrderStatus::Delivered {
            if asked == Some(OrderStatus::Delivered) {
                // A retry of an update that succeeded.
                return Ok((session, order));
            }
            let detail = "the order has been delivered".to_owned();
            return Err(Refusal::Illegal { detail, status: order.status, allowed: Vec::new() });
        }
        let action = |to| Action::to(to).at(moved.expected_seq);
        if let Some(to) = asked
            && let Some(party) = access::party(&order, who)
            && matches!(
                status::transition(order.status, to, party, order.details.fulfilment),
                Transition::Refused
            )
        {
            // A rider who may not set this status does not move either. (If the order has moved on meanwhile, they
            // may.)
            self.orders.change(&session.order, who, action(to)).await?;
        }
        // The position comes first: once the order is delivered, it has no active driver.
        let driver = self.drivers.driver(&session.rider);
        let fix = LocationReport::bare(moved.place, Some(session.order.clone()));
        let reported = self.drivers.report(&driver, &fix, self.clock.now());
        let Some(to) = asked else {
            reported?;
            return Ok((session, order));
        };
        // The status counts even if positions come too fast.
        if let Err(refusal) = reported
            && !matches!(refusal, Refusal::RateLimited { .. })
        {
            return Err(refusal);
        }
        let order = self.orders.change(&session.order, who, action(to)).await?;
        Ok((session, order))
    }
}
