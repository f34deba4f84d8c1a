//! The clock: against that of `PostgreSQL`, against the newest event, and whether it can be right at all.

use chrono::TimeDelta;
use entity::order_event;
use migration::SchemaManager;
use sea_orm::{DbErr, EntityTrait, QueryOrder};

use super::{Open, Report, database, in_time};
use crate::base::clock::{Clock, Time, from_millis, instant, rfc3339};
use crate::base::db::Db;
use crate::model::OrderEvent;

const AREA: &str = "clock";
/// No clock that is right says less than this: 2026-11-01. This version was not there before.
const EARLIEST: i64 = 1_793_491_200_000;
/// Nor more than this: 2100-01-01.
const LATEST: i64 = 4_102_444_800_000;
/// What is worth a look, and what tokens of others suffer from.
const APART: TimeDelta = TimeDelta::seconds(1);
const FAR_APART: TimeDelta = TimeDelta::seconds(30);
const MEND: &str = "let chrony, ntpd or systemd-timesyncd keep the clock of this machine";

pub(super) async fn check(db: Open<'_>, report: &mut Report) {
    let now = Clock::System.now();
    if !(EARLIEST..LATEST).contains(&now.timestamp_millis()) {
        let what = format!("the clock of this machine says {}, which cannot be", rfc3339(now));
        report.fail(AREA, what, "no token is valid, and orders get wrong times", MEND);
        return;
    }
    let Some(db) = db else {
        report.ok(AREA, format!("the clock says {}; there is no database to compare it with", rfc3339(now)));
        return;
    };
    if db.is_shared() {
        match in_time(AREA, "the clock of PostgreSQL", report, offset(db)).await {
            Some(Ok(offset)) => say_offset(offset, report),
            Some(Err(error)) => report.fail(
                AREA,
                format!("the clock of PostgreSQL cannot be read: {error}"),
                "all nodes go by it",
                "look at the findings on the database",
            ),
            None => {}
        }
        return;
    }
    match in_time(AREA, "the log", report, newest(db)).await {
        Some(Ok(Some(newest))) if newest > now + APART => report.fail(
            AREA,
            format!("the newest event is of {}, and the clock says {}", rfc3339(newest), rfc3339(now)),
            "new events would be older than those before them",
            MEND,
        ),
        Some(_) => report.ok(AREA, format!("the clock says {}", rfc3339(now))),
        None => {}
    }
}

/// How far the clock of the database is ahead, at best half of what the question took.
async fn offset(db: &Db) -> Result<TimeDelta, DbErr> {
    // The first question may have to wait for a connection.
    database::one(db, "SELECT 1 AS one").await?;
    let (asked, began) = (Clock::System.now(), instant());
    let told: Time = database::one(db, "SELECT clock_timestamp() AS now").await?.try_get("", "now")?;
    let half = TimeDelta::from_std(began.elapsed() / 2).unwrap_or_default();
    Ok(told - (asked + half))
}

fn say_offset(offset: TimeDelta, report: &mut Report) {
    let what = format!("PostgreSQL's clock is {} ms ahead of this machine's", offset.num_milliseconds());
    let why =
        "nodes go by PostgreSQL's clock; tokens that others make by a different one seem too old or too new";
    if offset.abs() > FAR_APART {
        report.fail(AREA, what, why, MEND);
    } else if offset.abs() > APART {
        report.warn(AREA, what, why, MEND);
    } else {
        report.ok(AREA, what);
    }
}

async fn newest(db: &Db) -> Result<Option<Time>, DbErr> {
    if !SchemaManager::new(db.reader()).has_table("order_event").await? {
        return Ok(None);
    }
    let newest =
        order_event::Entity::find().order_by_desc(order_event::Column::Position).one(db.reader()).await?;
    let event = newest.and_then(|row| serde_json::from_str::<OrderEvent>(&row.body).ok());
    Ok(event.map(|event| from_millis(event.at.timestamp_millis())))
}
