//! The control log: what nodes must tell each other surely. It is in the database beside the log of events and is as dense:
//! announcements, ETAs set by hand, sessions that went on elsewhere, revocations and erasures.
//!
//! Entries are kept for a few minutes, and every node reads them soon after they are written. A node that starts begins at the
//! head. A node that was stopped for longer learns that it missed some.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;
use entity::{control, control_head};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::base::clock::{Clock, Time, wire};
use crate::base::db::{Db, Sql, rows, stored_time};
use crate::base::error::Refusal;
use crate::model::told::Told;
use crate::model::{Announcement, OrderId, UserId};
use sea_orm::ConnectionTrait;

/// How long entries are kept.
const KEPT: TimeDelta = TimeDelta::minutes(5);
/// The most entries of one read.
const PAGE: i64 = 500;

/// Takes positions and writes the entries there. An entry of `$2` has its kind and its body.
const APPEND: Sql = Sql {
    sqlite: "UPDATE control_head SET position = position + $1 WHERE id = 1;
        INSERT INTO control (position, kind, node, body, at)
        SELECT control_head.position - $1 + 1 + t.key, t.value->>0, $3, t.value->>1, $4
        FROM json_each($2) AS t, control_head",
    postgres: "WITH head AS (UPDATE control_head SET position = control_head.position + $1 FROM log_head
            WHERE control_head.id = 1 AND log_head.id = 1 AND COALESCE(timeline = ordercast_timeline(), true)
            RETURNING control_head.position)
        INSERT INTO control (position, kind, node, body, at)
        SELECT head.position - $1 + number, value->>0, $3, value->>1, $4
        FROM head, json_array_elements(CAST($2 AS json)) WITH ORDINALITY AS t (value, number)",
};

/// The head, and with each row an entry after a position. One row without an entry if there is none.
const READ: &str = "SELECT control_head.position AS head, control.position, kind, node, body, at
    FROM control_head LEFT JOIN control ON control.position > $1 WHERE id = 1
    ORDER BY control.position LIMIT $2";

/// Something that every node has to know.
#[derive(Clone, Debug)]
pub enum Notice {
    /// To be told to the sockets of all nodes.
    Announcement(Announcement),
    /// The ETA of an order was set by hand. It is in the order's row.
    Eta { order: OrderId },
    /// Somebody has changed where a driver goes. It is in the driver's row.
    Plan { driver: UserId },
    /// An announcement waits for a user. It is in the table of notifications.
    Queue { user: UserId },
    /// To be told to the sockets of all nodes.
    Told(Told),
    /// A session is with this connection now.
    Takeover(Takeover),
    /// Tokens of a user were revoked. Which ones is in the table of revocations.
    Revocation { user: UserId },
    /// Somebody's data is to be erased, or was erased. Which one is in the table of erasures.
    Erasure { user: UserId },
}

/// Which connection has a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Takeover {
    pub user: UserId,
    pub pid: String,
    pub socket: String,
    /// When it got the session. Of two connections, the later one has it.
    #[serde(with = "wire")]
    pub held_at: Time,
}

#[derive(Serialize, Deserialize)]
struct OfOrder {
    order: OrderId,
}

#[derive(Serialize, Deserialize)]
struct OfUser {
    user: UserId,
}

impl Notice {
    /// Its kind and its body, as the database keeps them.
    fn stored(&self) -> Result<(&'static str, String), serde_json::Error> {
        Ok(match self {
            Self::Announcement(announcement) => ("announcement", serde_json::to_string(announcement)?),
            Self::Eta { order } => ("eta", serde_json::to_string(&OfOrder { order: order.clone() })?),
            Self::Plan { driver } => ("plan", serde_json::to_string(&OfUser { user: driver.clone() })?),
            Self::Queue { user } => ("queue", serde_json::to_string(&OfUser { user: user.clone() })?),
            Self::Told(told) => ("told", serde_json::to_string(told)?),
            Self::Takeover(takeover) => ("takeover", serde_json::to_string(takeover)?),
            Self::Revocation { user } => {
                ("revocation", serde_json::to_string(&OfUser { user: user.clone() })?)
            }
            Self::Erasure { user } => ("erasure", serde_json::to_string(&OfUser { user: user.clone() })?),
        })
    }

    /// `None` for a kind of a newer version.
    fn read(kind: &str, body: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match kind {
            "announcement" => Self::Announcement(serde_json::from_str(body)?),
            "eta" => Self::Eta { order: serde_json::from_str::<OfOrder>(body)?.order },
            "plan" => Self::Plan { driver: serde_json::from_str::<OfUser>(body)?.user },
            "queue" => Self::Queue { user: serde_json::from_str::<OfUser>(body)?.user },
            "told" => Self::Told(serde_json::from_str(body)?),
            "takeover" => Self::Takeover(serde_json::from_str(body)?),
            "revocation" => Self::Revocation { user: serde_json::from_str::<OfUser>(body)?.user },
            "erasure" => Self::Erasure { user: serde_json::from_str::<OfUser>(body)?.user },
            _ => return Ok(None),
        }))
    }
}

/// An entry that this version can read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whether this node wrote it.
    pub is_own: bool,
    pub notice: Notice,
}

/// Entries of the control log, in order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// The position up to which they are all.
    pub reached: i64,
    /// There may be more.
    pub is_full: bool,
    /// How often this node had committed entries when it began to read.
    commits: u64,
    /// Entries before these were deleted before this node read them.
    pub missed: bool,
}

/// The control log of this node's database. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

struct Parts {
    db: Db,
    clock: Clock,
    node: String,
    wake: Notify,
    appended: OnceLock<Box<dyn Fn() + Send + Sync>>,
    reached: AtomicI64,
    /// How often this node has committed entries, and how many of these times it has read what it committed.
    commits: AtomicU64,
    read_commits: AtomicU64,
}

impl Control {
    /// The control log, for the process with this id.
    #[must_use]
    pub fn new(db: Db, clock: Clock, node: String) -> Self {
        Self(Arc::new(Parts {
            db,
            clock,
            node,
            wake: Notify::new(),
            appended: OnceLock::new(),
            reached: AtomicI64::new(0),
            commits: AtomicU64::new(0),
            read_commits: AtomicU64::new(0),
        }))
    }

    /// The id of this process.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// The position of the newest entry.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn head(&self) -> Result<i64, Refusal> {
        let row = control_head::Entity::find_by_id(1).one(self.0.db.reader()).await?;
        row.map(|head| head.position).ok_or_else(no_head)
    }

    /// Appends entries in the transaction of the change that they tell of. Call it last: the lock on the head row, held until
    /// the commit, makes positions dense and in commit order. Call [`Control::appended`] after the commit.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn append(&self, tx: &DatabaseTransaction, notices: &[Notice]) -> Result<(), Refusal> {
        if notices.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(notices.len()).unwrap_or(i64::MAX);
        let stored = notices.iter().map(Notice::stored).collect::<Result<Vec<_>, _>>()?;
        let at = stored_time(self.0.clock.now(), tx.get_database_backend());
        let values = [count.into(), rows(&stored)?, self.0.node.clone().into(), at];
        let written = tx.execute_raw(APPEND.with(tx, values)).await?;
        // Another `PostgreSQL` has taken over, and it is not known yet which positions are free there.
        if written.rows_affected() == 0 { Err(Refusal::Unavailable) } else { Ok(()) }
    }

    /// Appends an entry. When this returns, it is on disk.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tell(&self, notice: Notice) -> Result<(), Refusal> {
        let tx = self.0.db.begin().await?;
        self.append(&tx, &[notice]).await?;
        tx.commit().await?;
        self.appended();
        Ok(())
    }

    /// This node has carried out everything up to the end of a page.
    pub fn carried_out(&self, page: &Page) {
        self.0.reached.fetch_max(page.reached, Ordering::AcqRel);
        if !page.is_full {
            self.0.read_commits.fetch_max(page.commits, Ordering::AcqRel);
        }
    }

    /// How far this node has come.
    #[must_use]
    pub fn reached(&self) -> i64 {
        self.0.reached.load(Ordering::Acquire)
    }

    /// The same, if it has carried out everything that it has written itself.
    #[must_use]
    pub fn complete(&self) -> Option<i64> {
        let all = self.0.commits.load(Ordering::Acquire) == self.0.read_commits.load(Ordering::Acquire);
        all.then(|| self.reached())
    }

    /// This node has committed entries.
    pub fn appended(&self) {
        self.0.commits.fetch_add(1, Ordering::AcqRel);
        self.wake();
        if let Some(appended) = self.0.appended.get() {
            appended();
        }
    }

    /// Sets what is called after this node has committed entries: it tells other nodes that there is something to read. Called
    /// once, at start.
    pub fn on_append(&self, hook: impl Fn() + Send + Sync + 'static) {
        let taken = self.0.appended.set(Box::new(hook)).is_err();
        debug_assert!(!taken, "one tells the other nodes");
    }

    /// There is something to read.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Waits until there is something to read. Returns at once if that was said since the last call.
    pub async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Entries after a position.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn read(&self, after: i64) -> Result<Page, Refusal> {
        let commits = self.0.commits.load(Ordering::Acquire);
        let db = self.0.db.reader();
        let read = Sql { sqlite: READ, postgres: READ };
        let rows = db.query_all_raw(read.with(db, [after.into(), PAGE.into()])).await?;
        let head: i64 = rows.first().ok_or_else(no_head)?.try_get("", "head")?;
        let is_full = rows.len() as u64 >= PAGE.unsigned_abs();
        let mut page = Page { is_full, commits, ..Page::default() };
        let mut first = None;
        page.reached = head.max(after);
        for row in rows {
            let Some(position) = row.try_get::<Option<i64>>("", "position")? else { break };
            first.get_or_insert(position);
            page.reached = position;
            let (kind, node): (String, String) = (row.try_get("", "kind")?, row.try_get("", "node")?);
            let body: String = row.try_get("", "body")?;
            match Notice::read(&kind, &body) {
                Ok(Some(notice)) => page.entries.push(Entry { is_own: node == self.0.node, notice }),
                Ok(None) => tracing::debug!(position, kind, "a notice of a newer version is skipped"),
                // The text of the error has no value of the notice, only its place.
                Err(error) => {
                    tracing::warn!(position, kind, column = error.column(), "a notice cannot be read");
                }
            }
        }
        page.missed = first.map_or(head > after, |first| first > after + 1);
        Ok(page)
    }

    /// Deletes entries that every living node has read.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep(&self) -> Result<(), Refusal> {
        let old = control::Column::At.lt(self.0.clock.now() - KEPT);
        control::Entity::delete_many().filter(old).exec(self.0.db.writer()).await?;
        Ok(())
    }
}

fn no_head() -> Refusal {
    Refusal::internal("the control log has no head row")
}
