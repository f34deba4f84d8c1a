//! All Redis servers together: each order is on one of them, by its hash. Every node has the same list.

use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ask::Answers;
use super::frame::{Body, Expected, Moved, Question, Remote, hash};
use super::incoming::{Asked, Incoming, OLDEST};
use super::outgoing::Slot;
use super::shard::{Names, Shard};
use crate::base::clock::{Clock, Time};
use crate::base::metrics::Metrics;
use crate::cluster::Cluster;
use crate::cluster::heads::{AllHeard, Heads};
use crate::model::{EtaSource, LiveEvent, OrderId};

/// How long an answer of another node is waited for.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// How long a reader of a position waits for Redis.
const READ_TIME: Duration = Duration::from_millis(100);
/// Events that are applied at a time, until other tasks have their turn.
const AT_A_TIME: usize = 128;

/// The connections to all Redis servers.
pub(super) struct Redis {
    shards: Box<[Arc<Shard>]>,
    incoming: Arc<Incoming>,
    clock: Clock,
    metrics: Metrics,
    /// Where the ids of this node's questions begin.
    seed: u64,
}

impl Redis {
    pub fn new(
        urls: &[String],
        prefix: &str,
        cluster: &Cluster,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, String> {
        let incoming = Arc::new(Incoming::new(cluster.clone(), clock.clone(), metrics.clone()));
        let names = Names::new(prefix);
        let shard = |(index, url): (u32, &String)| {
            let client = client(index, url)?;
            let (cluster, clock, metrics) = (cluster.clone(), clock.clone(), metrics.clone());
            let incoming = Arc::clone(&incoming);
            Ok(Arc::new(Shard::new(index, client, names.clone(), incoming, cluster, clock, metrics)))
        };
        let shards = (0..).zip(urls).map(shard).collect::<Result<_, String>>()?;
        let seed = u64::from_be_bytes(clock.random());
        Ok(Self { shards, incoming, clock, metrics, seed })
    }

    /// The shard of what has this hash.
    fn of(&self, hash: u64) -> &Shard {
        // There is at least one, and less than a word of them.
        let index = usize::try_from(hash % self.shards.len() as u64).unwrap_or_default();
        &self.shards[index]
    }

    fn of_order(&self, order: &OrderId) -> &Shard {
        if self.shards.len() == 1 { &self.shards[0] } else { self.of(hash(order)) }
    }

    /// The shard for what all nodes hear on all shards.
    fn any(&self) -> &Shard {
        self.shards.iter().find(|shard| shard.is_up()).unwrap_or(&self.shards[0])
    }

    pub fn publish(&self, event: &LiveEvent) {
        let (shard, remote) = match event {
            LiveEvent::Location(location) => {
                let order = location.about.order.id.clone();
                let (driver, fix, eta) = (location.driver.clone(), location.fix, location.last_eta);
                let (provenance, accepted) = (location.provenance, location.accepted);
                let moved = Moved { order, driver, fix, provenance, eta, accepted, node: 0 };
                (self.of_order(&moved.order), Remote::Moved(moved))
            }
            LiveEvent::Eta(change) => {
                let (order, customer) = (change.order.clone(), change.customer.clone());
                let (driver, eta) = (change.driver.clone(), change.eta);
                // Every node has to know of an ETA that was set by hand, or it would compute another one.
                let by_hand = eta.source == EtaSource::Override;
                let shard = if by_hand { self.any() } else { self.of_order(&order) };
                (shard, Remote::Expected(Expected { order, customer, driver, eta }))
            }
            // It must not be lost, so it goes another way.
            LiveEvent::Announcement(_) | LiveEvent::Told(_) => return,
        };
        shard.outgoing.put(Slot::of(&remote), Body::Live(remote));
    }

    pub fn is_deaf(&self) -> bool {
        self.shards.iter().any(|shard| !shard.is_up())
    }

    pub fn hear(&self, order: &OrderId) {
        let hash = hash(order);
        self.of(hash).interest.want(hash, self.clock.now());
    }

    pub fn hear_all(&self) {
        for shard in &self.shards {
            shard.interest.want_all(self.clock.now());
        }
    }

    pub async fn last(&self, order: &OrderId) -> Option<(Moved, Time)> {
        let hash = hash(order);
        let shard = self.of(hash);
        if shard.hears(hash) {
            return None;
        }
        let kept = tokio::time::timeout(READ_TIME, shard.kept(&[hash])).await.ok()?;
        kept.into_iter().next().filter(|(moved, _)| moved.order == *order)
    }

    pub fn wake_log(&self, position: i64) {
        self.any().outgoing.put(Slot::Log, Body::Log(position));
    }

    pub fn tell_heads(&self, heads: Heads) {
        self.any().outgoing.put(Slot::Heads, Body::Heads(heads));
    }

    pub fn heads(&self) -> AllHeard {
        self.incoming.heads()
    }

    pub fn log(&self) -> &watch::Sender<i64> {
        &self.incoming.log
    }

    pub fn wake_control(&self, position: i64) {
        self.any().outgoing.put(Slot::Control, Body::Control(position));
    }

    pub fn control(&self) -> &watch::Sender<i64> {
        &self.incoming.control
    }

    pub async fn ask(&self, question: Question, others: Vec<u16>) -> Answers {
        let Some((id, complete)) = self.incoming.asks.begin(others.clone(), self.seed) else {
            return Answers { count: 0, silent: others };
        };
        self.any().outgoing.put(Slot::Ask(id), Body::Ask { id, question });
        let _ = tokio::time::timeout(ANSWER_TIME, complete.notified()).await;
        self.incoming.asks.end(id)
    }

    /// Keeps up all connections, and hands on what arrives. Returns only if one of its tasks has failed.
    pub async fn run(&self, apply: impl Fn(Remote, Time), answer: impl Fn(Question) -> u64) {
        let mut tasks = JoinSet::new();
        for shard in &self.shards {
            tasks.spawn(Arc::clone(shard).publish());
            tasks.spawn(Arc::clone(shard).listen());
        }
        tokio::select! {
            _ = tasks.join_next() => {}
            () = self.deliver(apply, answer) => {}
        }
    }

    async fn deliver(&self, apply: impl Fn(Remote, Time), answer: impl Fn(Question) -> u64) {
        loop {
            self.incoming.ready.notified().await;
            let (live, asked) = self.incoming.next();
            for Asked { node, id, question } in asked {
                let count = answer(question);
                self.any().outgoing.put(Slot::Answer { to: node, id }, Body::Answer { id, count });
            }
            for (number, (event, sent)) in live.enumerate() {
                apply(event, sent);
                let lag = self.clock.now() - sent;
                // What Redis has kept was not on its way for so long.
                if lag <= OLDEST {
                    self.metrics.bus_lag.observe(lag.to_std().unwrap_or_default().as_secs_f64());
                }
                if number % AT_A_TIME == AT_A_TIME - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// A client of the server with this number, from 0.
///
/// # Errors
/// One line for the operator. The URL is never repeated, and neither is the error, which may quote it: it may contain a password.
pub(super) fn client(index: u32, url: &str) -> Result<redis::Client, String> {
    let client = connection_info(url).and_then(redis::Client::open);
    client.map_err(|_| format!("REDIS_URL: URL number {} cannot be read", index + 1))
}

/// Version 3 of the protocol has pushes: messages of channels beside answers.
fn connection_info(url: &str) -> redis::RedisResult<ConnectionInfo> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings))
}
