//! The processes ("nodes") that share a database: who they are, how to reach them, and what time it is for all of them.

pub mod control;
pub mod fresh;
pub mod heads;
mod membership;
mod offset;

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use entity::server_key;
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;
use sea_orm::sea_query::OnConflict;
use tokio::time::Instant;

use self::control::Control;
use self::fresh::RightsLease;
pub use self::membership::Membership;
use crate::base::clock::{Clock, Time};
use crate::base::config::{Cluster as Settings, is_disabled};
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;

/// One node, as it last said itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The id of the process.
    pub id: String,
    /// From 1 to 4095. While the node lives no other has it.
    pub number: u16,
    /// `host:port` for requests of other nodes; `None` if it takes none.
    pub address: Option<String>,
    pub version: String,
    /// How many migrations it knows.
    pub schema: i32,
    pub draining: bool,
    /// When it was last alive, by the cluster's clock.
    pub seen_at: Time,
    /// Its figures as JSON.
    pub figures: Option<String>,
}

/// This node and what it knows of the others. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Parts>);

struct Parts {
    control: Control,
    lease: RightsLease,
    /// The number changes only if this process was frozen for so long that its number was taken.
    number: RwLock<u16>,
    key: hmac::Key,
    roster: RwLock<Arc<[Node]>>,
    /// The lowest number of migrations that a living process knows.
    oldest_schema: AtomicI32,
    /// Fills in this node's figures at each beat.
    figures: RwLock<Option<Box<dyn Fn() -> String + Send + Sync>>>,
}

impl Cluster {
    /// Joins the nodes on this database: takes a number, reads who is there, and waits until they know this one. `id` is that of the
    /// process, with which the database was opened.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn join(
        id: String,
        db: Db,
        clock: Clock,
        settings: &Settings,
        metrics: Metrics,
    ) -> Result<(Self, Membership), Refusal> {
        let key = shared_key(&db, &clock).await?;
        let cluster = Self(Arc::new(Parts {
            lease: if db.is_shared() && !is_disabled("lease") {
                RightsLease::new(Duration::from_millis(settings.rights_lease_ms.into()))
            } else {
                RightsLease::always()
            },
            control: Control::new(db.clone(), clock.clone(), id),
            number: RwLock::new(0),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            roster: RwLock::default(),
            oldest_schema: AtomicI32::new(0),
            figures: RwLock::default(),
        }));
        let address = settings
            .cluster_listen
            .map(|listen| settings.cluster_advertise.clone().unwrap_or_else(|| listen.to_string()));
        let membership = Membership::new(cluster.clone(), db, clock, address, metrics);
        membership.begin().await?;
        Ok((cluster, membership))
    }

    /// The id of this process in the database.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.control.node()
    }

    /// Whether this node knows who may hear what.
    #[must_use]
    pub fn lease(&self) -> &RightsLease {
        &self.0.lease
    }

    /// What nodes must tell each other.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.0.control
    }

    /// The number of this node.
    #[must_use]
    pub fn number(&self) -> u16 {
        *self.0.number.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs what nodes say to each other. All nodes of one database have the same key.
    #[must_use]
    pub fn key(&self) -> &hmac::Key {
        &self.0.key
    }

    /// The nodes that are alive, this one included, by number.
    #[must_use]
    pub fn roster(&self) -> Arc<[Node]> {
        Arc::clone(&self.0.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there are other nodes.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.roster().len() > 1
    }

    /// The node with this number, if it is alive.
    #[must_use]
    pub fn node(&self, number: u16) -> Option<Node> {
        self.roster().iter().find(|node| node.number == number).cloned()
    }

    /// Whether every living process knows so many migrations.
    #[must_use]
    pub fn all_have(&self, schema: i32) -> bool {
        self.0.oldest_schema.load(Ordering::Relaxed) >= schema
    }

    /// Sets what fills in this node's figures: a JSON object.
    pub fn tell_figures(&self, figures: impl Fn() -> String + Send + Sync + 'static) {
        *self.0.figures.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(figures));
    }

    fn figures(&self) -> Option<String> {
        self.0.figures.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|figures| figures())
    }

    fn has(&self, number: u16, (roster, oldest_schema): (Vec<Node>, i32), began: Instant) {
        self.0.oldest_schema.store(oldest_schema, Ordering::Relaxed);
        self.0.lease.others(roster.len() > 1, began);
        *self.0.number.write().unwrap_or_else(PoisonError::into_inner) = number;
        *self.0.roster.write().unwrap_or_else(PoisonError::into_inner) = roster.into();
    }
}

/// The name of the key in the database.
const KEY: &str = "cluster";

/// The key that nodes on this database sign with, if one of them has made it.
///
/// # Errors
/// Those of the database.
pub async fn known_key(db: &Db) -> Result<Option<hmac::Key>, Refusal> {
    let key = server_key::Entity::find_by_id(KEY).one(db.reader()).await?;
    let key = key.and_then(|key| hex::decode(key.value).ok());
    Ok(key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key)))
}

/// The key in the database, which the first process makes.
async fn shared_key(db: &Db, clock: &Clock) -> Result<Vec<u8>, Refusal> {
    let ours =
        server_key::ActiveModel { name: Set(KEY.to_owned()), value: Set(hex::encode(clock.random::<32>())) };
    server_key::Entity::insert(ours)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(db.writer())
        .await?;
    let key = server_key::Entity::find_by_id(KEY).one(db.writer()).await?;
    let key = key.and_then(|key| hex::decode(key.value).ok());
    key.ok_or_else(|| Refusal::internal("the key of the cluster cannot be read"))
}
