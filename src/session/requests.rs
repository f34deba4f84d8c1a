//! Carries out the requests of a socket.

use std::sync::Arc;

use super::outbox::{Aside, Asides, Replay};
use super::playing;
use super::reply::Reply;
use super::session::Session;
use super::wire::AckNumber;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::dialect::Answer;
use crate::dialect::close::CloseReason;
use crate::dialect::message::Telling;
use crate::dialect::place::{Offset, Place, Progress};
use crate::driver::live::LiveDriver;
use crate::model::{Action, Command, Forecast, OrderId, Overview, Party, Role, access};
use crate::notify::inbox::Sayer;
use crate::recovery::{Follow, ReplayRequest};

/// Carries out requests that need no database. A position that comes too fast for its socket or its user is refused with
/// `retry_after_ms`, and kept. They came at `now`.
pub(super) fn immediate(
    session: &Session,
    command: Result<Command, Refusal>,
    retry_after_ms: Option<u64>,
    reply: Reply,
    now: Time,
) {
    let app = session.app();
    match command {
        Ok(Command::Location(fix)) if let Some(retry_after_ms) = retry_after_ms => {
            let postpone = |driver| app.drivers.postpone(driver, &fix, retry_after_ms, now);
            reply.send(Err(driver(session).map_or_else(|refusal| refusal, postpone)));
        }
        Ok(Command::Location(fix)) => {
            match driver(session).and_then(|driver| app.drivers.report(driver, &fix, now)) {
                Ok(reported) => {
                    let at = reported.received_at;
                    reply.send(Ok(Answer::Received { at, verdict: reported.verdict }));
                    if let Some(message) = session.dialect().location_acknowledged(&reported.orders, at) {
                        session.say(&message);
                    }
                }
                Err(refusal) => reply.send(Err(refusal)),
            }
        }
        Ok(Command::LocationBatch(points)) => {
            match driver(session).and_then(|driver| app.drivers.report_batch(driver, points, now)) {
                Ok(batch) => {
                    let rejected: Vec<_> =
                        batch.rejected.iter().map(|point| (point.index, &point.refusal)).collect();
                    reply.send(Ok(Answer::BatchReceived { accepted: batch.accepted, rejected: &rejected }));
                }
                Err(refusal) => reply.send(Err(refusal)),
            }
        }
        Ok(Command::AppState { foreground }) => {
            session.set_watched(foreground);
            reply.send(Ok(Answer::Updated));
        }
        Ok(Command::Ping { t }) => reply.send(Ok(Answer::Pong { t: t.as_deref(), now })),
        Ok(
            Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::WatchFleet { .. }
            | Command::UnwatchFleet
            | Command::Play { .. }
            | Command::StopPlaying
            | Command::ChangeStatus { .. }
            | Command::Tracking { .. }
            | Command::TrackingUpdate(_)
            | Command::Refresh { .. }
            | Command::Seen { .. }
            | Command::Acknowledge { .. },
        ) => {
            reply.send(Err(Refusal::internal("a request that needs the database came the short way")));
        }
        Err(refusal) => reply.send(Err(refusal)),
    }
}

fn driver(session: &Session) -> Result<&Arc<LiveDriver>, Refusal> {
    session.driver().ok_or_else(|| Refusal::Forbidden("only a driver reports positions".to_owned()))
}

/// Carries out requests that may need the database.
pub(super) async fn lasting(session: &Arc<Session>, command: Command, reply: Reply) {
    let app = session.app();
    let who = session.principal();
    match command {
        Command::Subscribe { order, since } => subscribe(session, &order, since, reply).await,
        Command::Unsubscribe { order } => {
            session.unfollow(&order);
            let written = session.sessions().recovery().set(session.holder(), &order, Follow::No).await;
            reply.send(written.map(|()| Answer::Unsubscribed { order: &order }));
        }
        Command::WatchFleet { bounds } => {
            let watched = access::only_staff(who).map(|()| session.sessions().watch_fleet(session, bounds));
            reply.send(watched.map(|()| Answer::Updated));
        }
        Command::UnwatchFleet => {
            session.sessions().unwatch_fleet(session);
            reply.send(Ok(Answer::Updated));
        }
        Command::Play { order, speed, set } => playing::begin(session, &order, speed, set, reply).await,
        Command::StopPlaying => {
            session.stop_playing();
            reply.send(Ok(Answer::Updated));
        }
        Command::ChangeStatus { order, to, note, reason, expected_seq } => {
            let note = note.map(|note| note.0);
            match app.orders.change(&order, who, Action::Status { to, note, reason }.at(expected_seq)).await {
                Ok(order) => reply.send(Ok(Answer::Changed(&order))),
                Err(refusal) => reply.send(Err(refusal)),
            }
        }
        Command::Tracking { order } => match app.drivers.overview(&order, who).await {
            Ok(tracking) => {
                let eta = app.drivers.eta(&tracking.order);
                reply.send(Ok(Answer::Tracking { tracking: &tracking, eta }));
            }
            Err(refusal) => reply.send(Err(refusal)),
        },
        Command::TrackingUpdate(update) => {
            let watched = session.watched().map(|watched| watched.id.as_str()).unwrap_or_default();
            let updated = app.tracking.update(who, watched, update).await;
            reply.send(updated.map(|_| Answer::Updated));
        }
        Command::Refresh { token } => {
            let refreshed = refresh(session, &token.0).await;
            reply.send(refreshed.map(|expires_at| Answer::Refreshed { expires_at }));
        }
        Command::Seen { order, seq } => {
            reply.send(seen(session, &order, seq).await.map(|()| Answer::Updated));
        }
        Command::Acknowledge { id, state } => {
            let done = app.notify.acknowledge(&id, state, Sayer::User(who)).await;
            reply.send(done.map(|()| Answer::Updated));
        }
        command @ (Command::Location(_)
        | Command::LocationBatch(_)
        | Command::Ping { .. }
        | Command::AppState { .. }) => {
            immediate(session, Ok(command), None, reply, app.clock.now());
        }
    }
}

/// The user has seen an order as it was at a seq.
async fn seen(session: &Session, order: &OrderId, seq: i64) -> Result<(), Refusal> {
    let snapshot = session.app().orders.snapshot(order).await?;
    let party = session.party(&snapshot.order).ok_or(Refusal::NotFound("order"))?;
    if seq > snapshot.order.seq {
        return Err(Refusal::invalid("seq", format!("is after the newest one, {}", snapshot.order.seq)));
    }
    if matches!(party, Party::Customer | Party::Chef | Party::Driver) {
        session.app().notify.receipts().seen(&session.principal().id, session.role(), order, seq);
    }
    Ok(())
}

/// Follows an order.
async fn subscribe(session: &Arc<Session>, order: &OrderId, since: Option<i64>, reply: Reply) {
    let limits = &session.app().config.limits;
    let limit = match session.role() {
        Role::Admin | Role::Service => limits.max_subscriptions_admin,
        Role::Customer | Role::Chef | Role::Driver | Role::Anonymous => limits.max_subscriptions,
    };
    let refusal = if session.follow(order, limit) {
        let mut followed = follow(session, order, since, reply.ack).await;
        if matches!(followed, Err(Refusal::NotFound(_))) && session.app().cluster.has_others() {
            // The right may be so new that only another node has told of it.
            session.app().catch_up().await;
            followed = follow(session, order, since, reply.ack).await;
        }
        // A session that followed the order before keeps following it, unless it lost the right.
        if let Err(refusal) = &followed
            && (matches!(refusal, Refusal::NotFound(_)) || !session.follows(order))
        {
            session.unfollow(order);
            session.sessions().recovery().note(session.holder(), order, Follow::No);
        }
        followed.err()
    } else {
        Some(Refusal::TooMany { what: "subscriptions", limit })
    };
    if let Some(refusal) = refusal {
        if session.watched().is_some() {
            // The socket exists only for this subscription.
            let over = matches!(refusal, Refusal::NotFound(_));
            session.close(if over { CloseReason::Expired } else { CloseReason::Unreadable });
        } else {
            reply.send(Err(refusal));
        }
    }
}

/// Pauses the session at its place in the log, tells it how the order stands there, and resumes it as a follower.
async fn follow(
    session: &Arc<Session>,
    order: &OrderId,
    since: Option<i64>,
    ack: Option<AckNumber>,
) -> Result<(), Refusal> {
    let app = session.app();
    let mut newest = app.orders.snapshot(order).await?;
    if since.is_some_and(|since| since > newest.order.seq) {
        app.catch_up().await;
        newest = app.orders.snapshot(order).await?;
    }
    session.party(&newest.order).ok_or(Refusal::NotFound("order"))?;
    app.bus.hear(order);
    // So that the session's place is not before the order's creation.
    app.events.handed_on(newest.position()).await;
    let (place, number) = loop {
        session.until_live().await;
        if session.is_expired() {
            // Until the token is refreshed, the session carries out nothing else.
            return Err(Refusal::TokenExpired);
        }
        if session.is_closing() || session.has_left() {
            return Err(Refusal::Unavailable);
        }
        if let Some(paused) = session.pause() {
            break paused;
        }
    };
    let outcome = tell(session, order, since, ack, place, number).await;
    match outcome {
        Ok(asides) => session.admit(order, asides),
        Err(refusal) => {
            session.resume();
            return Err(refusal);
        }
    }
    Ok(())
}

/// What the session is told first: how the order stands at a place in the log, or all its events after a seq.
async fn tell(
    session: &Arc<Session>,
    order: &OrderId,
    since: Option<i64>,
    ack: Option<AckNumber>,
    place: Place,
    number: i32,
) -> Result<Asides, Refusal> {
    let app = session.app();
    // The order is read again, because the first snapshot may be older than the place.
    let snapshot = app.orders.snapshot(order).await?;
    let (order, history, event) = snapshot.at(place.complete()).ok_or(Refusal::Unavailable)?;
    let party = session.party(order).ok_or(Refusal::NotFound("order"))?;
    // The session's place may be a little behind what is so now.
    let event = event.as_of(&snapshot.order, party);
    let order = &event.order;
    let shows_driver = !party.is_public() || access::driver_still_visible(order, &snapshot.order);
    let replay = since.map(|since| ReplayRequest { since, place, number });
    // On disk before it is acknowledged: a client that comes back finds that it follows the order.
    session.sessions().recovery().set(session.holder(), &order.id, Follow::Yes(replay)).await?;
    let may_see = session.principal().share.as_ref().is_none_or(|share| share.location);
    let position = if shows_driver && may_see { app.drivers.position(order).await? } else { None };
    let (milestones, risk) = app.drivers.marks(order).await?;
    let tracking =
        Overview { order: order.clone(), party, history: history.to_vec(), position, milestones, risk };
    let eta = app.drivers.eta(order);
    let mut asides = Asides::default();
    let answer = Answer::Subscribed { tracking: &tracking, eta };
    if let Some(ack) = ack
        && let Some(json) = session.dialect().answer(&answer)
    {
        app.metrics.events_out_reply.inc();
        asides.waiting.push_back(Aside::Ack(ack, json));
    }
    match since {
        None => {
            let forecast = Forecast { eta, position };
            let message = session.dialect().catch_up(&event, forecast, party, Telling::Snapshot);
            let replay = Some(Progress { seq: event.order.seq, number });
            asides.waiting.push_back(Aside::event(message, Offset { place, replay }));
        }
        Some(since) => {
            let replay = Replay { order: order.id.clone(), party, after: since, number };
            if snapshot.reaches(since) {
                asides.waiting.extend(session.replay(&replay, place, &snapshot.events, &snapshot.order));
            } else {
                asides.replays.push_back(replay);
            }
        }
    }
    Ok(asides)
}

/// Verifies a newer token, which must be for the same user in the same role.
async fn refresh(session: &Arc<Session>, token: &str) -> Result<Time, Refusal> {
    let newer = session.app().auth.verify(token).await?;
    let who = session.principal();
    if newer.id != who.id || newer.role != who.role {
        return Err(Refusal::Forbidden("the token is not for the user and role of this socket".to_owned()));
    }
    session.refresh(newer.expires_at);
    Ok(newer.expires_at)
}
