//! What has to be looked after: leases of killed processes, late answers of providers, and what was told long ago.

use chrono::TimeDelta;
use entity::{delivery, delivery_attempt, notification};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Notifications;
use super::channel::{Channel, Expo, Outcome};
use crate::base::clock::Time;
use crate::base::error::Refusal;

/// How often Expo is asked for receipts, and from what age on.
const RECEIPTS: TimeDelta = TimeDelta::minutes(15);
const RECEIPTS_GONE: TimeDelta = TimeDelta::hours(24);
/// What a provider does not answer about is not known after so long.
const NO_CALLBACK: TimeDelta = TimeDelta::minutes(3);

/// How long notifications and attempts are kept, and how many are deleted at a time.
const KEPT: TimeDelta = TimeDelta::days(30);
const ATTEMPTS_KEPT: TimeDelta = TimeDelta::days(7);
const OLD: u64 = 500;

impl Notifications {
    /// Gives back what a killed process had under way, asks for receipts, and looks at what activities show.
    pub(super) async fn look_after(&self) -> Result<(), Refusal> {
        use delivery::Column;
        let now = self.clock.now();
        let pushes = Channel::ALL.into_iter().filter(|channel| *channel != Channel::Sms).map(Channel::as_str);
        let open = || Column::DoneAt.is_null();
        let ended = || open().and(Column::State.eq("sending")).and(Column::LeaseUntil.lte(now));
        delivery::Entity::update_many()
            .col_expr(Column::State, Expr::value("due"))
            .col_expr(Column::DueAt, Expr::value(now))
            .filter(ended())
            .filter(Column::Channel.is_in(pushes))
            .exec(self.db.writer())
            .await?;
        let unknown = if self.settings.sms_resend_unknown { "due" } else { "unknown" };
        delivery::Entity::update_many()
            .col_expr(Column::State, Expr::value(unknown))
            .col_expr(Column::Reason, Expr::value("interrupted"))
            .filter(ended())
            .filter(Column::Channel.eq("sms"))
            .exec(self.db.writer())
            .await?;
        let silent = open().and(Column::Channel.eq("sms")).and(Column::State.eq("unknown"));
        delivery::Entity::update_many()
            .col_expr(Column::DoneAt, Expr::value(now))
            .filter(silent.and(Column::LeaseUntil.lte(now - NO_CALLBACK)))
            .exec(self.db.writer())
            .await?;
        let due = delivery::Entity::find()
            .filter(Column::Channel.is_in(Channel::ALL.map(Channel::as_str)))
            .filter(open())
            .filter(Column::DueAt.lte(now))
            .filter(Column::State.eq("due"))
            .count(self.db.reader())
            .await?;
        self.metrics.notifications_due.set(i64::try_from(due).unwrap_or(i64::MAX));
        if let Some(expo) = &self.channels.expo {
            self.ask_receipts(expo).await?;
        }
        self.plan_etas().await
    }

    /// Deletes what was told long ago, and devices that nobody has heard of for long. Ids rise with time.
    pub(super) async fn forget_old(&self) -> Result<(), Refusal> {
        use delivery_attempt::Column as Tried;
        use notification::Column as Told;
        let (now, reader, db) = (self.clock.now(), self.db.reader(), self.db.writer());
        let old = |rows: Vec<(i64, Time)>, kept: TimeDelta| -> Vec<i64> {
            rows.into_iter().take_while(|(_, at)| *at < now - kept).map(|(id, _)| id).collect()
        };
        let tried = delivery_attempt::Entity::find().select_only().columns([Tried::Id, Tried::At]);
        let tried =
            old(tried.order_by_asc(Tried::Id).limit(OLD).into_tuple().all(reader).await?, ATTEMPTS_KEPT);
        delivery_attempt::Entity::delete_many().filter(Tried::Id.is_in(tried)).exec(db).await?;
        let told = notification::Entity::find().select_only().columns([Told::Id, Told::At]);
        let told = old(told.order_by_asc(Told::Id).limit(OLD).into_tuple().all(reader).await?, KEPT);
        let of_told = delivery::Column::NotificationId.is_in(told.iter().copied());
        delivery::Entity::delete_many().filter(of_told).exec(db).await?;
        notification::Entity::delete_many().filter(Told::Id.is_in(told)).exec(db).await?;
        self.forget_idle_devices().await
    }

    /// Asks what has become of tickets.
    async fn ask_receipts(&self, expo: &Expo) -> Result<(), Refusal> {
        use delivery::Column;
        let now = self.clock.now();
        let waiting = delivery::Entity::find()
            .filter(Column::Channel.eq("expo"))
            .filter(Column::State.eq("sent"))
            .filter(Column::ProviderRef.is_not_null())
            .filter(Column::DoneAt.is_null())
            .filter(Column::SentAt.lte(now - RECEIPTS))
            .filter(Column::SentAt.gt(now - RECEIPTS_GONE))
            .limit(Expo::RECEIPTS as u64)
            .all(self.db.reader())
            .await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let tickets: Vec<String> = waiting.iter().filter_map(|row| row.provider_ref.clone()).collect();
        let receipts = expo.receipts(&tickets).await;
        for row in waiting {
            let Some(outcome) = row.provider_ref.as_ref().and_then(|ticket| receipts.get(ticket)) else {
                continue;
            };
            let (state, code) = match outcome {
                Outcome::Sent { .. } => ("sent", None),
                Outcome::Gone { code, .. } => {
                    self.device_was_gone(&row.recipient, &row.target, row.sent_at.unwrap_or(now)).await?;
                    ("failed", Some(code.clone()))
                }
                Outcome::Retry { code, .. } | Outcome::Refused { code } | Outcome::Dead { code } => {
                    ("failed", Some(code.clone()))
                }
                _ => continue,
            };
            delivery::Entity::update_many()
                .set(delivery::ActiveModel {
                    state: Set(state.to_owned()),
                    reason: Set(code),
                    done_at: Set(Some(now)),
                    ..Default::default()
                })
                .filter(Column::Id.eq(row.id))
                .exec(self.db.writer())
                .await?;
        }
        Ok(())
    }
}
