//! Sends spans to a collector: OTLP over HTTP, as JSON. What cannot be sent is dropped and counted; nobody waits for it.

use std::time::Duration;

use http::{HeaderMap, header};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Ended, Value};
use crate::base::clock::instant;
use crate::base::config::Traces;
use crate::base::metrics::{Metrics, Words};
use crate::base::outbound;

/// Spans in one call.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector may take, and how long at the end of the process.
const PATIENCE: Duration = Duration::from_secs(5);
const LAST: Duration = Duration::from_secs(1);
/// How often a failure is logged at most.
const LOGGED: Duration = Duration::from_secs(60);

/// The receiving end of the queue, for [`Exporter::run`].
pub struct Exporter {
    ended: mpsc::Receiver<Ended>,
    url: String,
    headers: HeaderMap,
    client: reqwest::Client,
    resource: Json,
    metrics: Metrics,
}

impl Exporter {
    pub(super) fn new(
        endpoint: &str,
        mut headers: HeaderMap,
        node: &str,
        ended: mpsc::Receiver<Ended>,
        metrics: Metrics,
    ) -> Result<Self, String> {
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        let client = outbound::client().map_err(|refusal| refusal.to_string())?;
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let resource = attributes(&[
            ("service.name", "ordercast".into()),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
            ("service.instance.id", node.to_owned().into()),
        ]);
        Ok(Self { ended, url, headers, client, resource, metrics })
    }

    /// Sends what has ended until `stop`, and then what is left, if that goes quickly.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failed = None;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                count = self.ended.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = stop.cancelled() => break,
            }
            let until = instant() + GATHER;
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                let more = tokio::time::timeout_at(until, self.ended.recv_many(&mut batch, room));
                if stop.run_until_cancelled(more).await.is_none_or(|more| more.is_err()) {
                    break;
                }
            }
            let sent = stop.run_until_cancelled(self.send(&batch, PATIENCE)).await;
            self.metrics.spans(if sent == Some(true) { "sent" } else { "failed" }, batch.len());
            if sent == Some(false) && failed.is_none_or(|at| instant() - at > LOGGED) {
                failed = Some(instant());
                tracing::warn!("the collector of OTLP_ENDPOINT does not take spans; they are dropped");
            }
        }
        let mut rest = Vec::new();
        while rest.len() < BATCH
            && let Ok(ended) = self.ended.try_recv()
        {
            rest.push(ended);
        }
        if !rest.is_empty() {
            let sent = self.send(&rest, LAST).await;
            self.metrics.spans(if sent { "sent" } else { "failed" }, rest.len());
        }
    }

    async fn send(&self, batch: &[Ended], patience: Duration) -> bool {
        let scope = json!({"name": "ordercast", "version": env!("CARGO_PKG_VERSION")});
        let spans: Vec<_> = batch.iter().map(span).collect();
        let body = json!({"resourceSpans": [{
            "resource": {"attributes": self.resource},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }]});
        let request = self.client.post(&self.url).headers(self.headers.clone()).body(body.to_string());
        let answer = request.timeout(patience).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

/// Sends no span, to see whether the collector would take some.
///
/// # Errors
/// One line for the operator, without the URL and the headers.
pub async fn reach(settings: &Traces) -> Result<(), String> {
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(()) };
    let (_, nothing) = mpsc::channel(1);
    let metrics = Metrics::new(Words::default());
    let exporter = Exporter::new(endpoint, settings.headers()?, "", nothing, metrics)?;
    let request =
        exporter.client.post(&exporter.url).headers(exporter.headers).body(r#"{"resourceSpans":[]}"#);
    let answer = request.timeout(PATIENCE).send().await;
    match answer.map_err(|error| error.without_url().to_string())?.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

/// A span as OTLP has it in JSON: ids in hex, times as text.
fn span(ended: &Ended) -> Json {
    let mut span = json!({
        "traceId": hex::encode(ended.trace),
        "spanId": hex::encode(ended.id),
        "name": ended.name,
        "kind": ended.kind as u8,
        "startTimeUnixNano": ended.from.to_string(),
        "endTimeUnixNano": ended.until.to_string(),
        "attributes": attributes(&ended.attributes),
        "status": if ended.failed { json!({"code": 2}) } else { json!({}) },
    });
    if let Some(parent) = ended.parent {
        span["parentSpanId"] = hex::encode(parent).into();
    }
    span
}

fn attributes(pairs: &[(&str, Value)]) -> Json {
    let one = |(key, value): &(&str, Value)| {
        let value = match value {
            Value::Text(text) => json!({"stringValue": text}),
            Value::Number(number) => json!({"intValue": number.to_string()}),
        };
        json!({"key": key, "value": value})
    };
    pairs.iter().map(one).collect()
}
