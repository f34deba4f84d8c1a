//! The way of live events from their source to every node's sessions.
//!
//! Redis only hurries: an event that it loses is replaced by the next one, and what must not be lost is in the database.

mod ask;
mod frame;
mod incoming;
mod interest;
mod outgoing;
mod probe;
mod redis;
mod shard;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::ask::Answers;
pub use self::frame::{Body, Expected, Frame, Moved, Question, Remote, hash, read, write};
pub use self::probe::{Seen, Unseen, probe};
use self::redis::Redis;
use crate::base::clock::{Clock, Time};
use crate::base::config::Cluster as Settings;
use crate::base::metrics::Metrics;
use crate::base::trace;
use crate::cluster::Cluster;
use crate::cluster::heads::{AllHeard, Heads};
use crate::model::{LiveEvent, OrderId};

/// How often the logs are read while Redis does not tell of what other nodes write.
const DEAF: Duration = Duration::from_millis(50);

type Subscriber = Box<dyn Fn(&LiveEvent) + Send + Sync>;

/// The way between nodes, this one's sessions included. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<Parts>);

struct Parts {
    sessions: OnceLock<Subscriber>,
    way: Way,
    cluster: Cluster,
    /// What is awaited without Redis: nothing ever comes.
    silence: watch::Sender<i64>,
}

/// The transport to other nodes. The set is closed: there are few, and each needs different things.
enum Way {
    /// Events stay on this node.
    Local,
    Redis(Arc<Redis>),
}

impl Bus {
    /// The bus of this node. Redis need not answer yet.
    ///
    /// # Errors
    /// One line for the operator, if a URL of Redis cannot be read.
    pub fn new(
        cluster: Cluster,
        settings: &Settings,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, String> {
        let urls = settings.redis_urls();
        let way = if urls.is_empty() {
            Way::Local
        } else {
            Way::Redis(Arc::new(Redis::new(&urls, &settings.redis_prefix, &cluster, clock, metrics)?))
        };
        let silence = watch::Sender::new(0);
        Ok(Self(Arc::new(Parts { sessions: OnceLock::new(), way, cluster, silence })))
    }

    fn redis(&self) -> Option<&Arc<Redis>> {
        match &self.0.way {
            Way::Local => None,
            Way::Redis(redis) => Some(redis),
        }
    }

    /// Sets the one subscriber, which gets every live event on this node: the sessions.
    pub fn subscribe(&self, subscriber: impl Fn(&LiveEvent) + Send + Sync + 'static) {
        let taken = self.0.sessions.set(Box::new(subscriber)).is_err();
        debug_assert!(!taken, "a node has one fan-out");
    }

    /// Sends an event to every node, this one included, at most once. A lost event is replaced by the next one. The sessions of
    /// this node have it when this returns.
    pub fn publish(&self, event: &LiveEvent) {
        let _span = trace::part("publish");
        self.tell(event);
        if let Way::Redis(redis) = &self.0.way {
            redis.publish(event);
        }
    }

    /// Sends an event to the sessions of this node only.
    pub fn tell(&self, event: &LiveEvent) {
        if let Some(subscriber) = self.0.sessions.get() {
            subscriber(event);
        }
    }

    /// Whether other nodes can be reached at all.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.redis().is_some()
    }

    /// Whether there are other nodes.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.0.cluster.roster().len() > 1
    }

    /// Whether this node misses what others say: it does not hear itself either.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.redis().is_some_and(|redis| redis.is_deaf())
    }

    /// How often the logs are to be read for what other nodes have written: as usual, or more often while Redis does not tell of
    /// it.
    #[must_use]
    pub fn poll(&self, usual: Duration) -> Duration {
        if self.is_deaf() && self.has_others() { DEAF.min(usual) } else { usual }
    }

    /// Somebody on this node listens to the order: its live events of other nodes are heard for a minute from now on.
    pub fn hear(&self, order: &OrderId) {
        if let Some(redis) = self.redis() {
            redis.hear(order);
        }
    }

    /// Somebody on this node listens to all orders.
    pub fn hear_all(&self) {
        if let Some(redis) = self.redis() {
            redis.hear_all();
        }
    }

    /// Where the driver of an order was when another node last told of it, and when it told. `None` if that is known here
    /// anyhow, or Redis does not say.
    pub async fn last(&self, order: &OrderId) -> Option<(Moved, Time)> {
        let redis = self.redis().filter(|_| self.has_others())?;
        redis.last(order).await
    }

    /// This node has written to the log up to this position.
    pub fn wake_log(&self, position: i64) {
        if let Some(redis) = self.redis() {
            redis.wake_log(position);
        }
    }

    /// The newest position of the log that another node has told of.
    #[must_use]
    pub fn log_news(&self) -> watch::Receiver<i64> {
        self.redis().map_or(&self.0.silence, |redis| redis.log()).subscribe()
    }

    /// This node has written to the control log up to this position.
    pub fn wake_control(&self, position: i64) {
        if let Some(redis) = self.redis() {
            redis.wake_control(position);
        }
    }

    /// The newest position of the control log that another node has told of.
    #[must_use]
    pub fn control_news(&self) -> watch::Receiver<i64> {
        self.redis().map_or(&self.0.silence, |redis| redis.control()).subscribe()
    }

    /// Tells the other nodes how far this one is.
    pub fn tell_heads(&self, heads: Heads) {
        if let Some(redis) = self.redis() {
            redis.tell_heads(heads);
        }
    }

    /// How far the other nodes are, by number, as they said within the last seconds.
    #[must_use]
    pub fn heads(&self) -> AllHeard {
        self.redis().map(|redis| redis.heads()).unwrap_or_default()
    }

    /// Asks all other nodes that are alive, for a limited time.
    pub async fn ask(&self, question: Question) -> Answers {
        let own = self.0.cluster.id();
        let others: Vec<u16> =
            self.0.cluster.roster().iter().filter(|node| node.id != own).map(|node| node.number).collect();
        match self.redis() {
            // With `SQLite` the other one is a process that died, or one that hands its port over to this one.
            _ if others.is_empty() || !self.0.cluster.lease().binds() => Answers::default(),
            None => Answers { count: 0, silent: others },
            Some(redis) => redis.ask(question, others).await,
        }
    }

    /// Keeps up the connections until `stop`. `apply` gets the live events of other nodes, and when each was sent; `answer` their
    /// questions.
    pub async fn run(
        self,
        apply: impl Fn(Remote, Time),
        answer: impl Fn(Question) -> u64,
        stop: CancellationToken,
    ) {
        match &self.0.way {
            Way::Local => stop.cancelled().await,
            Way::Redis(redis) => {
                stop.run_until_cancelled(redis.run(apply, answer)).await;
            }
        }
    }
}
