//! One Redis server: a connection to publish, one to listen, and what makes new ones when they break. A node that does not hear its
//! own beats is deaf, whatever its connections look like: an old master goes on as if nothing had happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::{Body, Expected, Frame, Moved, Remote, hash, write};
use super::incoming::{Incoming, OLDEST_KEPT};
use super::interest::Interest;
use super::outgoing::{Outgoing, Slot};
use crate::base::clock::{Clock, Time, instant};
use crate::base::config::is_disabled;
use crate::base::metrics::Metrics;
use crate::cluster::Cluster;
use crate::model::EtaSource;

/// How often a node tells itself that it is there.
const BEAT: Duration = Duration::from_millis(500);
/// A node that has not heard itself for so long is deaf.
const DEAF_AFTER: Duration = Duration::from_millis(1_500);
/// How often the connection that listens is tried, and subscriptions that have ended are given up.
const TICK: Duration = Duration::from_secs(1);
/// Time for Redis to answer.
const RESPONSE_TIME: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Between two batches: under load, many frames share a command.
const FLUSH_SPACING: Duration = Duration::from_millis(1);
/// Bytes of frames in one batch.
const BATCH_BYTES: usize = 64 * 1024;
/// Channels in one command.
const BATCH_CHANNELS: usize = 512;

/// The names of channels and keys.
#[derive(Clone)]
pub(super) struct Names(Arc<str>);

impl Names {
    pub fn new(prefix: &str) -> Self {
        Self(format!("{prefix}1:").into())
    }

    fn live(&self, order: u64) -> String {
        format!("{}l:{order:016x}", self.0)
    }

    fn all_live(&self) -> String {
        format!("{}l:*", self.0)
    }

    fn position(&self, order: u64) -> String {
        format!("{}p:{order:016x}", self.0)
    }

    fn node(&self, number: u16) -> String {
        format!("{}r:{number}", self.0)
    }

    pub fn common(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

/// One Redis server.
pub(super) struct Shard {
    index: u32,
    client: Client,
    names: Names,
    pub outgoing: Outgoing,
    pub interest: Interest,
    incoming: Arc<Incoming>,
    cluster: Cluster,
    clock: Clock,
    metrics: Metrics,
    begun: Instant,
    /// The newest of our own beats that was heard: milliseconds since `begun`.
    beat: AtomicU64,
    /// Every subscription was confirmed.
    listening: AtomicBool,
    hears_all: AtomicBool,
    /// For what is published and read.
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Notified when the connection that publishes is to be made anew.
    renew: Notify,
}

impl Shard {
    pub fn new(
        index: u32,
        client: Client,
        names: Names,
        incoming: Arc<Incoming>,
        cluster: Cluster,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self {
            index,
            client,
            names,
            outgoing: Outgoing::new(metrics.clone()),
            interest: Interest::new(metrics.interest.clone()),
            incoming,
            cluster,
            clock,
            metrics,
            begun: instant(),
            beat: AtomicU64::new(0),
            listening: AtomicBool::new(false),
            hears_all: AtomicBool::new(false),
            connection: Mutex::default(),
            renew: Notify::new(),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn beat_age(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.beat.load(Ordering::Acquire)))
    }

    /// Whether this node hears what is said here.
    pub fn is_up(&self) -> bool {
        let hears_itself = self.beat.load(Ordering::Acquire) > 0 && self.beat_age() <= DEAF_AFTER;
        self.listening.load(Ordering::Acquire) && (hears_itself || is_disabled("beat"))
    }

    /// Whether live events of the order with this hash arrive here.
    pub fn hears(&self, order: u64) -> bool {
        self.is_up() && (self.hears_all.load(Ordering::Acquire) || self.interest.is_heard(order))
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_connection(&self, connection: Option<MultiplexedConnection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// The last positions of the orders with these hashes, as far as Redis has kept them, and when they were sent.
    pub async fn kept(&self, orders: &[u64]) -> Vec<(Moved, Time)> {
        let Some(mut connection) = self.connection().filter(|_| !orders.is_empty()) else {
            return Vec::new();
        };
        let mut command = redis::cmd("MGET");
        for order in orders {
            command.arg(self.names.position(*order));
        }
        let values: RedisResult<Vec<Option<Vec<u8>>>> = command.query_async(&mut connection).await;
        let values = orders.iter().zip(values.unwrap_or_default());
        let frames = values
            .filter_map(|(order, value)| self.incoming.kept(&self.names.live(*order), value.as_deref()?));
        frames.collect()
    }

    /// Publishes for ever what waits to be sent.
    pub async fn publish(self: Arc<Self>) {
        let mut retry = FIRST_RETRY;
        loop {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(RESPONSE_TIME))
                .set_response_timeout(Some(RESPONSE_TIME));
            let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
            let ended = match made {
                Ok(connection) => {
                    self.set_connection(Some(connection.clone()));
                    let ended = self.publish_on(connection, &mut retry).await;
                    self.set_connection(None);
                    ended
                }
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(shard = self.index, kind = ?error.kind(), "nothing can be published over Redis; trying again");
            }
            self.pause(&mut retry).await;
        }
    }

    async fn publish_on(
        &self,
        mut connection: MultiplexedConnection,
        retry: &mut Duration,
    ) -> RedisResult<()> {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flushed = instant();
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    let channel = self.names.node(self.cluster.number());
                    let mut frame = Vec::new();
                    self.write(Body::Beat(self.millis().max(1)), &channel, &mut frame);
                    let () = redis::cmd("PUBLISH").arg(channel).arg(frame).query_async(&mut connection).await?;
                    *retry = FIRST_RETRY;
                }
                () = self.outgoing.ready.notified() => {
                    tokio::time::sleep_until(flushed + FLUSH_SPACING).await;
                    flushed = instant();
                    self.flush(&mut connection).await?;
                }
                () = self.renew.notified() => return Ok(()),
            }
        }
    }

    fn write(&self, body: Body, channel: &str, out: &mut Vec<u8>) {
        let frame = Frame { node: self.cluster.number(), sent: self.clock.now(), body };
        write(&frame, channel, self.cluster.key(), out);
    }

    async fn flush(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let (mut pipeline, mut bytes) = (Pipeline::new(), 0);
        for (slot, body) in self.outgoing.take() {
            let kept = match &slot {
                Slot::Moved(order) => Some(hash(order)),
                _ => None,
            };
            let channel = match (slot, &body) {
                (Slot::Expected(_), Body::Live(Remote::Expected(Expected { eta, .. })))
                    if eta.source == EtaSource::Override =>
                {
                    self.names.common("eta")
                }
                (Slot::Moved(order) | Slot::Expected(order), _) => self.names.live(hash(&order)),
                (Slot::Log | Slot::Heads, _) => self.names.common("log"),
                (Slot::Control, _) => self.names.common("ctl"),
                (Slot::Ask(_), _) => self.names.common("ask"),
                (Slot::Answer { to, .. }, _) => self.names.node(to),
            };
            let mut frame = Vec::with_capacity(160);
            self.write(body, &channel, &mut frame);
            bytes += frame.len();
            if let Some(order) = kept {
                let key = self.names.position(order);
                pipeline.cmd("SET").arg(key).arg(&frame).arg("EX").arg(OLDEST_KEPT.num_seconds()).ignore();
            }
            pipeline.cmd("PUBLISH").arg(channel).arg(frame).ignore();
            self.metrics.bus_published.inc();
            if bytes >= BATCH_BYTES {
                let () = std::mem::take(&mut pipeline).query_async(connection).await?;
                bytes = 0;
            }
        }
        if bytes > 0 {
            let () = pipeline.query_async(connection).await?;
        }
        Ok(())
    }

    /// Listens for ever.
    pub async fn listen(self: Arc<Self>) {
        let (mut retry, mut was_up) = (FIRST_RETRY, None);
        loop {
            let ended = self.listen_once(&mut retry, &mut was_up).await;
            self.listening.store(false, Ordering::Release);
            self.hears_all.store(false, Ordering::Release);
            self.metrics.bus_heard(self.index, false, self.beat_age());
            if was_up != Some(false) {
                was_up = Some(false);
                let kind = ended.err().map(|error| error.kind());
                tracing::warn!(shard = self.index, ?kind, "Redis tells nothing of other nodes; trying again");
            }
            self.pause(&mut retry).await;
        }
    }

    /// Listens until that fails or this node does not hear itself.
    async fn listen_once(
        self: &Arc<Self>,
        retry: &mut Duration,
        was_up: &mut Option<bool>,
    ) -> RedisResult<()> {
        let gone = Arc::new(Notify::new());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(RESPONSE_TIME))
            .set_response_timeout(Some(RESPONSE_TIME))
            .set_push_sender(self.receiver(Arc::clone(&gone)));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let number = self.cluster.number();
        let mut common = ["log", "ctl", "eta", "ask"].map(|name| self.names.common(name)).to_vec();
        common.push(self.names.node(number));
        connection.subscribe(common).await?;
        self.subscribe(&mut connection, self.interest.begin_again()).await?;
        let mut all = false;
        self.listen_to_all(&mut connection, &mut all).await?;
        self.listening.store(true, Ordering::Release);
        let since = instant();
        let mut watch = tokio::time::interval(BEAT / 2);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = gone.notified() => return Ok(()),
                () = self.interest.changed.notified() => {
                    self.subscribe(&mut connection, self.interest.added()).await?;
                    self.listen_to_all(&mut connection, &mut all).await?;
                }
                _ = watch.tick() => {
                    let is_up = self.is_up();
                    self.metrics.bus_heard(self.index, is_up, self.beat_age());
                    if is_up && *was_up != Some(true) {
                        *was_up = Some(true);
                        tracing::info!(shard = self.index, "Redis tells of other nodes");
                    }
                    if is_up {
                        *retry = FIRST_RETRY;
                    } else if since.elapsed() > DEAF_AFTER {
                        // It may hear nothing because it cannot say anything.
                        self.renew.notify_one();
                        return Ok(());
                    }
                    if self.cluster.number() != number {
                        return Ok(());
                    }
                }
                _ = tick.tick() => {
                    let () = redis::cmd("PING").query_async(&mut connection).await?;
                    let ended = self.interest.ended(self.clock.now());
                    for orders in ended.chunks(BATCH_CHANNELS) {
                        connection.unsubscribe(self.channels(orders)).await?;
                    }
                    self.listen_to_all(&mut connection, &mut all).await?;
                }
            }
        }
    }

    fn receiver(
        self: &Arc<Self>,
        gone: Arc<Notify>,
    ) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> + use<> {
        let shard = Arc::clone(self);
        move |push| {
            let message = match (push.kind, &*push.data) {
                (PushKind::Disconnection, _) => {
                    gone.notify_one();
                    None
                }
                (PushKind::Message, [Value::BulkString(channel), Value::BulkString(bytes)])
                | (PushKind::PMessage, [_, Value::BulkString(channel), Value::BulkString(bytes)]) => {
                    std::str::from_utf8(channel).ok().map(|channel| (channel, bytes))
                }
                _ => None,
            };
            if let Some((channel, bytes)) = message {
                shard.incoming.arrived(channel, bytes, &shard.beat);
            }
            Ok(())
        }
    }

    fn channels(&self, orders: &[u64]) -> Vec<String> {
        orders.iter().map(|order| self.names.live(*order)).collect()
    }

    /// Subscribes to these orders, then looks where their drivers were last: that may have been told just before.
    async fn subscribe(&self, connection: &mut MultiplexedConnection, orders: Vec<u64>) -> RedisResult<()> {
        for orders in orders.chunks(BATCH_CHANNELS) {
            connection.subscribe(self.channels(orders)).await?;
            self.interest.confirm(orders);
            for (moved, sent) in self.kept(orders).await {
                self.incoming.put(Remote::Moved(moved), sent);
            }
        }
        Ok(())
    }

    async fn listen_to_all(&self, connection: &mut MultiplexedConnection, now: &mut bool) -> RedisResult<()> {
        let wanted = self.interest.wants_all(self.clock.now());
        if wanted && !*now {
            connection.psubscribe(self.names.all_live()).await?;
        } else if !wanted && *now {
            connection.punsubscribe(self.names.all_live()).await?;
        }
        *now = wanted;
        self.hears_all.store(wanted, Ordering::Release);
        Ok(())
    }

    /// Waits before another attempt, twice as long each time.
    async fn pause(&self, retry: &mut Duration) {
        tokio::time::sleep(retry.mul_f64(f64::midpoint(1.0, self.clock.fraction()))).await;
        *retry = (*retry * 2).min(LAST_RETRY);
    }
}
