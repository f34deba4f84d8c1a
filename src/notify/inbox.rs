//! What a user was told, and what they say of it.

use entity::{delivery, notification};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Notifications;
use super::rules::{Args, Kind};
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::{NotificationState, OrderId, Principal, Role, UserId};

/// Who says so.
pub enum Sayer<'a> {
    User(&'a Principal),
    /// Somebody who has the signed address that was in the notification.
    Holder(&'a str),
}

/// A notification, as its user sees it.
pub struct Told {
    pub number: i64,
    pub id: String,
    pub kind: String,
    pub order: Option<String>,
    pub seq: Option<i64>,
    pub title: String,
    pub at: Time,
    pub expires_at: Time,
    pub delivered_at: Option<Time>,
    pub opened_at: Option<Time>,
    /// Of an announcement: its event and its data.
    pub announcement: Option<super::offline::Queued>,
}

impl Notifications {
    /// What a user was told, after a number, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn inbox(&self, who: &Principal, after: i64, limit: u64) -> Result<Vec<Told>, Refusal> {
        let rows = notification::Entity::find()
            .filter(notification::Column::Recipient.eq(who.id.as_str()))
            .filter(notification::Column::Id.gt(after))
            .filter(notification::Column::Kind.ne(Kind::OrderLive.as_str()))
            .order_by_asc(notification::Column::Id)
            .limit(limit)
            .all(self.db.reader())
            .await?;
        Ok(rows.into_iter().map(|row| self.told(row)).collect())
    }

    fn told(&self, row: notification::Model) -> Told {
        let kind = Kind::parse(&row.kind);
        let args: Args = serde_json::from_str(&row.args).unwrap_or_default();
        let announcement =
            (kind == Some(Kind::Announcement)).then(|| serde_json::from_str(&row.args).ok()).flatten();
        Told {
            number: row.id,
            id: row.key,
            title: kind.map(|kind| self.texts.title(kind, None, &args)).unwrap_or_default(),
            kind: row.kind,
            order: row.order_id,
            seq: row.seq,
            at: row.at,
            expires_at: row.expires_at,
            delivered_at: row.delivered_at,
            opened_at: row.opened_at,
            announcement,
        }
    }

    /// The address at which a device says that a notification is there, without a token.
    pub(super) fn ack_url(&self, key: &str) -> String {
        // Without it, a page knows where it comes from.
        let base = self.settings.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
        format!("{base}/notifications/{key}/ack?sig={}", self.seal.sign(&format!("ack:{key}")))
    }

    /// A device says that a notification is there, or that somebody has opened it. Saying so twice changes nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a notification of somebody else; those of the database.
    pub async fn acknowledge(
        &self,
        key: &str,
        state: NotificationState,
        sayer: Sayer<'_>,
    ) -> Result<(), Refusal> {
        use notification::Column;
        let not_found = Refusal::NotFound("notification");
        let found = notification::Entity::find().filter(Column::Key.eq(key)).one(self.db.writer()).await?;
        let Some(row) = found else { return Err(not_found) };
        let may = match sayer {
            Sayer::User(who) => who.id.as_str() == row.recipient || who.role.is_staff(),
            Sayer::Holder(signature) => self.seal.is_signed(&format!("ack:{key}"), signature),
        };
        if !may {
            return Err(not_found);
        }
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        let mut columns = vec![Column::DeliveredAt];
        if state == NotificationState::Opened {
            columns.push(Column::OpenedAt);
        }
        for column in columns {
            notification::Entity::update_many()
                .col_expr(column, Expr::value(now))
                .filter(Column::Id.eq(row.id))
                .filter(column.is_null())
                .exec(&tx)
                .await?;
        }
        let own = delivery::Column::NotificationId.eq(row.id);
        let set = |to: &'static str, from: &[&'static str]| {
            delivery::Entity::update_many()
                .col_expr(delivery::Column::State, Expr::value(to))
                .col_expr(delivery::Column::DoneAt, Expr::value(now))
                .filter(own.clone())
                .filter(delivery::Column::State.is_in(from.to_vec()))
        };
        let pushed = set("delivered", &["sent"]).filter(delivery::Column::Channel.ne("sms"));
        pushed.exec(&tx).await?;
        // No text has to follow.
        set("suppressed", &["held", "due"])
            .col_expr(delivery::Column::Reason, Expr::value("acknowledged"))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        if let (NotificationState::Opened, Some(order), Some(seq)) = (state, &row.order_id, row.seq) {
            let role = Kind::parse(&row.kind).map_or(Role::Customer, role_of);
            self.receipts.seen(&UserId::stored(&row.recipient), role, &OrderId::stored(order), seq);
        }
        Ok(())
    }
}

/// Whom a kind is for.
const fn role_of(kind: Kind) -> Role {
    match kind {
        Kind::OrderNew => Role::Chef,
        Kind::DriverAssignment | Kind::DriverUnassigned => Role::Driver,
        _ => Role::Customer,
    }
}
