//! What users want to be told, how and when.

use std::collections::BTreeMap;

use entity::notification_preference as row;
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;
use sea_orm::sea_query::OnConflict;
use serde::{Deserialize, Serialize};

use super::Notifications;
use super::rules::Kind;
use super::zone::{Quiet, clock_time, zone};
use crate::base::error::Refusal;
use crate::model::{Principal, UserId};

/// What a user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preferences {
    pub locale: Option<String>,
    /// IANA name
    pub time_zone: Option<String>,
    pub quiet_hours: Option<QuietHours>,
    /// How each kind is told: `push`, `sms`, both or none. What is not named stays as usual.
    pub kinds: Option<BTreeMap<String, Vec<String>>>,
}

/// From when to when, as `22:00`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    pub from: String,
    pub to: String,
}

impl Preferences {
    pub(super) fn stored(row: row::Model) -> Self {
        Self {
            locale: row.locale,
            time_zone: row.time_zone,
            quiet_hours: row.quiet_from.zip(row.quiet_to).map(|(from, to)| QuietHours { from, to }),
            kinds: row.kinds.and_then(|kinds| serde_json::from_str(&kinds).ok()),
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        check_locale(self.locale.as_deref())?;
        check_zone(self.time_zone.as_deref())?;
        if let Some(hours) = &self.quiet_hours {
            for (member, text) in [("from", &hours.from), ("to", &hours.to)] {
                if clock_time(text).is_none() {
                    return Err(Refusal::invalid(
                        format!("quietHours.{member}"),
                        "must be a time such as 22:00",
                    ));
                }
            }
        }
        for (kind, channels) in self.kinds.iter().flatten() {
            if !Kind::parse(kind).is_some_and(Kind::is_chosen) {
                return Err(Refusal::invalid(format!("kinds.{kind}"), "is not a kind of notification"));
            }
            if channels.len() > 2 || channels.iter().any(|channel| channel != "push" && channel != "sms") {
                return Err(Refusal::invalid(format!("kinds.{kind}"), "must be a list of push and sms"));
            }
        }
        Ok(())
    }

    /// Whether a kind is told by push, and whether by SMS. `None`: as usual.
    pub(super) fn ways(&self, kind: Kind) -> Option<(bool, bool)> {
        let ways = self.kinds.as_ref()?.get(kind.as_str())?;
        let has = |word: &str| ways.iter().any(|way| way == word);
        Some((has("push"), has("sms")))
    }

    /// When the user wants quiet, given the zone of a device.
    pub(super) fn quiet(&self, device_zone: Option<&str>) -> Option<Quiet> {
        let hours = self.quiet_hours.as_ref()?;
        let zone = self.time_zone.as_deref().or(device_zone).and_then(zone).unwrap_or(chrono_tz::UTC);
        Some(Quiet { from: clock_time(&hours.from)?, to: clock_time(&hours.to)?, zone })
    }
}

/// # Errors
/// [`Refusal::Invalid`] for what is no language tag.
pub fn check_locale(locale: Option<&str>) -> Result<(), Refusal> {
    let is_good =
        |locale: &str| locale.len() <= 35 && locale.parse::<unic_langid::LanguageIdentifier>().is_ok();
    if locale.is_some_and(|locale| !is_good(locale)) {
        return Err(Refusal::invalid("locale", "must be a language tag such as de-CH"));
    }
    Ok(())
}

/// # Errors
/// [`Refusal::Invalid`] for a zone that nobody knows.
pub fn check_zone(name: Option<&str>) -> Result<(), Refusal> {
    if name.is_some_and(|name| zone(name).is_none()) {
        return Err(Refusal::invalid("timeZone", "must be an IANA time zone such as Europe/Zurich"));
    }
    Ok(())
}

/// Only staff and the user themself.
pub(super) fn own(user: &UserId, who: &Principal) -> Result<(), Refusal> {
    if who.role.is_staff() || who.id == *user {
        return Ok(());
    }
    Err(Refusal::Forbidden("only the user themself and staff may do this".to_owned()))
}

impl Notifications {
    /// What a user wants.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others than the user and staff; those of the database.
    pub async fn preferences(&self, user: &UserId, who: &Principal) -> Result<Preferences, Refusal> {
        own(user, who)?;
        let row = row::Entity::find_by_id(user.as_str()).one(self.db.reader()).await?;
        Ok(row.map(Preferences::stored).unwrap_or_default())
    }

    /// Takes over what a user wants, in place of what they wanted before.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::Invalid`]; those of the database.
    pub async fn set_preferences(
        &self,
        user: &UserId,
        who: &Principal,
        new: Preferences,
    ) -> Result<Preferences, Refusal> {
        own(user, who)?;
        new.check()?;
        let (quiet_from, quiet_to) = new.quiet_hours.clone().map(|hours| (hours.from, hours.to)).unzip();
        let model = row::ActiveModel {
            user_id: Set(user.to_string()),
            locale: Set(new.locale.clone()),
            time_zone: Set(new.time_zone.clone()),
            quiet_from: Set(quiet_from),
            quiet_to: Set(quiet_to),
            kinds: Set(new.kinds.as_ref().map(serde_json::to_string).transpose()?),
            updated_at: Set(self.clock.now()),
        };
        let columns = [
            row::Column::Locale,
            row::Column::TimeZone,
            row::Column::QuietFrom,
            row::Column::QuietTo,
            row::Column::Kinds,
            row::Column::UpdatedAt,
        ];
        let conflict = OnConflict::column(row::Column::UserId).update_columns(columns).to_owned();
        row::Entity::insert(model).on_conflict(conflict).exec_without_returning(self.db.writer()).await?;
        Ok(new)
    }
}
