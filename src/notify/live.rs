//! Live Activities: what a phone shows of an order without its app. Each status is planned once, like what is told; what it shows is
//! read when it is sent, so it is never older than that.

use std::collections::HashMap;

use chrono::TimeDelta;
use entity::device;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, ModelTrait, QueryFilter};

use super::Notifications;
use super::channel::{Attempt, Channel, Live, Outcome};
use super::devices::channel_of;
use super::leased::Leased;
use super::rules::{Args, Kind};
use super::written::{Row, Way};
use crate::base::error::Refusal;
use crate::eta::log;
use crate::model::status::is_final;
use crate::model::{Order, OrderEvent, OrderId};
use crate::order::read;

/// Orders in one look-up.
const ORDERS: usize = 256;

impl Notifications {
    /// What the activities are to show after these events: of each order only the newest.
    pub(super) async fn live_rows(&self, events: &[OrderEvent]) -> Result<Vec<Row>, Refusal> {
        if !self.channels.has(Channel::Apns) && !self.channels.has(Channel::Fcm) {
            return Ok(Vec::new());
        }
        let changes = events.iter().filter(|event| event.previous_status != event.order.status);
        let newest: HashMap<&str, &OrderEvent> =
            changes.map(|event| (event.order.id.as_str(), event)).collect();
        let ids: Vec<&str> = newest.keys().copied().collect();
        let mut rows: HashMap<(String, String), Row> = HashMap::new();
        for ids in ids.chunks(ORDERS) {
            let found = device::Entity::find()
                .filter(device::Column::OrderId.is_in(ids.iter().copied()))
                .filter(device::Column::DisabledAt.is_null())
                .all(self.db.reader())
                .await?;
            for device in found {
                let channel = channel_of(&device).filter(|channel| self.channels.has(*channel));
                let event = device.order_id.as_deref().and_then(|id| newest.get(id));
                let (Some(channel), Some(event)) = (channel, event) else { continue };
                let key = (device.user_id.clone(), event.order.id.to_string());
                let row = rows.entry(key).or_insert_with(|| self.live_row(&device.user_id, event));
                let (target, due_at) = (device.id, row.at);
                let way = Way { channel, target, address: None, state: "due", reason: None, due_at };
                row.deliveries.push(way);
            }
        }
        Ok(rows.into_values().collect())
    }

    fn live_row(&self, user: &str, event: &OrderEvent) -> Row {
        let now = self.clock.now();
        Row {
            source: format!("e:{}", event.position),
            recipient: user.to_owned(),
            kind: Kind::OrderLive,
            order: Some(event.order.id.clone()),
            // It is shown, whoever has received what.
            seq: None,
            args: Args { order_number: event.order.order_number.clone(), ..Args::default() },
            at: now,
            expires_at: now + Kind::OrderLive.lives(),
            reason: None,
            deliveries: Vec::new(),
        }
    }

    pub(super) async fn attempt_live(&self, channel: Channel, leased: &Leased) -> Attempt {
        let failed = |outcome: Outcome| Attempt::new(outcome, None);
        let dead = |code: &str| failed(Outcome::Dead { code: code.to_owned() });
        let Some(device) = &leased.device else { return dead("device_gone") };
        let Some(address) = self.address_of(device) else { return dead("sealed_with_another_key") };
        let live = match self.live(leased).await {
            Ok(Some(live)) => live,
            // It had the right to see the order when it was registered.
            Ok(None) => return failed(Outcome::Gone { code: "no_party".to_owned() }),
            Err(_) => return failed(Outcome::Retry { code: "unavailable".to_owned(), after: None }),
        };
        let mut attempt = match (channel, &self.channels.apns, &self.channels.fcm) {
            (Channel::Apns, Some(apns), _) => apns.send_live(&address, device.app.as_deref(), &live).await,
            (Channel::Fcm, _, Some(fcm)) => fcm.send_live(&address, &live).await,
            _ => return dead("channel_off"),
        };
        attempt.is_last = live.is_last;
        attempt
    }

    /// The state of an order now. `None`: there is none that this user may see.
    async fn live(&self, Leased { about, .. }: &Leased) -> Result<Option<Live>, Refusal> {
        let db = self.db.reader();
        let Some(id) = about.order_id.as_deref().and_then(|id| OrderId::parse(id).ok()) else {
            return Ok(None);
        };
        let order = read::load(db, &id).await?.filter(|order| is_party(order, &about.recipient));
        let Some(order) = order else { return Ok(None) };
        let is_last = is_final(order.status);
        let shown = if is_last { None } else { log::newest(db, &id).await? };
        let now = self.clock.now();
        Ok(Some(Live {
            id: about.key.clone(),
            order: order.id.to_string(),
            order_number: order.order_number.clone(),
            status: order.status.as_str(),
            seq: order.seq,
            eta: shown.map(|shown| shown.eta_at),
            at: now,
            expires_at: now + Ord::max(about.expires_at - now, TimeDelta::zero()),
            is_last,
        }))
    }

    /// It shows the last status, and nothing comes after that.
    pub(super) async fn end_activity(
        &self,
        tx: &DatabaseTransaction,
        device: &device::Model,
    ) -> Result<(), Refusal> {
        device.clone().delete(tx).await?;
        self.metrics.device_removed("ended");
        Ok(())
    }

    /// An activity may be registered for an order that its user is party to, and that is not over.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`]; those of the database.
    pub(super) async fn check_activity(&self, user: &str, order: &str) -> Result<(), Refusal> {
        let id = OrderId::parse(order).map_err(|_| Refusal::NotFound("order"))?;
        let order = read::load(self.db.reader(), &id).await?.filter(|order| is_party(order, user));
        let order = order.ok_or(Refusal::NotFound("order"))?;
        if is_final(order.status) {
            Err(Refusal::invalid("orderId", "is of an order that is over"))
        } else {
            Ok(())
        }
    }
}

fn is_party(order: &Order, user: &str) -> bool {
    let driver = order.driver.as_ref().map(|driver| driver.id.as_str());
    [Some(order.customer.id.as_str()), Some(order.chef.id.as_str()), driver].contains(&Some(user))
}
