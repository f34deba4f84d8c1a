//! The state that decides whether this server accepts new work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Health of this server. The relay says whether the log can be read, the writer and the check of the log whether it
/// can be written, the drain that the server stops; `/ready` and every handshake read it.
#[derive(Debug)]
pub struct Health {
    readable: AtomicBool,
    writable: AtomicBool,
    leaving: AtomicBool,
    draining: AtomicBool,
    /// This node has told its sockets nothing for long, because it may not know who may hear what.
    mute: AtomicBool,
    /// Commits that succeeded.
    written: AtomicU64,
    /// Writes that failed because the database was away.
    failed: AtomicU64,
    failure: Notify,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            readable: AtomicBool::new(true),
            writable: AtomicBool::new(true),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failure: Notify::new(),
        }
    }
}

impl Health {
    /// Stores whether the database answered the last read of the log.
    pub fn set_readable(&self, readable: bool) {
        self.readable.store(readable, Ordering::Relaxed);
    }

    /// Stores whether the log can be written.
    pub fn set_writable(&self, writable: bool) {
        self.writable.store(writable, Ordering::Relaxed);
    }

    /// Stores whether the server has told its sockets nothing for long.
    pub fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    /// A change was committed.
    pub fn wrote(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    /// A change failed because the database was away. The server is not ready until the log was checked.
    pub fn write_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.set_writable(false);
        self.failure.notify_one();
    }

    /// Waits until a change failed. Returns at once if that happened since the last call.
    pub async fn failure(&self) {
        self.failure.notified().await;
    }

    /// How many commits succeeded, and how many writes failed.
    #[must_use]
    pub fn writes(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Says at `/ready` that the server is about to stop. Until [`Health::drain`] it accepts work all the same, for proxies
    /// need time to notice.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether the server is stopping, or about to.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
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

    /// Whether the log can be read and written.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.readable.load(Ordering::Relaxed) && self.writable.load(Ordering::Relaxed)
    }

    /// Whether the server accepts new work: the log can be read and written, and the server is not stopping.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.has_database() && !self.mute.load(Ordering::Relaxed) && !self.is_draining()
    }
}
