//! The use cases in one value. It has no sockets and no sessions, so a use case cannot write to a client.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use entity::rating;
use sea_orm::DatabaseTransaction;
use serde_json::json;

use crate::auth::Auth;
use crate::base::clock::Clock;
use crate::base::config::Serve;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::base::health::Health;
use crate::base::metrics::Metrics;
use crate::base::trace::Tracer;
use crate::cluster::Cluster;
use crate::driver::progress::Notes;
use crate::driver::trail::Trail;
use crate::driver::{Around, Drivers};
use crate::eta::calibration::store::Calibrating;
use crate::eta::log::EtaLog;
use crate::event::bus::Bus;
use crate::event::log;
use crate::event::relay::Relay;
use crate::keeping::Keeping;
use crate::model::{Order, OrderId, Principal, UserId};
use crate::notify::Notifications;
use crate::order::Orders;
use crate::order::handover::Rating;
use crate::recovery::Recovery;
use crate::route::Roads;
use crate::tracking::Tracking;
use crate::webhook::{News, Webhooks};

/// How long the head of the log may take to be read for somebody who comes in.
const CATCH_UP: Duration = Duration::from_secs(2);

/// All use cases. Sessions and transports share it; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

/// What drivers do is written behind into these.
pub struct Logs {
    pub trail: Trail,
    pub notes: Notes,
    pub eta_log: EtaLog,
}

/// The dependencies that several use cases share.
pub struct Infrastructure {
    pub config: Serve,
    pub health: Arc<Health>,
    pub auth: Arc<Auth>,
    pub events: Relay,
    pub bus: Bus,
    pub cluster: Cluster,
    pub roads: Roads,
    pub notify: Notifications,
    pub webhooks: Webhooks,
    pub clock: Clock,
    pub metrics: Metrics,
    pub tracer: Tracer,
    pub db: Db,
}

/// The fields of an [`App`].
pub struct AppParts {
    pub config: Serve,
    pub health: Arc<Health>,
    pub auth: Arc<Auth>,
    /// Reads the log of durable events.
    pub events: Relay,
    /// Carries live events.
    pub bus: Bus,
    /// The other nodes.
    pub cluster: Cluster,
    pub roads: Roads,
    pub orders: Orders,
    pub drivers: Drivers,
    /// What is learned from deliveries.
    pub calibrating: Calibrating,
    pub tracking: Tracking,
    /// Reaches people who are not connected.
    pub notify: Notifications,
    /// Tells other systems.
    pub webhooks: Webhooks,
    pub recovery: Recovery,
    pub keeping: Keeping,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Begins traces.
    pub tracer: Tracer,
    /// Needed for revoked tokens only, which belong to no use case.
    db: Db,
}

impl Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}

impl App {
    /// Makes the remaining use cases and puts all of them together.
    #[must_use]
    pub fn new(infrastructure: Infrastructure, orders: Orders, logs: Logs, recovery: Recovery) -> Self {
        let Infrastructure {
            config,
            health,
            auth,
            events,
            bus,
            cluster,
            roads,
            notify,
            webhooks,
            clock,
            metrics,
            tracer,
            db,
        } = infrastructure;
        let limits = &config.limits;
        let control = cluster.control().clone();
        let Logs { trail, notes, eta_log } = logs;
        let calibrating = Calibrating::new(db.clone(), clock.clone(), &config.routing, metrics.clone());
        let around = Around {
            trail,
            notes,
            eta_log,
            calibration: calibrating.in_use(),
            bus: bus.clone(),
            orders: orders.clone(),
            roads: roads.clone(),
            control,
        };
        let drivers = Drivers::new(db.clone(), clock.clone(), around, &config, metrics.clone());
        let keeping =
            Keeping::new(db.clone(), clock.clone(), cluster.control().clone(), limits, metrics.clone());
        let tracking =
            Tracking::new(db.clone(), clock.clone(), orders.clone(), drivers.clone(), notify.clone(), limits);
        Self(Arc::new(AppParts {
            config,
            health,
            auth,
            events,
            bus,
            cluster,
            roads,
            orders,
            drivers,
            calibrating,
            tracking,
            notify,
            webhooks,
            recovery,
            keeping,
            clock,
            metrics,
            tracer,
            db,
        }))
    }

    /// Whether the server accepts new work: the database answers, tokens can be verified, and the server is not
    /// stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.health.is_good() && self.auth.is_ready()
    }

    /// What `/ready` says: the server accepts new work, and is not about to stop.
    #[must_use]
    pub fn says_ready(&self) -> bool {
        self.is_ready() && !self.health.is_leaving()
    }

    /// Delivers what other nodes have written until now. Somebody who comes from another node must not be told of a time before
    /// what they have heard there. Without the database it goes on from what is known.
    pub async fn catch_up(&self) {
        if self.cluster.has_others()
            && let Ok(Ok(head)) = tokio::time::timeout(CATCH_UP, log::head(self.events.log())).await
        {
            self.events.reach(head).await;
        }
    }

    /// The customer says how it was, and other systems are told.
    ///
    /// # Errors
    /// As [`Orders::rate`].
    pub async fn rate(&self, id: &OrderId, who: &Principal, new: &Rating) -> Result<rating::Model, Refusal> {
        let webhooks = &self.webhooks;
        let tell = async |tx: &DatabaseTransaction, order: &Order, row: &rating::Model| {
            let data = json!({
                "orderId": order.id, "orderNumber": order.order_number, "subject": row.subject, "about": row.about,
                "customerId": row.customer_id, "stars": row.stars, "comment": row.comment,
            });
            let (r#type, order_id, chef) = ("rating.created", Some(&order.id), Some(&order.chef.id));
            let at = row.updated_at;
            let source = format!("s:{}:{}:{}", order.id, row.subject, at.timestamp_millis());
            webhooks.add(tx, &News { r#type, source, order: order_id, chef, at, data }).await
        };
        self.orders.rate(id, who, new, tell).await
    }

    /// Revokes all tokens of a user that were issued before now.
    ///
    /// # Errors
    /// Those of the database. Nothing has changed then.
    pub async fn revoke_tokens(&self, user: &UserId) -> Result<(), Refusal> {
        self.auth.revocations().revoke(&self.db, self.cluster.control(), user, self.clock.now()).await
    }

    /// Reads the revocations at the start of the process.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn load_revocations(&self) -> Result<(), Refusal> {
        self.auth.revocations().load(&self.db, self.cluster.id(), self.clock.now()).await
    }

    /// Deletes what is not needed any more to tell which tokens are revoked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep_revocations(&self) -> Result<(), Refusal> {
        self.auth.revocations().sweep(&self.db, self.clock.now()).await
    }

    /// Reads new revocations of any process. Returns the users whose revocation this process did not know yet.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn poll_revocations(&self) -> Result<Vec<UserId>, Refusal> {
        self.auth.revocations().poll(&self.db).await
    }

    /// Closes the database. Call it after everything else has ended.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
