//! Tracking sessions: a rider's way with one order, which whoever knows its id may watch. A session is one more view of
//! its order: it has nothing of its own but where the rider said they were going.

pub mod calls;
mod start;
mod stats;

use chrono::TimeDelta;
use entity::tracking_session as row;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

pub use start::{NewSession, start};
pub use stats::{Recency, Stats, stats};

use crate::app::App;
use crate::auth::{Principal, Role};
use crate::clock::Time;
use crate::command::LocationReport;
use crate::config::Limits;
use crate::dialect::tracking::{Update, Word};
use crate::driver::report;
use crate::error::Refusal;
use crate::id::{OrderId, Point, UserId};
use crate::order::access;
use crate::order::change::{self, Action};
use crate::order::read::{self, Past};
use crate::order::status::{self, Transition};
use crate::order::{Order, OrderStatus};

/// Characters of an id after `TRK-`: 22 of base62 are 131 bits.
const ID_LENGTH: usize = 22;
/// Mean radius of the earth, km.
const EARTH_KM: f64 = 6_371.0;
const KM_PER_HOUR: f64 = 30.0;
const MIN_ETA_SECONDS: f64 = 60.0;

/// One session.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackingSession {
    pub id: TrackingId,
    pub order: OrderId,
    pub rider: UserId,
    pub dropoff: Point,
    pub started_at: Time,
}

/// The id of a tracking session: who knows it may watch, so it cannot be guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackingId(Box<str>);

impl TrackingId {
    fn random() -> Self {
        use rand::distr::{Alphanumeric, SampleString};
        Self(format!("TRK-{}", Alphanumeric.sample_string(&mut rand::rng(), ID_LENGTH)).into())
    }

    /// Reads an id. `None` for what cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.strip_prefix("TRK-")?;
        let plain = random.len() == ID_LENGTH && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plain.then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Seconds to a place at 30 km/h as the crow flies, at least a minute.
#[must_use]
pub fn eta_seconds(from: Point, to: Point) -> i64 {
    let (north, south) = (from.lat().to_radians(), to.lat().to_radians());
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let a = half(to.lat() - from.lat()) + north.cos() * south.cos() * half(to.lon() - from.lon());
    let km = 2.0 * EARTH_KM * a.sqrt().atan2((1.0 - a).max(0.0).sqrt());
    #[expect(clippy::cast_possible_truncation, reason = "half the earth at 30 km/h is 2.4 million seconds")]
    let seconds = (km / KM_PER_HOUR * 3_600.0).max(MIN_ETA_SECONDS).round() as i64;
    seconds
}

impl TrackingSession {
    fn from_row(row: row::Model) -> Self {
        Self {
            id: TrackingId(row.id.into()),
            order: OrderId::stored(&row.order_id),
            rider: UserId::stored(&row.rider_id),
            dropoff: Point::stored(row.dropoff_latitude, row.dropoff_longitude),
            started_at: row.started_at,
        }
    }

    /// Whether what the order is now belongs to the session: it is the order's, still with its rider, and not cancelled.
    #[must_use]
    pub fn shows(&self, order: &Order) -> bool {
        let theirs = order.driver.as_ref().is_some_and(|driver| driver.id == self.rider);
        theirs && order.id == self.order && order.status != OrderStatus::Cancelled
    }

    /// When the session is over, as its order stands: some time after it started, less after the order was delivered, and
    /// at once when the order was cancelled or is no longer with this rider.
    #[must_use]
    pub fn ends_at(&self, order: &Order, history: &[Past], limits: &Limits) -> Time {
        let last = self.started_at + TimeDelta::milliseconds(i64::from(limits.tracking_ttl_ms));
        if !self.shows(order) {
            return order.updated_at.min(last);
        }
        if order.status == OrderStatus::Delivered {
            // The order may have changed since: it may be paid late.
            let delivered = history.iter().rfind(|past| past.status == OrderStatus::Delivered);
            let after = TimeDelta::milliseconds(i64::from(limits.tracking_delivered_ttl_ms));
            return (delivered.map_or(order.updated_at, |past| past.at) + after).min(last);
        }
        last
    }

    /// When it is over, as far as can be told now.
    ///
    /// # Errors
    /// [`Refusal::Gone`] when it is, or those of the database.
    pub async fn end(&self, app: &App, order: &Order) -> Result<Time, Refusal> {
        let delivered = order.status == OrderStatus::Delivered;
        let history = if delivered { read::history(app.db.reader(), order).await? } else { Vec::new() };
        let ends_at = self.ends_at(order, &history, &app.config.limits);
        if app.clock.now() < ends_at { Ok(ends_at) } else { Err(Refusal::Gone("tracking session")) }
    }
}

/// A session by its id, and its order.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Gone`] when it is over, or those of the database.
pub async fn find(app: &App, id: &str) -> Result<(TrackingSession, Order), Refusal> {
    let id = TrackingId::parse(id).ok_or(Refusal::NotFound("tracking session"))?;
    let row = row::Entity::find_by_id(id.as_str()).one(app.db.reader()).await?;
    let session = row.map(TrackingSession::from_row).ok_or(Refusal::NotFound("tracking session"))?;
    let order = read::load(app.db.reader(), &session.order).await?;
    let order = order.ok_or(Refusal::NotFound("tracking session"))?;
    session.end(app, &order).await?;
    Ok((session, order))
}

/// A rider's newest session that is not over.
///
/// # Errors
/// [`Refusal::Forbidden`] for everybody but the rider and staff, [`Refusal::NotFound`], or those of the database.
pub async fn of_rider(
    app: &App,
    who: &Principal,
    rider: &UserId,
) -> Result<(TrackingSession, Order), Refusal> {
    let themself = who.role == Role::Driver && who.id == *rider;
    if !themself && !who.role.is_staff() {
        return Err(Refusal::Forbidden("only the rider, admin and service may see this".to_owned()));
    }
    let oldest = app.clock.now() - TimeDelta::milliseconds(i64::from(app.config.limits.tracking_ttl_ms));
    let mut newest_first = row::Entity::find()
        .filter(row::Column::RiderId.eq(rider.as_str()))
        .filter(row::Column::StartedAt.gt(oldest))
        .order_by_desc(row::Column::StartedAt)
        .order_by_desc(row::Column::Id)
        .paginate(app.db.reader(), SESSIONS_PAGE);
    while let Some(page) = newest_first.fetch_and_next().await? {
        for session in page.into_iter().map(TrackingSession::from_row) {
            if let Some(order) = read::load(app.db.reader(), &session.order).await? {
                match session.end(app, &order).await {
                    Ok(_) => return Ok((session, order)),
                    Err(Refusal::Gone(_)) => {}
                    Err(refusal) => return Err(refusal),
                }
            }
        }
    }
    Err(Refusal::NotFound("tracking session"))
}

/// Sessions of one rider looked at at a time.
const SESSIONS_PAGE: u64 = 20;

/// The rider moved, and may have got further. Says how the order stands then.
///
/// # Errors
/// [`Refusal::Forbidden`] for everybody but that rider and staff, [`Refusal::Gone`], [`Refusal::Illegal`] for a status that
/// is not ahead, [`Refusal::RateLimited`], or those of the database.
pub async fn update(
    app: &App,
    who: &Principal,
    id: &str,
    update: Update,
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
    let asked = update.status.map(|Word(status)| status);
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
        latitude: update.lat,
        longitude: update.lng,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_seed_and_known_distances() {
        let eta = |from: [f64; 2], to: [f64; 2]| {
            eta_seconds(Point::stored(from[0], from[1]), Point::stored(to[0], to[1]))
        };
        // 111 m away: a minute at least.
        assert_eq!(eta([5.6045, -0.1875], [5.6037, -0.1869]), 60);
        // A degree of a great circle is 111.195 km: 13,343.4 s.
        assert_eq!(eta([0.0, 0.0], [0.0, 1.0]), 13_343);
        assert_eq!(eta([0.0, 0.0], [1.0, 0.0]), 13_343);
        // Half around the earth, where rounding could make a root of something negative.
        assert_eq!(eta([0.0, 0.0], [0.0, 180.0]), 2_401_810);
    }

    #[test]
    fn ids_cannot_be_guessed() {
        let (one, other) = (TrackingId::random(), TrackingId::random());
        assert_ne!(one, other);
        assert_eq!(TrackingId::parse(one.as_str()), Some(one));
        for text in ["", "TRK-", "TRK-001", "TRK-aaaaaaaaaaaaaaaaaaaaa!", "trk-aaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(TrackingId::parse(text), None, "{text}");
        }
    }
}
