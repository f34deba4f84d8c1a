//! One door: its channel and its operations in the document.

use serde_json::{Map, Value, json};

use super::schema::{Payload, Schemas};

/// What the server sends.
pub(super) struct Event {
    /// `None` if senders name it.
    pub(super) name: Option<&'static str>,
    pub(super) summary: &'static str,
    pub(super) payload: Payload,
    /// Whether it is in the log, so that it has an offset.
    pub(super) is_durable: bool,
}

impl Event {
    pub(super) const fn new(name: &'static str, summary: &'static str, payload: Payload) -> Self {
        Self { name: Some(name), summary, payload, is_durable: false }
    }

    pub(super) const fn durable(name: &'static str, summary: &'static str, payload: Payload) -> Self {
        Self { name: Some(name), summary, payload, is_durable: true }
    }

    fn key(&self) -> String {
        self.name.map_or_else(|| "announcement".to_owned(), camel)
    }
}

/// What the server understands.
pub(super) struct Request {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) payload: Payload,
    /// Payloads that are good.
    pub(super) examples: Vec<Value>,
    pub(super) answer: Answer,
    /// Whether it is for those only who have brought a token.
    pub(super) needs_token: bool,
}

/// What a client gets for a request.
pub(super) enum Answer {
    /// The ack.
    Ack(Payload),
    /// Messages of these names.
    Messages(Vec<&'static str>),
}

/// A door.
pub(super) struct Channel {
    pub(super) key: &'static str,
    pub(super) address: &'static str,
    pub(super) server: &'static str,
    pub(super) title: &'static str,
    pub(super) description: String,
    /// Parameters of the address, with what they are.
    pub(super) parameters: Vec<(&'static str, &'static str)>,
    /// Whether nobody comes in without a token.
    pub(super) needs_token: bool,
    /// The payload of a refused request, if acks tell it.
    pub(super) failure: Option<Payload>,
    /// How the server closes the connection: code, reason.
    pub(super) closes: Vec<(u16, &'static str)>,
    pub(super) events: Vec<Event>,
    pub(super) requests: Vec<Request>,
}

/// The key of the message that says that a request was refused.
const FAILURE: &str = "failure";

impl Channel {
    /// Puts the channel into the document.
    pub(super) fn describe(
        self,
        channels: &mut Map<String, Value>,
        operations: &mut Map<String, Value>,
        schemas: &mut Schemas,
    ) {
        let place = format!("#/channels/{}", self.key);
        let message = |key: &str| json!({ "$ref": format!("{place}/messages/{key}") });
        let mut messages = Map::new();
        let mut sent = Vec::new();
        for event in self.events {
            let key = event.key();
            sent.push(message(&key));
            let mut described = json!({ "summary": event.summary, "payload": event.payload.settle(schemas) });
            if let Some(name) = event.name {
                described["name"] = name.into();
            }
            if event.is_durable {
                described["x-durable"] = true.into();
            }
            messages.insert(key, described);
        }
        let security = json!([
            { "$ref": "#/components/securitySchemes/bearer" },
            { "$ref": "#/components/securitySchemes/query" },
        ]);
        let operation = |action: &str, summary: &str, needs_token: bool| {
            let mut operation = json!({ "action": action, "channel": { "$ref": place }, "summary": summary });
            if needs_token {
                operation["security"] = security.clone();
            }
            operation
        };
        let mut sends = operation("send", "What the server tells", self.needs_token);
        sends["messages"] = sent.into();
        operations.insert(format!("{}Events", self.key), sends);
        if let Some(failure) = self.failure {
            let payload = failure.settle(schemas);
            messages.insert(
                FAILURE.to_owned(),
                json!({ "summary": "The request was refused", "payload": payload }),
            );
        }
        for request in self.requests {
            let asked = camel(request.name);
            let key = format!("{asked}Request");
            let examples: Vec<_> =
                request.examples.into_iter().map(|payload| json!({ "payload": payload })).collect();
            messages.insert(
                key.clone(),
                json!({
                    "name": request.name, "summary": request.summary,
                    "payload": request.payload.settle(schemas), "examples": examples,
                }),
            );
            let answers: Vec<_> = match request.answer {
                Answer::Ack(answer) => {
                    let key = format!("{asked}Answer");
                    let described = json!({ "summary": "The request was carried out", "payload": answer.settle(schemas) });
                    messages.insert(key.clone(), described);
                    vec![message(&key), message(FAILURE)]
                }
                Answer::Messages(names) => names.into_iter().map(|name| message(&camel(name))).collect(),
            };
            let mut receives = operation("receive", request.summary, self.needs_token || request.needs_token);
            receives["messages"] = json!([message(&key)]);
            receives["reply"] = json!({ "channel": { "$ref": place }, "messages": answers });
            let id = [self.key, &capital(&asked)].concat();
            operations.insert(id, receives);
        }
        let mut channel = json!({
            "address": self.address,
            "title": self.title,
            "description": self.description,
            "servers": [{ "$ref": format!("#/servers/{}", self.server) }],
            "messages": messages,
        });
        if !self.parameters.is_empty() {
            let parameter =
                |(name, description): (&str, &str)| (name.to_owned(), json!({ "description": description }));
            channel["parameters"] = self.parameters.into_iter().map(parameter).collect::<Map<_, _>>().into();
        }
        if self.server == super::WEBSOCKET {
            let query = json!({ "type": "object", "properties": { "token": { "type": "string" } } });
            channel["bindings"] = json!({ "ws": { "method": "GET", "query": query } });
        }
        if !self.closes.is_empty() {
            let close = |(code, reason): &(u16, &str)| json!({ "code": code, "reason": reason });
            channel["x-close-codes"] = self.closes.iter().map(close).collect();
        }
        channels.insert(self.key.to_owned(), channel);
    }
}

/// `order:status_update` as `orderStatusUpdate`.
fn camel(name: &str) -> String {
    let mut parts = name.split([':', '_']);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |key, part| key + &capital(part))
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}
