//! Milestones and risks on their way to the database and to the clients of all nodes. They have no seq: a row says that they
//! happened, and each is told once.

use chrono::TimeDelta;
use entity::{eta_outcome as outcome, order_milestone as milestone, order_risk as risk};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, Set};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::milestone::Reached;
use super::risk::{Promise, Watched};
use super::told::{MilestoneUpdate, RiskUpdate};
use crate::base::clock::{Time, rfc3339};
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::cluster::control::{Control, Notice};
use crate::model::told::{Milestone, Told, What};
use crate::model::{Audience, Eta, Order, OrderId, PastMilestone, Risk, Role, StopKind};
use crate::notify::Notifications;
use crate::webhook::{News, Webhooks};

/// Notes that wait to be written. Further ones are dropped and counted.
const QUEUE: usize = 4_096;
/// Written together.
const BATCH: usize = 100;
/// A driver who was at the door so long before the order was called delivered arrived then.
const PRESSED_LATE: TimeDelta = TimeDelta::minutes(10);
/// How long to wait while the database does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Something to be written and told.
#[derive(Clone, Debug)]
pub(super) enum Note {
    Reached {
        order: OrderId,
        reached: Reached,
        told: Told,
    },
    /// The order was delivered then.
    Arrived {
        order: OrderId,
        at: Time,
    },
    /// Somebody said that it was delivered, and it was not.
    NotArrived {
        order: OrderId,
    },
    Risk {
        order: OrderId,
        watched: Watched,
        reason: Option<&'static str>,
        at: Time,
        told: Option<Told>,
    },
}

/// The sending end of the queue.
#[derive(Clone)]
pub struct Notes {
    queue: mpsc::Sender<Note>,
    metrics: Metrics,
}

/// The receiving end of the queue.
pub struct NotesWriter {
    queue: mpsc::Receiver<Note>,
    db: Db,
    control: Control,
    notify: Option<Notifications>,
    webhooks: Option<Webhooks>,
    metrics: Metrics,
}

impl NotesWriter {
    /// From now on customers are notified who are not connected, and other systems are told.
    #[must_use]
    pub fn notifying(self, notify: Notifications, webhooks: Webhooks) -> Self {
        Self { notify: Some(notify), webhooks: Some(webhooks), ..self }
    }
}

fn data(payload: &impl Serialize) -> Box<serde_json::value::RawValue> {
    serde_json::value::to_raw_value(payload).unwrap_or_else(|_| serde_json::value::RawValue::NULL.to_owned())
}

impl Note {
    /// A milestone of an order.
    pub fn reached(order: &Order, reached: Reached) -> Self {
        let payload = MilestoneUpdate {
            order_id: order.id.as_str(),
            stop: reached.stop.as_str(),
            milestone: reached.milestone.as_str(),
            at: rfc3339(reached.at),
            distance_meters: reached.distance.round(),
            evidence: reached.evidence,
        };
        let told = Told {
            what: What::Milestone(reached.stop, reached.milestone),
            order: Some(order.id.clone()),
            in_room: true,
            to: parties(order),
            data: data(&payload),
        };
        Self::Reached { order: order.id.clone(), reached, told }
    }

    /// The risk of an order; `is_news` if somebody has to hear of it.
    pub fn risk(
        order: &Order,
        watched: Watched,
        eta: &Eta,
        reason: Option<&'static str>,
        at: Time,
        is_news: bool,
    ) -> Self {
        let payload = RiskUpdate {
            order_id: order.id.as_str(),
            risk: watched.risk.as_str(),
            reason,
            promised_from: watched.promise.map(|promise| rfc3339(promise.from)),
            promised_to: watched.promise.map(|promise| rfc3339(promise.to)),
            eta_low: rfc3339(eta.low),
            eta_high: rfc3339(eta.high),
        };
        let mut to = parties(order);
        to.push(Audience::Role(Role::Admin));
        let (what, in_room) = (What::Risk, false);
        let told = Told { what, order: Some(order.id.clone()), in_room, to, data: data(&payload) };
        Self::Risk { order: order.id.clone(), watched, reason, at, told: is_news.then_some(told) }
    }
}

/// The customer and the chef.
pub(super) fn parties(order: &Order) -> Vec<Audience> {
    vec![
        Audience::Party(Role::Customer, order.customer.id.clone()),
        Audience::Party(Role::Chef, order.chef.id.clone()),
    ]
}

impl Notes {
    /// Makes a queue and returns both of its ends.
    #[must_use]
    pub fn new(db: Db, control: Control, metrics: Metrics) -> (Self, NotesWriter) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (
            Self { queue: sender, metrics: metrics.clone() },
            NotesWriter { queue, db, control, notify: None, webhooks: None, metrics },
        )
    }

    /// Queues a note without waiting.
    pub(super) fn push(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.metrics.notes_dropped.inc();
        }
    }
}

impl NotesWriter {
    /// Writes notes until `stop`, then those that are still in the queue.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                count = self.queue.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = stop.cancelled() => break,
            }
            while let Err(error) = self.write(&batch).await {
                if !matches!(error, Refusal::Unavailable) {
                    self.metrics.notes_dropped.inc_by(batch.len() as u64);
                    tracing::warn!(%error, notes = batch.len(), "milestones could not be written");
                    break;
                }
                if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return;
                }
            }
        }
        let mut rest = Vec::new();
        while let Ok(note) = self.queue.try_recv() {
            rest.push(note);
        }
        if let Err(error) = self.write(&rest).await {
            tracing::warn!(%error, notes = rest.len(), "milestones could not be written");
        }
    }

    async fn write(&self, notes: &[Note]) -> Result<(), Refusal> {
        if notes.is_empty() {
            return Ok(());
        }
        let tx = self.db.begin().await?;
        let mut news = Vec::new();
        for note in notes {
            if let Some(told) = write_one(&tx, note).await? {
                if matches!(told.what, What::Milestone(..)) {
                    self.metrics.milestones.inc();
                }
                self.tell_others(&tx, note, &told).await?;
                news.push(Notice::Told(told));
            }
        }
        self.control.append(&tx, &news).await?;
        tx.commit().await?;
        if !news.is_empty() {
            self.control.appended();
        }
        self.notify(&news).await;
        Ok(())
    }

    /// Tells other systems.
    async fn tell_others(&self, tx: &DatabaseTransaction, note: &Note, told: &Told) -> Result<(), Refusal> {
        let Some(webhooks) = &self.webhooks else { return Ok(()) };
        let (r#type, source, order, at) = match note {
            Note::Reached { order, reached, .. } => {
                let (stop, milestone) = (reached.stop.as_str(), reached.milestone.as_str());
                ("order.milestone", format!("m:{order}:{stop}:{milestone}"), order, reached.at)
            }
            Note::Risk { order, at, .. } => {
                ("order.risk", format!("r:{order}:{}", at.timestamp_millis()), order, *at)
            }
            Note::Arrived { .. } | Note::NotArrived { .. } => return Ok(()),
        };
        let chef = told.to.iter().find_map(|audience| match audience {
            Audience::Party(Role::Chef, chef) => Some(chef),
            _ => None,
        });
        let data = serde_json::from_str(told.data.get())?;
        webhooks.add(tx, &News { r#type, source, order: Some(order), chef, at, data }).await
    }

    /// Customers whose driver is almost there may not be connected.
    async fn notify(&self, news: &[Notice]) {
        for notice in news {
            if let (Some(notify), Notice::Told(Told { what, order: Some(order), .. })) =
                (&self.notify, notice)
                && *what == What::Milestone(StopKind::Dropoff, Milestone::Arriving)
                && let Err(error) = notify.arriving(order).await
            {
                tracing::warn!(%error, "nobody could be notified that a driver is almost there");
            }
        }
    }
}

/// Writes a note. Returns what is to be told, if it is new.
async fn write_one(tx: &DatabaseTransaction, note: &Note) -> Result<Option<Told>, Refusal> {
    match note {
        Note::Reached { order, reached, told } => {
            use milestone::Column;
            let row = milestone::ActiveModel {
                order_id: Set(order.to_string()),
                stop: Set(reached.stop.as_str().to_owned()),
                milestone: Set(reached.milestone.as_str().to_owned()),
                at: Set(reached.at),
                distance: Set(reached.distance),
                evidence: Set(reached.evidence.to_owned()),
            };
            let once = OnConflict::columns([Column::OrderId, Column::Stop, Column::Milestone])
                .do_nothing()
                .to_owned();
            let insert = milestone::Entity::insert(row).on_conflict(once);
            let written = insert.exec_without_returning(tx).await?;
            Ok((written > 0).then(|| told.clone()))
        }
        Note::Arrived { order, at } => {
            let seen = milestone::Entity::find_by_id((
                order.to_string(),
                StopKind::Dropoff.as_str().to_owned(),
                Milestone::Arrived.as_str().to_owned(),
            ));
            let seen = seen.one(tx).await?.map(|row| row.at);
            // Who was at the door long before has been elsewhere since, or nobody pressed the button.
            let seen = seen.filter(|seen| *seen <= *at && *at - *seen <= PRESSED_LATE);
            let row = outcome::ActiveModel {
                order_id: Set(order.to_string()),
                arrived_at: Set(seen.unwrap_or(*at)),
                delivered_at: Set(*at),
                evidence: Set(if seen.is_some() { "milestone" } else { "status" }.to_owned()),
            };
            let once = OnConflict::column(outcome::Column::OrderId).do_nothing().to_owned();
            outcome::Entity::insert(row).on_conflict(once).exec_without_returning(tx).await?;
            Ok(None)
        }
        Note::NotArrived { order } => {
            outcome::Entity::delete_by_id(order.to_string()).exec(tx).await?;
            Ok(None)
        }
        Note::Risk { order, watched, reason, at, told } => {
            use risk::Column;
            let row = risk::ActiveModel {
                order_id: Set(order.to_string()),
                risk: Set(watched.risk.as_str().to_owned()),
                reason: Set(reason.map(str::to_owned)),
                promised_from: Set(watched.promise.map(|promise| promise.from)),
                promised_to: Set(watched.promise.map(|promise| promise.to)),
                at: Set(*at),
            };
            let newest = OnConflict::column(Column::OrderId)
                .update_columns([
                    Column::Risk,
                    Column::Reason,
                    Column::PromisedFrom,
                    Column::PromisedTo,
                    Column::At,
                ])
                .to_owned();
            risk::Entity::insert(row).on_conflict(newest).exec_without_returning(tx).await?;
            Ok(told.clone())
        }
    }
}

/// What has happened at the stops of an order, in its order.
///
/// # Errors
/// Those of the database.
pub(super) async fn milestones(
    db: &impl ConnectionTrait,
    order: &OrderId,
) -> Result<Vec<PastMilestone>, Refusal> {
    let rows = milestone::Entity::find()
        .filter(milestone::Column::OrderId.eq(order.as_str()))
        .order_by_asc(milestone::Column::At)
        .all(db)
        .await?;
    let past = |row: milestone::Model| PastMilestone {
        stop: row.stop,
        milestone: row.milestone,
        at: row.at,
        distance: row.distance,
        evidence: row.evidence,
    };
    Ok(rows.into_iter().map(past).collect())
}

/// What an order was promised, and its risk.
///
/// # Errors
/// Those of the database.
pub(super) async fn watched(db: &impl ConnectionTrait, order: &OrderId) -> Result<Option<Watched>, Refusal> {
    let row = risk::Entity::find_by_id(order.as_str()).one(db).await?;
    Ok(row.map(|row| {
        let times = row.promised_from.zip(row.promised_to);
        let promise = times.map(|(from, to)| Promise { from, to, stops_before: u16::MAX });
        Watched::known(promise, Risk::parse(&row.risk).unwrap_or_default())
    }))
}
