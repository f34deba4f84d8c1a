//! What other nodes say: checked where it arrives, and kept until this node gets to it, the newest of each kind for each order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use chrono::TimeDelta;
use tokio::sync::{Notify, watch};

use super::ask::Asks;
use super::frame::{Body, Frame, Moved, Question, Remote, read};
use super::outgoing::{MOST, Slot};
use crate::base::clock::{Clock, Time, instant};
use crate::base::metrics::Metrics;
use crate::cluster::Cluster;
use crate::cluster::heads::{AllHeard, Heads, Heard};

/// A frame that is older is not believed: somebody may have kept it.
pub(super) const OLDEST: TimeDelta = TimeDelta::seconds(10);
/// The same for the last position of an order, which Redis keeps.
pub(super) const OLDEST_KEPT: TimeDelta = TimeDelta::seconds(600);
/// Who has said nothing for so long is forgotten.
const SILENT: Duration = Duration::from_secs(10);
/// Questions of others that wait for an answer.
const QUESTIONS: usize = 1_024;

/// A question of another node.
pub(super) struct Asked {
    pub node: u16,
    pub id: u64,
    pub question: Question,
}

/// Everything that arrives.
pub(super) struct Incoming {
    cluster: Cluster,
    clock: Clock,
    metrics: Metrics,
    waiting: Mutex<Waiting>,
    /// Notified when something waits.
    pub ready: Notify,
    /// The newest positions in the logs that others have told of.
    pub log: watch::Sender<i64>,
    pub control: watch::Sender<i64>,
    pub asks: Asks,
    /// How far the others are, by their numbers.
    heads: Mutex<AllHeard>,
}

#[derive(Default)]
struct Waiting {
    live: AHashMap<Slot, (Remote, Time)>,
    asked: Vec<Asked>,
    /// Questions that were heard lately: each is answered once.
    heard: VecDeque<(u16, u64)>,
}

impl Incoming {
    pub fn new(cluster: Cluster, clock: Clock, metrics: Metrics) -> Self {
        Self {
            cluster,
            clock,
            metrics,
            waiting: Mutex::default(),
            ready: Notify::new(),
            log: watch::Sender::new(0),
            control: watch::Sender::new(0),
            asks: Asks::default(),
            heads: Mutex::default(),
        }
    }

    /// Takes what arrived on a channel. Called on the task that reads the connection, so it does not wait. `beat` is told of
    /// this node's own beats.
    pub fn arrived(&self, channel: &str, bytes: &[u8], beat: &AtomicU64) {
        for frame in self.frames(channel, bytes, OLDEST) {
            self.metrics.bus_received.inc();
            if let Body::Beat(at) = frame.body {
                if frame.node == self.cluster.number() {
                    beat.fetch_max(at, Ordering::AcqRel);
                }
            } else if frame.node != self.cluster.number() {
                self.take(frame);
            }
        }
    }

    /// The last position of an order, which Redis has kept, and when it was sent. `channel` is the one that it was sent on.
    pub fn kept(&self, channel: &str, bytes: &[u8]) -> Option<(Moved, Time)> {
        let own = self.cluster.number();
        self.frames(channel, bytes, OLDEST_KEPT).into_iter().find_map(|frame| match frame.body {
            Body::Live(Remote::Moved(moved)) if frame.node != own => Some((moved, frame.sent)),
            _ => None,
        })
    }

    fn frames(&self, channel: &str, mut bytes: &[u8], oldest: TimeDelta) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(1);
        while !bytes.is_empty() {
            let Ok((frame, rest)) = read(bytes, channel, self.cluster.key()) else {
                self.metrics.bus_forged.inc();
                break;
            };
            bytes = rest;
            let Some(frame) = frame else { continue };
            // A beat has a time of its own.
            let is_beat = matches!(frame.body, Body::Beat(_));
            if is_beat || (self.clock.now() - frame.sent).abs() <= oldest {
                frames.push(frame);
            } else {
                self.metrics.bus_dropped.inc();
            }
        }
        frames
    }

    /// Keeps an event of another node until this one gets to it.
    pub fn put(&self, event: Remote, sent: Time) {
        let slot = Slot::of(&event);
        {
            let mut waiting = self.waiting();
            if waiting.live.len() >= MOST && !waiting.live.contains_key(&slot) {
                self.metrics.bus_dropped.inc();
                return;
            }
            let known = waiting.live.get(&slot);
            if known.is_some() {
                self.metrics.bus_conflated.inc();
            }
            if known.is_none_or(|(_, known)| *known < sent) {
                waiting.live.insert(slot, (event, sent));
            }
        }
        self.ready.notify_one();
    }

    fn take(&self, frame: Frame) {
        let Frame { node, sent, body } = frame;
        match body {
            Body::Live(event) => self.put(event, sent),
            Body::Log(position) => raise(&self.log, position),
            Body::Control(position) => raise(&self.control, position),
            Body::Ask { id, question } => {
                let mut waiting = self.waiting();
                if waiting.heard.contains(&(node, id)) || waiting.asked.len() >= QUESTIONS {
                    return;
                }
                if waiting.heard.len() >= QUESTIONS {
                    waiting.heard.pop_front();
                }
                waiting.heard.push_back((node, id));
                waiting.asked.push(Asked { node, id, question });
                drop(waiting);
                self.ready.notify_one();
            }
            Body::Answer { id, count } => self.asks.answered(id, node, count),
            Body::Heads(heads) => self.is_at(node, heads),
            Body::Beat(_) => {}
        }
    }

    /// Another node has said how far it is.
    fn is_at(&self, node: u16, heads: Heads) {
        let (now, age) = (instant(), (self.clock.now() - heads.at).to_std().unwrap_or_default());
        let Some(at) = now.checked_sub(age) else { return };
        let mut all = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, heard| now - heard.at < SILENT);
        if all.get(&node).is_none_or(|known| known.heads.at < heads.at) {
            all.insert(node, Heard { heads, at });
        }
    }

    /// How far the other nodes are that were heard of late.
    pub fn heads(&self) -> AllHeard {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes out everything that waits.
    pub fn next(&self) -> (impl Iterator<Item = (Remote, Time)> + use<>, Vec<Asked>) {
        let mut waiting = self.waiting();
        (std::mem::take(&mut waiting.live).into_values(), std::mem::take(&mut waiting.asked))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raise(newest: &watch::Sender<i64>, position: i64) {
    newest.send_if_modified(|known| {
        let is_newer = position > *known;
        if is_newer {
            *known = position;
        }
        is_newer
    });
}
