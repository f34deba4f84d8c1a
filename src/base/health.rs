//! The state that decides whether this server accepts new work.

use std::sync::atomic::{AtomicBool, Ordering};

/// Health of this server. The relay and the drain set it; `/ready` and every handshake read it.
#[derive(Debug)]
pub struct Health {
    database_answers: AtomicBool,
    draining: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { database_answers: AtomicBool::new(true), draining: AtomicBool::new(false) }
    }
}

impl Health {
    /// Stores whether the database answered the last query.
    pub fn database_answers(&self, answers: bool) {
        self.database_answers.store(answers, Ordering::Relaxed);
    }

    /// Marks the server as stopping. From now on it accepts no new work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the server is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the server accepts new work: the database answers and the server is not stopping.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.database_answers.load(Ordering::Relaxed) && !self.is_draining()
    }
}
