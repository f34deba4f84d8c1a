//! Reads the log, and writes down what is to be told. The position in the log and the rows are committed together, so nothing is
//! skipped and nothing is planned twice, whatever is killed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::TimeDelta;
use entity::{device, notification, notification_preference, receipt};
use futures_util::{StreamExt, stream};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};
use tokio_util::sync::CancellationToken;

use super::Notifications;
use super::channel::Channel;
use super::devices::channel_of;
use super::preferences::Preferences;
use super::rules::{Args, Kind, Planned, planned};
use super::written::{Row, Way};
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::event::bus::Question;
use crate::model::{Order, OrderEvent, OrderId, Phone, Role, UserId};
use crate::order::read;
use crate::outbox::consume::{Consumer, consume};

/// The consumer's name in the database.
pub(super) const CONSUMER: &str = "notify";
/// How long events are collected before they are planned.
const LINGER: Duration = Duration::from_millis(50);
/// Other nodes that are asked for users at a time.
const ASKED: usize = 16;
/// Notifications to one customer in an hour. Chefs and drivers live from theirs.
const PER_HOUR: i64 = 12;

/// What is known of the recipients of some notifications.
struct Known {
    devices: HashMap<String, Vec<device::Model>>,
    preferences: HashMap<String, Preferences>,
    received: HashMap<(String, String), i64>,
    lately: HashMap<String, i64>,
    watching: HashSet<UserId>,
}

impl Notifications {
    /// Plans until `stop`, if any channel is on.
    pub async fn plan(self, stop: CancellationToken) {
        let Some(cursor) = &self.cursor else { return stop.cancelled().await };
        tokio::select! {
            () = consume(&self, &self.db, &self.events, cursor) => {}
            () = stop.cancelled() => {}
        }
        if let Err(error) = cursor.release().await {
            tracing::debug!(%error, "the cursor of the notifications was not released; its lease lapses");
        }
    }

    /// The driver of an order is almost there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn arriving(&self, id: &OrderId) -> Result<(), Refusal> {
        if !self.is_on() {
            return Ok(());
        }
        let Some(order) = read::load(self.db.reader(), id).await? else { return Ok(()) };
        let order = &order;
        let now = self.clock.now();
        let kind = Kind::OrderArriving;
        let to = order.customer.id.clone();
        let one = Planned {
            to: to.clone(),
            role: Role::Customer,
            kind,
            due_at: now,
            expires_at: now + kind.lives(),
        };
        let known = self.known(&HashSet::from([to]), &[]).await?;
        let mut row = self.row(&one, &known, format!("a:{}", order.id), order, None);
        // It is gone from the screen anyway when somebody looks at it now.
        for way in row.deliveries.iter_mut().filter(|way| way.state == "held") {
            (way.state, way.reason) = ("suppressed", Some("watching"));
        }
        let tx = self.db.begin().await?;
        self.insert(&tx, &[row]).await?;
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// What is known of users now. `orders`: of which they may have received something.
    async fn known(&self, users: &HashSet<UserId>, orders: &[String]) -> Result<Known, Refusal> {
        let db = self.db.reader();
        let ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let (mut devices, mut preferences) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        let (mut received, mut lately) = (HashMap::new(), HashMap::new());
        let since = self.clock.now() - TimeDelta::hours(1);
        for ids in ids.chunks(256) {
            let found = device::Entity::find()
                .filter(device::Column::UserId.is_in(ids.iter().copied()))
                .filter(device::Column::DisabledAt.is_null())
                // A Live Activity is told nothing.
                .filter(device::Column::OrderId.is_null())
                .all(db)
                .await?;
            for device in found {
                devices.entry(device.user_id.clone()).or_default().push(device);
            }
            let found = notification_preference::Entity::find()
                .filter(notification_preference::Column::UserId.is_in(ids.iter().copied()))
                .all(db)
                .await?;
            preferences.extend(found.into_iter().map(|row| (row.user_id.clone(), Preferences::stored(row))));
            let counts: Vec<(String, i64)> = notification::Entity::find()
                .select_only()
                .column(notification::Column::Recipient)
                .column_as(notification::Column::Id.count(), "count")
                .filter(notification::Column::Recipient.is_in(ids.iter().copied()))
                .filter(notification::Column::At.gt(since))
                .filter(notification::Column::Kind.ne(Kind::OrderLive.as_str()))
                .group_by(notification::Column::Recipient)
                .into_tuple()
                .all(db)
                .await?;
            lately.extend(counts);
        }
        for orders in orders.chunks(256) {
            let found = receipt::Entity::find()
                .filter(receipt::Column::OrderId.is_in(orders.iter().map(String::as_str)))
                .all(db)
                .await?;
            for row in found {
                let seq = Ord::max(row.received_seq, row.seen_seq);
                received.insert((row.order_id, row.user_id), seq);
            }
        }
        // Only those who could be pushed matter.
        let reachable =
            users.iter().filter(|user| devices.contains_key(user.as_str()) || self.channels.sms.is_some());
        let watching = stream::iter(reachable.cloned().collect::<Vec<_>>())
            .map(|user| async move { self.is_watching(&user).await.then_some(user) })
            .buffer_unordered(ASKED)
            .filter_map(|user| async move { user })
            .collect()
            .await;
        Ok(Known { devices, preferences, received, lately, watching })
    }

    /// Whether somebody may look at a socket of this user, on any node.
    async fn is_watching(&self, user: &UserId) -> bool {
        if self.watchers.get().is_some_and(|watchers| watchers(user) > 0) {
            return true;
        }
        if !self.bus.has_others() {
            return false;
        }
        let others = self.bus.ask(Question::Watching(user.clone())).await;
        others.count > 0 || others.is_partial()
    }

    /// The ways that a notification goes.
    fn row(&self, one: &Planned, known: &Known, source: String, order: &Order, seq: Option<i64>) -> Row {
        let user = one.to.to_string();
        let devices = known.devices.get(&user).map_or(&[][..], Vec::as_slice);
        let preferences = known.preferences.get(&user);
        let (push, sms) = preferences
            .and_then(|preferences| preferences.ways(one.kind))
            .unwrap_or((true, one.kind.falls_back() || one.kind.is_for_sms()));
        let zone = devices.iter().find_map(|device| device.time_zone.as_deref());
        let quiet = preferences.and_then(|preferences| preferences.quiet(zone));
        let quiet_until = |at: Time| quiet.and_then(|quiet| quiet.ends(at)).unwrap_or(at);
        let has_it = seq.is_some_and(|seq| {
            known.received.get(&(order.id.to_string(), user.clone())).is_some_and(|received| *received >= seq)
        });
        let is_watching = known.watching.contains(&one.to);
        let (state, reason, wait) = match (has_it, is_watching) {
            // Its SMS does not wait, so its push need not either.
            (_, true) if one.kind.is_for_sms() => ("suppressed", Some("watching"), TimeDelta::zero()),
            (true, true) => ("suppressed", Some("watching"), TimeDelta::zero()),
            (_, true) if !one.kind.is_quiet() => ("held", None, self.hold()),
            _ => ("due", None, TimeDelta::zero()),
        };
        let now = self.clock.now();
        let base = if one.kind.is_quiet() { Ord::max(one.due_at, now) } else { now };
        let due_at = if one.kind.is_quiet() { quiet_until(base) } else { base + wait };
        let mut row = Row {
            source,
            recipient: user.clone(),
            kind: one.kind,
            order: Some(order.id.clone()),
            seq: seq.filter(|_| !one.kind.is_quiet() && !one.kind.is_for_sms()),
            args: Args {
                order_number: order.order_number.clone(),
                silent: quiet.is_some_and(|quiet| quiet.ends(now).is_some()),
                ..Args::default()
            },
            at: self.clock.now(),
            expires_at: if one.kind.is_quiet() { due_at + one.kind.lives() } else { one.expires_at },
            reason: None,
            deliveries: Vec::new(),
        };
        let is_much = known.lately.get(&user).is_some_and(|count| *count >= PER_HOUR);
        if is_much && one.role == Role::Customer && !one.kind.is_last() {
            row.reason = Some("capped");
            return row;
        }
        let mut off = false;
        for device in devices.iter().filter(|_| push) {
            let channel = channel_of(device).filter(|channel| self.channels.has(*channel));
            let Some(channel) = channel else {
                off = true;
                continue;
            };
            let (target, address) = (device.id.clone(), None);
            row.deliveries.push(Way { channel, target, address, state, reason, due_at });
        }
        let phone =
            order.customer.phone.as_deref().filter(|_| one.to == order.customer.id).and_then(Phone::parse);
        if let Some(phone) = phone.filter(|_| sms && self.channels.sms.is_some())
            && let Ok(address) = self.seal.seal(phone.as_str())
        {
            let after = if row.deliveries.is_empty() { TimeDelta::zero() } else { self.fallback() };
            let (state, reason, due_at) = if one.kind.is_for_sms() {
                ("due", None, now)
            } else {
                (state, reason, quiet_until(due_at + after))
            };
            let target = self.seal.hash(phone.as_str());
            let way = Way { channel: Channel::Sms, target, address: Some(address), state, reason, due_at };
            row.deliveries.push(way);
        }
        if row.deliveries.is_empty() {
            row.reason = Some(match (push || sms, off) {
                (false, _) => "preferences",
                (true, true) => "channel_off",
                (true, false) => "no_device",
            });
        }
        row
    }
}

impl Consumer for Notifications {
    type Work = Vec<Row>;

    fn linger(&self) -> Duration {
        LINGER
    }

    async fn prepare(&self, events: Vec<OrderEvent>) -> Result<Option<Vec<Row>>, Refusal> {
        let after = TimeDelta::minutes(self.settings.rating_prompt_minutes.into());
        let now = self.clock.now();
        let mut all = Vec::new();
        for event in &events {
            // What is old by now is not worth telling: the server was off for long.
            all.extend(
                planned(event, after).into_iter().filter(|one| one.expires_at > now).map(|one| (event, one)),
            );
        }
        let live = self.live_rows(&events).await?;
        let is_quiet = all.is_empty() && live.is_empty();
        let Some(last) = events.last().filter(|_| !is_quiet) else { return Ok(None) };
        // Those who are connected have been handed it by now.
        self.events.handed_on(last.position).await;
        self.metrics.notifications_lag.set(self.events.position() - last.position);
        let users: HashSet<UserId> = all.iter().map(|(_, one)| one.to.clone()).collect();
        let mut orders: Vec<String> = all.iter().map(|(event, _)| event.order.id.to_string()).collect();
        orders.sort_unstable();
        orders.dedup();
        let known = self.known(&users, &orders).await?;
        let rows = all.into_iter().map(|(event, one)| {
            let source = format!("e:{}", event.position);
            self.row(&one, &known, source, &event.order, Some(event.order.seq))
        });
        Ok(Some(rows.chain(live).collect()))
    }

    async fn write(&self, tx: &DatabaseTransaction, rows: &Vec<Row>) -> Result<(), Refusal> {
        self.insert(tx, rows).await
    }

    fn written(&self) {
        self.wake.notify_one();
    }
}
