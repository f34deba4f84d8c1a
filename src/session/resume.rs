//! Resuming a session: a client that lost its connection shows its session id and its last offset, and goes on from
//! there. This is Socket.IO's connection state recovery. The state is in the database, so it survives the process.

use std::sync::Arc;

use chrono::TimeDelta;

use super::Sessions;
use super::beginning::Beginning;
use super::outbox::Replay;
use crate::app::App;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::close::CloseReason;
use crate::dialect::place::{Offset, Place, Progress};
use crate::event::{forgetting, log};
use crate::model::{OrderEvent, Principal, access};
use crate::recovery::store::{Follow, ReplayRequest, SessionOwner};

/// What a client claims about its earlier session.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// The session's id.
    pub pid: Option<String>,
    /// The last offset that the client has. It has none before its first event.
    pub offset: Option<String>,
    /// For clients that keep track of the log's position themselves.
    pub position: Option<i64>,
}

/// Replay numbers that a resumed session skips. A replay that was requested on an earlier connection may be written
/// down only after the session was read, and two replays with one number could not be told apart.
const UNSEEN: i32 = 8;

/// Why a session cannot be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// We did not sign the id, or it belongs to another user.
    Forged,
    /// This session cannot have that offset.
    UnknownOffset,
    /// The client was away for too long.
    TooOld,
    /// The client missed too many events.
    TooMany,
    /// The session followed an order that its user may no longer see.
    RightLost,
}

impl Lost {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Forged, Self::UnknownOffset, Self::TooOld, Self::TooMany, Self::RightLost];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::UnknownOffset => "unknown_offset",
            Self::TooOld => "too_old",
            Self::TooMany => "too_many",
            Self::RightLost => "right_lost",
        }
    }
}

/// Where a session begins. `resync` says why the client has to fetch its orders again.
pub struct Begun {
    pub beginning: Beginning,
    pub resync: Option<&'static str>,
}

/// Decides where a session begins: at its old place if it can be resumed, else at the end of the log.
///
/// # Errors
/// Those of the database.
pub async fn begin(
    sessions: &Sessions,
    who: &Principal,
    dialect: Dialect,
    claim: &Claim,
    socket: &str,
) -> Result<Begun, Refusal> {
    let app = sessions.app();
    app.catch_up().await;
    if let Some(pid) = &claim.pid {
        let held_at = app.clock.now();
        let holder = SessionOwner { pid: pid.as_str().into(), socket: socket.into(), held_at };
        match resume(sessions, who, dialect, holder, claim).await? {
            Ok(beginning) => {
                app.metrics.recovery("recovered");
                return Ok(Begun { beginning, resync: None });
            }
            Err(lost) => app.metrics.recovery(lost.as_str()),
        }
    }
    let now = app.events.position();
    let (place, resync) = match claim.position {
        None => (now, None),
        Some(position) if position < forgetting::floor(app.events.log()).await? => (now, Some("too_old")),
        Some(position) if known(app, position).await? => {
            let limit = app.config.limits.replay_limit;
            let missed =
                crate::session::catch_up::missed(sessions, who, dialect, &[], Place::after(position), limit)
                    .await?;
            if missed > limit { (now, Some("too_many_events")) } else { (position, None) }
        }
        Some(_) => (now, Some("unknown_position")),
    };
    let made = crate::recovery::pid::Pid { position: place, made_at: app.clock.now() };
    let beginning = Beginning {
        holder: Some(SessionOwner {
            pid: sessions.recovery().signer().make(who, dialect, made, app.clock.random()).into(),
            socket: socket.into(),
            held_at: app.clock.now(),
        }),
        recovered: false,
        place: Place::after(place),
        replayed_until: if claim.position.is_some() { app.events.position() } else { 0 },
        orders: Vec::new(),
        replays: Vec::new(),
        replayed: claimed_number(claim),
        watched: None,
    };
    Ok(Begun { beginning, resync })
}

/// The number of the last replay that the client knows. A client with a new session keeps its old offset at first, so
/// the numbers must go on.
fn claimed_number(claim: &Claim) -> i32 {
    let offset = claim.offset.as_deref().and_then(Offset::parse);
    offset.and_then(|offset| offset.replay).map_or(0, |progress| progress.number)
}

async fn resume(
    sessions: &Sessions,
    who: &Principal,
    dialect: Dialect,
    mut holder: SessionOwner,
    claim: &Claim,
) -> Result<Result<Beginning, Lost>, Refusal> {
    let (app, recovery, pid) = (sessions.app(), sessions.recovery(), Arc::clone(&holder.pid));
    let pid = &*pid;
    let Some(made) = recovery.signer().read(who, dialect, pid) else { return Ok(Err(Lost::Forged)) };
    let began = Offset { place: Place::after(made.position), replay: None };
    let offset = match claim.offset.as_deref().map(Offset::parse) {
        None => began,
        // A client with a new session keeps the offset of the old one until its first event.
        Some(Some(offset)) if offset.place < began.place => began,
        Some(Some(offset)) => offset,
        // A client that brings its position gets no offsets. The last text of an announcement looks like one to it.
        Some(None) if claim.position.is_some() => began,
        Some(None) => return Ok(Err(Lost::UnknownOffset)),
    };
    // The later one is the one that it kept up to date.
    let (offset, replayed_until) = match claim.position.map(Place::after) {
        Some(place) if place >= offset.place => (Offset { place, replay: None }, app.events.position()),
        _ => (offset, 0),
    };
    if !known(app, offset.place.complete()).await? {
        return Ok(Err(Lost::UnknownOffset));
    }
    // The client is back before we noticed that it left. Its orders until now count.
    if let Some(before) = sessions.session(&who.id, pid) {
        before.close(CloseReason::Superseded);
    }
    let stored = recovery.find(pid, &who.id).await?;
    // Later than whoever had it, also if the clock of their node is ahead.
    if let Some(before) = stored.held_at {
        holder.held_at = holder.held_at.max(before + TimeDelta::milliseconds(1));
    }
    let away = app.clock.now() - stored.left_at.unwrap_or(made.made_at);
    if away.num_milliseconds() > app.config.limits.recovery_window_ms
        || stored.made_after.is_some_and(|thrown_away| made.made_at <= thrown_away)
    {
        return Ok(Err(Lost::TooOld));
    }
    // What happened after its offset may be gone from the log, with the orders that were kept long enough.
    if offset.place.complete() < stored.floor {
        return Ok(Err(Lost::TooOld));
    }
    // The former driver hears first that the order is gone.
    if stored.lost_at.is_some_and(|position| position > offset.place.position()) {
        return Ok(Err(Lost::RightLost));
    }
    let mut orders = Vec::with_capacity(stored.orders.len());
    let mut replays = Vec::new();
    for (order, asked) in &stored.orders {
        let snapshot = match app.orders.snapshot(order).await {
            Ok(snapshot) => snapshot,
            Err(Refusal::NotFound(_)) => return Ok(Err(Lost::RightLost)),
            Err(refusal) => return Err(refusal),
        };
        let Some(party) = access::party(&snapshot.order, who) else {
            let knows = |event: &OrderEvent| {
                event.former_driver.as_ref() == Some(&who.id) && event.position <= offset.place.position()
            };
            // A client that knows that the order is gone lost nothing.
            if snapshot.events.iter().any(knows) {
                continue;
            }
            return Ok(Err(Lost::RightLost));
        };
        orders.push(order.clone());
        if let Some(after) = asked.as_ref().and_then(|asked| not_replayed(asked, offset)) {
            let number = asked.as_ref().map_or(0, |asked| asked.number);
            replays.push(Replay { order: order.clone(), party, after, number });
        }
    }
    let limit = app.config.limits.recovery_limit;
    if crate::session::catch_up::missed(sessions, who, dialect, &orders, offset.place, limit).await? > limit {
        return Ok(Err(Lost::TooMany));
    }
    replays.sort_by_key(|replay| replay.number);
    recovery.began(Some(&holder), who, dialect, true);
    for Replay { order, after, number, .. } in &replays {
        // From now on they are replayed at the session's present place.
        let asked = ReplayRequest { since: *after, place: offset.place, number: *number };
        recovery.set(Some(&holder), order, Follow::Yes(Some(asked))).await?;
    }
    let numbers = stored.orders.iter().filter_map(|(_, asked)| asked.as_ref()).map(|asked| asked.number);
    Ok(Ok(Beginning {
        holder: Some(holder),
        recovered: true,
        place: offset.place,
        replayed_until,
        orders,
        replays,
        replayed: numbers
            .chain(offset.replay.map(|progress| progress.number))
            .max()
            .unwrap_or(0)
            .saturating_add(UNSEEN),
        watched: None,
    }))
}

/// The seq after which a requested replay still has to be told. `None` if the client already went on in the log.
fn not_replayed(asked: &ReplayRequest, offset: Offset) -> Option<i64> {
    if offset.place > asked.place {
        return None;
    }
    match offset.replay {
        Some(Progress { number, .. }) if number > asked.number => None,
        Some(Progress { seq, number }) if number == asked.number => Some(seq),
        _ => Some(asked.since),
    }
}

/// Whether the log has reached a position. Another node may be a little ahead; then this waits.
async fn known(app: &App, position: i64) -> Result<bool, Refusal> {
    if position <= app.events.position() {
        return Ok(true);
    }
    app.metrics.log_reads.inc();
    if position > log::head(app.events.log()).await? {
        return Ok(false);
    }
    app.events.handed_on(position).await;
    // Still behind, which is our fault. With a new session the client would hear events twice.
    if position > app.events.position() { Err(Refusal::Unavailable) } else { Ok(true) }
}
