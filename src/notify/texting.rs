//! SMS: what they say, how many there may be, and what comes back.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use entity::{delivery, notification, opt_out, sms_spend};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter};

use super::Notifications;
use super::channel::{Attempt, Callback, Channel, Outcome, Word};
use super::rules::{Args, Kind};
use super::seal::Seal;
use super::text::segments;
use super::written::{Row, Way};
use crate::base::config::SmsProvider;
use crate::base::error::Refusal;
use crate::model::{Order, OrderId, Phone, TrackingId};

/// What the address of incoming texts is signed for.
const INBOUND: &str = "sms inbound";
/// Texts to one phone about one order, and in a day.
const PER_ORDER: u64 = 3;
const PER_DAY: u64 = 5;

/// The address that texts of customers come in at. Who knows it may say that somebody wants no texts.
///
/// # Errors
/// [`Refusal::Internal`] for a key that is not 64 hex digits.
pub fn inbound_address(key: &str, public_url: &str, provider: SmsProvider) -> Result<String, Refusal> {
    let secret = Seal::new(key, &[])?.sign(INBOUND);
    Ok(format!("{}/hooks/sms/{}/inbound/{secret}", public_url.trim_end_matches('/'), provider.as_str()))
}

impl Notifications {
    /// A tracking session starts: the customer gets the link, if their phone is known. In the transaction of the session.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tracking_started(
        &self,
        tx: &DatabaseTransaction,
        id: &TrackingId,
        order: &Order,
        phone: Option<&str>,
    ) -> Result<(), Refusal> {
        let phone = phone.or(order.customer.phone.as_deref()).and_then(Phone::parse);
        let Some(phone) = phone.filter(|_| self.channels.sms.is_some()) else { return Ok(()) };
        let now = self.clock.now();
        let kind = Kind::TrackingStarted;
        let hash = self.seal.hash(phone.as_str());
        let way = Way {
            channel: Channel::Sms,
            target: hash,
            address: Some(self.seal.seal(phone.as_str())?),
            state: "due",
            reason: None,
            due_at: now,
        };
        let row = Row {
            source: format!("t:{}", id.as_str()),
            recipient: self.phone_recipient(&phone),
            kind,
            order: Some(order.id.clone()),
            seq: None,
            args: Args {
                order_number: order.order_number.clone(),
                link: self.tracking_link(id.as_str()),
                ..Args::default()
            },
            at: now,
            expires_at: now + kind.lives(),
            reason: None,
            deliveries: vec![way],
        };
        self.insert(tx, &[row]).await
    }

    /// Something may be due now.
    pub fn look(&self) {
        self.wake.notify_one();
    }

    /// Where a customer watches a tracking session, if it is known where this server is.
    fn tracking_link(&self, id: &str) -> Option<String> {
        let base = self.settings.public_url.as_deref()?.trim_end_matches('/');
        Some(format!("{base}/tracking/{id}"))
    }

    /// Why there are too many texts, if there are.
    pub(super) async fn over_limit(&self, row: &delivery::Model) -> Result<Option<&'static str>, Refusal> {
        use delivery::Column;
        let db = self.db.reader();
        let sent = || {
            delivery::Entity::find()
                .filter(Column::Channel.eq("sms"))
                .filter(Column::Target.eq(&*row.target))
                .filter(Column::State.is_in(["sent", "delivered", "unknown"]))
        };
        if let Some(order) = &row.order_id
            && sent().filter(Column::OrderId.eq(order)).count(db).await? >= PER_ORDER
        {
            return Ok(Some("per_order"));
        }
        let since = self.clock.now() - TimeDelta::days(1);
        if sent().filter(Column::SentAt.gt(since)).count(db).await? >= PER_DAY {
            return Ok(Some("per_day"));
        }
        let day = sms_spend::Entity::find_by_id(self.today()).one(db).await?;
        let most = i64::from(self.settings.sms_segments_per_day);
        Ok(day.filter(|day| day.segments >= most).map(|_| "budget"))
    }

    fn today(&self) -> String {
        self.clock.now().date_naive().to_string()
    }

    /// Counts a text.
    pub(super) async fn spend(&self, tx: &DatabaseTransaction, segments: u32) -> Result<(), Refusal> {
        use sms_spend::Column;
        let new =
            sms_spend::ActiveModel { day: Set(self.today()), texts: Set(1), segments: Set(segments.into()) };
        let sum = |column: Column, more: i64| Expr::col((sms_spend::Entity, column)).add(more);
        let conflict = OnConflict::column(Column::Day)
            .value(Column::Texts, sum(Column::Texts, 1))
            .value(Column::Segments, sum(Column::Segments, segments.into()))
            .to_owned();
        sms_spend::Entity::insert(new).on_conflict(conflict).exec_without_returning(tx).await?;
        Ok(())
    }

    /// This phone gets no more texts.
    pub(super) async fn opt_out(
        &self,
        db: &impl ConnectionTrait,
        phone_hash: &str,
        source: &str,
    ) -> Result<(), Refusal> {
        let new = opt_out::ActiveModel {
            phone_hash: Set(phone_hash.to_owned()),
            at: Set(self.clock.now()),
            source: Set(source.to_owned()),
        };
        let nothing = OnConflict::new().do_nothing().to_owned();
        opt_out::Entity::insert(new).on_conflict(nothing).exec_without_returning(db).await?;
        Ok(())
    }

    pub(super) async fn attempt_sms(&self, row: &delivery::Model, about: &notification::Model) -> Attempt {
        let dead = |code: &str| Attempt::new(Outcome::Dead { code: code.to_owned() }, None);
        let phone = row.address.as_deref().and_then(|sealed| self.seal.open(sealed));
        let (Some(phone), Some(sms)) = (phone, &self.channels.sms) else {
            return dead("sealed_with_another_key");
        };
        let prefixes = &self.settings.sms_prefixes;
        if !prefixes.is_empty() && !prefixes.iter().any(|prefix| phone.starts_with(prefix.trim())) {
            return dead("prefix_not_allowed");
        }
        let (Some(kind), Ok(mut args)) =
            (Kind::parse(&about.kind), serde_json::from_str::<Args>(&about.args))
        else {
            return dead("unreadable");
        };
        if kind == Kind::DeliveryPin {
            let id = about.order_id.as_deref().and_then(|id| OrderId::parse(id).ok());
            let Some(id) = id else { return dead("unreadable") };
            match self.pins.of(&id).await {
                Ok(pin) => args.pin = Some(pin),
                // Nothing was sent yet, so it may be sent again.
                Err(_) => {
                    return Attempt::new(Outcome::Retry { code: "database".to_owned(), after: None }, None);
                }
            }
        }
        let text = self.fitting(kind, &args);
        let callback = self.settings.public_url.as_deref().map(|base| {
            let (base, provider) = (base.trim_end_matches('/'), sms.provider());
            format!(
                "{base}/hooks/sms/{provider}/{}?sig={}",
                row.id,
                self.seal.sign(&format!("sms:{}", row.id))
            )
        });
        let ttl = (about.expires_at - self.clock.now()).num_seconds();
        sms.send(&phone, &text, &about.key, ttl, callback.as_deref()).await
    }

    /// The text in one segment: the number is shortened, never the link.
    fn fitting(&self, kind: Kind, args: &Args) -> String {
        let whole = self.texts.sms(kind, None, args);
        if segments(&whole) <= 1 {
            return whole;
        }
        let short: String = args.order_number.chars().rev().take(8).collect();
        let short = Args { order_number: short.chars().rev().collect(), ..args.clone() };
        self.texts.sms(kind, None, &short)
    }

    /// What a provider says of a text. `signature`: that of the address which the provider was given.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a text that nobody sent, or a wrong signature; those of the database.
    pub async fn sms_callback(
        &self,
        id: i64,
        signature: &str,
        what: Option<Callback>,
    ) -> Result<(), Refusal> {
        use delivery::Column;
        if !self.seal.is_signed(&format!("sms:{id}"), signature) {
            return Err(Refusal::NotFound("text"));
        }
        // A word that is not known here says nothing.
        let Some(what) = what else { return Ok(()) };
        let (state, from): (&str, &[&str]) = match what {
            Callback::Sent => ("sent", &["unknown", "sending"]),
            Callback::Delivered => ("delivered", &["sent", "unknown", "sending"]),
            Callback::Failed => ("failed", &["sent", "unknown", "sending"]),
        };
        // A repeated one changes nothing.
        delivery::Entity::update_many()
            .col_expr(Column::State, Expr::value(state))
            .col_expr(Column::DoneAt, Expr::value(self.clock.now()))
            .filter(Column::Id.eq(id))
            .filter(Column::Channel.eq("sms"))
            .filter(Column::State.is_in(from.iter().copied()))
            .exec(self.db.writer())
            .await?;
        Ok(())
    }

    /// Somebody has answered a text.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sms_inbound(&self, from: &str, text: &str) -> Result<Option<Word>, Refusal> {
        let from = if from.starts_with('+') { from.to_owned() } else { format!("+{from}") };
        let (Some(phone), Some(word)) = (Phone::parse(&from), Word::of(text)) else { return Ok(None) };
        let hash = self.seal.hash(phone.as_str());
        match word {
            Word::Stop => self.opt_out(self.db.writer(), &hash, "stop").await?,
            Word::Start => {
                opt_out::Entity::delete_by_id(hash).exec(self.db.writer()).await?;
            }
        }
        Ok(Some(word))
    }

    /// Whether a call about texts comes from the provider: by the secret of its address, or by Twilio's signature.
    #[must_use]
    pub fn is_inbound(
        &self,
        secret: Option<&str>,
        path: &str,
        parameters: &BTreeMap<String, String>,
        twilio: Option<&str>,
    ) -> bool {
        if secret.is_some_and(|secret| self.seal.is_signed(INBOUND, secret)) {
            return true;
        }
        let (Some(sms), Some(signature)) = (&self.channels.sms, twilio) else { return false };
        let base = self.settings.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
        sms.is_twilios(&format!("{base}{path}"), parameters, signature)
    }
}
