//! The trail of one order: each fix of its drivers while they carried it, and what became of it.

use entity::driver_assignment as assignment;
use entity::position_trail::{self as trail, Column};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use chrono::TimeDelta;

use super::Drivers;
use super::filter::Rules;
use crate::base::clock::Time;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::eta::log::{self, Shown};
use crate::model::access::only_staff;
use crate::model::status::is_final;
use crate::model::{Fix, Order, OrderId, Point, Principal, Provenance, Source, UserId, Verdict};
use crate::order::read;

/// A fix may arrive so long after it was measured, if the phone was offline.
const LATE: TimeDelta = TimeDelta::hours(1);
/// Nodes write their fixes in groups, so ids are in the order of receipt only to this.
const MARGIN: TimeDelta = TimeDelta::seconds(60);
/// How far back before an assignment a replay begins, and the most fixes and ETAs of one.
const LEAD_IN: TimeDelta = TimeDelta::minutes(30);
const REPLAYED: u64 = 20_000;
const SHOWN_ETAS: u64 = 2_000;

/// A fix of the trail.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Rises in the order in which fixes were kept.
    pub id: i64,
    pub driver: UserId,
    pub fix: Fix,
    /// `None` for fixes of versions that did not judge them.
    pub verdict: Option<Verdict>,
    /// Where the driver was shown.
    pub shown: Option<(Point, Provenance)>,
    /// Metres per second since the fix before, at least.
    pub speed: Option<f64>,
    /// The square of how far it is from where it was expected, in parts of the variance.
    pub innovation: Option<f64>,
}

/// Which fixes are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// Only those after this one.
    pub after: i64,
}

/// A time in which one driver carried the order.
struct Stretch {
    driver: UserId,
    from: Time,
    to: Time,
}

/// What was kept of a delivery.
pub struct Recorded {
    pub order: Order,
    /// Those of its drivers while they had it, each with `true`. Before them, with `false`, those of half an hour before, so that a
    /// filter knows what it knew then.
    pub fixes: Vec<(Kept, bool)>,
    pub etas: Vec<Shown>,
    pub arrived_at: Option<Time>,
    /// From the first assignment to the end, or to now.
    pub carried: Option<(Time, Time)>,
    /// Whether there are more positions than are read.
    pub is_cut: bool,
}

impl Drivers {
    /// Fixes of an order's drivers, as they were kept, for staff. At most `limit`; there may be more if there are as many.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others than staff; [`Refusal::NotFound`]; those of the database.
    pub async fn positions(
        &self,
        id: &OrderId,
        who: &Principal,
        span: Span,
        limit: u64,
    ) -> Result<Vec<Kept>, Refusal> {
        only_staff(who)?;
        let db = self.db.reader();
        let (order, _) = read::order(db, id, who).await?;
        let mut kept: Vec<Kept> = Vec::new();
        for stretch in stretches(db, &order, self.clock.now()).await? {
            let left = limit.saturating_sub(kept.len() as u64);
            if left > 0 {
                kept.extend(fixes_of(db, &stretch, span, left).await?);
            }
        }
        Ok(kept)
    }

    /// Fixes of a driver, as they were kept, for staff. At most `limit`; there may be more if there are as many.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others than staff; those of the database.
    pub async fn trail_of(
        &self,
        driver: &UserId,
        who: &Principal,
        (from, to): (Time, Time),
        after: i64,
        limit: u64,
    ) -> Result<Vec<Kept>, Refusal> {
        only_staff(who)?;
        let stretch = Stretch { driver: driver.clone(), from, to };
        fixes_of(self.db.reader(), &stretch, Span { from: None, to: None, after }, limit).await
    }

    /// What was kept of a delivery, for staff.
    ///
    /// # Errors
    /// As [`Drivers::positions`].
    pub async fn recorded(&self, id: &OrderId, who: &Principal) -> Result<Recorded, Refusal> {
        only_staff(who)?;
        recorded(&self.db, self.clock.now(), id).await
    }

    /// How this server judges positions.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        self.filtering.rules()
    }
}

/// What was kept of a delivery.
///
/// # Errors
/// [`Refusal::NotFound`]; those of the database.
pub async fn recorded(db: &Db, now: Time, id: &OrderId) -> Result<Recorded, Refusal> {
    let db = db.reader();
    let order = read::load(db, id).await?.ok_or(Refusal::NotFound("order"))?;
    let mut fixes = Vec::new();
    let mut is_cut = false;
    let mut carried: Option<(Time, Time)> = None;
    for stretch in stretches(db, &order, now).await? {
        carried = Some((carried.map_or(stretch.from, |(from, _)| from), stretch.to));
        let before =
            Stretch { driver: stretch.driver.clone(), from: stretch.from - LEAD_IN, to: stretch.from };
        let known = fixes_of(db, &before, Span::default(), REPLAYED).await?;
        fixes.extend(known.into_iter().map(|kept| (kept, false)));
        let of_order = fixes_of(db, &stretch, Span::default(), REPLAYED).await?;
        is_cut |= of_order.len() as u64 >= REPLAYED;
        fixes.extend(of_order.into_iter().map(|kept| (kept, true)));
    }
    let etas = log::of_order(db, id, 0, SHOWN_ETAS).await?.into_iter().map(|(_, shown)| shown).collect();
    let arrived_at = log::outcome(db, id).await?.map(|(at, _)| at);
    Ok(Recorded { order, fixes, etas, arrived_at, carried, is_cut })
}

/// Who carried an order when, the first one first.
async fn stretches(db: &impl ConnectionTrait, order: &Order, now: Time) -> Result<Vec<Stretch>, Refusal> {
    let history = read::history(db, order).await?;
    let rows = assignment::Entity::find()
        .filter(assignment::Column::OrderId.eq(order.id.as_str()))
        .order_by_asc(assignment::Column::Seq)
        .all(db)
        .await?;
    let over = is_final(order.status).then(|| history.last().map_or(order.updated_at, |last| last.at));
    let end = over.unwrap_or(now);
    let stretch = |row: assignment::Model| Stretch {
        driver: UserId::stored(&row.driver_id),
        from: row.assigned_at,
        to: row.ended_at.unwrap_or(end).min(end),
    };
    Ok(rows.into_iter().map(stretch).collect())
}

async fn fixes_of(
    db: &impl ConnectionTrait,
    stretch: &Stretch,
    span: Span,
    limit: u64,
) -> Result<Vec<Kept>, Refusal> {
    let from = span.from.map_or(stretch.from, |from| from.max(stretch.from));
    let to = span.to.map_or(stretch.to, |to| to.min(stretch.to));
    if from > to {
        return Ok(Vec::new());
    }
    let first = first_since(db, from - MARGIN).await?.max(span.after.saturating_add(1));
    let end = first_since(db, to + LATE).await?;
    let rows = trail::Entity::find()
        .filter(Column::Id.between(first, end))
        .filter(Column::DriverId.eq(stretch.driver.as_str()))
        .filter(Column::RecordedAt.between(from, to))
        .order_by_asc(Column::Id)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.iter().map(kept).collect())
}

/// The id of the first fix that was received at this time or later; one more than the last id if there is none. The trail has
/// no index on times, but its ids rise with them.
async fn first_since(db: &impl ConnectionTrait, at: Time) -> Result<i64, Refusal> {
    let newest = trail::Entity::find().order_by_desc(Column::Id).one(db).await?;
    let (mut low, mut high) = (0, newest.map_or(0, |row| row.id) + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let next: Option<(i64, Time)> = trail::Entity::find()
            .select_only()
            .columns([Column::Id, Column::ReceivedAt])
            .filter(Column::Id.gte(middle))
            .order_by_asc(Column::Id)
            .limit(1)
            .into_tuple()
            .one(db)
            .await?;
        match next {
            Some((id, received_at)) if received_at < at => low = id + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

fn kept(row: &trail::Model) -> Kept {
    let provenance = |source| Provenance {
        source,
        uncertainty: row.uncertainty,
        reanchored: row.reanchored.unwrap_or_default(),
    };
    let place = row.shown_latitude.zip(row.shown_longitude);
    Kept {
        id: row.id,
        driver: UserId::stored(&row.driver_id),
        fix: Fix {
            place: Point::stored(row.latitude, row.longitude),
            heading: row.heading,
            speed: row.speed,
            accuracy: row.accuracy,
            recorded_at: row.recorded_at,
            received_at: row.received_at,
            mocked: row.mocked.unwrap_or_default(),
        },
        verdict: row.verdict.and_then(Verdict::of_stored),
        shown: place
            .zip(row.source.and_then(Source::of_stored))
            .map(|((latitude, longitude), source)| (Point::stored(latitude, longitude), provenance(source))),
        speed: row.implied_speed,
        innovation: row.innovation,
    }
}
