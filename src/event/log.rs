//! The log of durable events. Everything that clients are told of orders comes from it.

use entity::{event_audience, log_head, order_event};
use sea_orm::sea_query::{Order, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
};
use serde::{Serialize, Serializer};
use smallvec::SmallVec;

use crate::base::clock::Time;
use crate::base::db::{Sql, padded, rows};
use crate::base::error::Refusal;
use crate::model::{Audience, OrderEvent, OrderId};

/// The most events of one read.
pub const PAGE: u64 = 500;
/// The usual size of an event in bytes.
const BODY: usize = 2048;
/// Events of the log whose audiences are indexed together: see [`event_audience`].
pub(super) const STRETCH: i64 = 512;
/// Stretches that are searched at a time.
const STRETCHES: u8 = 32;

/// Takes positions, writes the events there, and each audience of an event once: a user may be two parties of one
/// order. An event has the order, its seq, and the place of its body in `$3`.
const APPEND: Sql = Sql {
    sqlite: "UPDATE log_head SET position = position + $1 WHERE id = 1 RETURNING position;
        INSERT INTO order_event (position, order_id, seq, body)
        SELECT log_head.position - $1 + 1 + t.key, t.value->>0, t.value->>1,
            CAST(substr($3, t.value->>2, t.value->>3) AS text)
        FROM json_each($2) AS t, log_head;
        INSERT INTO event_audience (stretch, audience, position)
        SELECT (log_head.position - $1 + t.value) / $5, t.key, log_head.position - $1 + t.value
        FROM json_each($4) AS t, log_head WHERE true
        ON CONFLICT DO NOTHING",
    postgres: "WITH head AS (UPDATE log_head SET position = position + $1
            WHERE id = 1 AND COALESCE(timeline = ordercast_timeline(), true) RETURNING position),
        event AS (
            INSERT INTO order_event (position, order_id, seq, body)
            SELECT head.position - $1 + number, value->>0, CAST(value->>1 AS bigint),
                convert_from(substr($3, CAST(value->>2 AS integer), CAST(value->>3 AS integer)), 'UTF8')
            FROM head, json_array_elements(CAST($2 AS json)) WITH ORDINALITY AS t (value, number)),
        audience AS (
            INSERT INTO event_audience (stretch, audience, position)
            SELECT (head.position - $1 + CAST(value AS bigint)) / $5, key, head.position - $1 + CAST(value AS bigint)
            FROM head, json_each_text(CAST($4 AS json))
            ON CONFLICT DO NOTHING)
        SELECT position FROM head",
};

/// Appends events to the log, in the transaction of the change that they record. This is the only way to log an
/// event. Call it last: the lock on the head row, held until the commit, makes positions dense and in commit order.
///
/// # Errors
/// Those of the database.
pub async fn append(tx: &DatabaseTransaction, events: &mut [OrderEvent]) -> Result<(), Refusal> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let mut bodies = Vec::with_capacity(events.len() * BODY);
    let mut written = Vec::with_capacity(events.len());
    let mut audiences = Audiences(Vec::with_capacity(events.len() * 3));
    for (event, number) in events.iter().zip(1..) {
        let from = bodies.len();
        serde_json::to_writer(&mut bodies, event)?;
        written.push((&event.order.id, event.order.seq, from + 1, bodies.len() - from));
        audiences.0.extend(event.audience().iter().map(|audience| (audience.stored(), number)));
    }
    let values = [count.into(), rows(&written)?, bodies.into(), rows(&audiences)?, STRETCH.into()];
    let taken = tx.query_all_raw(APPEND.with(tx, values)).await?;
    // Another `PostgreSQL` has taken over, and it is not known yet which positions are free there.
    let last = taken.first().ok_or(Refusal::Unavailable)?.try_get::<i64>("", "position")?;
    for (event, position) in events.iter_mut().zip(last - count + 1..) {
        event.position = position;
    }
    Ok(())
}

/// The audiences of the events, each with its event's number, as a JSON object: databases read its members faster
/// than an array's.
struct Audiences(Vec<(String, i64)>);

impl Serialize for Audiences {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(audience, number)| (audience, number)))
    }
}

/// The position of the newest event.
///
/// # Errors
/// Those of the database.
pub async fn head(db: &impl ConnectionTrait) -> Result<i64, Refusal> {
    let row = log_head::Entity::find_by_id(1).one(db).await?;
    row.map(|head| head.position).ok_or_else(|| Refusal::internal("the log has no head row"))
}

/// One entry of the log.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every entry is an event")]
pub enum Entry {
    Event(OrderEvent),
    /// An event that a newer version wrote and this one cannot read.
    Unreadable {
        position: i64,
        order: OrderId,
    },
}

impl Entry {
    /// Its position in the log.
    #[must_use]
    pub const fn position(&self) -> i64 {
        match self {
            Self::Event(event) => event.position,
            Self::Unreadable { position, .. } => *position,
        }
    }

    /// The order that it is about.
    #[must_use]
    pub const fn order(&self) -> &OrderId {
        match self {
            Self::Event(event) => &event.order.id,
            Self::Unreadable { order, .. } => order,
        }
    }

    fn read(row: &order_event::Model) -> Self {
        match serde_json::from_str::<OrderEvent>(&row.body) {
            Ok(event) => Self::Event(OrderEvent { position: row.position, ..event }),
            Err(error) => {
                // The text of the error has no value of the event, only its place.
                let (line, column) = (error.line(), error.column());
                tracing::warn!(
                    position = row.position,
                    line,
                    column,
                    "an event of a newer version is skipped"
                );
                Self::Unreadable { position: row.position, order: OrderId::stored(&row.order_id) }
            }
        }
    }
}

/// Entries of the log in order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// The read reached its limit in number or bytes, so there may be more.
    pub is_full: bool,
}

/// The most bytes of one read.
const READ_BYTES: usize = 2 * 1024 * 1024;
/// Entries that are read at a time until it is known how large they are.
const FIRST_READ: u64 = 64;

/// Reads up to `limit` rows, and no more once they are large. `select` selects those that follow the last one so far.
async fn bounded(
    db: &impl ConnectionTrait,
    limit: u64,
    select: impl Fn(Option<&order_event::Model>) -> Select<order_event::Entity>,
) -> Result<(Vec<order_event::Model>, bool), Refusal> {
    let (mut rows, mut bytes): (Vec<order_event::Model>, usize) = (Vec::new(), 0);
    loop {
        let count = match bytes.checked_div(rows.len()) {
            None => FIRST_READ,
            Some(usual) => ((READ_BYTES - bytes) / usual.max(1)).max(1) as u64,
        };
        let count = count.min(limit - rows.len() as u64);
        let more = select(rows.last()).limit(count).all(db).await?;
        let was_last = (more.len() as u64) < count;
        bytes += more.iter().map(|row| row.body.len()).sum::<usize>();
        rows.extend(more);
        if was_last || rows.len() as u64 >= limit || bytes >= READ_BYTES {
            return Ok((rows, !was_last));
        }
    }
}

impl Page {
    fn new((rows, is_full): (Vec<order_event::Model>, bool)) -> Self {
        Self { entries: rows.iter().map(Entry::read).collect(), is_full }
    }

    /// The events that can be read.
    #[must_use]
    pub fn events(self) -> Vec<OrderEvent> {
        let event = |entry| match entry {
            Entry::Event(event) => Some(event),
            Entry::Unreadable { .. } => None,
        };
        self.entries.into_iter().filter_map(event).collect()
    }
}

/// Up to [`PAGE`] entries after a position, in order. Positions of orders that are gone are left out.
///
/// # Errors
/// Those of the database.
pub async fn after(db: &impl ConnectionTrait, position: i64) -> Result<Page, Refusal> {
    let rows = bounded(db, PAGE, |last| {
        order_event::Entity::find()
            .filter(order_event::Column::Position.gt(last.map_or(position, |last| last.position)))
            .order_by_asc(order_event::Column::Position)
    });
    Ok(Page::new(rows.await?))
}

/// The position of the last event before a time; the one before the first event that is kept if there is none. Times rise with
/// positions.
///
/// # Errors
/// Those of the database.
pub async fn last_before(db: &impl ConnectionTrait, time: Time) -> Result<i64, Refusal> {
    let (mut low, mut high) = (0, head(db).await?);
    while low < high {
        let middle = low + (high - low) / 2;
        let next = order_event::Entity::find()
            .filter(order_event::Column::Position.gt(middle))
            .order_by_asc(order_event::Column::Position)
            .one(db)
            .await?;
        match next.as_ref().map(Entry::read) {
            Some(Entry::Event(event)) if event.at < time => low = event.position,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Up to `limit` events of one order after a seq, in order.
///
/// # Errors
/// Those of the database.
pub async fn of_order(
    db: &impl ConnectionTrait,
    order: &OrderId,
    after_seq: i64,
    limit: u64,
) -> Result<Page, Refusal> {
    let rows = bounded(db, limit, |last| {
        order_event::Entity::find()
            .filter(order_event::Column::OrderId.eq(order.as_str()))
            .filter(order_event::Column::Seq.gt(last.map_or(after_seq, |last| last.seq)))
            .order_by_asc(order_event::Column::Seq)
    });
    Ok(Page::new(rows.await?))
}

/// The newest events of an order, up to `limit` of them, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn newest_of_order(
    db: &impl ConnectionTrait,
    order: &OrderId,
    limit: u64,
) -> Result<Vec<OrderEvent>, Refusal> {
    let rows = bounded(db, limit, |last| {
        order_event::Entity::find()
            .filter(order_event::Column::OrderId.eq(order.as_str()))
            .filter(order_event::Column::Seq.lt(last.map_or(i64::MAX, |last| last.seq)))
            .order_by_desc(order_event::Column::Seq)
    });
    let mut events = Page::new(rows.await?).events();
    events.reverse();
    Ok(events)
}

/// The events before a position, in order, and the position after which they are all: `after`, or a later one if they are
/// large.
///
/// # Errors
/// Those of the database.
pub async fn between(
    db: &impl ConnectionTrait,
    after: i64,
    before: i64,
) -> Result<(i64, Vec<OrderEvent>), Refusal> {
    let rows = bounded(db, PAGE, |last| {
        order_event::Entity::find()
            .filter(order_event::Column::Position.gt(after))
            .filter(order_event::Column::Position.lt(last.map_or(before, |last| last.position)))
            .order_by_desc(order_event::Column::Position)
    });
    let page = Page::new(rows.await?);
    let reached = page.entries.last().filter(|_| page.is_full).map_or(after, |first| first.position() - 1);
    let mut events = page.events();
    events.reverse();
    Ok((reached, events))
}

/// The part of the log for one client.
#[derive(Clone, Debug)]
pub enum Share {
    /// Every event.
    All,
    /// Events for any of these audiences.
    Audiences(SmallVec<[Audience; 2]>),
    /// The events of these orders.
    Orders(Vec<OrderId>),
}

impl Share {
    /// The conditions that select the share after a position. Each covers the next part of the log, and together they
    /// cover it at least to `head`. None selects more than `limit` events of the share.
    fn conditions(&self, after: i64, head: i64, limit: u64) -> impl Iterator<Item = Condition> + '_ {
        let newer = Condition::all().add(order_event::Column::Position.gt(after));
        let (whole, audiences) = match self {
            Self::All => (Some(newer), None),
            Self::Orders(orders) => {
                let ids = padded(orders.iter().map(OrderId::as_str).collect());
                (Some(newer.add(order_event::Column::OrderId.is_in(ids))), None)
            }
            Self::Audiences(audiences) => (None, Some(audiences)),
        };
        let in_parts = audiences.into_iter().flat_map(move |audiences| {
            let last = head / STRETCH;
            (after / STRETCH..=last).step_by(STRETCHES.into()).map(move |first| {
                let stretches = first..(first + i64::from(STRETCHES)).min(last + 1);
                let mine = Query::select()
                    .column(event_audience::Column::Position)
                    .from(event_audience::Entity)
                    .and_where(event_audience::Column::Stretch.is_in(padded(stretches.collect())))
                    .and_where(event_audience::Column::Audience.is_in(audiences.iter().map(Audience::stored)))
                    .and_where(event_audience::Column::Position.gt(after))
                    .order_by(event_audience::Column::Position, Order::Asc)
                    // One event may match once for each audience.
                    .limit(limit.saturating_mul(audiences.len() as u64))
                    .to_owned();
                Condition::all().add(order_event::Column::Position.in_subquery(mine))
            })
        });
        whole.into_iter().chain(in_parts)
    }
}

/// Up to [`PAGE`] events of a share after a position, in order. If the page is not full, there are no others up to
/// `head`, which is the log's head now or earlier.
///
/// # Errors
/// Those of the database.
pub async fn of_share(
    db: &impl ConnectionTrait,
    share: &Share,
    after: i64,
    head: i64,
) -> Result<Page, Refusal> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for condition in share.conditions(after, head, PAGE) {
        let (rows, is_full) = bounded(db, PAGE - found.len() as u64, |last| {
            order_event::Entity::find()
                .filter(condition.clone())
                .filter(order_event::Column::Position.gt(last.map_or(after, |last| last.position)))
                .order_by_asc(order_event::Column::Position)
        })
        .await?;
        bytes += rows.iter().map(|row| row.body.len()).sum::<usize>();
        found.extend(rows);
        if is_full || bytes >= READ_BYTES {
            return Ok(Page::new((found, true)));
        }
    }
    Ok(Page::new((found, false)))
}

/// The number of events of a share after a position, up to `head`. Counting stops beyond `limit`.
///
/// # Errors
/// Those of the database.
pub async fn count_share(
    db: &impl ConnectionTrait,
    share: &Share,
    after: i64,
    head: i64,
    limit: u64,
) -> Result<u64, Refusal> {
    let mut count = 0;
    for condition in share.conditions(after, head, limit + 1) {
        let positions = order_event::Entity::find()
            .select_only()
            .column(order_event::Column::Position)
            .filter(condition)
            .limit(limit + 1 - count)
            .into_tuple::<i64>()
            .all(db)
            .await?;
        count += positions.len() as u64;
        if count > limit {
            break;
        }
    }
    Ok(count)
}
