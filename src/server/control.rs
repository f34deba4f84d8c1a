//! Carries out on this node what the control log says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::App;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::cluster::control::{Notice, Page};
use crate::cluster::fresh::Log;
use crate::model::LiveEvent;
use crate::session::Sessions;

/// How often `SQLite` is read: there are other processes for a moment only, while one takes over from another.
const SQLITE: Duration = Duration::from_millis(500);
/// How often the tables of revocations and erasures are read without a notice.
const TABLES: Duration = Duration::from_secs(10);
/// How often they are read while a node of an older version is there, which gives no notice. Also for some time after a
/// revocation: every node writes down there which tokens it had seen.
const TABLES_OFTEN: Duration = Duration::from_millis(500);
/// The number of migrations that the first version with a control log knows.
const SINCE_SCHEMA: i32 = 13;
/// Announcements that wait until this node may tell its sockets something.
const ANNOUNCEMENTS: usize = 1_000;

/// Reads the control log.
pub(super) struct Poller {
    sessions: Sessions,
    every: Duration,
    /// Everything up to here was carried out.
    position: i64,
    tables_read: Option<Instant>,
    last_revocation: Option<Instant>,
    announcements: VecDeque<LiveEvent>,
    /// Notified when the table of erasures has something new.
    erasures: Arc<Notify>,
}

impl Poller {
    /// Begins after a position.
    pub fn new(sessions: Sessions, position: i64, erasures: Arc<Notify>) -> Self {
        let config = &sessions.app().config;
        let every = Duration::from_millis(config.cluster.cluster_poll_ms.into());
        let every = if config.database.is_shared() { every } else { every.max(SQLITE) };
        Self {
            sessions,
            every,
            position,
            tables_read: None,
            last_revocation: None,
            announcements: VecDeque::new(),
            erasures,
        }
    }

    /// Reads the log, for ever.
    pub async fn run(mut self) {
        let sessions = self.sessions.clone();
        let (control, bus) = (sessions.app().cluster.control(), &sessions.app().bus);
        let mut news = bus.control_news();
        loop {
            match self.step().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the control log could not be read; trying again"),
            }
            tokio::select! {
                () = control.woken() => {}
                Ok(()) = news.changed() => {}
                () = tokio::time::sleep(bus.poll(self.every)) => {}
            }
        }
    }

    /// Reads once, and carries out what is new. Returns whether there may be more. What fails is carried out again by the next
    /// call, which changes nothing.
    async fn step(&mut self) -> Result<bool, Refusal> {
        let sessions = self.sessions.clone();
        let app = sessions.app();
        let began = instant();
        let page = app.cluster.control().read(self.position).await?;
        if page.missed {
            tracing::warn!("this node missed what others told; it reads the tables");
            app.notify.missed_queues();
        }
        self.read_tables(&page).await?;
        for entry in &page.entries {
            match &entry.notice {
                Notice::Takeover(takeover) => {
                    if sessions.supersede(takeover) {
                        app.metrics.takeovers.inc();
                    }
                }
                // The node that changed it told its own clients at once.
                Notice::Eta { order } if !entry.is_own => {
                    if let Some(change) = app.drivers.take_over_eta(order).await? {
                        sessions.live(&LiveEvent::Eta(change));
                    }
                }
                Notice::Plan { driver } if !entry.is_own => app.drivers.take_over_plan(driver).await?,
                Notice::Queue { user } => sessions.queued(user),
                Notice::Eta { .. }
                | Notice::Plan { .. }
                | Notice::Told(_)
                | Notice::Announcement(_)
                | Notice::Revocation { .. }
                | Notice::Erasure { .. } => {}
            }
        }
        self.position = page.reached;
        app.cluster.control().carried_out(&page);
        let is_full = page.is_full;
        for entry in page.entries {
            let event = match entry.notice {
                Notice::Announcement(announcement) => Some(LiveEvent::Announcement(announcement)),
                Notice::Told(told) => Some(LiveEvent::Told(told)),
                _ => None,
            };
            if let Some(event) = event {
                if self.announcements.len() >= ANNOUNCEMENTS {
                    self.announcements.pop_front();
                    tracing::warn!("an announcement waited for too long and is lost");
                }
                self.announcements.push_back(event);
            }
        }
        if !is_full {
            app.cluster.lease().polled(Log::Control, began);
        }
        if app.cluster.lease().is_fresh() {
            for event in self.announcements.drain(..) {
                sessions.live(&event);
            }
        }
        Ok(is_full)
    }

    /// Reads the tables of revocations and erasures if they may have something new.
    async fn read_tables(&mut self, page: &Page) -> Result<(), Refusal> {
        let (now, app) = (instant(), self.sessions.app());
        let is_told =
            |is: fn(&Notice) -> bool| page.missed || page.entries.iter().any(|entry| is(&entry.notice));
        let revoked = is_told(|notice| matches!(notice, Notice::Revocation { .. }));
        if revoked {
            self.last_revocation = Some(now);
        }
        let lately = self.last_revocation.is_some_and(|at| now - at < TABLES);
        let every = if lately || !app.cluster.all_have(SINCE_SCHEMA) { TABLES_OFTEN } else { TABLES };
        let due = self.tables_read.is_none_or(|at| now - at >= every);
        if due || is_told(|notice| matches!(notice, Notice::Erasure { .. })) {
            self.erasures.notify_one();
        }
        if due || revoked {
            apply_revocations(&self.sessions, app).await?;
            self.tables_read = Some(now);
        }
        Ok(())
    }
}

/// Ends the sessions of users whose tokens another process has revoked.
async fn apply_revocations(sessions: &Sessions, app: &App) -> Result<(), Refusal> {
    for user in app.poll_revocations().await? {
        let sockets = sessions.revoke(&user);
        tracing::info!(%user, sockets, "tokens were revoked by another process");
    }
    Ok(())
}
