//! The figures of a node, as it tells them to the others, and their sum.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::base::clock::instant;
use crate::dialect::Dialect;
use crate::model::Role;

/// A node that has said nothing for so long may have other figures by now.
const CURRENT: TimeDelta = TimeDelta::seconds(5);

/// The figures of one node, or of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    pub connections: i64,
    pub by_role: BTreeMap<String, i64>,
    pub by_client: BTreeMap<String, i64>,
    pub events_per_second: f64,
    /// Position in the log.
    pub position: i64,
    /// Drivers who are connected or carry an order.
    pub drivers: usize,
    /// Those of them who carry none. Every node counts all who carry one.
    pub idle_drivers: usize,
}

impl Figures {
    /// Those of this node.
    #[must_use]
    pub fn of(app: &App) -> Self {
        let metrics = &app.metrics;
        let by_role = Role::ALL.map(|role| (role.as_str().to_owned(), metrics.connections_as(role.as_str())));
        let by_client = Dialect::ALL
            .map(|dialect| (dialect.as_str().to_owned(), metrics.connections_by(dialect.as_str())));
        Self {
            connections: metrics.connections(),
            by_role: by_role.into(),
            by_client: by_client.into(),
            events_per_second: metrics.rate.of(metrics.events_out(), instant()),
            position: app.events.position(),
            drivers: app.drivers.count(),
            idle_drivers: app.drivers.idle(),
        }
    }

    /// Those of all nodes, and whether those of one of them are missing or old.
    #[must_use]
    pub fn of_all(app: &App) -> (Self, bool) {
        let (mut sum, mut partial) = (Self::of(app), false);
        let since = app.clock.now() - CURRENT;
        for node in app.cluster.roster().iter().filter(|node| node.id != app.cluster.id()) {
            let figures = node.figures.as_deref().map(serde_json::from_str::<Self>);
            match figures {
                Some(Ok(figures)) => sum.add(figures),
                Some(Err(_)) | None => partial = true,
            }
            partial |= node.seen_at < since;
        }
        (sum, partial)
    }

    fn add(&mut self, other: Self) {
        self.connections = self.connections.saturating_add(other.connections);
        for (sum, part) in [(&mut self.by_role, other.by_role), (&mut self.by_client, other.by_client)] {
            for (name, count) in part {
                let sum = sum.entry(name).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        self.events_per_second += other.events_per_second;
        self.position = self.position.max(other.position);
        self.drivers = self.drivers.saturating_add(other.idle_drivers);
    }
}
