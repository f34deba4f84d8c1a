//! What was learned, in the database: one version a day. Each version is made of the one before it, and its number is one more, so of
//! several processes one makes it.

use std::time::Duration;

use chrono::{NaiveDate, NaiveTime, TimeDelta};
use entity::eta_calibration::{self as row, Column};
use entity::eta_outcome;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::fold::last_day;
use super::{Calibration, Glimpse, InUse, Learned, Trip};
use crate::base::clock::{Clock, Time};
use crate::base::config::{EtaCalibration, Routing, TravelMode};
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::base::spawn::uninterrupted;
use crate::eta::log::Shown;
use crate::eta::outcomes::{self, Delivered};
use crate::model::{Principal, Role};

/// How often a process looks whether there is a new version, or a day to learn.
const INTERVAL: Duration = Duration::from_secs(60);
/// What was shown at the end of a day may be written a little later.
const PATIENCE: TimeDelta = TimeDelta::minutes(5);
/// Versions that are kept.
const VERSIONS: u64 = 90;
/// Deliveries of one day that are learned from.
const TRIPS: usize = 100_000;
/// Deliveries of so many days ago are learned from when there is no version yet.
const FIRST_DAYS: i64 = 30;

/// The use cases of what was learned. Cheap to clone.
#[derive(Clone)]
pub struct Calibrating {
    db: Db,
    clock: Clock,
    mode: TravelMode,
    policy: EtaCalibration,
    in_use: Calibration,
    metrics: Metrics,
}

/// A version, as it was made.
#[derive(Clone, Debug)]
pub struct Version {
    pub version: i64,
    pub day: String,
    pub made_at: Time,
    pub made_by: Option<String>,
    pub copy_of: Option<i64>,
    pub frozen: bool,
}

/// What is in use, and all versions that can be gone back to, the newest first.
pub struct View {
    pub policy: EtaCalibration,
    pub learned: Learned,
    pub versions: Vec<Version>,
}

/// What an admin wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Whether days are learned from now on.
    pub frozen: Option<bool>,
    /// Go back to what this version had learned.
    pub roll_back_to: Option<i64>,
}

impl Calibrating {
    #[must_use]
    pub fn new(db: Db, clock: Clock, settings: &Routing, metrics: Metrics) -> Self {
        let (mode, policy) = (settings.driver_mode, settings.eta_calibration);
        Self { db, clock, mode, policy, in_use: Calibration::default(), metrics }
    }

    /// What is in use now and from now on.
    #[must_use]
    pub fn in_use(&self) -> Calibration {
        self.in_use.clone()
    }

    async fn newest(&self) -> Result<Option<row::Model>, Refusal> {
        Ok(row::Entity::find().order_by_desc(Column::Version).one(self.db.reader()).await?)
    }

    fn put(&self, version: i64, learned: &Learned) {
        self.metrics.eta_calibration_version.set(version);
        if self.policy == EtaCalibration::On {
            self.in_use.put(InUse::of(learned, self.mode));
        }
    }

    /// Takes the newest version into use, if there is one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load(&self) -> Result<(), Refusal> {
        if let Some(newest) = self.newest().await? {
            self.put(newest.version, &serde_json::from_str(&newest.learned)?);
        }
        Ok(())
    }

    /// Looks for new versions, and makes one when a day is over, for as long as it is polled.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            if let Err(error) = self.step().await {
                tracing::warn!(%error, "nothing could be learned from the deliveries; trying again");
            }
        }
    }

    /// Learns all days that are over, and takes the newest version into use.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn step(&self) -> Result<(), Refusal> {
        if self.policy != EtaCalibration::Off {
            while self.learn_a_day().await? {}
        }
        self.load().await
    }

    /// Learns the first day that is over and not learned yet. Returns whether there was one.
    async fn learn_a_day(&self) -> Result<bool, Refusal> {
        let last = last_day(self.clock.now() - PATIENCE);
        let newest = self.newest().await?;
        let (version, learned, day, frozen) = match newest {
            Some(row) => {
                let day = row.day.parse::<NaiveDate>().ok().and_then(|day| day.succ_opt());
                (row.version, serde_json::from_str(&row.learned)?, day, row.frozen)
            }
            None => (0, Learned::default(), self.first_day(last).await?, false),
        };
        let Some(day) = day.filter(|day| *day <= last && !frozen) else { return Ok(false) };
        let mut learned: Learned = learned;
        let begin = day.and_time(NaiveTime::MIN).and_utc();
        let mut trips = Vec::new();
        // `each` begins after the first time, and includes the last one.
        let instant = TimeDelta::milliseconds(1);
        let end = begin + TimeDelta::days(1) - instant;
        outcomes::each(self.db.reader(), begin - instant, end, |order| {
            trips.extend(trip(&order).filter(|_| trips.len() < TRIPS));
        })
        .await?;
        learned.learn_day(&trips);
        let new = Version {
            version: version + 1,
            day: day.to_string(),
            made_at: self.clock.now(),
            made_by: None,
            copy_of: None,
            frozen: false,
        };
        self.insert(&new, &learned).await?;
        tracing::info!(version = new.version, %day, trips = trips.len(), "ETAs were held against the arrivals of a day");
        Ok(true)
    }

    async fn first_day(&self, last: NaiveDate) -> Result<Option<NaiveDate>, Refusal> {
        let oldest: Option<Time> = eta_outcome::Entity::find()
            .select_only()
            .column(eta_outcome::Column::DeliveredAt)
            .order_by_asc(eta_outcome::Column::DeliveredAt)
            .into_tuple()
            .one(self.db.reader())
            .await?;
        Ok(oldest.map(|oldest| oldest.date_naive().max(last - TimeDelta::days(FIRST_DAYS))))
    }

    /// Writes a version. Returns false if another process has made one with its number.
    async fn insert(&self, new: &Version, learned: &Learned) -> Result<bool, Refusal> {
        let model = row::ActiveModel {
            version: Set(new.version),
            day: Set(new.day.clone()),
            made_at: Set(new.made_at),
            made_by: Set(new.made_by.clone()),
            copy_of: Set(new.copy_of),
            frozen: Set(new.frozen),
            learned: Set(serde_json::to_string(learned)?),
        };
        let nothing = OnConflict::column(Column::Version).do_nothing().to_owned();
        let inserted =
            row::Entity::insert(model).on_conflict(nothing).exec_without_returning(self.db.writer()).await?;
        let old = new.version - i64::try_from(VERSIONS).unwrap_or(i64::MAX);
        row::Entity::delete_many().filter(Column::Version.lte(old)).exec(self.db.writer()).await?;
        Ok(inserted > 0)
    }

    /// What is in use and what can be gone back to.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn view(&self) -> Result<View, Refusal> {
        type Columns = (i64, String, Time, Option<String>, Option<i64>, bool);
        let versions: Vec<Columns> = row::Entity::find()
            .select_only()
            .columns([
                Column::Version,
                Column::Day,
                Column::MadeAt,
                Column::MadeBy,
                Column::CopyOf,
                Column::Frozen,
            ])
            .order_by_desc(Column::Version)
            .limit(VERSIONS)
            .into_tuple()
            .all(self.db.reader())
            .await?;
        let learned = match versions.first() {
            Some((version, ..)) => self.learned_by(*version).await?.unwrap_or_default(),
            None => Learned::default(),
        };
        let versions = versions.into_iter().map(|(version, day, made_at, made_by, copy_of, frozen)| {
            Version { version, day, made_at, made_by, copy_of, frozen }
        });
        Ok(View { policy: self.policy, learned, versions: versions.collect() })
    }

    async fn learned_by(&self, version: i64) -> Result<Option<Learned>, Refusal> {
        let row = row::Entity::find_by_id(version).one(self.db.reader()).await?;
        row.map(|row| Ok(serde_json::from_str(&row.learned)?)).transpose()
    }

    /// Stops learning, goes on with it, or goes back to an older version. Days until today are not learned after that: they may be
    /// why somebody asks.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others than admins; [`Refusal::Invalid`] for a version that is not kept;
    /// [`Refusal::Unavailable`] if another process was faster; those of the database.
    pub async fn set(&self, who: &Principal, wanted: Wanted) -> Result<(), Refusal> {
        if who.role != Role::Admin {
            return Err(Refusal::Forbidden("only admins change what was learned".to_owned()));
        }
        let newest = self.newest().await?;
        let (version, learned, frozen) = match &newest {
            Some(row) => (row.version, serde_json::from_str(&row.learned)?, row.frozen),
            None => (0, Learned::default(), false),
        };
        let learned = match wanted.roll_back_to {
            None => learned,
            Some(old) => self
                .learned_by(old)
                .await?
                .ok_or_else(|| Refusal::invalid("rollBackTo", "is not a version that is kept"))?,
        };
        let new = Version {
            version: version + 1,
            day: last_day(self.clock.now()).to_string(),
            made_at: self.clock.now(),
            made_by: Some(who.id.to_string()),
            copy_of: wanted.roll_back_to,
            frozen: wanted.frozen.unwrap_or(frozen),
        };
        let this = self.clone();
        uninterrupted(async move {
            if !this.insert(&new, &learned).await? {
                return Err(Refusal::Unavailable);
            }
            this.put(new.version, &learned);
            Ok(())
        })
        .await
    }
}

/// What a delivery says of driving: from when there was nothing else before the door. `None` if nobody saw the driver at the door, or
/// if another stop was put before it meanwhile.
fn trip(order: &Delivered) -> Option<Trip> {
    let shown = order.shown.iter().filter(|shown| shown.at < order.arrived_at && !shown.stale);
    let mut driving: Vec<&Shown> = Vec::new();
    for shown in shown.filter(|shown| matches!(shown.cause.as_str(), "fix" | "plan")) {
        match shown.base {
            Some(_) => driving.push(shown),
            None => driving.clear(),
        }
    }
    let first = driving.first().filter(|_| order.is_seen)?;
    let mode = TravelMode::parse(&first.mode)?;
    let glimpses = driving.iter().filter_map(|shown| {
        let actual = (order.arrived_at - shown.at).as_seconds_f64();
        Some(Glimpse { at: shown.at, source: shown.source.clone(), base: shown.base?, actual })
    });
    Some(Trip { mode, area: first.area.clone(), glimpses: glimpses.collect() })
}
