//! What is planned, written down: each notification once, with its ways, and room made by what is older.

use std::collections::HashMap;

use entity::{delivery, notification};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect, QueryTrait,
};

use super::Notifications;
use super::channel::Channel;
use super::receipts::suppress_received;
use super::rules::{Args, Kind};
use crate::base::clock::Time;
use crate::base::db::{padded, pieces};
use crate::base::error::Refusal;
use crate::model::OrderId;

/// A notification with the ways that it goes.
pub struct Row {
    pub source: String,
    pub recipient: String,
    pub kind: Kind,
    pub order: Option<OrderId>,
    pub seq: Option<i64>,
    pub args: Args,
    pub at: Time,
    pub expires_at: Time,
    pub reason: Option<&'static str>,
    pub deliveries: Vec<Way>,
}

/// One way.
pub struct Way {
    pub channel: Channel,
    /// Device id, or the hash of the phone.
    pub target: String,
    /// Sealed, where no device has it.
    pub address: Option<String>,
    pub state: &'static str,
    pub reason: Option<&'static str>,
    pub due_at: Time,
}

impl Notifications {
    /// Writes notifications that are not there yet, with their ways. Older ones that are not sent yet make room.
    pub(super) async fn insert(&self, tx: &DatabaseTransaction, rows: &[Row]) -> Result<(), Refusal> {
        let now = self.clock.now();
        let mut keys = Vec::with_capacity(rows.len());
        let mut models = Vec::with_capacity(rows.len());
        for row in rows {
            let key = self.clock.uuid().to_string();
            models.push(notification::ActiveModel {
                id: NotSet,
                key: Set(key.clone()),
                source: Set(row.source.clone()),
                recipient: Set(row.recipient.clone()),
                kind: Set(row.kind.as_str().to_owned()),
                order_id: Set(row.order.as_ref().map(ToString::to_string)),
                seq: Set(row.seq),
                args: Set(serde_json::to_string(&row.args)?),
                at: Set(row.at),
                expires_at: Set(row.expires_at),
                reason: Set(row.reason.map(str::to_owned)),
                delivered_at: Set(None),
                opened_at: Set(None),
            });
            keys.push(key);
        }
        for piece in pieces(models) {
            let conflict = OnConflict::new().do_nothing().to_owned();
            let inserted = notification::Entity::insert_many(piece).on_conflict(conflict);
            // Some may have been planned before.
            self.metrics.notifications_planned.inc_by(inserted.exec_without_returning(tx).await?);
        }
        // What goes no way needs no id.
        let on_their_way: Vec<&str> = rows
            .iter()
            .zip(&keys)
            .filter_map(|(row, key)| (!row.deliveries.is_empty()).then_some(key.as_str()))
            .collect();
        let mut ids: HashMap<String, i64> = HashMap::new();
        for keys in on_their_way.chunks(256) {
            let found: Vec<(String, i64)> = notification::Entity::find()
                .select_only()
                .columns([notification::Column::Key, notification::Column::Id])
                .filter(notification::Column::Key.is_in(padded(keys.to_vec())))
                .into_tuple()
                .all(tx)
                .await?;
            ids.extend(found);
        }
        let mut ways = Vec::new();
        for (row, key) in rows.iter().zip(&keys) {
            // Nothing goes, or somebody has planned it before.
            let Some(id) = ids.get(key) else { continue };
            if row.kind.replaces(row.kind)
                && let Some(order) = &row.order
            {
                supersede(tx, row.kind, &row.recipient, order, *id, now).await?;
            }
            for way in &row.deliveries {
                let is_done = way.state == "suppressed";
                if is_done {
                    self.metrics.notification(way.channel.as_str(), "suppressed");
                }
                ways.push(delivery::ActiveModel {
                    id: NotSet,
                    notification_id: Set(*id),
                    recipient: Set(row.recipient.clone()),
                    order_id: Set(row.order.as_ref().map(ToString::to_string)),
                    seq: Set(row.seq),
                    channel: Set(way.channel.as_str().to_owned()),
                    target: Set(way.target.clone()),
                    address: Set(way.address.clone()),
                    state: Set(way.state.to_owned()),
                    reason: Set(way.reason.map(str::to_owned)),
                    due_at: Set(way.due_at),
                    tries: Set(0),
                    lease_until: Set(None),
                    provider_ref: Set(None),
                    segments: Set(None),
                    sent_at: Set(None),
                    done_at: Set(is_done.then_some(now)),
                });
            }
        }
        for piece in pieces(ways) {
            delivery::Entity::insert_many(piece)
                .on_conflict(OnConflict::new().do_nothing().to_owned())
                .exec_without_returning(tx)
                .await?;
        }
        let held =
            rows.iter().zip(&keys).filter(|(row, _)| row.deliveries.iter().any(|way| way.state == "held"));
        let held: Vec<i64> = held.filter_map(|(_, key)| ids.get(key).copied()).collect();
        // Somebody may have proved to have received it, while it was planned.
        for held in held.chunks(256) {
            let of_them = delivery::Column::NotificationId.is_in(held.iter().copied());
            suppress_received(tx, of_them, now).await?;
        }
        Ok(())
    }
}

/// What is not sent yet of older statuses of an order is not sent any more.
async fn supersede(
    tx: &impl ConnectionTrait,
    kind: Kind,
    recipient: &str,
    order: &OrderId,
    newer: i64,
    now: Time,
) -> Result<(), Refusal> {
    use delivery::Column;
    let statuses = Kind::ALL.into_iter().filter(|older| kind.replaces(*older)).map(Kind::as_str);
    let before = notification::Entity::find()
        .select_only()
        .column(notification::Column::Id)
        .filter(notification::Column::Recipient.eq(recipient))
        .filter(notification::Column::OrderId.eq(order.as_str()))
        .filter(notification::Column::Kind.is_in(statuses))
        .filter(notification::Column::Id.lt(newer))
        .into_query();
    delivery::Entity::update_many()
        .col_expr(Column::State, Expr::value("superseded"))
        .col_expr(Column::DoneAt, Expr::value(now))
        .filter(Column::Recipient.eq(recipient))
        .filter(Column::State.is_in(["held", "due"]))
        .filter(Column::NotificationId.in_subquery(before))
        .exec(tx)
        .await?;
    Ok(())
}
