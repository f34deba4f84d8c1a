//! Carrying out what a socket asks.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::handler::{Answer, Reply};
use crate::app::App;
use crate::auth::Role;
use crate::clock::rfc3339;
use crate::command::Command;
use crate::dialect::canonical::{Telling, TrackingView};
use crate::dialect::realtime::{
    self, BatchReceived, Changed, Nothing, Pong, Received, Refreshed, RejectedPoint, Subscribed, Success,
    json,
};
use crate::driver::live::Driver;
use crate::driver::report;
use crate::error::Refusal;
use crate::fanout::outbox::{Aside, Asides, Replay};
use crate::fanout::session::Session;
use crate::fanout::{Offset, Place, Progress};
use crate::id::OrderId;
use crate::order::access;
use crate::order::change::{self, Action};
use crate::order::read::{self, Tracking};
use crate::recovery::{Asked, Follow};

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
        | Command::Tracking { .. }
        | Command::Refresh { .. } => {
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
pub(super) async fn lasting(session: &Arc<Session>, command: Command, reply: Reply) {
    let app = session.app();
    let who = session.principal();
    let answer = match command {
        Command::Subscribe { order, since } => return subscribe(session, &order, since, reply).await,
        Command::Unsubscribe { order } => {
            session.unfollow(&order);
            let written = session.fanout().recovery().set(session.holder(), &order, Follow::No).await;
            written.map(|()| json(&Success::new(Nothing {})))
        }
        Command::ChangeStatus { order, to, note, expected_seq } => {
            let note = note.map(|note| note.0).filter(|note| !note.is_empty());
            change::change(app, &order, who, Action::Status { to, note, expected_seq }).await.map(|order| {
                json(&Success::new(Changed { order_id: &order.id, status: order.status, seq: order.seq }))
            })
        }
        Command::Tracking { order } => read::tracking(app, &order, who).await.map(|tracking| {
            let eta = app.live.eta(&tracking.order, app.clock.now());
            json(&Success::new(TrackingView::new(&tracking, eta)))
        }),
        Command::Refresh { token } => refresh(session, &token.0).await,
        command @ (Command::Location(_) | Command::LocationBatch(_) | Command::Ping { .. }) => {
            let answer = immediate(app, session, command);
            return reply.answer(&app.metrics, answer);
        }
    };
    reply.send(&app.metrics, answer);
}

/// Follows an order from now on.
async fn subscribe(session: &Arc<Session>, order: &OrderId, since: Option<i64>, reply: Reply) {
    let limits = &session.app().config.limits;
    let limit = match session.role() {
        Role::Admin | Role::Service => limits.max_subscriptions_admin,
        Role::Customer | Role::Chef | Role::Driver => limits.max_subscriptions,
    };
    let refusal = if session.follow(order, limit) {
        let followed = follow(session, order, since, reply.ack).await;
        // Who followed it before goes on as before, unless it is no longer theirs.
        if let Err(refusal) = &followed
            && (matches!(refusal, Refusal::NotFound(_)) || !session.follows(order))
        {
            session.unfollow(order);
            session.fanout().recovery().note(session.holder(), order, Follow::No);
        }
        followed.err()
    } else {
        Some(Refusal::TooMany { what: "subscriptions", limit })
    };
    if let Some(refusal) = refusal {
        reply.send(&session.app().metrics, Err(refusal));
    }
}

/// Stops the session at its place in the log, tells it how the order stands there, and lets it go on from there,
/// following the order.
async fn follow(
    session: &Arc<Session>,
    order: &OrderId,
    since: Option<i64>,
    ack: Option<i64>,
) -> Result<(), Refusal> {
    let app = session.app();
    let newest = app.snapshots.get(app, order).await?;
    access::party(&newest.order, session.principal()).ok_or(Refusal::NotFound("order"))?;
    // So that its place is not before the order was made.
    app.relay.handed_on(newest.position()).await;
    let (place, number) = loop {
        session.until_live().await;
        if session.is_expired() {
            // Nothing else is carried out before its token is refreshed.
            return Err(Refusal::TokenExpired);
        }
        if session.is_closing() || session.has_left() {
            return Err(Refusal::Unavailable);
        }
        if let Some(held) = session.hold_still() {
            break held;
        }
    };
    let told = tell(session, order, since, ack, place, number).await;
    match told {
        Ok(asides) => session.admit(order, asides),
        Err(refusal) => {
            session.release();
            return Err(refusal);
        }
    }
    Ok(())
}

/// How an order stands at a place in the log, or all that has happened to it since a seq.
async fn tell(
    session: &Arc<Session>,
    order: &OrderId,
    since: Option<i64>,
    ack: Option<i64>,
    place: Place,
    number: i32,
) -> Result<Asides, Refusal> {
    let app = session.app();
    // Read again: what was read before may be older than the place.
    let snapshot = app.snapshots.get(app, order).await?;
    let (order, history, event) = snapshot.at(place.complete()).ok_or(Refusal::Unavailable)?;
    let party = access::party(order, session.principal()).ok_or(Refusal::NotFound("order"))?;
    let replay = since.map(|since| Asked { since, place, number });
    // Before it is acknowledged: a client that comes back finds it followed.
    session.fanout().recovery().set(session.holder(), &order.id, Follow::Yes(replay)).await?;
    let position = read::position(app, order).await?;
    let tracking = Tracking { order: order.clone(), party, history: history.to_vec(), position };
    let eta = app.live.eta(order, app.clock.now());
    let mut asides = Asides::default();
    if let Some(ack) = ack {
        app.metrics.events_out_reply.inc();
        asides.waiting.push_back(Aside::Ack(ack, json(&Success::new(Subscribed::new(&tracking, eta)))));
    }
    match since {
        None => {
            let frame = session.dialect().catch_up(event, eta, party, Telling::Snapshot);
            let replay = Some(Progress { seq: event.order.seq, number });
            asides.waiting.push_back(Aside::event(frame, Offset { place, replay }));
        }
        Some(since) => {
            let replay = Replay { order: order.id.clone(), party, after: since, number };
            if snapshot.reaches(since) {
                asides.waiting.extend(session.replay(&replay, place, &snapshot.events));
            } else {
                asides.replays.push_back(replay);
            }
        }
    }
    Ok(asides)
}

/// A newer token, for the same user in the same role.
async fn refresh(session: &Arc<Session>, token: &str) -> Result<Box<RawValue>, Refusal> {
    let newer = session.app().auth.verify(token).await?;
    let who = session.principal();
    if newer.id != who.id || newer.role != who.role {
        return Err(Refusal::Forbidden("the token is not for the user and role of this socket".to_owned()));
    }
    session.refresh(newer.expires_at);
    Ok(json(&Success::new(Refreshed { expires_at: rfc3339(newer.expires_at) })))
}
