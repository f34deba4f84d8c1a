//! Reaching people who are not connected.
//!
//! - `rules`: who is told what of an event. Pure.
//! - `planner`: reads the log, and writes down what is to be told, exactly once.
//! - `written`: what is planned, in the database.
//! - `sender`: hands it to the channels, at least once with the same id; an SMS never twice.
//! - `leased`: what is under way, so that several processes share the work.
//! - `outcome`: what becomes of an attempt; `judging`: what becomes of its device.
//! - `live`: Live Activities, which show the state of an order.
//! - `upkeep`: leases of killed processes, late answers, what is old.
//! - `channel`: FCM, Expo, Web Push, APNs and SMS.
//! - `receipts`: who has received and seen what: those need no push.
//! - `devices`, `preferences`, `inbox`, `report`: what users and staff see and change.

pub mod channel;
pub mod devices;
mod fit;
pub mod inbox;
mod judging;
mod leased;
mod live;
pub mod offline;
mod outcome;
pub mod planner;
pub mod preferences;
pub mod receipts;
pub mod report;
pub mod rules;
mod seal;
mod sender;
pub mod text;
pub mod texting;
mod upkeep;
mod written;
mod zone;

use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;
use tokio::sync::Notify as Wake;

use self::channel::{Apns, Channel, Expo, Fcm, Sms, Vapid, WebPush};
pub use self::fit::{Fit, keys_fit};
use self::offline::Queues;
use self::receipts::Receipts;
use self::seal::Seal;
use self::text::Texts;
use crate::base::clock::Clock;
use crate::base::config::Notify as Settings;
use crate::base::db::{Db, shared};
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::base::outbound::{self, Guarded};
use crate::cluster::control::Control;
use crate::event::bus::Bus;
use crate::event::relay::Relay;
use crate::model::{Phone, UserId};
use crate::order::pin::Pins;
use crate::outbox::cursor::Cursor;
use crate::webhook::Webhooks;

/// How many sockets of a user somebody looks at, on this node.
type Watchers = Box<dyn Fn(&UserId) -> usize + Send + Sync>;

/// The use cases around notifications. Cheap to clone.
#[derive(Clone)]
pub struct Notifications(Arc<Parts>);

/// What the use cases work with.
pub struct Parts {
    db: Db,
    clock: Clock,
    events: Relay,
    bus: Bus,
    control: Control,
    settings: Settings,
    seal: Seal,
    texts: Texts,
    pins: Pins,
    channels: Channels,
    guard: Guarded,
    receipts: Receipts,
    queues: Queues,
    watchers: OnceLock<Watchers>,
    /// Other systems, which are told what failed.
    webhooks: OnceLock<Webhooks>,
    /// How far the log is planned. Opened before anything can be written, so that nothing is skipped.
    cursor: Option<Cursor>,
    /// Notified when something may be due.
    wake: Wake,
    metrics: Metrics,
}

/// The channels that are on.
#[derive(Default)]
struct Channels {
    fcm: Option<Fcm>,
    expo: Option<Expo>,
    webpush: Option<WebPush>,
    apns: Option<Apns>,
    sms: Option<Sms>,
}

impl Channels {
    const fn any(&self) -> bool {
        self.fcm.is_some()
            || self.expo.is_some()
            || self.webpush.is_some()
            || self.apns.is_some()
            || self.sms.is_some()
    }

    const fn has(&self, channel: Channel) -> bool {
        match channel {
            Channel::Fcm => self.fcm.is_some(),
            Channel::Expo => self.expo.is_some(),
            Channel::WebPush => self.webpush.is_some(),
            Channel::Apns => self.apns.is_some(),
            Channel::Sms => self.sms.is_some(),
        }
    }
}

impl std::ops::Deref for Notifications {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What the settings say, read and checked.
pub struct Prepared {
    settings: Settings,
    texts: Texts,
    guard: Guarded,
    client: reqwest::Client,
    fcm: Option<Fcm>,
    apns: Option<Apns>,
}

impl Prepared {
    /// # Errors
    /// One line for the operator that names the setting.
    pub fn new(settings: &Settings, clock: &Clock) -> Result<Self, String> {
        let failed = |refusal: Refusal| refusal.to_string();
        let texts = Texts::open(&settings.default_locale, settings.texts_dir.as_deref())?;
        let guard = Guarded::new(&settings.outbound_allow).map_err(failed)?;
        let client = outbound::client().map_err(failed)?;
        let open =
            |file: &std::path::PathBuf| Fcm::open(&settings.fcm_url, file, client.clone(), clock.clone());
        let fcm = settings.fcm_key_file.as_ref().map(open).transpose()?;
        let apns = match &settings.apns_key_file {
            Some(file) => {
                Some(Apns::open(settings, file, outbound::client_http2().map_err(failed)?, clock.clone())?)
            }
            None => None,
        };
        Ok(Self { settings: settings.clone(), texts, guard, client, fcm, apns })
    }
}

impl Notifications {
    /// Opens the channels that are configured.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(
        db: Db,
        clock: Clock,
        events: Relay,
        bus: Bus,
        control: Control,
        prepared: Prepared,
        metrics: Metrics,
    ) -> Result<Self, Refusal> {
        let Prepared { settings, texts, guard, client, fcm, apns } = prepared;
        // Without a key of the operator's, devices are sealed with one that is beside them: no channel uses them.
        let own = shared(&db, "notify", hex::encode(clock.random::<32>())).await?;
        let key = settings.notify_key.as_deref().unwrap_or(&own);
        let previous: Vec<&str> =
            settings.notify_key_previous.as_deref().into_iter().chain([&*own]).collect();
        let seal = Seal::new(key, &previous)?;
        let mut channels = Channels { fcm, apns, ..Channels::default() };
        if settings.has_expo() {
            let token = settings.expo_access_token.clone();
            channels.expo = Some(Expo::new(settings.expo_url.as_deref(), token, client.clone()));
        }
        if let Some(subject) = &settings.vapid_subject {
            let vapid = Vapid::new(&shared(&db, "vapid", Vapid::generate()?).await?)?;
            channels.webpush = Some(WebPush::new(vapid, subject.clone(), guard.clone(), clock.clone()));
        }
        if let Some(provider) = settings.sms_provider {
            channels.sms = Some(Sms::new(provider, &settings, client));
        }
        let cursor = if channels.any() {
            Some(Cursor::open(db.clone(), clock.clone(), planner::CONSUMER).await?)
        } else {
            None
        };
        let receipts = Receipts::new(metrics.clone());
        let pins = Pins::new(db.clone(), clock.clone());
        let queues = Queues::open(&db, &clock).await?;
        Ok(Self(Arc::new(Parts {
            db,
            clock,
            events,
            bus,
            control,
            settings,
            seal,
            texts,
            pins,
            channels,
            guard,
            receipts,
            queues,
            watchers: OnceLock::new(),
            webhooks: OnceLock::new(),
            cursor,
            wake: Wake::new(),
            metrics,
        })))
    }

    /// Takes over how it is known who is connected here.
    pub fn ask_watchers(&self, watchers: impl Fn(&UserId) -> usize + Send + Sync + 'static) {
        let _ = self.watchers.set(Box::new(watchers));
    }

    /// From now on other systems are told of notifications that failed.
    pub fn tell_failures(&self, webhooks: Webhooks) {
        let _ = self.webhooks.set(webhooks);
    }

    /// Whether any channel is on. Without one nothing is planned.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.channels.any()
    }

    /// What browsers subscribe with, if Web Push is on.
    #[must_use]
    pub fn vapid_key(&self) -> Option<&str> {
        self.channels.webpush.as_ref().map(WebPush::public_key)
    }

    /// What has received and seen what is told here.
    #[must_use]
    pub fn receipts(&self) -> &Receipts {
        &self.0.receipts
    }

    fn hold(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.settings.notify_hold_ms.into())
    }

    fn fallback(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.settings.notify_fallback_ms.into())
    }

    /// The recipient of texts to a phone.
    fn phone_recipient(&self, phone: &Phone) -> String {
        format!("phone:{}", self.seal.hash(phone.as_str()))
    }
}
