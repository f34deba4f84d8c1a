//! A rider moves, and may get further.

use super::find::find;
use crate::app::App;
use crate::base::error::Refusal;
use crate::driver::report;
use crate::model::status::{self, Transition};
use crate::model::tracking::Moved;
use crate::model::{LocationReport, Order, OrderStatus, Principal, Role, TrackingSession, access};
use crate::order::change::{self, Action};

/// The rider moved, and may have got further. Says how the order stands then.
///
/// # Errors
/// [`Refusal::Forbidden`] for everybody but that rider and staff, [`Refusal::Gone`], [`Refusal::Illegal`] for a status that
/// is not ahead, [`Refusal::RateLimited`], or those of the database.
pub async fn update(
    app: &App,
    who: &Principal,
    id: &str,
    moved: Moved,
) -> Result<(TrackingSession, Order), Refusal> {
    let (session, order) = find(app, id).await?;
    if who.role == Role::Anonymous {
        return Err(Refusal::Unauthorized("a token is required"));
    }
    let themself = who.role == Role::Driver && who.id == session.rider;
    if !themself && !who.role.is_staff() {
        return Err(Refusal::Forbidden("only the rider of this session may update it".to_owned()));
    }
    if who.expires_at <= app.clock.now() {
        return Err(Refusal::TokenExpired);
    }
    let asked = moved.status;
    if order.status == OrderStatus::Delivered {
        if asked == Some(OrderStatus::Delivered) {
            // A retry: it is done.
            return Ok((session, order));
        }
        let detail = "the order has been delivered".to_owned();
        return Err(Refusal::Illegal { detail, status: order.status, allowed: Vec::new() });
    }
    let action = |to| Action::Status { to, note: None, expected_seq: None };
    if let Some(to) = asked
        && let Some(party) = access::party(&order, who)
        && status::transition(order.status, to, party) == Transition::Refused
    {
        // Who may not get there does not move either. (If the order has got further in between, they may.)
        change::change(app, &session.order, who, action(to)).await?;
    }
    // The position first: once the order is delivered, it would be nobody's.
    let driver = app.live.driver(&session.rider);
    let fix = LocationReport {
        latitude: moved.place.latitude,
        longitude: moved.place.longitude,
        order_id: Some(session.order.clone()),
        heading: None,
        speed: None,
        accuracy: None,
        recorded_at: None,
    };
    let reported = report::report(app, &driver, &fix);
    let Some(to) = asked else {
        reported?;
        return Ok((session, order));
    };
    // A status is carried out even if positions come too fast.
    if let Err(refusal) = reported
        && !matches!(refusal, Refusal::RateLimited { .. })
    {
        return Err(refusal);
    }
    let order = change::change(app, &session.order, who, action(to)).await?;
    Ok((session, order))
}
