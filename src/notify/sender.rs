//! Hands what is due to the channels. Each row is leased while it is under way, so that several processes share the work, and what a
//! killed one had under way is done by another one: a push again, with the same id; an SMS never.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use entity::{delivery, device, notification, opt_out, receipt};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, DatabaseTransaction, EntityTrait, QueryFilter,
    QuerySelect, Statement,
};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Notifications;
use super::channel::{Attempt, Channel, Expo, Outcome, Push, Subscription};
use super::rules::{Args, Kind};
use crate::base::clock::{Time, instant};
use crate::base::db::stored_time;
use crate::base::error::Refusal;

/// Rows that are leased at a time.
const CLAIM: usize = 64;
/// How long a lease lasts: longer than any call.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// How often it is looked for what is due without a wake-up, and for leases of killed processes.
pub(super) const LOOK: Duration = Duration::from_millis(250);
const REAP: Duration = Duration::from_secs(5);
/// How often old rows are deleted.
const FORGET: Duration = Duration::from_secs(60);
/// A channel that waits.
#[derive(Default)]
pub(super) struct Pause {
    until: Option<Time>,
    pub refusals: u32,
}

/// What is leased, with all that is known of it.
pub(super) struct Leased {
    pub row: delivery::Model,
    pub about: notification::Model,
    pub device: Option<device::Model>,
    /// The highest seq that the recipient has.
    has: i64,
    is_superseded: bool,
    tracked: bool,
}

impl Notifications {
    /// Sends until `stop`.
    pub async fn send(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for channel in Channel::ALL.into_iter().filter(|channel| self.channels.has(*channel)) {
            tasks.spawn(self.clone().serve(channel, stop.clone()));
        }
        let (mut reap, mut forget) = (tokio::time::interval(REAP), tokio::time::interval(FORGET));
        loop {
            let done = tokio::select! {
                _ = reap.tick() => self.look_after().await,
                _ = forget.tick() => self.forget_old().await,
                () = stop.cancelled() => break,
            };
            if let Err(error) = done {
                tracing::debug!(%error, "leases of notifications could not be looked after; trying again");
            }
        }
        // What is under way ends by itself, and its outcome is written down.
        while tasks.join_next().await.is_some() {}
    }

    async fn serve(self, channel: Channel, stop: CancellationToken) {
        let turns = Arc::new(Semaphore::new(channel.at_once()));
        let pause = Arc::new(Mutex::new(Pause::default()));
        let mut next_text = instant();
        loop {
            let is_paused = self.is_paused(&pause);
            let claimed = if is_paused { Ok(Vec::new()) } else { self.claim(channel, &turns).await };
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::debug!(%error, "what is due cannot be read; trying again");
                    Vec::new()
                }
            };
            if claimed.is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                    () = stop.cancelled() => break,
                }
                if stop.is_cancelled() {
                    break;
                }
                continue;
            }
            let mut ready = Vec::new();
            let mut ended = Vec::new();
            for leased in claimed {
                match self.decide(channel, &leased).await {
                    Ok(None) => ready.push(leased),
                    Ok(Some((state, reason))) => ended.push((leased.row.id, state, reason)),
                    Err(error) => tracing::debug!(%error, "a notification waits for its lease to end"),
                }
            }
            if let Err(error) = self.end(channel, &ended).await {
                tracing::debug!(%error, "notifications wait for their leases to end");
            }
            if channel == Channel::Expo {
                for batch in in_batches(ready, Expo::BATCH) {
                    let turn = Arc::clone(&turns).acquire_owned().await;
                    let (notify, pause) = (self.clone(), Arc::clone(&pause));
                    tokio::spawn(async move {
                        notify.send_expo(batch, &pause).await;
                        drop(turn);
                    });
                }
                continue;
            }
            for leased in ready {
                if channel == Channel::Sms {
                    tokio::time::sleep_until(next_text).await;
                    next_text = instant() + Duration::from_secs(1) / self.settings.sms_rate_per_second;
                }
                let turn = Arc::clone(&turns).acquire_owned().await;
                let (notify, pause) = (self.clone(), Arc::clone(&pause));
                tokio::spawn(async move {
                    let began = instant();
                    let attempt = notify.attempt(channel, &leased).await;
                    notify.finish(channel, &leased, attempt, began.elapsed(), &pause).await;
                    drop(turn);
                });
            }
        }
        let _ = turns.acquire_many(u32::try_from(channel.at_once()).unwrap_or(1)).await;
    }

    fn is_paused(&self, pause: &Mutex<Pause>) -> bool {
        let mut pause = pause.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = pause.until.is_some_and(|until| until <= self.clock.now());
        if is_over {
            pause.until = None;
            self.metrics.channels_paused.dec();
        }
        pause.until.is_some()
    }

    pub(super) fn pause(&self, pause: &Mutex<Pause>, wait: TimeDelta) {
        let mut pause = pause.lock().unwrap_or_else(PoisonError::into_inner);
        let until = self.clock.now() + wait;
        if pause.until.replace(until).is_none() {
            self.metrics.channels_paused.inc();
        }
    }

    /// Leases what is due.
    async fn claim(&self, channel: Channel, turns: &Semaphore) -> Result<Vec<Leased>, Refusal> {
        let room = if channel == Channel::Expo { Expo::BATCH } else { CLAIM.min(turns.available_permits()) };
        if room == 0 || turns.available_permits() == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        // A look that finds nothing takes no lock of the writer.
        let due = delivery::Entity::find()
            .select_only()
            .column(delivery::Column::Id)
            .filter(delivery::Column::Channel.eq(channel.as_str()))
            .filter(delivery::Column::DoneAt.is_null())
            .filter(delivery::Column::State.is_in(["due", "held"]))
            .filter(delivery::Column::DueAt.lte(now))
            .limit(1)
            .into_tuple::<i64>()
            .one(self.db.reader())
            .await?;
        if due.is_none() {
            return Ok(Vec::new());
        }
        let tx = self.db.begin().await?;
        let backend = tx.get_database_backend();
        let (lock, [p1, p2, p3, p4]) = match backend {
            DatabaseBackend::Postgres => ("FOR UPDATE SKIP LOCKED", ["$1", "$2", "$3", "$4"]),
            _ => ("", ["?", "?", "?", "?"]),
        };
        let sql = format!(
            "UPDATE delivery SET state = 'sending', lease_until = {p1}, tries = tries + 1 WHERE id IN (
                 SELECT id FROM delivery WHERE channel = {p2} AND done_at IS NULL AND state IN ('due', 'held')
                 AND due_at <= {p3} ORDER BY due_at, id LIMIT {p4} {lock}
             ) RETURNING id"
        );
        let limit = i64::try_from(room).unwrap_or(1);
        let values = [
            stored_time(now + LEASE, backend),
            channel.as_str().into(),
            stored_time(now, backend),
            limit.into(),
        ];
        let found = tx.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        let mut ids = Vec::with_capacity(found.len());
        for row in found {
            ids.push(row.try_get::<i64>("", "id")?);
        }
        ids.sort_unstable();
        let leased = self.read(&tx, &ids).await?;
        tx.commit().await?;
        Ok(leased)
    }

    async fn read(&self, tx: &DatabaseTransaction, ids: &[i64]) -> Result<Vec<Leased>, Refusal> {
        let rows =
            delivery::Entity::find().filter(delivery::Column::Id.is_in(ids.iter().copied())).all(tx).await?;
        let about: HashMap<i64, notification::Model> = notification::Entity::find()
            .filter(notification::Column::Id.is_in(rows.iter().map(|row| row.notification_id)))
            .all(tx)
            .await?
            .into_iter()
            .map(|row| (row.id, row))
            .collect();
        let users: Vec<&str> = rows.iter().map(|row| row.recipient.as_str()).collect();
        let devices: HashMap<(String, String), device::Model> = device::Entity::find()
            .filter(device::Column::UserId.is_in(users.iter().copied()))
            .filter(device::Column::DisabledAt.is_null())
            .all(tx)
            .await?
            .into_iter()
            .map(|row| ((row.user_id.clone(), row.id.clone()), row))
            .collect();
        let orders: Vec<&str> = rows.iter().filter_map(|row| row.order_id.as_deref()).collect();
        let has: HashMap<(String, String), i64> = receipt::Entity::find()
            .filter(receipt::Column::OrderId.is_in(orders.iter().copied()))
            .filter(receipt::Column::UserId.is_in(users.iter().copied()))
            .all(tx)
            .await?
            .into_iter()
            .map(|row| ((row.order_id, row.user_id), Ord::max(row.received_seq, row.seen_seq)))
            .collect();
        // The newest status of each order that each recipient is told of.
        let statuses = Kind::ALL.into_iter().filter(|kind| kind.is_status()).map(Kind::as_str);
        let newest: Vec<(String, String, i64)> = notification::Entity::find()
            .select_only()
            .columns([notification::Column::Recipient, notification::Column::OrderId])
            .column_as(notification::Column::Id.max(), "newest")
            .filter(notification::Column::OrderId.is_in(orders.iter().copied()))
            .filter(notification::Column::Kind.is_in(statuses))
            .group_by(notification::Column::Recipient)
            .group_by(notification::Column::OrderId)
            .into_tuple()
            .all(tx)
            .await?;
        let newest: HashMap<(String, String), i64> =
            newest.into_iter().map(|(recipient, order, id)| ((recipient, order), id)).collect();
        let tracked: Vec<(Option<String>, String)> = notification::Entity::find()
            .select_only()
            .columns([notification::Column::OrderId, notification::Column::Recipient])
            .filter(notification::Column::OrderId.is_in(orders))
            .filter(notification::Column::Kind.eq(Kind::TrackingStarted.as_str()))
            .into_tuple()
            .all(tx)
            .await?;
        let leased = rows.into_iter().filter_map(|row| {
            let about = about.get(&row.notification_id)?.clone();
            let device = devices.get(&(row.recipient.clone(), row.target.clone())).cloned();
            let key = row.order_id.clone().map(|order| (order, row.recipient.clone()));
            let has = key.and_then(|key| has.get(&key).copied()).unwrap_or_default();
            let key = row.order_id.clone().map(|order| (row.recipient.clone(), order));
            let is_status = Kind::parse(&about.kind).is_some_and(Kind::is_status);
            let is_superseded =
                is_status && key.and_then(|key| newest.get(&key)).is_some_and(|id| *id > about.id);
            let phone = format!("phone:{}", row.target);
            let tracked = about.kind != Kind::TrackingStarted.as_str()
                && tracked.iter().any(|(order, recipient)| *order == row.order_id && *recipient == phone);
            Some(Leased { row, about, device, has, is_superseded, tracked })
        });
        Ok(leased.collect())
    }

    /// Whether something speaks against it by now: the state that it ends in, and why.
    async fn decide(
        &self,
        channel: Channel,
        leased: &Leased,
    ) -> Result<Option<(&'static str, &'static str)>, Refusal> {
        let Leased { row, about, device, has, is_superseded, tracked } = leased;
        if about.expires_at <= self.clock.now() {
            return Ok(Some(("expired", "expired")));
        }
        if *is_superseded {
            return Ok(Some(("superseded", "superseded")));
        }
        if row.seq.is_some_and(|seq| *has >= seq) {
            return Ok(Some(("suppressed", "watching")));
        }
        if channel != Channel::Sms {
            return Ok(device.is_none().then_some(("failed", "device_gone")));
        }
        if about.delivered_at.is_some() || about.opened_at.is_some() {
            return Ok(Some(("suppressed", "acknowledged")));
        }
        if *tracked {
            return Ok(Some(("suppressed", "has_link")));
        }
        if opt_out::Entity::find_by_id(row.target.as_str()).one(self.db.reader()).await?.is_some() {
            return Ok(Some(("opted_out", "opted_out")));
        }
        Ok(self.over_limit(row).await?.map(|reason| ("capped", reason)))
    }

    async fn end(&self, channel: Channel, all: &[(i64, &'static str, &'static str)]) -> Result<(), Refusal> {
        use delivery::Column;
        if all.is_empty() {
            return Ok(());
        }
        let tx = self.db.begin().await?;
        for (id, state, reason) in all {
            delivery::Entity::update_many()
                .col_expr(Column::State, Expr::value(*state))
                .col_expr(Column::Reason, Expr::value(*reason))
                .col_expr(Column::LeaseUntil, Expr::value(Option::<Time>::None))
                .col_expr(Column::DoneAt, Expr::value(self.clock.now()))
                .filter(Column::Id.eq(*id))
                .filter(Column::State.eq("sending"))
                .exec(&tx)
                .await?;
            self.metrics.notification(channel.as_str(), state);
        }
        tx.commit().await?;
        Ok(())
    }

    fn push(&self, leased: &Leased) -> Option<(Value, Push)> {
        let Leased { about, device, .. } = leased;
        let device = device.as_ref()?;
        let kind = Kind::parse(&about.kind)?;
        let args: Args = serde_json::from_str(&about.args).ok()?;
        let title = match &args.title {
            Some(title) => title.clone(),
            None => self.texts.title(kind, device.locale.as_deref(), &args),
        };
        let push = Push {
            id: about.key.clone(),
            kind,
            title,
            order: about.order_id.clone(),
            order_number: args.order_number.clone(),
            seq: about.seq,
            ttl: about.expires_at - self.clock.now(),
            tag: about.order_id.as_ref().filter(|_| kind.is_status()).map(|order| format!("order:{order}")),
            silent: kind.is_quiet() || args.silent,
            ack_url: Some(self.ack_url(&about.key)),
        };
        Some((self.address_of(device)?, push))
    }

    async fn attempt(&self, channel: Channel, leased: &Leased) -> Attempt {
        let dead = |code: &str| Attempt::new(Outcome::Dead { code: code.to_owned() }, None);
        if channel == Channel::Sms {
            return self.attempt_sms(&leased.row, &leased.about).await;
        }
        let Some((address, push)) = self.push(leased) else { return dead("sealed_with_another_key") };
        match channel {
            Channel::Fcm => match &self.channels.fcm {
                Some(fcm) => fcm.send(&address, &push).await,
                None => dead("channel_off"),
            },
            Channel::WebPush => {
                match (&self.channels.webpush, serde_json::from_value::<Subscription>(address)) {
                    (Some(webpush), Ok(subscription)) => webpush.send(&subscription, &push).await,
                    _ => dead("channel_off"),
                }
            }
            Channel::Expo | Channel::Sms => dead("channel_off"),
        }
    }

    async fn send_expo(&self, batch: Vec<Leased>, pause: &Mutex<Pause>) {
        let Some(expo) = &self.channels.expo else { return };
        let began = instant();
        let (mut good, mut messages) = (Vec::new(), Vec::new());
        for leased in batch {
            if let Some((address, push)) = self.push(&leased) {
                messages.push((address["token"].as_str().unwrap_or_default().to_owned(), push));
                good.push(leased);
            } else {
                let dead = Outcome::Dead { code: "sealed_with_another_key".to_owned() };
                self.finish(Channel::Expo, &leased, Attempt::new(dead, None), began.elapsed(), pause).await;
            }
        }
        if messages.is_empty() {
            return;
        }
        let attempts = expo.send(&messages).await;
        for (leased, attempt) in good.iter().zip(attempts) {
            self.finish(Channel::Expo, leased, attempt, began.elapsed(), pause).await;
        }
    }
}

fn in_batches<T>(mut all: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    while all.len() > size {
        let rest = all.split_off(size);
        batches.push(std::mem::replace(&mut all, rest));
    }
    if !all.is_empty() {
        batches.push(all);
    }
    batches
}
