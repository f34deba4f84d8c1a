//! Whether this server can take new work.

use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of the server's own state. Set by the relay and by the drain, read by `/ready` and by every handshake.
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
    /// Notes whether the database answered when it was last asked.
    pub fn database_answers(&self, answers: bool) {
        self.database_answers.store(answers, Ordering::Relaxed);
    }

    /// The server stops: from now on it takes no new work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the server is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether new work can be taken: the database answers and the server is not stopping.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.database_answers.load(Ordering::Relaxed) && !self.is_draining()
    }
}
