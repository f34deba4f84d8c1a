//! Which events of the log belong to a trace, from their commit until they are handed on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Link, Span};

/// Events that are kept. The oldest one goes for a further one.
const KEPT: usize = 256;

/// Positions with the traces that they belong to.
#[derive(Default)]
pub struct Noted {
    links: Mutex<VecDeque<(i64, Link)>>,
    /// How many there are. Nearly always none, and then nothing is locked.
    count: AtomicUsize,
}

impl Noted {
    fn links(&self) -> MutexGuard<'_, VecDeque<(i64, Link)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event at a position belongs to a trace.
    pub fn put(&self, position: i64, link: Link) {
        let mut links = self.links();
        if links.len() >= KEPT {
            links.pop_front();
        }
        links.push_back((position, link));
        self.count.store(links.len(), Ordering::Release);
    }

    /// Begins a part of the trace that the event at a position belongs to. Empty if it belongs to none.
    pub fn take(&self, position: i64, name: &'static str) -> Span {
        if self.count.load(Ordering::Acquire) == 0 {
            return Span::default();
        }
        let mut links = self.links();
        let at = links.iter().position(|(noted, _)| *noted == position);
        let link = at.and_then(|at| links.remove(at));
        self.count.store(links.len(), Ordering::Release);
        link.map(|(_, link)| link.span(name)).unwrap_or_default()
    }
}
