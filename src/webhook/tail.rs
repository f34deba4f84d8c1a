//! The newest events of the log, read once for all endpoints that are near its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::error::Refusal;
use crate::event::log::{self, Entry};
use crate::event::relay::Relay;
use crate::model::OrderEvent;

/// Events that are kept, and how many an endpoint gets at a time.
const KEPT: usize = 1_024;
const STEP: usize = 64;

/// A position, with its event if it can be read here.
type Read = (i64, Option<Arc<OrderEvent>>);

/// Events without a gap.
#[derive(Default)]
pub(super) struct Tail(Mutex<VecDeque<Read>>);

impl Tail {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next events after a position.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn after(&self, events: &Relay, position: i64) -> Result<Vec<Read>, Refusal> {
        let known = self.known(position);
        if !known.is_empty() {
            return Ok(known);
        }
        let reached = events.position();
        let page = log::after(events.log(), position).await?;
        if page.entries.is_empty() && reached > position {
            // Nothing up to what was handed on: the log has a gap there.
            return Ok(vec![(reached, None)]);
        }
        let read: Vec<Read> = page
            .entries
            .into_iter()
            .map(|entry| match entry {
                Entry::Event(event) => (event.position, Some(Arc::new(event))),
                unreadable @ Entry::Unreadable { .. } => (unreadable.position(), None),
            })
            .collect();
        self.keep(&read, position);
        Ok(read.into_iter().take(STEP).collect())
    }

    fn known(&self, position: i64) -> Vec<Read> {
        let kept = self.kept();
        // The event before has to be there, too: else something may lie between.
        let Some(begin) = kept.iter().position(|(at, _)| *at == position) else { return Vec::new() };
        kept.iter().skip(begin + 1).take(STEP).cloned().collect()
    }

    fn keep(&self, read: &[Read], position: i64) {
        let mut kept = self.kept();
        let Some((last, _)) = read.last() else { return };
        let newest = kept.back().map_or(-1, |(at, _)| *at);
        if *last <= newest {
            // Somebody far behind reads alone.
            return;
        }
        if newest < position || kept.is_empty() {
            kept.clear();
            kept.push_back((position, None));
        }
        let newest = kept.back().map_or(-1, |(at, _)| *at);
        kept.extend(read.iter().filter(|(at, _)| *at > newest).cloned());
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// Drops everything, because the log was rewritten.
    pub fn clear(&self) {
        self.kept().clear();
    }
}
