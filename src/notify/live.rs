//! Live Activities: the state of an order on a lock screen. Rows say that there is news; what is sent is the state at that moment, so
//! nothing old is shown, whatever is repeated.

use std::collections::{HashMap, HashSet};

use chrono::TimeDelta;
use entity::{delivery, device, driver_assignment, eta_shown, notification, order};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Notifications;
use super::channel::{Attempt, Channel, Live, Outcome};
use super::devices::channel_of;
use super::leased::Leased;
use super::rules::{Args, Kind};
use super::written::{Row, Way};
use crate::base::clock::Time;
use crate::base::db::padded;
use crate::base::error::Refusal;
use crate::model::{EventKind, Order, OrderEvent, OrderId, OrderStatus, UserId, status};
use crate::order::read;

/// An ETA that moves by less is no news.
const NEWS: TimeDelta = TimeDelta::minutes(2);
/// How long a new ETA is worth telling, and how many are told of an order in an hour.
const ETA_LIVES: TimeDelta = TimeDelta::minutes(10);
const PER_HOUR: i64 = 15;
/// How the sources of ETAs begin.
const OF_ETA: &str = "l:";
/// Orders that are looked at in one query.
const PAGE: usize = 256;
/// Bytes of a token in the source of a first state: enough to tell tokens apart.
const TOKEN: usize = 32;

/// An order as an activity needs it.
struct Shown {
    number: String,
    /// The time, and the number under which it was shown.
    eta: Option<(Time, i64)>,
}

/// What an activity was told last.
struct Last {
    eta: Option<Time>,
    is_open: bool,
}

/// Whether a user has to do with an order.
pub(super) fn is_party(order: &Order, user: &str) -> bool {
    let driver = order.driver.as_ref().map(|driver| driver.id.as_str());
    [Some(order.customer.id.as_str()), Some(order.chef.id.as_str()), driver].contains(&Some(user))
}

impl Notifications {
    /// The news of statuses for activities, one for each event and user.
    pub(super) async fn live_rows(&self, events: &[OrderEvent]) -> Result<Vec<Row>, Refusal> {
        let now = self.clock.now();
        let is_news = |event: &&OrderEvent| {
            (event.previous_status != event.order.status || event.kind == EventKind::Corrected)
                && event.at + Kind::OrderLive.lives() > now
        };
        let events: Vec<&OrderEvent> = events.iter().filter(is_news).collect();
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let ids: HashSet<&str> = events.iter().map(|event| event.order.id.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut activities = Vec::new();
        for ids in ids.chunks(PAGE) {
            activities.extend(self.activities(device::Column::OrderId.is_in(padded(ids.to_vec()))).await?);
        }
        let orders: HashSet<&str> = activities.iter().map(|((_, order), _)| order.as_str()).collect();
        let shown = self.shown_orders(&orders.into_iter().collect::<Vec<_>>()).await?;
        let mut rows = Vec::new();
        for event in events {
            let OrderEvent { order, position, at, .. } = event;
            for ((user, _), devices) in activities.iter().filter(|((_, id), _)| id == order.id.as_str()) {
                let eta = shown.get(order.id.as_str()).and_then(|shown| shown.eta).map(|(at, _)| at);
                let expires_at = *at + Kind::OrderLive.lives();
                let args = Args { order_number: order.order_number.clone(), eta, ..Args::default() };
                rows.extend(self.live_row(
                    user,
                    &order.id,
                    devices,
                    format!("e:{position}"),
                    args,
                    expires_at,
                ));
            }
        }
        Ok(rows)
    }

    /// Activities by user and order.
    async fn activities(
        &self,
        which: sea_orm::sea_query::Expr,
    ) -> Result<HashMap<(String, String), Vec<device::Model>>, Refusal> {
        let found = device::Entity::find()
            .filter(which)
            .filter(device::Column::DisabledAt.is_null())
            .all(self.db.reader())
            .await?;
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for device in found {
            let Some(order) = device.order_id.clone() else { continue };
            all.entry((device.user_id.clone(), order)).or_default().push(device);
        }
        Ok(all)
    }

    /// News for the activities of a user; `None` if no channel reaches one.
    fn live_row(
        &self,
        user: &str,
        order: &OrderId,
        devices: &[device::Model],
        source: String,
        args: Args,
        expires_at: Time,
    ) -> Option<Row> {
        let now = self.clock.now();
        let way = |device: &device::Model| {
            let channel = channel_of(device).filter(|channel| self.channels.has(*channel))?;
            let target = device.id.clone();
            Some(Way { channel, target, address: None, state: "due", reason: None, due_at: now })
        };
        let deliveries: Vec<Way> = devices.iter().filter_map(way).collect();
        (!deliveries.is_empty()).then(|| Row {
            source,
            recipient: user.to_owned(),
            kind: Kind::OrderLive,
            order: Some(order.clone()),
            // Who watches has not looked at the lock screen.
            seq: None,
            args,
            at: now,
            expires_at,
            reason: None,
            deliveries,
        })
    }

    /// The order that an activity is to show.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for one that the user has nothing to do with; those of the database.
    pub(super) async fn order_to_show(&self, id: &str, user: &UserId) -> Result<OrderId, Refusal> {
        let id = OrderId::parse(id).map_err(|_| Refusal::NotFound("order"))?;
        let order = read::load(self.db.reader(), &id).await?;
        let order = order.filter(|order| is_party(order, user.as_str()));
        order.map(|order| order.id).ok_or(Refusal::NotFound("order"))
    }

    /// A new activity is told how things are: they may have changed since it was started.
    pub(super) async fn show_first(&self, device: &device::Model, order: &OrderId) -> Result<(), Refusal> {
        let shown = self.shown_orders(&[order.as_str()]).await?;
        let Some(Shown { number, eta }) = shown.get(order.as_str()) else { return Ok(()) };
        let args = Args { order_number: number.clone(), eta: eta.map(|(at, _)| at), ..Args::default() };
        let token: String = device.address_hash.chars().take(TOKEN).collect();
        let (source, expires_at) = (format!("d:{order}:{token}"), self.clock.now() + Kind::OrderLive.lives());
        let devices = std::slice::from_ref(device);
        let Some(row) = self.live_row(&device.user_id, order, devices, source, args, expires_at) else {
            return Ok(());
        };
        let tx = self.db.begin().await?;
        self.insert(&tx, &[row]).await?;
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Plans what has changed in the ETAs of orders that activities show. Several nodes may do so at once.
    pub(super) async fn plan_etas(&self) -> Result<(), Refusal> {
        use device::Column;
        let mut after = String::new();
        loop {
            let orders: Vec<String> = device::Entity::find()
                .select_only()
                .column(Column::OrderId)
                .distinct()
                .filter(Column::OrderId.gt(&*after))
                .filter(Column::DisabledAt.is_null())
                .order_by_asc(Column::OrderId)
                .limit(PAGE as u64)
                .into_tuple()
                .all(self.db.reader())
                .await?;
            let Some(last) = orders.last() else { return Ok(()) };
            after.clone_from(last);
            self.plan_etas_of(&orders.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        }
    }

    async fn plan_etas_of(&self, orders: &[&str]) -> Result<(), Refusal> {
        let activities = self.activities(device::Column::OrderId.is_in(padded(orders.to_vec()))).await?;
        let shown = self.shown_orders(orders).await?;
        let last = self.last_told(orders).await?;
        let lately = self.etas_lately(orders).await?;
        let now = self.clock.now();
        let mut rows = Vec::new();
        for (key, devices) in &activities {
            let Some(Shown { number, eta: Some((eta, id)) }) = shown.get(&key.1) else { continue };
            let is_news = last
                .get(key)
                .is_none_or(|last| !last.is_open && last.eta.is_none_or(|told| (*eta - told).abs() >= NEWS));
            if !is_news || lately.get(key).is_some_and(|count| *count >= PER_HOUR) {
                continue;
            }
            let order = OrderId::stored(&key.1);
            let source = format!("{OF_ETA}{order}:{id}");
            let args = Args { order_number: number.clone(), eta: Some(*eta), ..Args::default() };
            rows.extend(self.live_row(&key.0, &order, devices, source, args, now + ETA_LIVES));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let tx = self.db.begin().await?;
        self.insert(&tx, &rows).await?;
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Orders with the ETA that was shown last of each.
    async fn shown_orders(&self, ids: &[&str]) -> Result<HashMap<String, Shown>, Refusal> {
        use eta_shown::Column;
        let mut all = HashMap::new();
        let db = self.db.reader();
        for ids in ids.chunks(PAGE) {
            let ids = padded(ids.to_vec());
            let orders = order::Entity::find().filter(order::Column::Id.is_in(ids.clone())).all(db).await?;
            let newest: Vec<i64> = eta_shown::Entity::find()
                .select_only()
                .column_as(Column::Id.max(), "newest")
                .filter(Column::OrderId.is_in(ids.clone()))
                .group_by(Column::OrderId)
                .into_tuple()
                .all(db)
                .await?;
            let etas = eta_shown::Entity::find().filter(Column::Id.is_in(newest)).all(db).await?;
            let etas: HashMap<&str, &eta_shown::Model> =
                etas.iter().map(|row| (row.order_id.as_str(), row)).collect();
            let since: HashMap<String, Time> = driver_assignment::Entity::find()
                .filter(driver_assignment::Column::OrderId.is_in(ids))
                .filter(driver_assignment::Column::EndedAt.is_null())
                .all(db)
                .await?
                .into_iter()
                .map(|row| (row.order_id, row.assigned_at))
                .collect();
            for order in orders {
                let row = etas.get(order.id.as_str());
                // That of a former driver does not count.
                let own = row.filter(|row| since.get(&order.id).is_some_and(|since| *since <= row.at));
                let by_hand = order.estimated_delivery_time.map(|at| (at, row.map_or(0, |row| row.id)));
                let is_expected = !status::is_final(order.status) && order.status != OrderStatus::Failed;
                let eta = by_hand.or(own.map(|row| (row.eta_at, row.id))).filter(|_| is_expected);
                all.insert(order.id, Shown { number: order.order_number, eta });
            }
        }
        Ok(all)
    }

    /// The newest news of each user and order.
    async fn last_told(&self, orders: &[&str]) -> Result<HashMap<(String, String), Last>, Refusal> {
        use notification::Column;
        let db = self.db.reader();
        let newest: Vec<i64> = live_news(orders)
            .select_only()
            .column_as(Column::Id.max(), "newest")
            .group_by(Column::Recipient)
            .group_by(Column::OrderId)
            .into_tuple()
            .all(db)
            .await?;
        let open: HashSet<i64> = delivery::Entity::find()
            .select_only()
            .column(delivery::Column::NotificationId)
            .filter(delivery::Column::NotificationId.is_in(newest.iter().copied()))
            .filter(delivery::Column::DoneAt.is_null())
            .into_tuple()
            .all(db)
            .await?
            .into_iter()
            .collect();
        let rows = notification::Entity::find().filter(Column::Id.is_in(newest)).all(db).await?;
        let last = |row: notification::Model| {
            let args: Args = serde_json::from_str(&row.args).unwrap_or_default();
            let last = Last { eta: args.eta, is_open: open.contains(&row.id) };
            Some(((row.recipient, row.order_id?), last))
        };
        Ok(rows.into_iter().filter_map(last).collect())
    }

    /// How many ETAs each user was told of an order in the last hour.
    async fn etas_lately(&self, orders: &[&str]) -> Result<HashMap<(String, String), i64>, Refusal> {
        use notification::Column;
        let counts: Vec<(String, String, i64)> = live_news(orders)
            .select_only()
            .columns([Column::Recipient, Column::OrderId])
            .column_as(Column::Id.count(), "count")
            .filter(Column::At.gt(self.clock.now() - TimeDelta::hours(1)))
            .filter(Column::Source.starts_with(OF_ETA))
            .group_by(Column::Recipient)
            .group_by(Column::OrderId)
            .into_tuple()
            .all(self.db.reader())
            .await?;
        Ok(counts.into_iter().map(|(user, order, count)| ((user, order), count)).collect())
    }

    /// Sends the state of an order to an activity.
    pub(super) async fn attempt_live(&self, channel: Channel, leased: &Leased) -> Attempt {
        let failed = |outcome: Outcome| Attempt::new(outcome, None);
        let dead = |code: &str| failed(Outcome::Dead { code: code.to_owned() });
        let (Some(device), Some(id)) = (&leased.device, &leased.row.order_id) else {
            return dead("order_gone");
        };
        let live = match self.live(leased, id).await {
            Ok(Some(live)) => live,
            Ok(None) => return failed(Outcome::Disabled { code: "not_a_party".to_owned() }),
            Err(Refusal::NotFound(_)) => return dead("order_gone"),
            Err(_) => return failed(Outcome::Retry { code: "database".to_owned(), after: None }),
        };
        let Some(address) = self.address_of(device) else { return dead("sealed_with_another_key") };
        let mut attempt = match (channel, &self.channels.fcm, &self.channels.apns) {
            (Channel::Fcm, Some(fcm), _) => fcm.send_live(&address, &live).await,
            (Channel::Apns, _, Some(apns)) => apns.send_live(&address, device.app.as_deref(), &live).await,
            _ => return dead("channel_off"),
        };
        attempt.is_last = live.is_last;
        attempt
    }

    /// The state of an order now; `None` if its user has nothing to do with it any more.
    async fn live(&self, Leased { about, .. }: &Leased, id: &str) -> Result<Option<Live>, Refusal> {
        let order = read::load(self.db.reader(), &OrderId::stored(id)).await?;
        let order = order.ok_or(Refusal::NotFound("order"))?;
        if !is_party(&order, &about.recipient) {
            return Ok(None);
        }
        let shown = self.shown_orders(&[id]).await?;
        let is_last = status::is_final(order.status);
        Ok(Some(Live {
            id: about.key.clone(),
            order: id.to_owned(),
            order_number: order.order_number,
            status: order.status.as_str(),
            seq: order.seq,
            eta: shown.get(id).and_then(|shown| shown.eta).map(|(at, _)| at),
            at: self.clock.now(),
            expires_at: about.expires_at,
            is_last,
            is_urgent: is_last || !about.source.starts_with(OF_ETA),
        }))
    }

    /// An activity was told that its order is over. If it has another token by now, it is another one.
    pub(super) async fn end_activity(
        &self,
        tx: &impl ConnectionTrait,
        ended: &device::Model,
    ) -> Result<(), Refusal> {
        device::Entity::delete_many()
            .filter(device::Column::UserId.eq(&*ended.user_id))
            .filter(device::Column::Id.eq(&*ended.id))
            .filter(device::Column::AddressHash.eq(&*ended.address_hash))
            .exec(tx)
            .await?;
        self.metrics.device_removed("ended");
        Ok(())
    }
}

fn live_news(orders: &[&str]) -> sea_orm::Select<notification::Entity> {
    notification::Entity::find()
        .filter(notification::Column::Kind.eq(Kind::OrderLive.as_str()))
        .filter(notification::Column::OrderId.is_in(padded(orders.to_vec())))
}
