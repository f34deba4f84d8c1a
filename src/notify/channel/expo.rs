//! Expo's push service: tickets at once, receipts some time later.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Attempt, Outcome, Push, call};

/// How long to wait if Expo does not say.
const BUSY: Duration = Duration::from_secs(30);

/// Expo's push service.
pub struct Expo {
    url: String,
    token: Option<String>,
    client: reqwest::Client,
}

impl Expo {
    /// Messages in one request, and receipts.
    pub const BATCH: usize = 100;
    pub const RECEIPTS: usize = 300;

    #[must_use]
    pub fn new(url: Option<&str>, token: Option<String>, client: reqwest::Client) -> Self {
        let url = url.unwrap_or("https://exp.host").trim_end_matches('/').to_owned();
        Self { url, token, client }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<super::Answer, (String, bool)> {
        let mut request = self.client.post(format!("{}/--/api/v2/push/{path}", self.url)).json(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        call(request).await
    }

    /// Sends to up to 100 devices. The tickets come in the same order.
    pub async fn send(&self, messages: &[(String, Push)]) -> Vec<Attempt> {
        let same = |attempt: &Attempt| vec![attempt.clone(); messages.len()];
        let body: Vec<Value> = messages.iter().map(|(to, push)| message(to, push)).collect();
        let answer = match self.post("send", &Value::Array(body)).await {
            Ok(answer) => answer,
            Err((code, _)) => return same(&Attempt::new(Outcome::Retry { code, after: None }, None)),
        };
        let json = answer.json();
        let code =
            json["errors"][0]["code"].as_str().map_or_else(|| answer.status.to_string(), str::to_owned);
        match answer.status {
            200 => {}
            429 => {
                let after = answer.retry_after.unwrap_or(BUSY);
                return same(&Attempt::new(Outcome::Pause { code, after }, Some(&answer)));
            }
            401 | 403 => return same(&Attempt::new(Outcome::Refused { code }, Some(&answer))),
            500..=599 => {
                let after = answer.retry_after;
                return same(&Attempt::new(Outcome::Retry { code, after }, Some(&answer)));
            }
            // One of another project spoils the whole request: each goes alone then.
            _ if messages.len() > 1 => {
                let mut all = Vec::new();
                for one in messages {
                    all.extend(Box::pin(self.send(std::slice::from_ref(one))).await);
                }
                return all;
            }
            _ => return same(&Attempt::new(Outcome::Dead { code }, Some(&answer))),
        }
        let tickets = json["data"].as_array().cloned().unwrap_or_default();
        let ticket = |index: usize| tickets.get(index).map_or_else(no_ticket, outcome);
        (0..messages.len())
            .map(|index| {
                let excerpt = tickets.get(index).map(ToString::to_string);
                Attempt { outcome: ticket(index), status: Some(200), excerpt, segments: None, is_last: false }
            })
            .collect()
    }

    /// What has become of tickets, as far as Expo knows.
    pub async fn receipts(&self, tickets: &[String]) -> HashMap<String, Outcome> {
        let Ok(answer) = self.post("getReceipts", &json!({ "ids": tickets })).await else {
            return HashMap::new();
        };
        let json = answer.json();
        let receipts = json["data"].as_object().cloned().unwrap_or_default();
        receipts.into_iter().map(|(id, receipt)| (id, outcome(&receipt))).collect()
    }
}

fn no_ticket() -> Outcome {
    Outcome::Retry { code: "no_ticket".to_owned(), after: None }
}

fn message(to: &str, push: &Push) -> Value {
    let mut message = json!({
        "to": to,
        "title": push.title,
        "data": push.data(),
        "ttl": push.ttl.num_seconds().max(0),
        "priority": if push.silent { "normal" } else { "high" },
        "channelId": if push.silent { "quiet" } else { "orders" },
    });
    if !push.silent {
        message["sound"] = json!("default");
    }
    if let Some(tag) = &push.tag {
        message["tag"] = json!(tag);
        message["collapseId"] = json!(tag);
    }
    message
}

/// What a ticket or a receipt says.
fn outcome(ticket: &Value) -> Outcome {
    if ticket["status"] == "ok" {
        return Outcome::Sent { reference: ticket["id"].as_str().map(str::to_owned) };
    }
    let code = ticket["details"]["error"].as_str().unwrap_or("unknown").to_owned();
    match &*code {
        "DeviceNotRegistered" => Outcome::Gone { code, since: None },
        "MessageRateExceeded" => Outcome::Retry { code, after: Some(BUSY) },
        "InvalidCredentials" | "MismatchSenderId" => Outcome::Refused { code },
        "MessageTooBig" => Outcome::Dead { code },
        _ => Outcome::Retry { code, after: None },
    }
}
