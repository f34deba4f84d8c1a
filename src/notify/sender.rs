//! Hands what is due to the channels. What a killed process had under way is done by another one: a push again, with the same id; an
//! SMS never.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use entity::delivery;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Notifications;
use super::channel::{Attempt, Channel, Expo, Outcome, Push, Subscription};
use super::leased::Leased;
use super::outcome::Done;
use super::rules::{Args, Kind};
use crate::base::clock::{Time, instant};
use crate::base::error::Refusal;

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
        let (outcomes, done) = mpsc::channel(channel.at_once());
        let writing = tokio::spawn(self.clone().write_outcomes(channel, done, Arc::clone(&pause)));
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
                    let (notify, outcomes) = (self.clone(), outcomes.clone());
                    tokio::spawn(async move {
                        notify.send_expo(batch, &outcomes).await;
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
                let (notify, outcomes) = (self.clone(), outcomes.clone());
                tokio::spawn(async move {
                    let began = instant();
                    let attempt = notify.attempt(channel, &leased).await;
                    let _ = outcomes.send(Done { leased, attempt, took: began.elapsed() }).await;
                    drop(turn);
                });
            }
        }
        let _ = turns.acquire_many(u32::try_from(channel.at_once()).unwrap_or(1)).await;
        drop(outcomes);
        let _ = writing.await;
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
        if leased.about.kind == Kind::OrderLive.as_str() {
            return self.attempt_live(channel, leased).await;
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
            Channel::Apns => {
                let app = leased.device.as_ref().and_then(|device| device.app.as_deref());
                match &self.channels.apns {
                    Some(apns) => apns.send(&address, app, &push).await,
                    None => dead("channel_off"),
                }
            }
            Channel::Expo | Channel::Sms => dead("channel_off"),
        }
    }

    async fn send_expo(&self, batch: Vec<Leased>, outcomes: &mpsc::Sender<Done>) {
        let Some(expo) = &self.channels.expo else { return };
        let began = instant();
        let (mut good, mut messages) = (Vec::new(), Vec::new());
        for leased in batch {
            if let Some((address, push)) = self.push(&leased) {
                messages.push((address["token"].as_str().unwrap_or_default().to_owned(), push));
                good.push(leased);
            } else {
                let dead = Outcome::Dead { code: "sealed_with_another_key".to_owned() };
                let attempt = Attempt::new(dead, None);
                let _ = outcomes.send(Done { leased, attempt, took: began.elapsed() }).await;
            }
        }
        if messages.is_empty() {
            return;
        }
        let attempts = expo.send(&messages).await;
        for (leased, attempt) in good.into_iter().zip(attempts) {
            let _ = outcomes.send(Done { leased, attempt, took: began.elapsed() }).await;
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
