//! Carrying out what a socket asks.

use std::sync::Arc;

use super::Door;
use super::handler::{Answer, Reply};
use crate::app::App;
use crate::auth::Role;
use crate::clock::rfc3339;
use crate::command::Command;
use crate::dialect::canonical::{Telling, TrackingView};
use crate::dialect::realtime::{
    self, BatchReceived, Changed, Nothing, Pong, Received, RejectedPoint, Subscribed, Success, json,
};
use crate::driver::live::Driver;
use crate::driver::report;
use crate::error::Refusal;
use crate::event::log;
use crate::fanout::session::{CloseReason, Handed, Session};
use crate::id::OrderId;
use crate::order::change::{self, Action};
use crate::order::read;

/// How long we wait for a client to make room for more of what it asked to be replayed.
const ROOM_RETRY: std::time::Duration = std::time::Duration::from_millis(20);
const ROOM_TRIES: usize = 500;

/// Requests that wait for nothing: no database, no lock that is held for long.
pub(super) fn immediate(app: &App, session: &Session, command: Command) -> Result<Answer, Refusal> {
    match command {
        Command::Location(fix) => {
            let reported = report::report(app, driver(session)?, &fix)?;
            let received_at = rfc3339(reported.received_at);
            let then = Some(realtime::location_acknowledged(&reported.orders, &received_at));
            Ok(Answer { ack: json(&Success::new(Received { received_at })), then })
        }
        Command::LocationBatch(points) => {
            let batch = report::report_batch(app, driver(session)?, &points)?;
            let rejected =
                batch.rejected.into_iter().map(|(index, code)| RejectedPoint { index, code }).collect();
            let ack = json(&Success::new(BatchReceived { accepted: batch.accepted, rejected }));
            Ok(Answer { ack, then: None })
        }
        Command::Ping { t } => {
            let pong = Pong { t: t.as_deref(), server_time: rfc3339(app.clock.now()) };
            Ok(Answer { ack: json(&Success::new(pong)), then: None })
        }
        Command::Subscribe { .. }
        | Command::Unsubscribe { .. }
        | Command::ChangeStatus { .. }
        | Command::Tracking { .. } => {
            Err(Refusal::Internal("a request that needs the database came the short way".into()))
        }
    }
}

fn driver(session: &Session) -> Result<&Driver, Refusal> {
    session
        .driver()
        .map(|driver| &**driver)
        .ok_or_else(|| Refusal::Forbidden("only a driver reports positions".to_owned()))
}

/// Requests that may need the database.
pub(super) async fn lasting(door: &Door, session: &Arc<Session>, command: Command, reply: Reply) {
    let app = &door.app;
    let answer = match command {
        Command::Subscribe { order, since } => return subscribe(door, session, &order, since, reply).await,
        Command::Unsubscribe { order } => {
            session.unfollow(&door.hub, &order);
            Ok(json(&Success::new(Nothing {})))
        }
        Command::ChangeStatus { order, to, note, expected_seq } => {
            let note = note.map(|note| note.0).filter(|note| !note.is_empty());
            change::change(app, &order, session.principal(), Action::Status { to, note, expected_seq })
                .await
                .map(|order| {
                    json(&Success::new(Changed { order_id: &order.id, status: order.status, seq: order.seq }))
                })
        }
        Command::Tracking { order } => {
            read::tracking(app, &order, session.principal()).await.map(|tracking| {
                let eta = app.live.eta(&tracking.order, app.clock.now());
                json(&Success::new(TrackingView::new(&tracking, eta)))
            })
        }
        command @ (Command::Location(_) | Command::LocationBatch(_) | Command::Ping { .. }) => {
            let answer = immediate(app, session, command);
            return reply.answer(&app.metrics, answer);
        }
    };
    reply.send(&app.metrics, answer);
}

/// Follows an order from now on: first the door is shut for its events, then it is read, told, and opened.
async fn subscribe(door: &Door, session: &Arc<Session>, order: &OrderId, since: Option<i64>, reply: Reply) {
    let app = &door.app;
    let limits = &app.config.limits;
    let limit = match session.role() {
        Role::Admin | Role::Service => limits.max_subscriptions_admin,
        Role::Customer | Role::Chef | Role::Driver => limits.max_subscriptions,
    };
    if !session.follow(&door.hub, order, limit) {
        return reply.send(&app.metrics, Err(Refusal::TooMany { what: "subscriptions", limit }));
    }
    let tracking = match read::tracking(app, order, session.principal()).await {
        Ok(tracking) => tracking,
        Err(refusal) => {
            match refusal {
                Refusal::NotFound(_) => session.unfollow(&door.hub, order),
                _ => session.not_caught_up(&door.hub, order),
            }
            return reply.send(&app.metrics, Err(refusal));
        }
    };
    session.admit(order);
    let seq = tracking.order.seq;
    let eta = app.live.eta(&tracking.order, app.clock.now());
    reply.send(&app.metrics, Ok(json(&Success::new(Subscribed::new(&tracking, eta)))));
    let (after, telling) = match since {
        Some(since) => (since, Telling::Replayed),
        None => (seq - 1, Telling::Snapshot),
    };
    match tell(app, session, &tracking, after, telling).await {
        // Also when the client says that it has seen more than there is: then it was not of this order.
        Ok(()) => session.caught_up(order, seq),
        Err(refusal) => {
            // It was told that it follows the order, and it does not: let it come back and ask again.
            tracing::warn!(%refusal, "a subscription could not be caught up");
            session.close(CloseReason::SlowReader);
        }
    }
}

/// Tells the events after a seq, up to the one that the order was read at.
async fn tell(
    app: &App,
    session: &Session,
    tracking: &read::Tracking,
    mut after: i64,
    telling: Telling,
) -> Result<(), Refusal> {
    let newest = tracking.order.seq;
    while after < newest {
        let events = log::of_order(app.db.reader(), &tracking.order.id, after, log::PAGE).await?;
        let Some(last) = events.last() else { return Ok(()) };
        after = last.order.seq;
        for event in events.iter().filter(|event| event.order.seq <= newest) {
            // The creation is no status update, unless it is all there is to tell.
            if event.order.seq == 1 && telling == Telling::Replayed {
                continue;
            }
            let eta = app.live.eta(&event.order, app.clock.now()).filter(|_| event.order.seq == newest);
            let frame = realtime::catch_up(event, eta, tracking.party, telling);
            hand_patiently(session, &frame).await?;
        }
    }
    Ok(())
}

/// Hands over a frame, waiting for room within reason.
async fn hand_patiently(session: &Session, frame: &crate::fanout::Frame) -> Result<(), Refusal> {
    for _ in 0..ROOM_TRIES {
        if session.hand(frame) != Handed::Full {
            return Ok(());
        }
        tokio::time::sleep(ROOM_RETRY).await;
    }
    Err(Refusal::Unavailable)
}
