//! Coming back: a client that lost its connection shows its session's id and the last offset it has, and goes on from
//! there. This is Socket.IO's connection state recovery, kept in the database, so that it outlives the process.

use super::Sessions;
use super::beginning::Beginning;
use super::outbox::Replay;
use crate::app::App;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::close::CloseReason;
use crate::dialect::place::{Offset, Place, Progress};
use crate::event::log;
use crate::model::{OrderEvent, Principal, access};
use crate::recovery::store::{Asked, Follow, SessionOwner};

/// What a client says about where it was.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// Its session's id.
    pub pid: Option<String>,
    /// The last offset it has; none, if no event came yet.
    pub offset: Option<String>,
    /// For clients that keep track of the position themselves.
    pub position: Option<i64>,
}

/// Numbers of replays that a resumed session leaves out. What it asked for on former connections, one at a time on each, may be
/// written down only after it was read what is known of it; two replays of one number could not be told apart.
const UNSEEN: i32 = 8;

/// Why a session was not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The id is not one of ours, or not this user's.
    Forged,
    /// The offset is none that this session can have.
    UnknownOffset,
    /// It has been away for too long.
    TooOld,
    /// It has missed too much.
    TooMany,
    /// It followed an order that it may no longer see.
    RightLost,
}

impl Lost {
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

/// Where a client's session begins, and why it is told to fetch its orders anew, if it is.
pub struct Begun {
    pub beginning: Beginning,
    pub resync: Option<&'static str>,
}

/// Decides where a session begins: where it was, if that can be, or here and now.
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
    if let Some(pid) = &claim.pid {
        let holder = SessionOwner { pid: pid.as_str().into(), socket: socket.into() };
        match resume(sessions, who, dialect, &holder, claim.offset.as_deref()).await? {
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

/// The number of the last replay that the client knows of. A client that gets a new session keeps the offset of the one
/// before, so the numbers go on.
fn claimed_number(claim: &Claim) -> i32 {
    let offset = claim.offset.as_deref().and_then(Offset::parse);
    offset.and_then(|offset| offset.replay).map_or(0, |progress| progress.number)
}

async fn resume(
    sessions: &Sessions,
    who: &Principal,
    dialect: Dialect,
    holder: &SessionOwner,
    offset: Option<&str>,
) -> Result<Result<Beginning, Lost>, Refusal> {
    let (app, recovery, pid) = (sessions.app(), sessions.recovery(), &*holder.pid);
    let Some(made) = recovery.signer().read(who, dialect, pid) else { return Ok(Err(Lost::Forged)) };
    let began = Offset { place: Place::after(made.position), replay: None };
    let offset = match offset.map(Offset::parse) {
        None => began,
        // A client that got a new session keeps the offset of the one before, until its first event.
        Some(Some(offset)) if offset.place < began.place => began,
        Some(Some(offset)) => offset,
        Some(None) => return Ok(Err(Lost::UnknownOffset)),
    };
    if !known(app, offset.place.complete()).await? {
        return Ok(Err(Lost::UnknownOffset));
    }
    // The same client, back before we noticed that it had gone: what it has followed until now is what counts.
    if let Some(before) = sessions.session(&who.id, pid) {
        before.close(CloseReason::Superseded);
    }
    let stored = recovery.find(pid, &who.id).await?;
    let away = app.clock.now() - stored.left_at.unwrap_or(made.made_at);
    if away.num_milliseconds() > app.config.limits.recovery_window_ms
        || stored.made_after.is_some_and(|thrown_away| made.made_at <= thrown_away)
    {
        return Ok(Err(Lost::TooOld));
    }
    // That an order is gone is the first that its former driver is told of the event.
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
            // Who knows that the order is gone has lost nothing by it.
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
    recovery.began(Some(holder), who, dialect);
    for Replay { order, after, number, .. } in &replays {
        // From here on they are replayed at the place that the session has now.
        let asked = Asked { since: *after, place: offset.place, number: *number };
        recovery.set(Some(holder), order, Follow::Yes(Some(asked))).await?;
    }
    let numbers = stored.orders.iter().filter_map(|(_, asked)| asked.as_ref()).map(|asked| asked.number);
    Ok(Ok(Beginning {
        holder: Some(holder.clone()),
        recovered: true,
        place: offset.place,
        replayed_until: 0,
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

/// After which seq the replay that a session asked for is still to come, if it is: it had not gone on in the log yet.
fn not_replayed(asked: &Asked, offset: Offset) -> Option<i64> {
    if offset.place > asked.place {
        return None;
    }
    match offset.replay {
        Some(Progress { number, .. }) if number > asked.number => None,
        Some(Progress { seq, number }) if number == asked.number => Some(seq),
        _ => Some(asked.since),
    }
}

/// Whether the log has got to a position. Another node may be a little ahead of us: then we wait for it.
async fn known(app: &App, position: i64) -> Result<bool, Refusal> {
    if position <= app.events.position() {
        return Ok(true);
    }
    app.metrics.log_reads.inc();
    if position > log::head(app.events.log()).await? {
        return Ok(false);
    }
    app.events.handed_on(position).await;
    // Still behind: a fault of ours. As somebody new the client would be told again what it has heard already.
    if position > app.events.position() { Err(Refusal::Unavailable) } else { Ok(true) }
}
