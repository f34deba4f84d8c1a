//! What an operator can see at `/metrics`. Handles are made once: counting costs an atomic, no lookup.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use tokio::time::Instant;

use super::clock::instant;

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
label!(VerdictLabel, verdict);
label!(SourceLabel, source);

/// One of the Redis servers, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: u32,
}

/// A router, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    source: &'static str,
    result: &'static str,
}

/// A channel of notifications, and what became of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabel {
    channel: &'static str,
    state: &'static str,
}

/// Who is connected, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SocketLabel {
    role: &'static str,
    client: &'static str,
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

/// The handles. [`Metrics::new`] gives each its name and says what it counts.
pub struct Inner {
    registry: Registry,
    /// The values of the labels `role` and `client`.
    roles: Vec<&'static str>,
    clients: Vec<&'static str>,
    connections: Family<SocketLabel, Gauge>,
    events_in: Vec<(&'static str, Count)>,
    pub events_out_durable: Count,
    pub events_out_live: Count,
    pub events_out_reply: Count,
    rejections: Family<CodeLabel, Count>,
    pub dropped_live: Count,
    pub conflated: Count,
    pub replayed: Count,
    pub stalls: Count,
    pub slowed: Count,
    pub unauthenticated_bytes: Gauge,
    pub polling_clients: Gauge,
    pub polls_waiting: Gauge,
    pub nodes: Gauge,
    pub clock_offset: Gauge<f64, AtomicU64>,
    pub ready: Gauge,
    pub database_up: Gauge,
    pub fresh: Gauge,
    pub muted_seconds: Counter<f64, AtomicU64>,
    pub takeovers: Count,
    bus_up: Family<ShardLabel, Gauge>,
    beat_age: Family<ShardLabel, Gauge<f64, AtomicU64>>,
    pub bus_published: Count,
    pub bus_received: Count,
    pub bus_conflated: Count,
    pub bus_forged: Count,
    pub bus_dropped: Count,
    pub bus_lag: Histogram,
    pub interest: Gauge,
    pub events_committed: Count,
    pub log_reads: Count,
    recoveries: Family<OutcomeLabel, Count>,
    forwarded: Family<OutcomeLabel, Count>,
    pub sessions_behind: Gauge,
    pub established: Gauge,
    pub outbox_depth: Gauge,
    order_service: Family<OutcomeLabel, Count>,
    webhooks: Family<OutcomeLabel, Count>,
    spans: Family<OutcomeLabel, Count>,
    closed: Family<ReasonLabel, Count>,
    pub orders_removed: Count,
    pub persons_erased: Count,
    pub trail_dropped: Count,
    pub trail_depth: Gauge,
    pub writes_waiting: Gauge,
    pub full: Gauge,
    pub relay_lag: Gauge,
    pub inbox_depth: Gauge,
    pub over_limit: Count,
    pub http_connections: Gauge,
    http: Family<CodeLabel, Count>,
    pub fanout_seconds: Histogram,
    pub relay_seconds: Histogram,
    pub commit_seconds: Histogram,
    pub log_wait: Histogram,
    pub log_lost: Count,
    fixes: Vec<(&'static str, Count)>,
    fixes_in_shadow: Family<VerdictLabel, Count>,
    pub milestones: Count,
    notifications: Family<DeliveryLabel, Count>,
    pub notifications_planned: Count,
    pub notifications_due: Gauge,
    pub notifications_lag: Gauge,
    pub channels_paused: Gauge,
    devices_removed: Family<ReasonLabel, Count>,
    pub sms_segments: Count,
    pub receipts: Count,
    pub receipts_dropped: Count,
    eta_shown: Family<SourceLabel, Count>,
    pub eta_log_dropped: Count,
    pub eta_calibration_version: Gauge,
    pub notes_dropped: Count,
    pub road_segments: Gauge,
    pub road_failures: Count,
    pub route_seconds: Histogram,
    pub route_pending: Gauge,
    route_requests: Family<RouteLabel, Count>,
    router_open: Family<SourceLabel, Gauge>,
    /// Packets per second, for `GET /stats`.
    pub rate: Rate,
}

/// The words that labels may have: they belong to higher layers.
#[derive(Clone, Debug, Default)]
pub struct Words {
    pub roles: Vec<&'static str>,
    pub clients: Vec<&'static str>,
    /// The events that a socket may send.
    pub requests: Vec<&'static str>,
    /// What may become of a fix.
    pub verdicts: Vec<&'static str>,
}

/// Counts something in a gauge as long as it is there.
#[must_use]
pub struct Counted(Gauge);

impl Counted {
    pub fn by(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
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

/// Makes metrics known under their names.
struct Names(Registry);

impl Names {
    fn add<M: Metric + Default + Clone>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// From 50 µs to about 1.6 s, each bucket twice the one before.
    fn seconds(&mut self, name: &str, help: &str) -> Histogram {
        let histogram = Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        self.0.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        histogram
    }
}

impl Metrics {
    /// Every metric at zero, with labels of these words.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one place has all metrics and their help")]
    pub fn new(words: Words) -> Self {
        let mut names = Names(Registry::with_prefix("ordercast"));
        let connections: Family<SocketLabel, Gauge> =
            names.add("connections", "Live sockets by role and kind of client");
        for &role in &words.roles {
            for &client in &words.clients {
                connections.get_or_create_owned(&SocketLabel { role, client });
            }
        }
        let events_in: Family<EventLabel, Count> = names.add("events_in", "Requests of sockets by event");
        let events_in = words
            .requests
            .iter()
            .map(|event| (*event, events_in.get_or_create_owned(&EventLabel { event })))
            .collect();
        let fixes: Family<VerdictLabel, Count> =
            names.add("fixes", "Positions of drivers by what became of them");
        let fixes = words
            .verdicts
            .iter()
            .map(|verdict| (*verdict, fixes.get_or_create_owned(&VerdictLabel { verdict })))
            .collect();
        let events_out: Family<EventLabel, Count> =
            names.add("events_out", "Packets handed to sockets by kind");
        let out = |event| events_out.get_or_create_owned(&EventLabel { event });
        let inner = Inner {
            roles: words.roles,
            clients: words.clients,
            connections,
            events_in,
            events_out_durable: out("durable"),
            events_out_live: out("live"),
            events_out_reply: out("reply"),
            rejections: names.add("rejections", "Requests refused by code"),
            dropped_live: names.add(
                "dropped_live",
                "Live events dropped because too many kinds of them waited for one socket",
            ),
            conflated: names.add("conflated", "Live events that a newer one took the place of"),
            replayed: names.add("replayed", "Durable events told to sockets that were behind"),
            slowed: names.add("slowed", "HTTP requests that were held back because too many came"),
            unauthenticated_bytes: names.add(
                "unauthenticated_bytes",
                "Memory counted for connections, handshakes and bodies without a verified token",
            ),
            polling_clients: names.add("polling_clients", "Engine.IO sessions that began with polling"),
            stalls: names.add("stalls", "Connections ended because they took nothing for too long"),
            events_committed: names.add(
                "events_committed",
                "Durable events written; commit_seconds counts the commits they shared",
            ),
            log_reads: names.add("log_reads", "Reads of the event log and of orders to be told"),
            recoveries: names
                .add("recoveries", "Sockets that came back with a session, by what became of it"),
            forwarded: names.add("forwarded", "Requests for sessions of other nodes, by what became of them"),
            sessions_behind: names.add("sessions_behind", "Sockets that durable events wait for"),
            established: names.add(
                "established",
                "Socket.IO clients whose connections are served without the Socket.IO library",
            ),
            outbox_depth: names
                .add("outbox_depth", "Live events that wait for sockets that cannot take them now"),
            spans: names.add("otlp_spans", "Parts of traces, by what became of them"),
            webhooks: names.add("webhooks", "Messages to other systems, by what became of an attempt"),
            order_service: names
                .add("order_service_calls", "Deliveries told to the order service, by what became of it"),
            closed: names.add("sockets_closed", "Sockets gone by reason"),
            orders_removed: names.add("orders_removed", "Finished orders that were kept long enough"),
            persons_erased: names.add("persons_erased", "Persons whose data was erased"),
            polls_waiting: names
                .add("polls_waiting", "Requests that are held until there is something to tell"),
            nodes: names.add("nodes", "Nodes that are alive on this database"),
            clock_offset: names
                .add("clock_offset_seconds", "How far the clock of the database is ahead of this machine's"),
            ready: names.add("ready", "1 if /ready says yes, else 0"),
            database_up: names.add("database_up", "1 if the log can be read and written, else 0"),
            fresh: names.add(
                "fresh",
                "1 while this node knows who may hear what, 0 while it tells its sockets nothing",
            ),
            muted_seconds: names.add("muted_seconds", "How long this node told its sockets nothing"),
            takeovers: names
                .add("takeovers", "Sockets ended because their session was resumed on another node"),
            bus_up: names.add("bus_up", "Whether this node hears itself over a Redis server"),
            beat_age: names
                .add("beat_age_seconds", "Time since this node last heard itself over a Redis server"),
            bus_published: names.add("bus_published", "Live events of this node handed to Redis"),
            bus_received: names.add("bus_received", "Frames of nodes that came from Redis"),
            bus_conflated: names
                .add("bus_conflated", "Live events between nodes that a newer one took the place of"),
            bus_forged: names.add("bus_forged", "Messages from Redis that no node of this cluster wrote"),
            bus_dropped: names.add(
                "bus_dropped",
                "Live events between nodes that were dropped: too old, repeated, or not of this driver here",
            ),
            bus_lag: names
                .seconds("bus_lag", "From the sending of a live event to its arrival at sessions here"),
            interest: names.add("interest", "Orders that are heard from other nodes"),
            trail_dropped: names.add("trail_dropped", "Positions that did not reach the trail"),
            trail_depth: names.add("trail_depth", "Positions waiting to be written"),
            full: names
                .add("full", "1 while webhooks and notifications take turns, because the server is full"),
            writes_waiting: names.add("writes_waiting", "Changes that wait for their commit"),
            relay_lag: names.add("relay_lag", "Events in the log and not handed on yet"),
            inbox_depth: names.add("inbox_depth", "Requests of sockets waiting to be carried out"),
            over_limit: names
                .add("requests_over_limit", "Requests of sockets over a limit: refused, or carried out late"),
            http_connections: names.add("http_connections", "Open connections"),
            http: names.add("http_responses", "HTTP responses by status"),
            fanout_seconds: names.seconds("fanout", "From an event to the last socket it was handed to"),
            relay_seconds: names.seconds("relay", "From the log's wake-up to the last event handed on"),
            commit_seconds: names.seconds("commit", "A commit of the database"),
            log_wait: names.seconds("log_wait", "Until a group of changes has the head of the log"),
            log_lost: names.add("log_lost", "Events that a database that took over does not have"),
            fixes,
            fixes_in_shadow: names
                .add("fixes_in_shadow", "What the filter would say of positions in shadow mode"),
            eta_shown: names.add("eta_shown", "ETAs that clients were told, by what they are made of"),
            eta_log_dropped: names.add("eta_log_dropped", "Shown ETAs that could not be written"),
            eta_calibration_version: names
                .add("eta_calibration_version", "Version of what was learned from deliveries"),
            notifications: names.add("notifications", "Notifications by channel and by what became of them"),
            notifications_planned: names.add("notifications_planned", "Notifications that were planned"),
            notifications_due: names.add("notifications_due", "Notifications that are due and not sent yet"),
            notifications_lag: names.add("notifications_lag", "Events of the log that are not planned yet"),
            channels_paused: names
                .add("channels_paused", "Channels that wait because their provider said so"),
            devices_removed: names.add("devices_removed", "Devices that get nothing any more, by reason"),
            sms_segments: names.add("sms_segments", "Segments of SMS that were sent"),
            receipts: names.add("receipts", "Events that users have received or seen"),
            receipts_dropped: names.add("receipts_dropped", "Of those, what could not be written"),
            milestones: names.add("milestones", "Drivers who came to a stop, were there or left it"),
            notes_dropped: names.add("notes_dropped", "Milestones and risks that could not be written"),
            road_segments: names.add("road_segments", "Pieces of road in memory, each direction counted"),
            road_failures: names.add("road_reload_failures", "Road networks that could not be loaded"),
            route_seconds: names.seconds("route", "To find a route"),
            route_requests: names
                .add("route_requests", "Requests to routers elsewhere, and what came of them"),
            router_open: names.add("router_open", "Whether a router is left alone because it failed"),
            route_pending: names.add("route_pending", "Drivers whose routes are to be looked for"),
            rate: Rate(Mutex::new((instant(), 0, 0.0))),
            registry: names.0,
        };
        Self(Arc::new(inner))
    }

    /// A socket came or went.
    pub fn connected(&self, role: &'static str, client: &'static str, by: i64) {
        self.connections.get_or_create(&SocketLabel { role, client }).inc_by(by);
    }

    fn count(&self, role: &'static str, client: &'static str) -> i64 {
        self.connections.get_or_create(&SocketLabel { role, client }).get()
    }

    /// How many sockets there are.
    #[must_use]
    pub fn connections(&self) -> i64 {
        self.roles.iter().map(|role| self.connections_as(role)).sum()
    }

    /// How many sockets of this role there are.
    #[must_use]
    pub fn connections_as(&self, role: &'static str) -> i64 {
        self.clients.iter().map(|client| self.count(role, client)).sum()
    }

    /// How many sockets of this kind of client there are.
    #[must_use]
    pub fn connections_by(&self, client: &'static str) -> i64 {
        self.roles.iter().map(|role| self.count(role, client)).sum()
    }

    /// Whether this node hears itself over a Redis server, and how long ago it last did.
    pub fn bus_heard(&self, shard: u32, up: bool, age: Duration) {
        self.bus_up.get_or_create(&ShardLabel { shard }).set(up.into());
        self.beat_age.get_or_create(&ShardLabel { shard }).set(age.as_secs_f64());
    }

    /// A notification went a way, or did not.
    pub fn notification(&self, channel: &'static str, state: &'static str) {
        self.notifications.get_or_create(&DeliveryLabel { channel, state }).inc();
    }

    /// How many sockets came back so.
    #[must_use]
    pub fn recoveries_of(&self, outcome: &'static str) -> u64 {
        self.recoveries.get_or_create(&OutcomeLabel { outcome }).get()
    }

    /// Parts of traces were sent, refused by the collector, or dropped because too many waited.
    pub fn spans(&self, outcome: &'static str, count: usize) {
        self.spans.get_or_create(&OutcomeLabel { outcome }).inc_by(count as u64);
    }

    /// What became of a message to another system.
    pub fn webhook(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A device gets nothing any more.
    pub fn device_removed(&self, reason: &'static str) {
        self.devices_removed.get_or_create(&ReasonLabel { reason }).inc();
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

    /// A driver's fix came.
    pub fn fix(&self, verdict: &'static str) {
        if let Some((_, count)) = self.fixes.iter().find(|(known, _)| *known == verdict) {
            count.inc();
        }
    }

    /// A router elsewhere was asked.
    pub fn routed(&self, source: &'static str, result: &'static str) {
        self.route_requests.get_or_create(&RouteLabel { source, result }).inc();
    }

    /// A router elsewhere is left alone, or not.
    pub fn router_open(&self, source: &'static str, is_open: bool) {
        self.router_open.get_or_create(&SourceLabel { source }).set(i64::from(is_open));
    }

    /// An ETA was shown.
    pub fn eta_shown(&self, source: &'static str) {
        self.eta_shown.get_or_create(&SourceLabel { source }).inc();
    }

    /// A driver's fix came, and the filter only says what it would do.
    pub fn fix_in_shadow(&self, verdict: &'static str) {
        self.fixes_in_shadow.get_or_create(&VerdictLabel { verdict }).inc();
    }

    /// A request was refused.
    pub fn rejected(&self, code: &'static str) {
        self.rejections.get_or_create(&CodeLabel { code }).inc();
    }

    /// A socket came back with a session.
    pub fn recovery(&self, outcome: &'static str) {
        self.recoveries.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A request was for a session of another node.
    pub fn forwarded(&self, outcome: &'static str) {
        self.forwarded.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A socket was closed by us or by the other side.
    pub fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// An HTTP response left.
    pub fn responded(&self, status: u16) {
        let code = match status {
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
