//! Settings for reaching people who are not connected.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::base::address::Networks;

/// Channels are off until they are configured. Each one needs `NOTIFY_KEY`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Notifications")]
pub struct Notify {
    /// Key that device addresses and phone numbers are sealed with in the database: 64 hex digits. Needed by any channel
    #[arg(long, env = "NOTIFY_KEY", hide_env_values = true, value_name = "HEX")]
    pub notify_key: Option<String>,
    /// The key before it, which still opens what it has sealed
    #[arg(long, env = "NOTIFY_KEY_PREVIOUS", hide_env_values = true, value_name = "HEX")]
    pub notify_key_previous: Option<String>,
    /// Push by Firebase: the JSON key file of a service account
    #[arg(long, env = "FCM_KEY_FILE", value_name = "FILE")]
    pub fcm_key_file: Option<PathBuf>,
    /// Where Firebase Cloud Messaging is
    #[arg(long, env = "FCM_URL", default_value = "https://fcm.googleapis.com", value_name = "URL")]
    pub fcm_url: String,
    /// Push by Expo: the access token, if the project asks for one
    #[arg(long, env = "EXPO_ACCESS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub expo_access_token: Option<String>,
    /// Where Expo's push service is. Push by Expo is on with this or the token; `https://exp.host` is the usual one
    #[arg(long, env = "EXPO_URL", value_name = "URL")]
    pub expo_url: Option<String>,
    /// Web Push: whom push services may write to, as `mailto:` or `https:`
    #[arg(long, env = "VAPID_SUBJECT", value_name = "URI")]
    pub vapid_subject: Option<String>,
    /// Push by Apple: the key of the developer account, a `.p8` file
    #[arg(long, env = "APNS_KEY_FILE", value_name = "FILE")]
    pub apns_key_file: Option<PathBuf>,
    /// The id of that key
    #[arg(long, env = "APNS_KEY_ID", value_name = "ID")]
    pub apns_key_id: Option<String>,
    /// The id of the team that the key belongs to
    #[arg(long, env = "APNS_TEAM_ID", value_name = "ID")]
    pub apns_team_id: Option<String>,
    /// The bundle id of the app, for devices that do not say it as `app`
    #[arg(long, env = "APNS_TOPIC", value_name = "BUNDLE")]
    pub apns_topic: Option<String>,
    /// Where Apple's push service is. Apps that Xcode has installed are at `https://api.sandbox.push.apple.com`
    #[arg(long, env = "APNS_URL", default_value = "https://api.push.apple.com", value_name = "URL")]
    pub apns_url: String,
    /// Who sends SMS
    #[arg(long, env = "SMS_PROVIDER", value_enum, value_name = "PROVIDER")]
    pub sms_provider: Option<SmsProvider>,
    #[arg(long, env = "TWILIO_ACCOUNT_SID", value_name = "SID")]
    pub twilio_account_sid: Option<String>,
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub twilio_auth_token: Option<String>,
    /// Number, or messaging service (`MG…`), that texts come from
    #[arg(long, env = "TWILIO_FROM", value_name = "NUMBER")]
    pub twilio_from: Option<String>,
    #[arg(long, env = "TWILIO_URL", default_value = "https://api.twilio.com", value_name = "URL")]
    pub twilio_url: String,
    #[arg(long, env = "VONAGE_API_KEY", value_name = "KEY")]
    pub vonage_api_key: Option<String>,
    #[arg(long, env = "VONAGE_API_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub vonage_api_secret: Option<String>,
    #[arg(long, env = "VONAGE_FROM", value_name = "NUMBER")]
    pub vonage_from: Option<String>,
    #[arg(long, env = "VONAGE_URL", default_value = "https://api.nexmo.com", value_name = "URL")]
    pub vonage_url: String,
    /// A gateway that takes texts by GET, such as Kannel. `{to}`, `{text}`, `{id}` and `{callback}` are filled in; without `{to}`,
    /// Kannel's parameters are added
    #[arg(long, env = "SMS_HTTP_URL", hide_env_values = true, value_name = "URL")]
    pub sms_http_url: Option<String>,
    /// Texts a second
    #[arg(long, env = "SMS_RATE_PER_SECOND", default_value_t = 1, value_name = "N")]
    pub sms_rate_per_second: u32,
    /// Beginnings of numbers that texts go to, such as `+41,+49`; without it, all
    #[arg(long, env = "SMS_PREFIXES", value_delimiter = ',', value_name = "PREFIXES")]
    pub sms_prefixes: Vec<String>,
    /// Segments of SMS in a day (UTC)
    #[arg(long, env = "SMS_SEGMENTS_PER_DAY", default_value_t = 5_000, value_name = "N")]
    pub sms_segments_per_day: u32,
    /// Send a text again of which nobody knows whether it was sent
    #[arg(long, env = "SMS_RESEND_UNKNOWN", value_parser = BoolishValueParser::new())]
    pub sms_resend_unknown: bool,
    /// The address of this server as customers know it, for links
    #[arg(long, env = "PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// How long somebody who is connected may take to prove that they received an event before they are pushed
    #[arg(long, env = "NOTIFY_HOLD_MS", default_value_t = 8_000, value_name = "MS")]
    pub notify_hold_ms: u32,
    /// How long after a push that nobody acknowledged an SMS follows, for kinds that have one
    #[arg(long, env = "NOTIFY_FALLBACK_MS", default_value_t = 60_000, value_name = "MS")]
    pub notify_fallback_ms: u32,
    /// The language of those who have said none: en, de, fr, es, it or pt
    #[arg(long, env = "DEFAULT_LOCALE", default_value = "en", value_name = "LOCALE")]
    pub default_locale: String,
    /// Folder with texts of one's own, as `de.ftl`
    #[arg(long, env = "TEXTS_DIR", value_name = "FOLDER")]
    pub texts_dir: Option<PathBuf>,
    /// Minutes from delivery to the question how it was
    #[arg(long, env = "RATING_PROMPT_MINUTES", default_value_t = 30, value_name = "MINUTES")]
    pub rating_prompt_minutes: u32,
    /// Private networks that notifications and webhooks may go to all the same: a comma-separated list of CIDRs
    #[arg(long, env = "OUTBOUND_ALLOW", default_value = "", value_name = "CIDRS")]
    pub outbound_allow: Networks,
}

/// Who sends SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SmsProvider {
    Twilio,
    Vonage,
    Http,
}

impl SmsProvider {
    /// The word for it in addresses of this server.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Vonage => "vonage",
            Self::Http => "http",
        }
    }
}

impl Notify {
    /// Whether push by Expo is on.
    #[must_use]
    pub const fn has_expo(&self) -> bool {
        self.expo_url.is_some() || self.expo_access_token.is_some()
    }

    /// Whether there is any channel.
    #[must_use]
    pub const fn has_channel(&self) -> bool {
        self.fcm_key_file.is_some()
            || self.has_expo()
            || self.vapid_subject.is_some()
            || self.apns_key_file.is_some()
            || self.sms_provider.is_some()
    }

    /// Checks rules that involve several settings.
    ///
    /// # Errors
    /// One line for the operator that names the setting.
    pub(super) fn check(&self, demo: bool) -> Result<(), String> {
        if self.has_channel() && self.notify_key.is_none() && !demo {
            return Err("notifications need NOTIFY_KEY: 64 hex digits, as `openssl rand -hex 32` makes them"
                .to_owned());
        }
        for (name, key) in
            [("NOTIFY_KEY", &self.notify_key), ("NOTIFY_KEY_PREVIOUS", &self.notify_key_previous)]
        {
            if key.as_ref().is_some_and(|key| hex::decode(key).map_or(0, |bytes| bytes.len()) != 32) {
                return Err(format!("{name} must be 64 hex digits"));
            }
        }
        let needed = match self.sms_provider {
            None => &[][..],
            Some(SmsProvider::Twilio) => &[
                ("TWILIO_ACCOUNT_SID", self.twilio_account_sid.is_some()),
                ("TWILIO_AUTH_TOKEN", self.twilio_auth_token.is_some()),
                ("TWILIO_FROM", self.twilio_from.is_some()),
            ],
            Some(SmsProvider::Vonage) => &[
                ("VONAGE_API_KEY", self.vonage_api_key.is_some()),
                ("VONAGE_API_SECRET", self.vonage_api_secret.is_some()),
                ("VONAGE_FROM", self.vonage_from.is_some()),
            ],
            Some(SmsProvider::Http) => &[("SMS_HTTP_URL", self.sms_http_url.is_some())],
        };
        if let Some((name, _)) = needed.iter().find(|(_, is_set)| !is_set) {
            return Err(format!("SMS_PROVIDER needs {name}"));
        }
        self.check_apns()?;
        if let Some(subject) = &self.vapid_subject
            && !(subject.starts_with("mailto:") || subject.starts_with("https://"))
        {
            return Err("VAPID_SUBJECT must begin with mailto: or https://".to_owned());
        }
        let urls = [
            ("FCM_URL", Some(&self.fcm_url)),
            ("EXPO_URL", self.expo_url.as_ref()),
            ("APNS_URL", Some(&self.apns_url)),
            ("TWILIO_URL", Some(&self.twilio_url)),
            ("VONAGE_URL", Some(&self.vonage_url)),
            ("SMS_HTTP_URL", self.sms_http_url.as_ref()),
            ("PUBLIC_URL", self.public_url.as_ref()),
        ];
        for (name, url) in urls {
            if url.is_some_and(|url| !(url.starts_with("https://") || url.starts_with("http://"))) {
                return Err(format!("{name} must begin with https:// or http://"));
            }
        }
        if self.sms_rate_per_second == 0 {
            return Err("SMS_RATE_PER_SECOND must be at least 1".to_owned());
        }
        Ok(())
    }

    /// Apple knows a key by its id and by the team that it belongs to: ten letters and digits each.
    fn check_apns(&self) -> Result<(), String> {
        if self.apns_key_file.is_none() {
            return Ok(());
        }
        for (name, id) in [("APNS_KEY_ID", &self.apns_key_id), ("APNS_TEAM_ID", &self.apns_team_id)] {
            let Some(id) = id else { return Err(format!("APNS_KEY_FILE needs {name}")) };
            if id.len() != 10 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(format!("{name} must be 10 letters and digits"));
            }
        }
        if self.apns_topic.as_deref().is_some_and(|topic| !is_bundle_id(topic)) {
            return Err("APNS_TOPIC must be a bundle id such as com.example.orders".to_owned());
        }
        Ok(())
    }
}

/// Whether Apple could know an app by this name.
#[must_use]
pub fn is_bundle_id(text: &str) -> bool {
    (1..=155).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}
