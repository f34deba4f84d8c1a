//! The order service is told of every delivery: written down with it, then tried until it is accepted, at least once, with
//! the same idempotency key every time.

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

use crate::app::App;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::OrderId;

/// How often we look for what is due when nothing woke us.
const LOOK: Duration = Duration::from_secs(1);
/// Calls made before we look again, and how many of them at once: one that hangs must not hold up all others.
const BATCH: u64 = 64;
const AT_ONCE: usize = 16;
/// How long the order service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time between two tries.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Writes down that the order service is to be told, if there is one and the order has a tracking session.
pub(crate) async fn note(
    tx: &DatabaseTransaction,
    app: &App,
    order: &OrderId,
    now: Time,
) -> Result<(), Refusal> {
    if app.config.order_service_url.is_none() {
        return Ok(());
    }
    let sessions = tracking_session::Entity::find()
        .filter(tracking_session::Column::OrderId.eq(order.as_str()))
        .count(tx)
        .await?;
    if sessions > 0 {
        let call = row::ActiveModel {
            order_id: Set(order.to_string()),
            delivered_at: Set(now),
            tries: Set(0),
            next_at: Set(now),
        };
        let once = OnConflict::column(row::Column::OrderId).do_nothing().to_owned();
        row::Entity::insert(call).on_conflict(once).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Tells the order service what it is to be told, until the task is dropped.
pub async fn make_forever(app: App) {
    let Some(url) = app.config.order_service_url.clone() else {
        return std::future::pending().await;
    };
    let client = match reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "the order service cannot be called");
            return std::future::pending().await;
        }
    };
    loop {
        match due(&app).await {
            Ok(calls) if !calls.is_empty() => {
                let calls = calls.into_iter().map(|call| make(&app, &client, &url, call));
                let mut made = stream::iter(calls).buffer_unordered(AT_ONCE);
                let mut all = true;
                while let Some(made) = made.next().await {
                    if let Err(error) = made {
                        all = false;
                        tracing::warn!(%error, "a call of the order service could not be written down");
                    }
                }
                if !all {
                    // What could not be written down is still due: not again at once.
                    tokio::time::sleep(LOOK).await;
                }
                continue;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "calls of the order service cannot be read; trying again"),
        }
        tokio::select! {
            () = app.calls.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn due(app: &App) -> Result<Vec<row::Model>, Refusal> {
    let calls = row::Entity::find()
        .filter(row::Column::NextAt.lte(app.clock.now()))
        .order_by_asc(row::Column::NextAt)
        .limit(BATCH)
        .all(app.db.reader())
        .await?;
    Ok(calls)
}

async fn make(app: &App, client: &reqwest::Client, url: &str, call: row::Model) -> Result<(), Refusal> {
    #[derive(Serialize)]
    struct Delivered {
        status: &'static str,
        /// Unix seconds
        delivered_at: i64,
    }
    let tries = call.tries.saturating_add(1);
    let next_at = app.clock.now() + wait(app.config.limits.order_service_retry_ms, tries);
    // The next try is written down first: whoever else serves this database leaves this one to us.
    let ours = row::Entity::update_many()
        .set(row::ActiveModel { tries: Set(tries), next_at: Set(next_at), ..Default::default() })
        .filter(row::Column::OrderId.eq(&*call.order_id))
        .filter(row::Column::Tries.eq(call.tries))
        .exec(app.db.writer())
        .await?;
    if ours.rows_affected == 0 {
        return Ok(());
    }
    let answer = client
        .post(format!("{}/orders/{}/status", url.trim_end_matches('/'), path_segment(&call.order_id)))
        .header("Idempotency-Key", format!("delivered:{}", call.order_id))
        .json(&Delivered { status: "DELIVERED", delivered_at: call.delivered_at.timestamp() })
        .send()
        .await;
    match answer {
        Ok(answer) if answer.status().is_success() => {
            row::Entity::delete_by_id(call.order_id).exec(app.db.writer()).await?;
            app.metrics.order_service_call("accepted");
        }
        Ok(answer) => {
            app.metrics.order_service_call("refused");
            tracing::warn!(
                order = call.order_id,
                status = answer.status().as_u16(),
                tries,
                "the order service refused"
            );
        }
        Err(error) => {
            app.metrics.order_service_call("failed");
            let error = error.without_url();
            tracing::warn!(order = call.order_id, %error, tries, "the order service did not answer");
        }
    }
    Ok(())
}

/// Doubles from try to try, up to five minutes.
fn wait(first_ms: u32, tries: i32) -> TimeDelta {
    let doubled = i64::from(first_ms) << u32::try_from(tries - 1).unwrap_or_default().min(20);
    let longest = i64::try_from(MAX_WAIT.as_millis()).unwrap_or(i64::MAX);
    TimeDelta::milliseconds(doubled.min(longest))
}

/// An order id in a path: of what it may consist of, only `|` means something to a URL.
fn path_segment(id: &str) -> String {
    id.replace('|', "%7C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let waits: Vec<_> = [1, 2, 3, 8, 9, 10, 1_000].map(|tries| wait(1_000, tries).num_seconds()).into();
        assert_eq!(waits, [1, 2, 4, 128, 256, 300, 300]);
    }
}
