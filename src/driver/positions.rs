//! The trail of one order: each fix of its drivers while they carried it, and what became of it.

use entity::driver_assignment as assignment;
use entity::position_trail::{self as trail, Column};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use chrono::TimeDelta;

use super::Drivers;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::access::only_staff;
use crate::model::status::is_final;
use crate::model::{Fix, Order, OrderId, PastStatus, Point, Principal, Provenance, Source, UserId, Verdict};
use crate::order::read;

/// A fix may arrive so long after it was measured, if the phone was offline.
const LATE: TimeDelta = TimeDelta::hours(1);
/// Nodes write their fixes in groups, so ids are in the order of receipt only to this.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

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
    pub surprise: Option<f64>,
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
        let history = read::history(db, &order).await?;
        let mut kept: Vec<Kept> = Vec::new();
        for stretch in self.stretches(&order, &history).await? {
            let left = limit.saturating_sub(kept.len() as u64);
            if left > 0 {
                kept.extend(self.fixes_of(&stretch, span, left).await?);
            }
        }
        Ok(kept)
    }

    /// Who carried the order when, the first one first.
    async fn stretches(&self, order: &Order, history: &[PastStatus]) -> Result<Vec<Stretch>, Refusal> {
        let rows = assignment::Entity::find()
            .filter(assignment::Column::OrderId.eq(order.id.as_str()))
            .order_by_asc(assignment::Column::Seq)
            .all(self.db.reader())
            .await?;
        let over = is_final(order.status).then(|| history.last().map_or(order.updated_at, |last| last.at));
        let end = over.unwrap_or_else(|| self.clock.now());
        let stretch = |row: assignment::Model| Stretch {
            driver: UserId::stored(&row.driver_id),
            from: row.assigned_at,
            to: row.ended_at.unwrap_or(end).min(end),
        };
        Ok(rows.into_iter().map(stretch).collect())
    }

    async fn fixes_of(&self, stretch: &Stretch, span: Span, limit: u64) -> Result<Vec<Kept>, Refusal> {
        let from = span.from.map_or(stretch.from, |from| from.max(stretch.from));
        let to = span.to.map_or(stretch.to, |to| to.min(stretch.to));
        if from > to {
            return Ok(Vec::new());
        }
        let first = self.first_since(from - MARGIN).await?.max(span.after + 1);
        let end = self.first_since(to + LATE).await?;
        let rows = trail::Entity::find()
            .filter(Column::Id.between(first, end))
            .filter(Column::DriverId.eq(stretch.driver.as_str()))
            .filter(Column::RecordedAt.between(from, to))
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(self.db.reader())
            .await?;
        Ok(rows.iter().map(kept).collect())
    }

    /// The id of the first fix that was received at this time or later; one more than the last id if there is none. The trail has
    /// no index on times, but its ids rise with them.
    async fn first_since(&self, at: Time) -> Result<i64, Refusal> {
        let newest = trail::Entity::find().order_by_desc(Column::Id).one(self.db.reader()).await?;
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
                .one(self.db.reader())
                .await?;
            match next {
                Some((id, received_at)) if received_at < at => low = id + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
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
        surprise: row.surprise,
    }
}
