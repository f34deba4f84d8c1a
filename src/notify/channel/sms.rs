//! SMS by Twilio, Vonage, or any gateway that takes texts by GET, such as Kannel.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Answer, Attempt, Outcome, call};
use crate::base::config::{Notify, SmsProvider};
use crate::notify::text::{is_gsm, segments};

/// Who sends SMS.
pub struct Sms {
    provider: SmsProvider,
    settings: Notify,
    client: reqwest::Client,
}

/// What a provider says of a text later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    Delivered,
    Failed,
    /// On its way.
    Sent,
}

/// What somebody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Stop,
    Start,
}

impl Word {
    /// The word that a text is.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        match text.trim().to_ascii_uppercase().as_str() {
            "STOP" | "STOPALL" | "STOPP" | "UNSUBSCRIBE" | "CANCEL" | "END" | "QUIT" | "ARRET" | "BAJA" => {
                Some(Self::Stop)
            }
            "START" | "UNSTOP" | "YES" => Some(Self::Start),
            _ => None,
        }
    }
}

impl Sms {
    #[must_use]
    pub fn new(provider: SmsProvider, settings: &Notify, client: reqwest::Client) -> Self {
        Self { provider, settings: settings.clone(), client }
    }

    /// The word for it in addresses of this server.
    #[must_use]
    pub const fn provider(&self) -> &'static str {
        self.provider.as_str()
    }

    /// Sends a text. `callback`: where the provider says what became of it.
    pub async fn send(
        &self,
        to: &str,
        text: &str,
        id: &str,
        ttl_seconds: i64,
        callback: Option<&str>,
    ) -> Attempt {
        let settings = &self.settings;
        let request = match self.provider {
            SmsProvider::Twilio => {
                let sid = settings.twilio_account_sid.as_deref().unwrap_or_default();
                let from = settings.twilio_from.as_deref().unwrap_or_default();
                let sender = if from.starts_with("MG") { "MessagingServiceSid" } else { "From" };
                let period = ttl_seconds.clamp(1, 36_000).to_string();
                let mut form = vec![("To", to), (sender, from), ("Body", text), ("ValidityPeriod", &period)];
                form.extend(callback.map(|url| ("StatusCallback", url)));
                let base = settings.twilio_url.trim_end_matches('/');
                let request = self.client.post(format!("{base}/2010-04-01/Accounts/{sid}/Messages.json"));
                request.basic_auth(sid, settings.twilio_auth_token.as_deref()).form(&form)
            }
            SmsProvider::Vonage => {
                let body = json!({
                    "channel": "sms", "message_type": "text", "to": to.trim_start_matches('+'),
                    "from": settings.vonage_from, "text": text, "client_ref": id, "ttl": ttl_seconds.clamp(20, 604_800),
                });
                let base = settings.vonage_url.trim_end_matches('/');
                let request = self.client.post(format!("{base}/v1/messages"));
                let key = settings.vonage_api_key.as_deref().unwrap_or_default();
                request.basic_auth(key, settings.vonage_api_secret.as_deref()).json(&body)
            }
            SmsProvider::Http => {
                let template = settings.sms_http_url.as_deref().unwrap_or_default();
                self.client.get(filled(template, to, text, id, callback))
            }
        };
        let answer = match call(request).await {
            Ok(answer) => answer,
            // Whoever got it may have sent it: it is not sent twice.
            Err((code, true)) => return Attempt::new(Outcome::Unknown { code }, None),
            Err((code, false)) => return Attempt::new(Outcome::Retry { code, after: None }, None),
        };
        let outcome = outcome(self.provider, &answer);
        Attempt { segments: Some(segments(text)), ..Attempt::new(outcome, Some(&answer)) }
    }

    /// Whether a callback of Twilio was signed with our token: HMAC-SHA1 of the address and the sorted parameters.
    #[must_use]
    pub fn is_twilios(&self, url: &str, parameters: &BTreeMap<String, String>, signature: &str) -> bool {
        let Some(token) = self.settings.twilio_auth_token.as_deref() else { return false };
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        let text = parameters.iter().fold(url.to_owned(), |text, (name, value)| text + name + value);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
        hmac::verify(&key, text.as_bytes(), &signature).is_ok()
    }
}

/// The address with everything filled in.
fn filled(template: &str, to: &str, text: &str, id: &str, callback: Option<&str>) -> String {
    let escape = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let callback = callback.unwrap_or_default();
    if template.contains("{to}") {
        return template
            .replace("{to}", &escape(to))
            .replace("{text}", &escape(text))
            .replace("{id}", &escape(id))
            .replace("{callback}", &escape(callback));
    }
    let mut url = format!("{template}{}", if template.contains('?') { "&" } else { "?" });
    let mut add = form_urlencoded::Serializer::new(String::new());
    add.append_pair("to", to).append_pair("text", text).append_pair("charset", "UTF-8");
    if !is_gsm(text) {
        add.append_pair("coding", "2");
    }
    if !callback.is_empty() {
        // 1 delivered, 2 failed, 8 accepted, 16 refused by the network.
        add.append_pair("dlr-mask", "27");
        let with = format!("{callback}{}type=%d", if callback.contains('?') { "&" } else { "?" });
        add.append_pair("dlr-url", &with);
    }
    url.push_str(&add.finish());
    url
}

fn outcome(provider: SmsProvider, answer: &Answer) -> Outcome {
    let json = answer.json();
    let code = match provider {
        SmsProvider::Twilio => json["code"].as_i64().map(|code| code.to_string()),
        SmsProvider::Vonage => {
            let title = json["title"].as_str().or_else(|| json["type"].as_str()?.rsplit('#').next());
            title.map(|title| title.chars().take(64).collect())
        }
        SmsProvider::Http => None,
    };
    let code = code.unwrap_or_else(|| answer.status.to_string());
    let after = answer.retry_after;
    match answer.status {
        200..=299 => {
            let reference = json["sid"].as_str().or_else(|| json["message_uuid"].as_str()).map(str::to_owned);
            Outcome::Sent { reference }
        }
        _ if code == "21610" => Outcome::OptedOut { code },
        429 | 500..=599 => Outcome::Retry { code, after },
        401 | 403 => Outcome::Refused { code },
        _ => Outcome::Dead { code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_get_what_they_need() {
        let kannel = filled(
            "http://k/cgi-bin/sendsms?username=u",
            "+41790000000",
            "Grüezi №1",
            "7",
            Some("https://o/h?x=1"),
        );
        assert_eq!(
            kannel,
            "http://k/cgi-bin/sendsms?username=u&to=%2B41790000000&text=Gr%C3%BCezi+%E2%84%961&charset=UTF-8&coding=2\
             &dlr-mask=27&dlr-url=https%3A%2F%2Fo%2Fh%3Fx%3D1%26type%3D%25d"
        );
        let other = filled("https://g/send?to={to}&body={text}&ref={id}", "+1", "a b&c", "7", None);
        assert_eq!(other, "https://g/send?to=%2B1&body=a+b%26c&ref=7");
    }

    #[test]
    fn words() {
        assert_eq!((Word::of(" stop \n"), Word::of("Start")), (Some(Word::Stop), Some(Word::Start)));
        assert_eq!(Word::of("please stop calling"), None);
    }
}
