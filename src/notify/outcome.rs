//! What became of an attempt, and what follows from it: another try, a pause of the channel, a device that goes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use entity::{delivery, delivery_attempt};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::json;
use tokio::sync::mpsc;

use super::Notifications;
use super::channel::{Attempt, Channel, Outcome};
use super::leased::Leased;
use super::sender::{LOOK, Pause};
use crate::base::clock::Time;
use crate::base::db::pieces;
use crate::base::error::Refusal;
use crate::model::OrderId;
use crate::outbox::backoff;
use crate::webhook::News;

/// The waits before a push is tried again, and how often.
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(10);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
const TRIES: i32 = 12;
const SMS_TRIES: i32 = 3;
/// Refusals of our key in a row before nothing goes there for a while.
const REFUSALS: u32 = 5;
const REFUSED_PAUSE: TimeDelta = TimeDelta::minutes(5);
/// How often it is tried to write outcomes while the database is away.
const TRIES_TO_WRITE: u32 = 20;
/// Outcomes that are written in one transaction.
const TOGETHER: usize = 64;

/// An attempt that was made.
pub(super) struct Done {
    pub leased: Leased,
    pub attempt: Attempt,
    pub took: Duration,
}

/// What follows from it for its row.
struct Judged {
    new: delivery::ActiveModel,
    state: &'static str,
    code: String,
}

impl Notifications {
    /// Writes down what became of attempts, as many as there are in one transaction, until nobody can make one any more.
    pub(super) async fn write_outcomes(
        self,
        channel: Channel,
        mut outcomes: mpsc::Receiver<Done>,
        pause: Arc<Mutex<Pause>>,
    ) {
        let mut some = Vec::new();
        while outcomes.recv_many(&mut some, TOGETHER).await > 0 {
            let all: Vec<_> = some.drain(..).map(|done| (self.judge(channel, &done, &pause), done)).collect();
            match self.write_when_there(channel, &all).await {
                Ok(()) => {}
                // One of them may be at fault, which must not hold up the others.
                Err(error) if all.len() > 1 && !matches!(error, Refusal::Unavailable) => {
                    for one in all.chunks(1) {
                        if let Err(error) = self.write_when_there(channel, one).await {
                            lost(&error);
                        }
                    }
                }
                Err(error) => lost(&error),
            }
        }
    }

    /// Writes as soon as the database is there, if that is soon.
    async fn write_when_there(&self, channel: Channel, all: &[(Judged, Done)]) -> Result<(), Refusal> {
        let mut tries = 0;
        loop {
            match self.write_all(channel, all).await {
                Err(Refusal::Unavailable) if tries < TRIES_TO_WRITE => tries += 1,
                written => return written,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What follows from an attempt, for its row and for its channel.
    fn judge(&self, channel: Channel, Done { leased, attempt, .. }: &Done, pause: &Mutex<Pause>) -> Judged {
        let Leased { row, about, .. } = leased;
        let now = self.clock.now();
        let is_sms = channel == Channel::Sms;
        let mut new = delivery::ActiveModel { lease_until: Set(None), ..Default::default() };
        let mut again = |code: &str, after: Option<Duration>| {
            let most = if is_sms { SMS_TRIES } else { TRIES };
            let wait = if let Some(Ok(wait)) = after.map(TimeDelta::from_std) {
                wait
            } else {
                // Anywhere up to the back-off, so that not all come back at once.
                let longest = backoff(FIRST_WAIT, LONGEST_WAIT, row.tries);
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "an hour")]
                let millis = (longest.num_milliseconds() as f64 * self.clock.fraction()) as i64;
                TimeDelta::milliseconds(Ord::max(millis, 500))
            };
            let state = if row.tries >= most {
                "dead"
            } else if now + wait >= about.expires_at {
                "expired"
            } else {
                new.due_at = Set(now + wait);
                "due"
            };
            (state, code.to_owned())
        };
        let is_refused = matches!(attempt.outcome, Outcome::Refused { .. });
        let (state, code) = match &attempt.outcome {
            Outcome::Sent { reference } => {
                new.provider_ref = Set(reference.as_ref().map(|text| text.chars().take(128).collect()));
                new.sent_at = Set(Some(now));
                ("sent", String::new())
            }
            Outcome::Retry { code, after } => again(code, *after),
            Outcome::Pause { code, after } => {
                self.pause(pause, TimeDelta::from_std(*after).unwrap_or_default());
                again(code, Some(*after))
            }
            Outcome::Refused { code } => again(code, Some(Duration::from_secs(30))),
            Outcome::Gone { code, .. } | Outcome::Disabled { code } | Outcome::Doubtful { code } => {
                ("failed", code.clone())
            }
            Outcome::Dead { code } => ("dead", code.clone()),
            Outcome::OptedOut { code } => ("opted_out", code.clone()),
            Outcome::Unknown { code } if self.settings.sms_resend_unknown => again(code, None),
            Outcome::Unknown { code } => ("unknown", code.clone()),
        };
        {
            let mut pause = pause.lock().unwrap_or_else(PoisonError::into_inner);
            pause.refusals = if is_refused { pause.refusals + 1 } else { 0 };
        }
        if is_refused && pause.lock().unwrap_or_else(PoisonError::into_inner).refusals == REFUSALS {
            tracing::error!(
                channel = channel.as_str(),
                code,
                "the provider does not take our key; nothing goes there for five minutes"
            );
            self.pause(pause, REFUSED_PAUSE);
        }
        // Expo says later what became of it.
        let is_open = matches!(state, "due" | "unknown") || (state == "sent" && channel == Channel::Expo);
        new.state = Set(state.to_owned());
        new.reason = Set(Some(code.chars().take(64).collect::<String>()).filter(|code| !code.is_empty()));
        new.segments = Set(attempt.segments.and_then(|count| i32::try_from(count).ok()));
        new.done_at = Set((!is_open).then_some(now));
        if state == "unknown" {
            // Until then the provider may still say what became of it.
            new.lease_until = Set(Some(now));
        }
        Judged { new, state, code }
    }

    /// # Errors
    /// Those of the database. Nothing was written then.
    async fn write_all(&self, channel: Channel, all: &[(Judged, Done)]) -> Result<(), Refusal> {
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        for (judged, done) in all {
            self.write_outcome(&tx, channel, judged, done).await?;
        }
        let attempts = all.iter().map(|(_, done)| attempt_row(done, now)).collect::<Vec<_>>();
        for piece in pieces(attempts) {
            delivery_attempt::Entity::insert_many(piece).exec_without_returning(&tx).await?;
        }
        tx.commit().await?;
        for (Judged { state, .. }, Done { leased, attempt, .. }) in all {
            if let Some(device) = &leased.device
                && let Err(error) = self.judge_device(device, &attempt.outcome).await
            {
                // The next push to it says the same.
                tracing::debug!(%error, "what a provider said of a device could not be written down");
            }
            self.metrics.notification(channel.as_str(), state);
        }
        Ok(())
    }

    async fn write_outcome(
        &self,
        tx: &DatabaseTransaction,
        channel: Channel,
        Judged { new, state, code }: &Judged,
        Done { leased, attempt, .. }: &Done,
    ) -> Result<(), Refusal> {
        let row = &leased.row;
        let of_row = || delivery::Entity::update_many().filter(delivery::Column::Id.eq(row.id));
        let sending = delivery::Column::State.eq("sending");
        let written = of_row().set(new.clone()).filter(sending).exec(tx).await?;
        if written.rows_affected == 0 {
            // The provider's report of a text was here before its answer, and says more.
            let segments = new.segments.clone();
            let rest = delivery::ActiveModel { segments, lease_until: Set(None), ..Default::default() };
            of_row().set(rest).exec(tx).await?;
        }
        let is_paid = channel == Channel::Sms && matches!(*state, "sent" | "unknown");
        if let Some(segments) = attempt.segments.filter(|_| is_paid) {
            self.spend(tx, segments).await?;
            self.metrics.sms_segments.inc_by(segments.into());
        }
        if matches!(attempt.outcome, Outcome::OptedOut { .. }) {
            self.opt_out(tx, &row.target, "provider").await?;
        }
        if let Some(device) = leased.device.as_ref().filter(|_| *state == "sent" && attempt.is_last) {
            self.end_activity(tx, device).await?;
        }
        if matches!(*state, "failed" | "dead") {
            self.tell_failure(tx, channel, leased, (state, code)).await?;
        }
        Ok(())
    }

    /// Tells other systems that somebody was not reached.
    async fn tell_failure(
        &self,
        tx: &DatabaseTransaction,
        channel: Channel,
        Leased { row, about, .. }: &Leased,
        (state, code): (&str, &str),
    ) -> Result<(), Refusal> {
        let Some(webhooks) = self.webhooks.get() else { return Ok(()) };
        let order = about.order_id.as_deref().map(OrderId::stored);
        // A phone is nobody's name, and its hash nobody's business.
        let user = Some(&about.recipient).filter(|recipient| !recipient.starts_with("phone:"));
        let news = News {
            r#type: "notification.failed",
            source: format!("n:{}:{}", row.id, row.tries),
            order: order.as_ref(),
            chef: None,
            at: self.clock.now(),
            data: json!({
                "deliveryId": row.id, "notificationId": about.key, "kind": about.kind, "channel": channel.as_str(),
                "userId": user, "orderId": about.order_id, "state": state, "reason": code,
            }),
        };
        webhooks.add(tx, &news).await
    }
}

/// Its lease ends, and then it is sent again, or is unknown.
fn lost(error: &Refusal) {
    tracing::warn!(%error, "what became of a notification could not be written down");
}

fn attempt_row(Done { leased, attempt, took }: &Done, now: Time) -> delivery_attempt::ActiveModel {
    let row = &leased.row;
    delivery_attempt::ActiveModel {
        id: NotSet,
        delivery_id: Set(row.id),
        n: Set(row.tries),
        at: Set(now),
        millis: Set(i32::try_from(took.as_millis()).unwrap_or(i32::MAX)),
        status: Set(attempt.status.map(i32::from)),
        excerpt: Set(attempt.excerpt.as_ref().map(|text| text.chars().take(512).collect())),
    }
}
