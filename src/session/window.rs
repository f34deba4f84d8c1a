//! The newest events of the log, rendered, and found by topic. Clients catch up from here, so each event is read from
//! the database once, however many clients come back together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::{SmallVec, smallvec};

use crate::app::App;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::message::{Outgoing, Telling, Topic};
use crate::event::log;
use crate::model::{Audience, Forecast, OrderEvent, Role};

/// Events that one look into the window returns.
const BATCH: usize = 64;

/// A durable event with its messages, which are rendered when they are first needed.
pub struct RenderedEvent {
    pub event: OrderEvent,
    forecast: Forecast,
    live: [OnceLock<SmallVec<[Outgoing; 3]>>; Dialect::ALL.len()],
    replayed: [OnceLock<SmallVec<[Outgoing; 3]>>; Dialect::ALL.len()],
}

impl RenderedEvent {
    #[must_use]
    pub fn new(event: OrderEvent, forecast: Forecast) -> Arc<Self> {
        Arc::new(Self { event, forecast, live: Default::default(), replayed: Default::default() })
    }

    /// The messages of the event in a dialect, in the order in which they are told.
    #[must_use]
    pub fn outgoing(&self, dialect: Dialect, telling: Telling) -> &[Outgoing] {
        let rendered = match telling {
            Telling::Replayed => &self.replayed,
            Telling::Live | Telling::Snapshot => &self.live,
        };
        rendered[dialect as usize].get_or_init(|| dialect.render(&self.event, self.forecast, telling))
    }

    /// The topics of everybody who may hear of the event.
    #[must_use]
    pub fn topics(&self) -> SmallVec<[Topic; 6]> {
        let mut topics: SmallVec<[Topic; 6]> = smallvec![
            Topic::Order(self.event.order.id.clone()),
            Topic::Role(Role::Admin),
            Topic::Role(Role::Service),
            Topic::Role(Role::Anonymous)
        ];
        topics.extend(self.event.audience().into_iter().map(|audience| match audience {
            Audience::User(user) => Topic::User(user),
            Audience::Role(role) => Topic::Role(role),
        }));
        topics
    }
}

/// What the window has for a client.
pub enum Next {
    /// These events, and more to ask for.
    Events(Vec<Arc<RenderedEvent>>),
    /// The last events, and the position up to which nothing else is missing.
    Last(Vec<Arc<RenderedEvent>>, i64),
    /// The window does not reach back that far.
    TooOld,
}

/// The newest events of the log, without a gap.
pub struct Window {
    /// The number of events kept.
    capacity: i64,
    state: Mutex<State>,
    /// Held by the task that reads older events into the window. Other tasks wait and find them there.
    reaching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Position of the first event kept, or of the next event while there is none.
    first: i64,
    events: VecDeque<Arc<RenderedEvent>>,
    /// The positions of the events of each topic.
    topics: HashMap<Topic, VecDeque<i64>>,
}

impl Window {
    /// An empty window after a position.
    #[must_use]
    pub fn new(head: i64, capacity: u32) -> Self {
        let state = State { first: head + 1, ..State::default() };
        Self {
            capacity: i64::from(capacity),
            state: Mutex::new(state),
            reaching: tokio::sync::Mutex::default(),
        }
    }

    /// Takes the next event of the log.
    pub fn push(&self, rendered: &Arc<RenderedEvent>) {
        let mut state = self.state();
        let position = rendered.event.position;
        if position != state.head() + 1 {
            // The log has no gaps, so this does not happen. After a gap, older events could not be told from here.
            *state = State { first: position, ..State::default() };
        }
        for topic in rendered.topics() {
            let positions = state.topics.entry(topic).or_default();
            if positions.back() != Some(&position) {
                positions.push_back(position);
            }
        }
        state.events.push_back(Arc::clone(rendered));
        if state.len() > self.capacity {
            state.drop_oldest();
        }
    }

    /// The next events after a position for somebody who hears these topics.
    #[must_use]
    pub fn next(&self, after: i64, topics: &[Topic]) -> Next {
        let state = self.state();
        if after + 1 < state.first {
            return Next::TooOld;
        }
        let mut positions: SmallVec<[i64; BATCH]> = SmallVec::new();
        for topic in topics {
            let Some(known) = state.topics.get(topic) else { continue };
            let begin = known.partition_point(|position| *position <= after);
            positions.extend(known.iter().skip(begin).take(BATCH + 1).copied());
        }
        positions.sort_unstable();
        positions.dedup();
        let more = positions.len() > BATCH;
        positions.truncate(BATCH);
        let events = positions.iter().filter_map(|position| state.get(*position)).cloned().collect();
        if more { Next::Events(events) } else { Next::Last(events, state.head()) }
    }

    /// How many events after a position are for somebody who hears these topics; `None` if the window does not reach
    /// back that far. An event for several of the topics may count more than once.
    #[must_use]
    pub fn count(&self, after: i64, topics: &[Topic]) -> Option<u64> {
        let state = self.state();
        if after + 1 < state.first {
            return None;
        }
        let newer = |topic: &Topic| {
            let known = state.topics.get(topic)?;
            Some((known.len() - known.partition_point(|position| *position <= after)) as u64)
        };
        Some(topics.iter().filter_map(newer).sum())
    }

    /// Reads older events until the window reaches back to a position, if its capacity allows.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reach(&self, app: &App, after: i64) -> Result<(), Refusal> {
        loop {
            let first = self.state().first;
            if after + 1 >= first || !self.can_reach(after) {
                return Ok(());
            }
            let _one = self.reaching.lock().await;
            let first = self.state().first;
            #[expect(clippy::cast_possible_wrap, reason = "a page is small")]
            let from = after.max(first - 1 - log::PAGE as i64);
            if from + 1 >= first {
                continue;
            }
            app.metrics.log_reads.inc();
            let events = log::between(app.events.log(), from, first).await?;
            self.prepend(events);
            if self.state().first == first {
                return Err(Refusal::internal(format!("the log has a gap before {first}")));
            }
        }
    }

    /// Whether [`Window::reach`] can reach back to a position.
    #[must_use]
    pub fn can_reach(&self, after: i64) -> bool {
        self.state().head() - after <= self.capacity
    }

    fn prepend(&self, events: Vec<OrderEvent>) {
        let mut state = self.state();
        for event in events.into_iter().rev() {
            // The window may have moved on meanwhile.
            if state.first != event.position + 1 || state.len() >= self.capacity {
                return;
            }
            let rendered = RenderedEvent::new(event, Forecast::default());
            state.first = rendered.event.position;
            for topic in rendered.topics() {
                let positions = state.topics.entry(topic).or_default();
                if positions.front() != Some(&rendered.event.position) {
                    positions.push_front(rendered.event.position);
                }
            }
            state.events.push_front(rendered);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn len(&self) -> i64 {
        i64::try_from(self.events.len()).unwrap_or(i64::MAX)
    }

    fn head(&self) -> i64 {
        self.first + self.len() - 1
    }

    fn get(&self, position: i64) -> Option<&Arc<RenderedEvent>> {
        self.events.get(usize::try_from(position - self.first).ok()?)
    }

    fn drop_oldest(&mut self) {
        let Some(rendered) = self.events.pop_front() else { return };
        self.first += 1;
        for topic in rendered.topics() {
            if let Some(positions) = self.topics.get_mut(&topic) {
                while positions.front().is_some_and(|position| *position < self.first) {
                    positions.pop_front();
                }
                if positions.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
    }
}
