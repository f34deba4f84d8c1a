//! How far a session is, and why it is paused.

use std::sync::atomic::{AtomicU8, Ordering};

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is made, and not in its rooms yet.
    New,
    /// It is in its rooms. Its place in the log is exact, and what comes after it was not handed over yet.
    Behind,
    /// It is in its rooms. Everything up to now was handed over.
    Live,
    /// It has left its rooms, for good.
    Left,
}

impl Phase {
    /// Whether the session is in its rooms.
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Behind | Self::Live)
    }
}

/// A reason to hand nothing over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The client changes transports.
    Upgrade = 1,
    /// The client is being told how an order stands at its place in the log, which must not change until it is.
    Snapshot = 2,
    /// A task reads the database for the session.
    Reading = 4,
    /// The token has ended.
    TokenEnded = 8,
}

/// The reasons that hold now. They change with the session locked, and may be read without its lock.
#[derive(Debug, Default)]
pub(super) struct Pauses(AtomicU8);

impl Pauses {
    /// Adds a reason. Returns whether it is new.
    pub fn add(&self, pause: Pause) -> bool {
        self.0.fetch_or(pause as u8, Ordering::AcqRel) & pause as u8 == 0
    }

    pub fn remove(&self, pause: Pause) {
        self.0.fetch_and(!(pause as u8), Ordering::AcqRel);
    }

    pub fn has(&self, pause: Pause) -> bool {
        self.0.load(Ordering::Acquire) & pause as u8 != 0
    }

    pub fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_and_go_one_by_one() {
        let pauses = Pauses::default();
        assert!(pauses.add(Pause::Upgrade) && !pauses.add(Pause::Upgrade) && pauses.add(Pause::TokenEnded));
        pauses.remove(Pause::Upgrade);
        assert!(!pauses.has(Pause::Upgrade) && pauses.has(Pause::TokenEnded) && pauses.any());
        pauses.remove(Pause::TokenEnded);
        assert!(!pauses.any());
    }
}
