//! Carrying out what a socket asks.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::handler::{Answer, Reply};
use crate::app::App;
use crate::auth::Role;
use crate::clock::{Time, rfc3339};
use crate::command::Command;
use crate::dialect::canonical::{Telling, TrackingView};
use crate::dialect::realtime::{
    self, BatchReceived, Changed, Nothing, Pong, Received, Refreshed, RejectedPoint, Subscribed, Success,
    json,
};
use crate::driver::live::Driver;
use crate::driver::report;
use crate::error::Refusal;
use crate::event::Kind;
use crate::fanout::Place;
use crate::fanout::outbox::{Aside, Asides, Rest};
use crate::fanout::session::Session;
use crate::id::{OrderId, Point};
use crate::order::access;
use crate::order::change::{self, Action};
use crate::order::read::{self, Tracking};
use crate::order::snapshot::Snapshot;
use crate::recovery::Follow;

/// How often an order may change between being read and being told before we give up.
const TRIES: usize = 16;

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
            let written = session.fanout().recovery().set(session.pid(), &order, Follow::No).await;
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
            session.fanout().recovery().note(session.pid(), order, Follow::No);
        }
        followed.err()
    } else {
        Some(Refusal::TooMany { what: "subscriptions", limit })
    };
    if let Some(refusal) = refusal {
        reply.send(&session.app().metrics, Err(refusal));
    }
}

/// Reads how the order stands, waits until the session has been told all that led to it, and lets it hear what comes
/// next in the same step as it is told how things stand by then.
async fn follow(
    session: &Arc<Session>,
    order: &OrderId,
    since: Option<i64>,
    ack: Option<i64>,
) -> Result<(), Refusal> {
    let app = session.app();
    let mut written = false;
    for _ in 0..TRIES {
        let snapshot = app.snapshots.get(app, order).await?;
        access::party(&snapshot.order, session.principal()).ok_or(Refusal::NotFound("order"))?;
        if !std::mem::replace(&mut written, true) {
            // Before it is acknowledged: a client that comes back finds it followed.
            session.fanout().recovery().set(session.pid(), order, Follow::Yes).await?;
        }
        app.relay.handed_on(snapshot.position()).await;
        session.until_live().await;
        let position = read::position(app, &snapshot.order).await?;
        if session.admit(order, |place| tell(session, &snapshot, position, since, place, ack)) {
            return Ok(());
        }
    }
    Err(Refusal::Unavailable)
}

/// How the order stands at a place in the log, or all that has happened to it since a seq. `None` if that cannot be said.
fn tell(
    session: &Session,
    snapshot: &Snapshot,
    position: Option<(Point, Time)>,
    since: Option<i64>,
    place: Place,
    ack: Option<i64>,
) -> Option<Asides> {
    let app = session.app();
    let newer = session.fanout().window().of_order(
        &snapshot.order.id,
        snapshot.position(),
        place.complete().max(snapshot.position()),
    )?;
    if place.complete() < snapshot.position() {
        return None;
    }
    let Snapshot { order, history, events } = snapshot.after(newer.iter().map(|told| &told.event));
    let party = access::party(&order, session.principal())?;
    let eta = app.live.eta(&order, app.clock.now());
    let newest = order.seq;
    let tracking = Tracking { order, party, history, position };
    let answer = ack.map(|ack| {
        app.metrics.events_out_reply.inc();
        Aside::Ack(ack, json(&Success::new(Subscribed::new(&tracking, eta))))
    });
    let (after, telling) = match since {
        Some(since) => (since, Telling::Replayed),
        None => (newest - 1, Telling::Snapshot),
    };
    if !snapshot.reaches(after) {
        let rest = Rest { order: tracking.order.id, party, after, until: newest };
        return Some(Asides::new(answer, std::iter::empty(), Some(rest)));
    }
    let told = events
        .iter()
        .filter(|event| event.order.seq > after)
        // The creation is no status update, unless it is all there is to tell.
        .filter(|event| since.is_none() || !(event.kind == Kind::Created || session.was_told(event)))
        .map(|event| {
            let eta = eta.filter(|_| event.order.seq == newest);
            Aside::Event(session.dialect().catch_up(event, eta, party, telling).at(place))
        });
    Some(Asides::new(answer, told, None))
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
