//! The figures of a node, as it tells them to the others, and their sum.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::base::clock::instant;
use crate::dialect::Dialect;
use crate::model::Role;
use crate::session::Sessions;
use crate::session::resume::Lost;
use crate::session::usage::ByRole;

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
    /// Users by role who are connected, and were in the last hour and day.
    pub active_now: ByRole,
    pub active_hour: ByRole,
    pub active_day: ByRole,
    /// Sessions that have ended, and their seconds together.
    pub sessions_ended: u64,
    pub session_seconds: u64,
    /// Sockets that came back with a session, and those of them that missed nothing.
    pub came_back: u64,
    pub recovered: u64,
    pub orders_followed: usize,
    /// The newest delays from a change to its sockets, in milliseconds.
    pub delays: Vec<i64>,
}

impl Figures {
    /// Those of this node.
    #[must_use]
    pub fn of(sessions: &Sessions) -> Self {
        let app = sessions.app();
        let usage = sessions.usage();
        let active = usage.active(app.clock.now());
        let (sessions_ended, session_seconds) = usage.sessions();
        let recovered = app.metrics.recoveries_of("recovered");
        let lost: u64 = Lost::ALL.iter().map(|lost| app.metrics.recoveries_of(lost.as_str())).sum();
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
            active_now: active.now,
            active_hour: active.hour,
            active_day: active.day,
            sessions_ended,
            session_seconds,
            came_back: recovered + lost,
            recovered,
            orders_followed: sessions.hub().followed().len(),
            delays: usage.delays_told(),
        }
    }

    /// Those of all nodes, and whether those of one of them are missing or old.
    #[must_use]
    pub fn of_all(sessions: &Sessions) -> (Self, bool) {
        let app = sessions.app();
        let (mut sum, mut partial) = (Self::of(sessions), false);
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

    /// The median of the newest delays, in milliseconds.
    #[must_use]
    pub fn median_delay(&self) -> Option<i64> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        delays.get(delays.len() / 2).copied()
    }

    fn add(&mut self, other: Self) {
        self.connections = self.connections.saturating_add(other.connections);
        for (sum, part) in [
            (&mut self.by_role, other.by_role),
            (&mut self.by_client, other.by_client),
            (&mut self.active_now, other.active_now),
            (&mut self.active_hour, other.active_hour),
            (&mut self.active_day, other.active_day),
        ] {
            for (name, count) in part {
                let sum = sum.entry(name).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        self.events_per_second += other.events_per_second;
        self.position = self.position.max(other.position);
        self.drivers = self.drivers.saturating_add(other.idle_drivers);
        self.sessions_ended = self.sessions_ended.saturating_add(other.sessions_ended);
        self.session_seconds = self.session_seconds.saturating_add(other.session_seconds);
        self.came_back = self.came_back.saturating_add(other.came_back);
        self.recovered = self.recovered.saturating_add(other.recovered);
        self.orders_followed = self.orders_followed.saturating_add(other.orders_followed);
        self.delays.extend(other.delays);
    }
}
