//! The devices of users.

use chrono::TimeDelta;
use entity::device::{self as row, Column};
use sea_orm::sea_query::{ExprTrait, OnConflict};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Value, json};

use super::Notifications;
use super::channel::{Apns, Channel, Subscription};
use super::preferences::{check_locale, check_zone, own};
use crate::base::clock::Time;
use crate::base::config::is_bundle_id;
use crate::base::error::Refusal;
use crate::model::{Principal, UserId};

/// Devices of one user. For a further one the oldest is forgotten.
const MOST: usize = 20;
/// The longest token.
const TOKEN: usize = 4_096;
/// A device that was not heard of for so long is forgotten: Firebase's tokens end then, too.
const IDLE: TimeDelta = TimeDelta::days(270);
/// No Live Activity is shown for longer.
const SHOWN: TimeDelta = TimeDelta::hours(12);

/// A device as it is registered.
#[derive(Clone, Debug)]
pub struct NewDevice {
    pub kind: String,
    pub token: Option<String>,
    pub fid: Option<String>,
    pub subscription: Option<Subscription>,
    /// Of a Live Activity: the order that it shows, and for `fcm` the token of its updates.
    pub order: Option<String>,
    pub live_activity_token: Option<String>,
    pub platform: Option<String>,
    pub app: Option<String>,
    pub locale: Option<String>,
    pub time_zone: Option<String>,
}

/// A device as its user sees it: of the address only its end.
#[derive(Clone, Debug)]
pub struct Device {
    pub id: String,
    pub kind: String,
    pub address: String,
    /// Of a Live Activity.
    pub order: Option<String>,
    pub platform: Option<String>,
    pub app: Option<String>,
    pub locale: Option<String>,
    pub time_zone: Option<String>,
    pub created_at: Time,
    pub seen_at: Time,
    pub disabled_at: Option<Time>,
    pub reason: Option<String>,
}

impl NewDevice {
    /// The address as JSON, and what makes it unique.
    fn address(&self, notify: &Notifications) -> Result<(Value, String), Refusal> {
        let token = |member: &'static str, text: &Option<String>| -> Result<String, Refusal> {
            let text =
                text.as_deref().ok_or_else(|| Refusal::invalid(member, "is required for this kind"))?;
            let is_good =
                (1..=TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            if is_good {
                Ok(text.to_owned())
            } else {
                Err(Refusal::invalid(member, "must have 1 to 4096 printable characters"))
            }
        };
        self.check_activity()?;
        if let Some(live) = self.live_activity_token.as_deref().filter(|_| self.kind == "fcm") {
            let (name, text) = if self.fid.is_some() { ("fid", &self.fid) } else { ("token", &self.token) };
            let address = json!({ name: token(name, text)?, "liveActivityToken": live });
            // Beside it, the app has a device of its own with the same token.
            return Ok((address, format!("fcm:live:{live}")));
        }
        match self.kind.as_str() {
            "fcm" => match (&self.token, &self.fid) {
                (Some(_), Some(_)) => Err(Refusal::invalid("fid", "cannot be given together with token")),
                (None, Some(_)) => {
                    let fid = token("fid", &self.fid)?;
                    Ok((json!({ "fid": fid }), format!("fcm:fid:{fid}")))
                }
                _ => {
                    let token = token("token", &self.token)?;
                    Ok((json!({ "token": token }), format!("fcm:{token}")))
                }
            },
            "expo" => {
                let token = token("token", &self.token)?;
                let inner =
                    token.strip_prefix("ExponentPushToken[").or_else(|| token.strip_prefix("ExpoPushToken["));
                if !inner.is_some_and(|inner| inner.len() > 1 && inner.ends_with(']')) {
                    return Err(Refusal::invalid("token", "must be ExponentPushToken[…]"));
                }
                Ok((json!({ "token": token }), format!("expo:{token}")))
            }
            "apns" => {
                let token = token("token", &self.token)?;
                // It becomes part of an address of Apple's.
                if notify.channels.apns.is_some() && !is_hex(&token) {
                    return Err(Refusal::invalid("token", "must be hexadecimal digits"));
                }
                self.check_app(notify)?;
                Ok((json!({ "token": token }), format!("apns:{token}")))
            }
            "webpush" => {
                let subscription = self
                    .subscription
                    .as_ref()
                    .ok_or_else(|| Refusal::invalid("subscription", "is required for this kind"))?;
                subscription.check(&notify.guard)?;
                Ok((serde_json::to_value(subscription)?, format!("webpush:{}", subscription.endpoint)))
            }
            _ => Err(Refusal::invalid("kind", "must be fcm, expo, webpush or apns")),
        }
    }

    /// A Live Activity has an order, and a token of its own.
    fn check_activity(&self) -> Result<(), Refusal> {
        match (&*self.kind, &self.order, &self.live_activity_token) {
            ("fcm", Some(_), None) => {
                Err(Refusal::invalid("liveActivityToken", "is required together with orderId"))
            }
            ("fcm", None, Some(_)) => {
                Err(Refusal::invalid("orderId", "is required together with liveActivityToken"))
            }
            ("fcm", Some(_), Some(_)) if self.token.is_some() && self.fid.is_some() => {
                Err(Refusal::invalid("fid", "cannot be given together with token"))
            }
            ("fcm", Some(_), Some(live)) if !is_hex(live) => {
                Err(Refusal::invalid("liveActivityToken", "must be hexadecimal digits"))
            }
            ("expo" | "webpush", Some(_), _) => {
                Err(Refusal::invalid("orderId", "is only for fcm and apns: it is that of a Live Activity"))
            }
            ("expo" | "webpush" | "apns", _, Some(_)) => {
                Err(Refusal::invalid("liveActivityToken", "is only for fcm"))
            }
            _ => Ok(()),
        }
    }

    /// Apple has to be told which app it is.
    fn check_app(&self, notify: &Notifications) -> Result<(), Refusal> {
        match &self.app {
            Some(app) if !is_bundle_id(app) => {
                Err(Refusal::invalid("app", "must be a bundle id such as com.example.orders for this kind"))
            }
            None if notify.channels.apns.as_ref().is_some_and(Apns::needs_app) => {
                Err(Refusal::invalid("app", "is required for this kind: the bundle id"))
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        for (member, text, longest) in [("platform", &self.platform, 32), ("app", &self.app, 155)] {
            let is_bad = |text: &String| text.len() > longest || text.chars().any(char::is_control);
            if text.as_ref().is_some_and(is_bad) {
                return Err(Refusal::invalid(member, format!("must have at most {longest} characters")));
            }
        }
        check_locale(self.locale.as_deref())?;
        check_zone(self.time_zone.as_deref())
    }
}

fn is_hex(token: &str) -> bool {
    (1..=TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// # Errors
/// [`Refusal::Invalid`] for an id that is none.
fn check_id(id: &str) -> Result<(), Refusal> {
    let is_good = (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-|@".contains(&byte))
        && id != "."
        && id != "..";
    if is_good {
        Ok(())
    } else {
        Err(Refusal::invalid("id", "must have 1 to 128 letters, digits or . _ : - | @"))
    }
}

impl Notifications {
    /// Registers a device, or renews it. Returns its id, and whether it is new. An address that another user or device has moves.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others than the user and staff, [`Refusal::Invalid`]; [`Refusal::NotFound`] for an order that the
    /// user has nothing to do with; those of the database.
    pub async fn register(
        &self,
        user: &UserId,
        id: Option<String>,
        who: &Principal,
        new: NewDevice,
    ) -> Result<(Device, bool), Refusal> {
        own(user, who)?;
        let id = id.unwrap_or_else(|| self.clock.uuid().to_string());
        check_id(&id)?;
        let (address, unique) = new.address(self)?;
        new.check()?;
        let order = match &new.order {
            Some(order) => Some(self.order_to_show(order, user).await?),
            None => None,
        };
        let (sealed, hash, now) =
            (self.seal.seal(&address.to_string())?, self.seal.hash(&unique), self.clock.now());
        let tx = self.db.begin().await?;
        let before = row::Entity::find_by_id((user.to_string(), id.clone())).one(&tx).await?;
        row::Entity::delete_many()
            .filter(Column::AddressHash.eq(&*hash))
            .filter(Column::UserId.ne(user.as_str()).or(Column::Id.ne(&*id)))
            .exec(&tx)
            .await?;
        let model = row::Model {
            user_id: user.to_string(),
            id: id.clone(),
            kind: new.kind,
            address: sealed,
            address_hash: hash,
            order_id: order.as_ref().map(ToString::to_string),
            app: new.app,
            platform: new.platform,
            locale: new.locale,
            time_zone: new.time_zone,
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            seen_at: now,
            disabled_at: None,
            reason: None,
        };
        let all = [
            Column::Kind,
            Column::Address,
            Column::AddressHash,
            Column::OrderId,
            Column::App,
            Column::Platform,
            Column::Locale,
            Column::TimeZone,
            Column::SeenAt,
            Column::DisabledAt,
            Column::Reason,
        ];
        let conflict = OnConflict::columns([Column::UserId, Column::Id]).update_columns(all).to_owned();
        row::Entity::insert(row::ActiveModel::from(model.clone()).reset_all())
            .on_conflict(conflict)
            .exec_without_returning(&tx)
            .await?;
        let ids: Vec<String> = row::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::UserId.eq(user.as_str()))
            .order_by_desc(Column::SeenAt)
            .into_tuple()
            .all(&tx)
            .await?;
        let old: Vec<String> = ids.into_iter().filter(|other| *other != id).skip(MOST - 1).collect();
        if !old.is_empty() {
            row::Entity::delete_many()
                .filter(Column::UserId.eq(user.as_str()))
                .filter(Column::Id.is_in(old))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
        if let Some(order) = &order {
            self.show_first(&model, order).await?;
        }
        Ok((self.shown(model), before.is_none()))
    }

    /// The devices of a user.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`]; those of the database.
    pub async fn devices(&self, user: &UserId, who: &Principal) -> Result<Vec<Device>, Refusal> {
        own(user, who)?;
        let rows = row::Entity::find()
            .filter(Column::UserId.eq(user.as_str()))
            .order_by_asc(Column::CreatedAt)
            .order_by_asc(Column::Id)
            .all(self.db.reader())
            .await?;
        Ok(rows.into_iter().map(|row| self.shown(row)).collect())
    }

    /// Forgets a device.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`]; those of the database.
    pub async fn forget_device(&self, user: &UserId, id: &str, who: &Principal) -> Result<(), Refusal> {
        own(user, who)?;
        let key = (user.to_string(), id.to_owned());
        let gone = row::Entity::delete_by_id(key).exec(self.db.writer()).await?;
        if gone.rows_affected == 0 { Err(Refusal::NotFound("device")) } else { Ok(()) }
    }

    fn shown(&self, row: row::Model) -> Device {
        let address = self.seal.open(&row.address).unwrap_or_default();
        let value: Value = serde_json::from_str(&address).unwrap_or_default();
        let names = ["liveActivityToken", "token", "fid", "endpoint"];
        let text = names.iter().find_map(|name| value[*name].as_str()).unwrap_or_default();
        let end: String = text.chars().rev().take(4).collect();
        Device {
            id: row.id,
            kind: row.kind,
            address: format!("…{}", end.chars().rev().collect::<String>()),
            order: row.order_id,
            platform: row.platform,
            app: row.app,
            locale: row.locale,
            time_zone: row.time_zone,
            created_at: row.created_at,
            seen_at: row.seen_at,
            disabled_at: row.disabled_at,
            reason: row.reason,
        }
    }

    /// The address of a device, if it can be read.
    pub(super) fn address_of(&self, device: &row::Model) -> Option<Value> {
        serde_json::from_str(&self.seal.open(&device.address)?).ok()
    }

    /// Forgets devices that nobody has heard of for long, and activities that nobody can see any more.
    pub(super) async fn forget_idle_devices(&self) -> Result<(), Refusal> {
        let before = |kept: TimeDelta| Column::SeenAt.lt(self.clock.now() - kept);
        let over = Column::OrderId.is_not_null().and(before(SHOWN));
        row::Entity::delete_many().filter(before(IDLE).or(over)).exec(self.db.writer()).await?;
        Ok(())
    }
}

/// The channel of a device.
pub(super) fn channel_of(device: &row::Model) -> Option<Channel> {
    Channel::parse(&device.kind).filter(|channel| *channel != Channel::Sms)
}
