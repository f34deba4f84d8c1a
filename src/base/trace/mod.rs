//! Traces: what a request did, and how long each part took, for a collector that speaks OTLP.
//!
//! A [`Span`] is begun by the HTTP layer or by a socket's inbox. What happens on its way finds it by [`current`], or carries a [`Link`]
//! to it to another task. Spans hold no id of a person or an order, no text of a client and no token. While tracing is off, or a
//! request is not sampled, a span is an empty pointer.

mod context;
mod export;
mod noted;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::context::Incoming;
pub use self::export::{Exporter, reach};
pub use self::noted::Noted;
use super::clock::{Clock, instant};
use super::config::Traces;
use super::metrics::Metrics;

/// Spans that wait for the exporter. Further ones are dropped and counted.
const QUEUE: usize = 4_096;

/// Whether any tracer of this process is on. What runs for every position looks here first.
static ON: AtomicBool = AtomicBool::new(false);

tokio::task_local! {
    static CURRENT: Link;
}

/// Begins traces. Cheap to clone; one that is off begins none.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    queue: mpsc::Sender<Ended>,
    /// The part of all traces that is sampled: from 0 to 1.
    sample: f64,
    clock: Clock,
    metrics: Metrics,
}

/// What a span is to a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A part of this server.
    Internal = 1,
    /// A request that came from outside.
    Server = 2,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// The times of one trace: the wall clock once, and the time since.
#[derive(Clone, Copy)]
struct Anchor {
    wall: Duration,
    at: Instant,
}

impl Anchor {
    /// Nanoseconds since the Unix epoch.
    fn nanos(self, at: Instant) -> u128 {
        (self.wall + at.saturating_duration_since(self.at)).as_nanos()
    }
}

/// Where a span hangs: its trace, and the span above it. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    tracer: Arc<Inner>,
    trace: [u8; 16],
    parent: [u8; 8],
    anchor: Anchor,
}

/// A part of a trace that is under way. It ends when it is dropped.
#[derive(Default)]
pub struct Span(Option<Box<Open>>);

struct Open {
    link: Link,
    id: [u8; 8],
    has_parent: bool,
    name: Cow<'static, str>,
    kind: Kind,
    began: Instant,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

/// A span that has ended.
struct Ended {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: Cow<'static, str>,
    kind: Kind,
    /// Nanoseconds since the Unix epoch.
    from: u128,
    until: u128,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

/// A request whose trace has begun.
pub struct Begun {
    /// The id of the trace in hex, for the log.
    pub trace: String,
    /// Empty if the trace is not sampled.
    pub span: Span,
}

impl Tracer {
    /// A tracer and its exporter; off, and no exporter, without an endpoint. `node` is the id of the process.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn new(
        settings: &Traces,
        node: &str,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<(Self, Option<Exporter>), String> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok((Self::default(), None)) };
        let (queue, ended) = mpsc::channel(QUEUE);
        let exporter = Exporter::new(endpoint, settings.headers()?, node, ended, metrics.clone())?;
        let (clock, metrics) = (clock.clone(), metrics.clone());
        ON.store(true, Ordering::Relaxed);
        let inner = Inner { queue, sample: settings.otlp_sample, clock, metrics };
        Ok((Self(Some(Arc::new(inner))), Some(exporter)))
    }

    /// Begins the trace of a request, which is named only if it is sampled, or goes on with the one of its `traceparent` header.
    /// `None` while tracing is off.
    #[must_use]
    pub fn begin(&self, name: impl FnOnce() -> String, traceparent: Option<&str>) -> Option<Begun> {
        let tracer = self.0.as_ref()?;
        let incoming = traceparent.and_then(Incoming::parse);
        let is_sampled = incoming.map_or_else(|| tracer.samples(), |incoming| incoming.is_sampled);
        let trace = incoming.map_or_else(|| tracer.clock.random(), |incoming| incoming.trace);
        let span = if is_sampled {
            tracer.root(name().into(), trace, incoming.map(|incoming| incoming.parent))
        } else {
            Span::default()
        };
        Some(Begun { trace: hex::encode(trace), span })
    }

    /// Begins the trace of what comes over a socket. Empty while tracing is off, and if it is not sampled.
    #[must_use]
    pub fn event(&self, name: &'static str) -> Span {
        match &self.0 {
            Some(tracer) if tracer.samples() => tracer.root(name.into(), tracer.clock.random(), None),
            _ => Span::default(),
        }
    }
}

impl Inner {
    /// Whether the next trace that begins here is sampled.
    fn samples(&self) -> bool {
        self.sample >= 1.0 || self.clock.fraction() < self.sample
    }

    fn root(self: &Arc<Self>, name: Cow<'static, str>, trace: [u8; 16], parent: Option<[u8; 8]>) -> Span {
        let wall = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or_default();
        let anchor = Anchor { wall: Duration::from_millis(wall), at: instant() };
        let link = Link { tracer: Arc::clone(self), trace, parent: parent.unwrap_or_default(), anchor };
        link.open(name, Kind::Server, parent.is_some())
    }
}

impl Link {
    /// Begins a part of what it links to.
    #[must_use]
    pub fn span(&self, name: &'static str) -> Span {
        self.open(name.into(), Kind::Internal, true)
    }

    fn open(&self, name: Cow<'static, str>, kind: Kind, has_parent: bool) -> Span {
        let (id, began) = (self.tracer.clock.random(), instant());
        let (link, attributes) = (self.clone(), Vec::new());
        Span(Some(Box::new(Open { link, id, has_parent, name, kind, began, attributes, failed: false })))
    }
}

impl Span {
    /// For what happens below it. `None` for an empty span.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        self.0.as_ref().map(|open| Link { parent: open.id, ..open.link.clone() })
    }

    /// The id of its trace in hex.
    #[must_use]
    pub fn trace(&self) -> Option<String> {
        self.0.as_ref().map(|open| hex::encode(open.link.trace))
    }

    /// Says something about it. Neither persons nor tokens, nor what a client has written.
    pub fn say(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.attributes.push((key, value.into()));
        }
    }

    /// It did not do what it was for.
    pub fn fail(&mut self) {
        if let Some(open) = &mut self.0 {
            open.failed = true;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = self.0.take() else { return };
        let Open { link, id, has_parent, name, kind, began, attributes, failed } = *open;
        let Link { tracer, trace, parent, anchor } = link;
        let (from, until) = (anchor.nanos(began), anchor.nanos(instant()));
        let parent = has_parent.then_some(parent);
        let ended = Ended { trace, id, parent, name, kind, from, until, attributes, failed };
        if tracer.queue.try_send(ended).is_err() {
            tracer.metrics.spans("dropped", 1);
        }
    }
}

/// What this task does now, if it is part of a trace that is sampled.
#[must_use]
pub fn current() -> Option<Link> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    CURRENT.try_with(Link::clone).ok()
}

/// Begins a part of what this task does now. Empty if that is no part of a trace.
#[must_use]
pub fn part(name: &'static str) -> Span {
    if !ON.load(Ordering::Relaxed) {
        return Span::default();
    }
    CURRENT.try_with(|link| link.span(name)).unwrap_or_default()
}

/// Does something as part of a span.
pub async fn within<F: Future>(span: &Span, work: F) -> F::Output {
    match span.link() {
        Some(link) => CURRENT.scope(link, work).await,
        None => work.await,
    }
}

/// The same for what does not wait.
pub fn within_now<T>(span: &Span, work: impl FnOnce() -> T) -> T {
    match span.link() {
        Some(link) => CURRENT.sync_scope(link, work),
        None => work(),
    }
}
