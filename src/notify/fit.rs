//! Whether the keys of the settings are those of the database.

use entity::{device, server_key};
use migration::SchemaManager;
use sea_orm::{EntityTrait, QueryOrder};

use super::channel::Vapid;
use super::seal::Seal;
use crate::base::config::Notify as Settings;
use crate::base::db::Db;
use crate::base::error::Refusal;

/// What fits; `None` where there is nothing to open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fit {
    /// The newest device can be opened.
    pub devices: Option<bool>,
    /// The key of Web Push is one.
    pub vapid: Option<bool>,
}

/// Looks whether what is sealed in the database opens with these settings. Changes nothing.
///
/// # Errors
/// Those of the database; [`Refusal::Internal`] for keys that are not 64 hex digits.
pub async fn keys_fit(db: &Db, settings: &Settings) -> Result<Fit, Refusal> {
    let reader = db.reader();
    if !SchemaManager::new(reader).has_table("device").await? {
        return Ok(Fit::default());
    }
    let stored = async |name: &str| server_key::Entity::find_by_id(name).one(reader).await;
    let vapid = stored("vapid").await?.map(|key| Vapid::new(&key.value).is_ok());
    let own = stored("notify").await?.map(|key| key.value);
    let Some(current) = settings.notify_key.as_deref().or(own.as_deref()) else {
        return Ok(Fit { devices: None, vapid });
    };
    let previous: Vec<_> =
        settings.notify_key_previous.as_deref().into_iter().chain(own.as_deref()).collect();
    let seal = Seal::new(current, &previous)?;
    let newest = device::Entity::find().order_by_desc(device::Column::SeenAt).one(reader).await?;
    Ok(Fit { devices: newest.map(|device| seal.open(&device.address).is_some()), vapid })
}
