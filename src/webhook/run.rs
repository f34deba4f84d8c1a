//! A task for each endpoint. Of several processes one has its place in the log, and sends.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::TimeDelta;
use entity::{webhook as row, webhook_delivery as delivery};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Webhooks;
use super::endpoint::Endpoint;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::outbox::cursor::{Cursor, LEASE};

/// How often endpoints are looked for that another process made or changed, and messages that have no place in the log.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two rounds of one endpoint, so that what happens meanwhile goes together. A round writes twice, and with
/// `SQLite` a change of an order waits for each write: so all endpoints together begin no more than 20 rounds a second.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_EACH: Duration = Duration::from_millis(50);
/// Messages whose writing costs as much as sending one.
const PLANNED: usize = 2;
/// How long done messages can be looked at.
const KEPT: TimeDelta = TimeDelta::days(7);
const CLEAN: Duration = Duration::from_secs(600);

struct Running {
    version: i32,
    stop: CancellationToken,
}

impl Webhooks {
    /// Tells other systems, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        let mut running: HashMap<String, Running> = HashMap::new();
        let mut clean_at = instant();
        loop {
            if let Err(error) = self.look(&mut running, &tracker, &stop).await {
                tracing::debug!(%error, "webhooks cannot be read; trying again");
            }
            if instant() >= clean_at {
                clean_at = instant() + CLEAN;
                if let Err(error) = self.clean().await {
                    tracing::debug!(%error, "old messages to webhooks could not be deleted");
                }
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => break,
            }
        }
        tracker.close();
        tracker.wait().await;
    }

    /// Starts and ends tasks, so that there is one for each endpoint as it is now.
    async fn look(
        &self,
        running: &mut HashMap<String, Running>,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), Refusal> {
        let rows =
            row::Entity::find().filter(row::Column::DisabledAt.is_null()).all(self.db.reader()).await?;
        let endpoints: HashMap<String, Endpoint> =
            rows.into_iter().map(Endpoint::of).map(|endpoint| (endpoint.id.clone(), endpoint)).collect();
        running.retain(|id, task| {
            let same = endpoints.get(id).is_some_and(|endpoint| endpoint.version == task.version);
            if !same {
                task.stop.cancel();
            }
            same
        });
        for (id, endpoint) in endpoints {
            let version = endpoint.version;
            running.entry(id).or_insert_with(|| {
                let stop = stop.child_token();
                let (webhooks, stopping) = (self.clone(), stop.clone());
                tracker.spawn(async move {
                    stopping.run_until_cancelled(Box::pin(webhooks.serve(endpoint))).await;
                });
                Running { version, stop }
            });
        }
        self.serving.store(running.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Serves one endpoint for ever.
    async fn serve(self, endpoint: Endpoint) {
        let name = Endpoint::consumer(&endpoint.id);
        let cursor = loop {
            match Cursor::open(self.db.clone(), self.clock.clone(), &name).await {
                Ok(cursor) => break cursor,
                Err(error) => tracing::debug!(%error, "a webhook has no place in the log; trying again"),
            }
            tokio::time::sleep(LOOK).await;
        };
        let mut endpoint = endpoint;
        loop {
            if let Err(error) = self.serve_once(&mut endpoint, &cursor).await {
                tracing::debug!(%error, "a webhook cannot be served; trying again");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Reads on and sends, until the lease has to be renewed.
    async fn serve_once(&self, endpoint: &mut Endpoint, cursor: &Cursor) -> Result<(), Refusal> {
        let fullness = self.events.fullness();
        fullness.turn().await;
        let renew_at = instant() + LEASE / 2;
        let Some(mut position) = cursor.claim().await? else {
            tokio::time::sleep_until(renew_at).await;
            return Ok(());
        };
        while instant() < renew_at {
            if let Some(row) = row::Entity::find_by_id(&*endpoint.id).one(self.db.reader()).await? {
                *endpoint = Endpoint::of(row);
            }
            let planned;
            (position, planned) = self.plan(endpoint, cursor, position).await?;
            // A call may take longer than the lease: the lease is kept meanwhile.
            let round = self.round(endpoint);
            tokio::pin!(round);
            let (sent, next) = loop {
                tokio::select! {
                    done = &mut round => break done?,
                    () = tokio::time::sleep(LEASE / 2) => {
                        if cursor.claim().await?.is_none() {
                            return Ok(());
                        }
                    }
                }
            };
            fullness.spent(sent + planned / PLANNED);
            if sent > 0 {
                let endpoints = u32::try_from(self.serving.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
                tokio::time::sleep(PAUSE_EACH.saturating_mul(endpoints).max(PAUSE)).await;
            } else {
                let due = next.map(|next| (next - self.clock.now()).to_std().unwrap_or_default());
                let wait = due.unwrap_or(LOOK).clamp(Duration::from_millis(20), LOOK);
                let until = renew_at.min(instant() + wait);
                let _ = tokio::time::timeout_at(until, self.events.beyond(position)).await;
            }
            if fullness.is_full() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn clean(&self) -> Result<(), Refusal> {
        delivery::Entity::delete_many()
            .filter(delivery::Column::DoneAt.lt(self.clock.now() - KEPT))
            .exec(self.db.writer())
            .await?;
        Ok(())
    }

    /// The log was rewritten: what was read of it does not count any more.
    pub fn forget_read(&self) {
        self.tail.clear();
    }
}
