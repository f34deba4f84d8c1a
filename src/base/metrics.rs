//! What an operator can see at `/metrics`. Handles are made once: counting costs an atomic, no lookup.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::clock::instant;
use crate::dialect::Dialect;
use crate::model::Role;

type Count = Counter<u64, AtomicU64>;

/// One label with one value.
macro_rules! label {
    ($name:ident, $key:ident) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name {
            $key: &'static str,
        }
    };
}
label!(EventLabel, event);
label!(CodeLabel, code);
label!(ReasonLabel, reason);
label!(OutcomeLabel, outcome);

/// Who is connected, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SocketLabel {
    role: &'static str,
    client: &'static str,
}

impl SocketLabel {
    const fn new(role: Role, dialect: Dialect) -> Self {
        Self { role: role.as_str(), client: dialect.as_str() }
    }
}

/// Every metric, shared.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl std::ops::Deref for Metrics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The handles.
pub struct Inner {
    registry: Registry,
    connections: Family<SocketLabel, Gauge>,
    order_service: Family<OutcomeLabel, Count>,
    events_in: Vec<(&'static str, Count)>,
    pub events_out_durable: Count,
    pub events_out_live: Count,
    pub events_out_reply: Count,
    rejections: Family<CodeLabel, Count>,
    pub dropped_live: Count,
    pub conflated: Count,
    pub replayed: Count,
    pub stalls: Count,
    pub log_reads: Count,
    pub events_committed: Count,
    recoveries: Family<OutcomeLabel, Count>,
    pub sessions_behind: Gauge,
    /// Socket.IO clients whose connections were taken over from socketioxide.
    pub established: Gauge,
    pub outbox_depth: Gauge,
    closed: Family<ReasonLabel, Count>,
    pub trail_dropped: Count,
    pub trail_depth: Gauge,
    pub writes_waiting: Gauge,
    pub relay_lag: Gauge,
    pub inbox_depth: Gauge,
    pub http_connections: Gauge,
    pub fanout_seconds: Histogram,
    pub relay_seconds: Histogram,
    pub commit_seconds: Histogram,
    http: Family<CodeLabel, Count>,
    /// Packets per second, for `GET /stats`.
    pub rate: Rate,
}

/// How fast a counter grows.
pub struct Rate(Mutex<(Instant, u64, f64)>);

impl Rate {
    /// Growth per second over the last second or more.
    #[must_use]
    pub fn of(&self, count: u64, now: Instant) -> f64 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, before, rate) = &mut *known;
        let elapsed = now.saturating_duration_since(*at);
        if elapsed >= Duration::from_secs(1) {
            #[expect(clippy::cast_precision_loss, reason = "a rate, not an amount")]
            let grown = count.saturating_sub(*before) as f64;
            (*at, *before, *rate) = (now, count, grown / elapsed.as_secs_f64());
        }
        *rate
    }
}

/// 50 µs to about 1.6 s, each bucket twice the one before.
fn latency() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_05, 2.0, 16))
}

impl Inner {
    fn register(
        &self,
        registry: &mut Registry,
        events_in: Family<EventLabel, Count>,
        events_out: Family<EventLabel, Count>,
    ) {
        registry.register("connections", "Live sockets by role and kind of client", self.connections.clone());
        registry.register("events_in", "Requests of sockets by event", events_in);
        registry.register("events_out", "Packets handed to sockets by kind", events_out);
        registry.register("rejections", "Requests refused by code", self.rejections.clone());
        registry.register(
            "dropped_live",
            "Live events dropped because too many kinds of them waited for one socket",
            self.dropped_live.clone(),
        );
        for (name, help, count) in [
            ("conflated", "Live events that a newer one took the place of", &self.conflated),
            ("replayed", "Durable events told to sockets that were behind", &self.replayed),
            ("stalls", "Connections ended because they took nothing for too long", &self.stalls),
            (
                "events_committed",
                "Durable events written; commit_seconds counts the commits they shared",
                &self.events_committed,
            ),
            ("log_reads", "Reads of the event log and of orders to be told", &self.log_reads),
        ] {
            registry.register(name, help, count.clone());
        }
        registry.register(
            "recoveries",
            "Sockets that came back with a session, by what became of it",
            self.recoveries.clone(),
        );
        registry.register(
            "sessions_behind",
            "Sockets that durable events wait for",
            self.sessions_behind.clone(),
        );
        registry.register(
            "established",
            "Socket.IO clients whose connections were taken over from socketioxide",
            self.established.clone(),
        );
        registry.register(
            "outbox_depth",
            "Live events that wait for sockets that cannot take them now",
            self.outbox_depth.clone(),
        );
        registry.register(
            "order_service_calls",
            "Deliveries told to the order service, by what became of it",
            self.order_service.clone(),
        );
        registry.register("sockets_closed", "Sockets gone by reason", self.closed.clone());
        registry.register(
            "trail_dropped",
            "Positions that did not reach the trail",
            self.trail_dropped.clone(),
        );
        registry.register("trail_depth", "Positions waiting to be written", self.trail_depth.clone());
        registry.register(
            "writes_waiting",
            "Changes that wait for their commit",
            self.writes_waiting.clone(),
        );
        registry.register("relay_lag", "Events in the log and not handed on yet", self.relay_lag.clone());
        registry.register(
            "inbox_depth",
            "Requests of sockets waiting to be carried out",
            self.inbox_depth.clone(),
        );
        registry.register("http_connections", "Open connections", self.http_connections.clone());
        registry.register("http_responses", "HTTP responses by status", self.http.clone());
        for (name, help, metric) in [
            ("fanout", "From an event to the last socket it was handed to", &self.fanout_seconds),
            ("relay", "From the log's wake-up to the last event handed on", &self.relay_seconds),
            ("commit", "A commit of the database", &self.commit_seconds),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("ordercast");
        let events_out: Family<EventLabel, Count> = Family::default();
        let events_in: Family<EventLabel, Count> = Family::default();
        let out = |event| events_out.get_or_create_owned(&EventLabel { event });
        let inner = Inner {
            connections: Family::default(),
            order_service: Family::default(),
            events_in: crate::dialect::realtime::REQUESTS
                .map(|event| (event, events_in.get_or_create_owned(&EventLabel { event })))
                .to_vec(),
            events_out_durable: out("durable"),
            events_out_live: out("live"),
            events_out_reply: out("reply"),
            rejections: Family::default(),
            dropped_live: Count::default(),
            conflated: Count::default(),
            replayed: Count::default(),
            stalls: Count::default(),
            log_reads: Count::default(),
            events_committed: Count::default(),
            recoveries: Family::default(),
            sessions_behind: Gauge::default(),
            established: Gauge::default(),
            outbox_depth: Gauge::default(),
            closed: Family::default(),
            trail_dropped: Count::default(),
            trail_depth: Gauge::default(),
            writes_waiting: Gauge::default(),
            relay_lag: Gauge::default(),
            inbox_depth: Gauge::default(),
            http_connections: Gauge::default(),
            fanout_seconds: latency(),
            relay_seconds: latency(),
            commit_seconds: latency(),
            http: Family::default(),
            rate: Rate(Mutex::new((instant(), 0, 0.0))),
            registry: Registry::default(),
        };
        inner.register(&mut registry, events_in, events_out);
        for role in Role::ALL {
            for dialect in Dialect::ALL {
                inner.connections.get_or_create_owned(&SocketLabel::new(role, dialect));
            }
        }
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// A socket came or went.
    pub fn connected(&self, role: Role, dialect: Dialect, by: i64) {
        self.connections.get_or_create(&SocketLabel::new(role, dialect)).inc_by(by);
    }

    /// How many sockets there are of this role, speaking this dialect.
    #[must_use]
    pub fn connections(&self, role: Role, dialect: Dialect) -> i64 {
        self.connections.get_or_create(&SocketLabel::new(role, dialect)).get()
    }

    /// How many sockets of this role there are.
    #[must_use]
    pub fn connections_as(&self, role: Role) -> i64 {
        Dialect::ALL.into_iter().map(|dialect| self.connections(role, dialect)).sum()
    }

    /// How many sockets speak this dialect.
    #[must_use]
    pub fn connections_by(&self, dialect: Dialect) -> i64 {
        Role::ALL.into_iter().map(|role| self.connections(role, dialect)).sum()
    }

    /// The order service was told of a delivery.
    pub fn order_service_call(&self, outcome: &'static str) {
        self.order_service.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A socket asked for something.
    pub fn event_in(&self, event: &'static str) {
        if let Some((_, count)) = self.events_in.iter().find(|(known, _)| *known == event) {
            count.inc();
        }
    }

    /// A request was refused.
    pub fn rejected(&self, code: &'static str) {
        self.rejections.get_or_create(&CodeLabel { code }).inc();
    }

    /// A socket came back with a session.
    pub fn recovery(&self, outcome: &'static str) {
        self.recoveries.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A socket was closed by us or by the other side.
    pub fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// An HTTP response left.
    pub fn responded(&self, status: http::StatusCode) {
        let code = match status.as_u16() {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "1xx",
        };
        self.http.get_or_create(&CodeLabel { code }).inc();
    }

    /// How many packets were handed to sockets so far.
    #[must_use]
    pub fn events_out(&self) -> u64 {
        self.events_out_durable.get() + self.events_out_live.get() + self.events_out_reply.get()
    }

    /// Everything in `OpenMetrics` text.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
