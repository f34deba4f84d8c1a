//! Rows that are due are leased while they are under way, so that several processes share the work.

use std::collections::HashMap;

use chrono::TimeDelta;
use entity::{delivery, device, notification, opt_out, receipt};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, DatabaseTransaction, EntityTrait, QueryFilter,
    QuerySelect, Statement,
};
use tokio::sync::Semaphore;

use super::Notifications;
use super::channel::{Channel, Expo};
use super::rules::Kind;
use crate::base::db::stored_time;
use crate::base::error::Refusal;

/// Rows that are leased at a time.
const CLAIM: usize = 64;
/// How long a lease lasts: longer than any call.
const LEASE: TimeDelta = TimeDelta::seconds(60);

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
    /// Leases what is due.
    pub(super) async fn claim(&self, channel: Channel, turns: &Semaphore) -> Result<Vec<Leased>, Refusal> {
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
        self.events.fullness().turn().await;
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
        self.events.fullness().spent(leased.len());
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
        let statuses = Kind::ALL.into_iter().filter(|kind| kind.replaces(*kind)).map(Kind::as_str);
        let newest: Vec<(String, String, String, i64)> = notification::Entity::find()
            .select_only()
            .columns([
                notification::Column::Recipient,
                notification::Column::OrderId,
                notification::Column::Kind,
            ])
            .column_as(notification::Column::Id.max(), "newest")
            .filter(notification::Column::OrderId.is_in(orders.iter().copied()))
            .filter(notification::Column::Kind.is_in(statuses))
            .group_by(notification::Column::Recipient)
            .group_by(notification::Column::OrderId)
            .group_by(notification::Column::Kind)
            .into_tuple()
            .all(tx)
            .await?;
        let is_newer = |about: &notification::Model| {
            let own = Kind::parse(&about.kind);
            newest.iter().any(|(recipient, order, kind, id)| {
                *id > about.id
                    && (recipient, Some(order)) == (&about.recipient, about.order_id.as_ref())
                    && own.zip(Kind::parse(kind)).is_some_and(|(own, kind)| kind.replaces(own))
            })
        };
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
            let is_superseded = is_newer(&about);
            let phone = format!("phone:{}", row.target);
            let tracked = about.kind != Kind::TrackingStarted.as_str()
                && tracked.iter().any(|(order, recipient)| *order == row.order_id && *recipient == phone);
            Some(Leased { row, about, device, has, is_superseded, tracked })
        });
        Ok(leased.collect())
    }

    /// Whether something speaks against it by now: the state that it ends in, and why.
    pub(super) async fn decide(
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
}
