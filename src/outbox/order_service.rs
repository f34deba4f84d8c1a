//! Tells the order service of each delivery of an order that has a tracking session. A consumer of the log records
//! each call. Each recorded call is then tried until it is accepted: at least once, with the same idempotency key
//! every time.

use std::time::Duration;

use chrono::TimeDelta;
use entity::{order_service_call as row, tracking_session};
use futures_util::{StreamExt, stream};
use reqwest::redirect::Policy;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::consume::{Consumer, consume};
use super::cursor::Cursor;
use crate::base::clock::Clock;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::event::relay::Relay;
use crate::model::{OrderEvent, OrderStatus};

/// The consumer's name in the database.
const CONSUMER: &str = "order_service";
/// How often due calls are looked for without a wake-up.
const LOOK: Duration = Duration::from_secs(1);
/// Calls in one pass.
const BATCH: u64 = 64;
/// The most calls at the same time. Several, so that one slow call does not hold up the others.
const AT_ONCE: usize = 16;
/// The time limit of one call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Tells the order service.
pub struct OrderService {
    url: String,
    client: reqwest::Client,
    db: Db,
    clock: Clock,
    events: Relay,
    cursor: Cursor,
    first_wait: TimeDelta,
    /// Notified when a call was recorded.
    noted: Notify,
    metrics: Metrics,
}

impl OrderService {
    /// For the service at this URL. It is told of deliveries from its cursor on; a new cursor begins now.
    ///
    /// # Errors
    /// Those of the database; [`Refusal::Internal`] when there can be no HTTP client.
    pub async fn open(
        url: String,
        retry_ms: u32,
        db: Db,
        clock: Clock,
        events: Relay,
        metrics: Metrics,
    ) -> Result<Self, Refusal> {
        let client =
            reqwest::Client::builder().http1_only().timeout(TIMEOUT).redirect(Policy::none()).build();
        let client = client.map_err(|error| Refusal::internal(error))?;
        let cursor = Cursor::open(db.clone(), clock.clone(), CONSUMER).await?;
        let first_wait = TimeDelta::milliseconds(i64::from(retry_ms));
        Ok(Self { url, client, db, clock, events, cursor, first_wait, noted: Notify::new(), metrics })
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = consume(&self, &self.db, &self.events, &self.cursor) => {}
            () = self.call_forever() => {}
            () = stop.cancelled() => {}
        }
        if let Err(error) = self.cursor.release().await {
            tracing::debug!(%error, "the cursor of the order service was not released; its lease lapses");
        }
    }

    async fn call_forever(&self) {
        loop {
            match self.due().await {
                Ok(calls) if !calls.is_empty() => {
                    let calls = calls.into_iter().map(|call| self.call(call));
                    let mut made = stream::iter(calls).buffer_unordered(AT_ONCE);
                    let mut all = true;
                    while let Some(made) = made.next().await {
                        if let Err(error) = made {
                            all = false;
                            tracing::warn!(%error, "a call of the order service could not be written down");
                        }
                    }
                    if !all {
                        // A call whose result could not be written is still due. Do not repeat it at once.
                        tokio::time::sleep(LOOK).await;
                    }
                    continue;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "calls of the order service cannot be read; trying again");
                }
            }
            tokio::select! {
                () = self.noted.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn due(&self) -> Result<Vec<row::Model>, Refusal> {
        let calls = row::Entity::find()
            .filter(row::Column::NextAt.lte(self.clock.now()))
            .order_by_asc(row::Column::NextAt)
            .limit(BATCH)
            .all(self.db.reader())
            .await?;
        Ok(calls)
    }

    async fn call(&self, call: row::Model) -> Result<(), Refusal> {
        #[derive(Serialize)]
        struct Delivered {
            status: &'static str,
            /// Unix seconds
            delivered_at: i64,
        }
        let tries = call.tries.saturating_add(1);
        let next_at = self.clock.now() + backoff(self.first_wait, MAX_WAIT, tries);
        // The time of the next try is written first. It is the lease on this call.
        let ours = row::Entity::update_many()
            .set(row::ActiveModel { tries: Set(tries), next_at: Set(next_at), ..Default::default() })
            .filter(row::Column::OrderId.eq(&*call.order_id))
            .filter(row::Column::Tries.eq(call.tries))
            .exec(self.db.writer())
            .await?;
        if ours.rows_affected == 0 {
            return Ok(());
        }
        let base = self.url.trim_end_matches('/');
        let answer = self
            .client
            .post(format!("{base}/orders/{}/status", path_segment(&call.order_id)))
            .header("Idempotency-Key", format!("delivered:{}", call.order_id))
            .json(&Delivered { status: "DELIVERED", delivered_at: call.delivered_at.timestamp() })
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => {
                row::Entity::delete_by_id(call.order_id).exec(self.db.writer()).await?;
                self.metrics.order_service_call("accepted");
            }
            Ok(answer) => {
                self.metrics.order_service_call("refused");
                let status = answer.status().as_u16();
                tracing::warn!(order = call.order_id, status, tries, "the order service refused");
            }
            Err(error) => {
                self.metrics.order_service_call("failed");
                let error = error.without_url();
                tracing::warn!(order = call.order_id, %error, tries, "the order service did not answer");
            }
        }
        Ok(())
    }
}

impl Consumer for OrderService {
    type Work = Vec<OrderEvent>;

    async fn prepare(&self, mut events: Vec<OrderEvent>) -> Result<Option<Vec<OrderEvent>>, Refusal> {
        events.retain(is_delivery);
        Ok(Some(events).filter(|events| !events.is_empty()))
    }

    async fn write(&self, tx: &DatabaseTransaction, deliveries: &Vec<OrderEvent>) -> Result<(), Refusal> {
        for event in deliveries {
            note_call(tx, event).await?;
        }
        Ok(())
    }

    fn written(&self) {
        self.noted.notify_one();
    }
}

fn is_delivery(event: &OrderEvent) -> bool {
    event.order.status == OrderStatus::Delivered && event.previous_status != OrderStatus::Delivered
}

/// Records a call if the order has a tracking session.
async fn note_call(tx: &DatabaseTransaction, event: &OrderEvent) -> Result<(), Refusal> {
    let order = event.order.id.as_str();
    let sessions = tracking_session::Entity::find()
        .filter(tracking_session::Column::OrderId.eq(order))
        .count(tx)
        .await?;
    if sessions > 0 {
        let call = row::ActiveModel {
            order_id: Set(order.to_owned()),
            delivered_at: Set(event.at),
            tries: Set(0),
            next_at: Set(event.at),
        };
        let once = OnConflict::column(row::Column::OrderId).do_nothing().to_owned();
        row::Entity::insert(call).on_conflict(once).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// An order id in a URL path. `|` is the only character of ids that must be escaped there.
fn path_segment(id: &str) -> String {
    id.replace('|', "%7C")
}
