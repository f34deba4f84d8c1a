//! Sends messages: those of one order in their order, several orders at a time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::TimeDelta;
use entity::{webhook as row, webhook_delivery as delivery};
use futures_util::{StreamExt, stream};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::Webhooks;
use super::endpoint::Endpoint;
use super::plan::{News, WAITING};
use super::sign::Secrets;
use super::types::body;
use crate::base::clock::{Time, instant, rfc3339};
use crate::base::error::Refusal;
use crate::model::Principal;
use crate::outbox::cursor::Cursor;

/// How long a message waits before each attempt after the first one.
const WAITS: [TimeDelta; 9] = [
    TimeDelta::seconds(5),
    TimeDelta::minutes(5),
    TimeDelta::minutes(30),
    TimeDelta::hours(2),
    TimeDelta::hours(5),
    TimeDelta::hours(10),
    TimeDelta::hours(14),
    TimeDelta::hours(20),
    TimeDelta::hours(24),
];
/// An endpoint that has failed for so long is not called any more.
const PATIENCE: TimeDelta = TimeDelta::days(5);
/// Calls of one endpoint at a time, and messages of one round.
const AT_ONCE: usize = 4;
const ROUND: usize = 40;
/// The HTTP status by which an endpoint says that it is no more.
const GONE: u16 = 410;
/// The most that an endpoint may ask us to wait.
const AFTER: u64 = 3_600;

/// What became of an attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub status: Option<u16>,
    pub error: Option<String>,
    pub took: Duration,
    after: Option<Duration>,
}

impl Attempt {
    /// Whether the other system has it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    fn is_gone(&self) -> bool {
        self.status == Some(GONE)
    }
}

impl Webhooks {
    /// Sends what is due to an endpoint: of each order its first message that is not done. Returns how many were sent, and when the
    /// next one is due, if any waits.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn round(&self, endpoint: &Endpoint) -> Result<(usize, Option<Time>), Refusal> {
        use delivery::Column;
        // Without their bodies: only few of them are sent now.
        let waiting: Vec<(i64, Option<String>, Time)> = delivery::Entity::find()
            .select_only()
            .columns([Column::Id, Column::OrderId, Column::DueAt])
            .filter(Column::WebhookId.eq(&*endpoint.id))
            .filter(Column::State.eq("due"))
            .order_by_asc(Column::Id)
            .limit(WAITING)
            .into_tuple()
            .all(self.db.reader())
            .await?;
        let now = self.clock.now();
        let mut orders = HashSet::new();
        let heads = waiting
            .into_iter()
            .filter(|(_, order, _)| order.as_ref().is_none_or(|order| orders.insert(order.clone())));
        let (due, later): (Vec<_>, Vec<_>) = heads.partition(|(_, _, due_at)| *due_at <= now);
        let next = later.iter().map(|(_, _, due_at)| *due_at).min();
        if due.is_empty() {
            return Ok((0, next));
        }
        let due = due.into_iter().take(ROUND).map(|(id, _, _)| id);
        let due = delivery::Entity::find()
            .filter(Column::Id.is_in(due))
            .order_by_asc(Column::Id)
            .all(self.db.reader())
            .await?;
        let secrets = self.secrets(endpoint, now).await?;
        let attempts: Vec<_> = stream::iter(due)
            .map(|one| {
                let secrets = &secrets;
                async move {
                    let attempt = self.call(endpoint, secrets, &one.key, &one.body).await;
                    (one, attempt)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let count = attempts.len();
        self.finish(endpoint, &attempts).await?;
        Ok((count, next))
    }

    /// The present secrets, and those before while they sign, too.
    async fn secrets(&self, endpoint: &Endpoint, now: Time) -> Result<Vec<Secrets>, Refusal> {
        let signer = self.signer().await?;
        let mut all = vec![signer.secrets(&endpoint.id, endpoint.generation)?];
        if endpoint.previous_until.is_some_and(|until| now < until) {
            all.push(signer.secrets(&endpoint.id, endpoint.generation - 1)?);
        }
        Ok(all)
    }

    async fn call(&self, endpoint: &Endpoint, secrets: &[Secrets], id: &str, body: &str) -> Attempt {
        let began = instant();
        let failed = |error: &str| Attempt {
            status: None,
            error: Some(error.to_owned()),
            took: began.elapsed(),
            after: None,
        };
        let Ok(url) = self.guard.check(&endpoint.url) else { return failed("the address is not allowed") };
        let timestamp = self.clock.now().timestamp();
        let signature: Vec<_> = secrets.iter().map(|secrets| secrets.sign(id, timestamp, body)).collect();
        let request = self
            .guard
            .client()
            .post(url)
            .header("content-type", "application/json")
            .header("user-agent", concat!("ordercast/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature.join(" "))
            .body(body.to_owned());
        match request.send().await {
            Ok(answer) => {
                let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let after = after.and_then(|value| value.parse().ok());
                let status = answer.status().as_u16();
                // Of what it says only the status counts, so its body is not read.
                Attempt {
                    status: Some(status),
                    error: None,
                    took: began.elapsed(),
                    after: after.map(|seconds: u64| Duration::from_secs(seconds.min(AFTER))),
                }
            }
            Err(error) if error.is_timeout() => failed("it did not answer in time"),
            Err(error) if error.is_connect() => failed("it could not be reached"),
            Err(_) => failed("the call broke off"),
        }
    }

    /// Writes down what became of attempts, in one transaction, and what follows from it for the endpoint.
    async fn finish(
        &self,
        endpoint: &Endpoint,
        attempts: &[(delivery::Model, Attempt)],
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let is_gone = attempts.iter().any(|(_, attempt)| attempt.is_gone());
        let any_good = attempts.iter().any(|(_, attempt)| attempt.is_good());
        let tx = self.db.begin().await?;
        // Most of them went the same way, and are written with one statement.
        let mut ways: HashMap<_, Vec<i64>> = HashMap::new();
        for (one, attempt) in attempts {
            let tries = one.tries + 1;
            let wait = usize::try_from(one.tries).ok().and_then(|tries| WAITS.get(tries).copied());
            let asked = attempt.after.and_then(|after| TimeDelta::from_std(after).ok());
            let (state, due_at) = match wait {
                _ if attempt.is_good() => ("delivered", now),
                Some(wait) if !is_gone => ("due", now + wait.max(asked.unwrap_or_default())),
                _ => ("dead", now),
            };
            let way = (state, due_at, tries, attempt.status, attempt.error.as_deref());
            ways.entry(way).or_default().push(one.id);
            self.metrics.webhook(if state == "due" { "failed" } else { state });
        }
        for ((state, due_at, tries, status, error), ids) in ways {
            let new = delivery::ActiveModel {
                state: Set(state.to_owned()),
                due_at: Set(due_at),
                tries: Set(tries),
                status: Set(status.map(i32::from)),
                error: Set(error.map(str::to_owned)),
                done_at: Set((state != "due").then_some(now)),
                ..Default::default()
            };
            delivery::Entity::update_many()
                .set(new)
                .filter(delivery::Column::Id.is_in(ids))
                .exec(&tx)
                .await?;
        }
        let failing_since = if any_good { None } else { Some(endpoint.failing_since.unwrap_or(now)) };
        let is_tired = failing_since.is_some_and(|since| now - since > PATIENCE);
        if is_gone || is_tired {
            self.disable(&tx, endpoint, if is_gone { "gone" } else { "failing" }, now).await?;
        } else if failing_since != endpoint.failing_since {
            let new = row::ActiveModel { failing_since: Set(failing_since), ..Default::default() };
            row::Entity::update_many().set(new).filter(row::Column::Id.eq(&*endpoint.id)).exec(&tx).await?;
        }
        tx.commit().await?;
        if is_gone || is_tired {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Calls an endpoint no more, and tells the others.
    async fn disable(
        &self,
        tx: &DatabaseTransaction,
        endpoint: &Endpoint,
        reason: &'static str,
        now: Time,
    ) -> Result<(), Refusal> {
        tracing::warn!(webhook = endpoint.id, reason, "a webhook is disabled");
        let new = row::ActiveModel {
            disabled_at: Set(Some(now)),
            reason: Set(Some(reason.to_owned())),
            version: Set(endpoint.version + 1),
            ..Default::default()
        };
        row::Entity::update_many().set(new).filter(row::Column::Id.eq(&*endpoint.id)).exec(tx).await?;
        Cursor::forget(tx, &Endpoint::consumer(&endpoint.id)).await?;
        let news = News {
            r#type: "webhook.disabled",
            source: format!("d:{}:{}", endpoint.id, now.timestamp_millis()),
            order: None,
            chef: None,
            at: now,
            data: json!({"webhookId": endpoint.id, "url": endpoint.url, "reason": reason}),
        };
        self.add(tx, &news).await
    }

    /// Sends a message that means nothing, and says what became of it.
    ///
    /// # Errors
    /// As [`Webhooks::get`].
    pub async fn test(&self, who: &Principal, id: &str) -> Result<Attempt, Refusal> {
        let endpoint = self.get(who, id).await?;
        let now = self.clock.now();
        let secrets = self.secrets(&endpoint, now).await?;
        let data = json!({"webhookId": endpoint.id});
        let text = body("webhook.test", &rfc3339(now), data);
        let key = format!("msg_{}", self.clock.uuid().simple());
        Ok(self.call(&endpoint, &secrets, &key, &text).await)
    }
}
