//! The newest events of the log, rendered, and found by topic. Clients catch up from here, so each event is read from
//! the database once, however many clients come back together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::{SmallVec, smallvec};

use crate::app::App;
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::message::{Outgoing, Telling, Topic};
use crate::event::log;
use crate::model::{Forecast, OrderEvent, Role, access};

/// Events that one look into the window returns.
const BATCH: usize = 64;
/// What an event takes that holds next to nothing, in bytes: its history, its place in the topics, short messages.
const BASE_BYTES: usize = 2_048;
/// How often the texts of the order are held: in the event, and in the messages that show the whole order.
const COPIES: usize = 6;

/// A durable event with its messages, which are rendered when they are first needed.
pub struct RenderedEvent {
    pub event: OrderEvent,
    /// About how many bytes it takes with its messages.
    bytes: usize,
    forecast: Forecast,
    live: [OnceLock<SmallVec<[Outgoing; 3]>>; Dialect::ALL.len()],
    replayed: [OnceLock<SmallVec<[Outgoing; 3]>>; Dialect::ALL.len()],
    /// The same without the driver, and without the driver's place: see [`Window::for_public`].
    without_driver: OnceLock<Arc<RenderedEvent>>,
    without_place: OnceLock<Arc<RenderedEvent>>,
}

impl RenderedEvent {
    #[must_use]
    pub fn new(event: OrderEvent, forecast: Forecast) -> Arc<Self> {
        Arc::new(Self {
            bytes: BASE_BYTES + COPIES * event.order.bytes(),
            event,
            forecast,
            live: Default::default(),
            replayed: Default::default(),
            without_driver: OnceLock::new(),
            without_place: OnceLock::new(),
        })
    }

    /// The event as customers hear of it when the driver is no longer theirs to see.
    fn without_driver(&self) -> Arc<Self> {
        let forecast = Forecast { position: None, ..self.forecast };
        Arc::clone(self.without_driver.get_or_init(|| Self::new(self.event.without_phone(), forecast)))
    }

    /// The event as customers hear of it later if the driver may be too far from theirs by then.
    fn without_place(&self) -> Arc<Self> {
        let forecast = Forecast { position: None, ..self.forecast };
        Arc::clone(self.without_place.get_or_init(|| Self::new(self.event.clone(), forecast)))
    }

    /// Whether customers may see the driver's phone number or place in it.
    fn shows_driver(&self) -> bool {
        let phone = self.event.order.driver.as_ref().is_some_and(|driver| driver.phone.is_some());
        phone || self.forecast.position.is_some()
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
        topics.extend(self.event.audience().into_iter().flat_map(Topic::of));
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

/// The newest events of the log. Positions of orders that are gone, and of events that this version cannot read, are
/// empty.
pub struct Window {
    /// The number of events kept, and of their bytes.
    capacity: i64,
    max_bytes: usize,
    /// Customers are not told later where the driver was: see `SHOW_DRIVER_WITHIN_STOPS`.
    forgets_places: bool,
    state: Mutex<State>,
    /// Held by the task that reads older events into the window. Other tasks wait and find them there.
    reaching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The first position kept, or the next one while there is none.
    first: i64,
    /// The event at each position.
    events: VecDeque<Option<Arc<RenderedEvent>>>,
    /// The bytes of the events.
    bytes: usize,
    /// How often all events were dropped. What was read before that must not come in after it.
    dropped: u64,
    /// The positions of the events of each topic.
    topics: HashMap<Topic, VecDeque<i64>>,
}

impl Window {
    /// An empty window after a position.
    #[must_use]
    pub fn new(head: i64, capacity: u32, max_bytes: usize, forgets_places: bool) -> Self {
        let state = State { first: head + 1, ..State::default() };
        Self {
            capacity: i64::from(capacity),
            max_bytes,
            forgets_places,
            state: Mutex::new(state),
            reaching: tokio::sync::Mutex::default(),
        }
    }

    /// Takes the next event of the log.
    pub fn push(&self, rendered: &Arc<RenderedEvent>) {
        let mut state = self.state();
        let position = rendered.event.position;
        if !(state.head() + 1..=state.head() + self.capacity).contains(&position) {
            *state = State { first: position, dropped: state.dropped, ..State::default() };
        }
        while state.head() + 1 < position {
            state.events.push_back(None);
        }
        for topic in rendered.topics() {
            let positions = state.topics.entry(topic).or_default();
            if positions.back() != Some(&position) {
                positions.push_back(position);
            }
        }
        state.bytes += rendered.bytes;
        state.events.push_back(Some(Arc::clone(rendered)));
        while state.len() > self.capacity || (state.bytes > self.max_bytes && state.len() > 1) {
            state.drop_oldest();
        }
    }

    /// Drops events from before a time. Those whose orders are still kept are read again when they are needed.
    pub fn forget_before(&self, time: Time) {
        let mut state = self.state();
        while let Some(oldest) = state.events.front()
            && oldest.as_ref().is_none_or(|rendered| rendered.event.at < time)
        {
            state.drop_oldest();
        }
    }

    /// Drops all events. They are read again when they are needed.
    pub fn forget_all(&self) {
        let mut state = self.state();
        *state = State { first: state.head() + 1, dropped: state.dropped + 1, ..State::default() };
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

    /// The event as customers and clients without a token may hear of it now, which is later than when it happened: the
    /// driver is left out once the order has arrived or is with another driver, and the driver's place if it may be hidden by now.
    #[must_use]
    pub fn for_public(&self, rendered: Arc<RenderedEvent>) -> Arc<RenderedEvent> {
        if !rendered.shows_driver() {
            return rendered;
        }
        let state = self.state();
        let positions = state.topics.get(&Topic::Order(rendered.event.order.id.clone()));
        let newest = positions.and_then(VecDeque::back).and_then(|position| state.get(*position));
        match newest {
            Some(newest) if !access::driver_still_visible(&rendered.event.order, &newest.event.order) => {
                rendered.without_driver()
            }
            // Where the driver goes may have changed since. They hear of the place with the next one.
            _ if self.forgets_places && rendered.forecast.position.is_some() => rendered.without_place(),
            _ => rendered,
        }
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
            let (first, dropped) = {
                let state = self.state();
                (state.first, state.dropped)
            };
            #[expect(clippy::cast_possible_wrap, reason = "a page is small")]
            let from = after.max(first - 1 - log::PAGE as i64);
            if from + 1 >= first {
                continue;
            }
            app.metrics.log_reads.inc();
            let (from, events) = log::between(app.events.log(), from, first).await?;
            self.prepend(from, first, dropped, events);
        }
    }

    /// Whether [`Window::reach`] can reach back to a position.
    #[must_use]
    pub fn can_reach(&self, after: i64) -> bool {
        let state = self.state();
        state.head() - after <= self.capacity && (after + 1 >= state.first || self.has_room(&state))
    }

    /// Whether older events may be put before the others. A window that is nearly full of large ones takes none: it would
    /// be read again for every few that it drops.
    fn has_room(&self, state: &State) -> bool {
        state.bytes < self.max_bytes / 4 * 3
    }

    /// Puts the events between two positions before those that are kept.
    fn prepend(&self, after: i64, before: i64, dropped: u64, mut events: Vec<OrderEvent>) {
        let mut state = self.state();
        if state.dropped != dropped {
            return;
        }
        // The window may have moved on meanwhile.
        while state.first > after + 1
            && state.first <= before
            && state.len() < self.capacity
            && self.has_room(&state)
        {
            let position = state.first - 1;
            while events.last().is_some_and(|event| event.position > position) {
                events.pop();
            }
            let event = events.pop_if(|event| event.position == position);
            let rendered = event.map(|event| RenderedEvent::new(event, Forecast::default()));
            for topic in rendered.iter().flat_map(|rendered| rendered.topics()) {
                let positions = state.topics.entry(topic).or_default();
                if positions.front() != Some(&position) {
                    positions.push_front(position);
                }
            }
            state.first = position;
            state.bytes += rendered.as_ref().map_or(0, |rendered| rendered.bytes);
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
        self.events.get(usize::try_from(position - self.first).ok()?)?.as_ref()
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        self.first += 1;
        self.bytes -= oldest.as_ref().map_or(0, |rendered| rendered.bytes);
        for topic in oldest.iter().flat_map(|rendered| rendered.topics()) {
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
