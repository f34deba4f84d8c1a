//! What providers of SMS say: what became of a text, and what somebody has answered.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::base::error::Refusal;
use crate::notify::channel::Callback;
use crate::transport::site::Site;

/// Who sends SMS, and about which one they speak.
#[derive(Deserialize)]
pub(super) struct OfText {
    provider: String,
    delivery: String,
}

/// The parameters of a call of a provider: in the address, in a form, or in JSON.
fn parameters(query: Option<&str>, headers: &HeaderMap, body: &Bytes) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let pairs = |bytes: &[u8]| form_urlencoded::parse(bytes).into_owned().collect::<Vec<_>>();
    all.extend(pairs(query.unwrap_or_default().as_bytes()));
    let kind =
        headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let members = json.as_object().into_iter().flatten();
        all.extend(members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))));
    } else {
        all.extend(pairs(body));
    }
    all
}

/// What a provider says of a text: its words, as far as they are known.
fn callback(provider: &str, parameters: &BTreeMap<String, String>) -> Option<Callback> {
    let word = match provider {
        "twilio" => parameters.get("MessageStatus").or_else(|| parameters.get("SmsStatus")),
        "vonage" => parameters.get("status"),
        // Kannel: 1 delivered, 2 failed, 8 with the network, 16 refused by it.
        _ => parameters.get("type").or_else(|| parameters.get("status")),
    }?;
    match word.to_ascii_lowercase().as_str() {
        "delivered" | "1" | "read" => Some(Callback::Delivered),
        "undelivered" | "failed" | "rejected" | "expired" | "2" | "16" => Some(Callback::Failed),
        "sent" | "submitted" | "accepted" | "buffered" | "8" => Some(Callback::Sent),
        _ => None,
    }
}

/// A provider says what became of a text
pub(super) async fn sms_status(
    State(site): State<Site>,
    Path(OfText { provider, delivery }): Path<OfText>,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let all = parameters(uri.query(), &headers, &body);
    let signature = all.get("sig").map(String::as_str).unwrap_or_default();
    let id = delivery.parse().map_err(|_| Refusal::NotFound("text"))?;
    site.app.notify.sms_callback(id, signature, callback(&provider, &all)).await?;
    Ok(StatusCode::OK)
}

/// The secret of the address that texts come in at.
#[derive(Deserialize)]
pub(super) struct Inbound {
    #[serde(default)]
    secret: Option<String>,
}

/// Somebody has answered a text. The address has the secret that `ordercast sms-address` prints, or Twilio signs the call
pub(super) async fn sms_inbound(
    State(site): State<Site>,
    Path(Inbound { secret }): Path<Inbound>,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<&'static str, Refusal> {
    let form: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let twilio = headers.get("x-twilio-signature").and_then(|value| value.to_str().ok());
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    if !site.app.notify.is_inbound(secret.as_deref(), path, &form, twilio) {
        return Err(Refusal::NotFound("page"));
    }
    let all = parameters(uri.query(), &headers, &body);
    let member = |names: &[&str]| names.iter().find_map(|name| all.get(*name)).map(String::as_str);
    let from = member(&["From", "from", "msisdn", "sender"]).unwrap_or_default();
    let text = member(&["Body", "text", "message"]).unwrap_or_default();
    site.app.notify.sms_inbound(from, text).await?;
    // Gateways send what they are answered.
    Ok("")
}
