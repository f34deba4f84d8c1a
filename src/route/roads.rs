//! The road networks of this process. They are loaded beside a running server, and again when their file changes; searches that are
//! under way go on with what they began with.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::network::{Network, NetworkError, Searcher};
use super::remote::Remote;
use super::{Mode, Route};
use crate::base::clock::instant;
use crate::base::config::Routing;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::model::{EtaSource, Point};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// Searches for staff that run at a time, and searchers that are kept: each has some dozen bytes for every segment.
const AT_A_TIME: usize = 4;
/// A new network with a smaller part of the old one's roads is thought to be a mistake.
const LEAST: f64 = 0.9;

/// The networks, and how to search them. Cheap to clone.
#[derive(Clone)]
pub struct Roads(Arc<Parts>);

struct Parts {
    settings: Routing,
    metrics: Metrics,
    loaded: RwLock<Loaded>,
    turns: Semaphore,
    remotes: Vec<Remote>,
}

/// Each network with searchers that nobody uses now.
type Loaded = Vec<Arc<One>>;

struct One {
    network: Network,
    idle: Mutex<Vec<Searcher>>,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(
        "it has {new} segments and the network in use has {old}; remove the file and restart if that is meant"
    )]
    Shrunk { new: usize, old: usize },
}

impl Roads {
    /// No roads yet: see [`Roads::watch`].
    #[must_use]
    pub fn new(settings: &Routing, metrics: Metrics) -> Self {
        // The settings were checked: what cannot be read is not there.
        let addresses = settings.router.iter().filter_map(|text| text.parse().ok());
        let remotes = addresses.map(|address| Remote::new(address, metrics.clone())).collect();
        Self(Arc::new(Parts {
            settings: settings.clone(),
            remotes,
            metrics,
            loaded: RwLock::default(),
            turns: Semaphore::new(AT_A_TIME),
        }))
    }

    /// The fastest way, by what drivers travel with unless a mode is given. `None` without roads there.
    #[must_use]
    pub fn route(&self, mode: Option<Mode>, from: Point, to: Point) -> Option<Route> {
        let one = self.one(mode.unwrap_or(self.0.settings.driver_mode))?;
        let idle = || one.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let began = instant();
        let known = idle().pop();
        let mut searcher = known.unwrap_or_else(|| Searcher::new(&one.network));
        let route = searcher.route(&one.network, from, to);
        let mut idle = idle();
        if idle.len() < AT_A_TIME {
            idle.push(searcher);
        }
        drop(idle);
        self.0.metrics.route_seconds.observe(began.elapsed().as_secs_f64());
        route
    }

    /// The way of the first one that knows it: the routers elsewhere in their order, then the roads in memory; and which one that was.
    ///
    /// # Errors
    /// [`Refusal::Internal`] if the search fails.
    pub async fn find(
        &self,
        mode: Option<Mode>,
        from: Point,
        to: Point,
    ) -> Result<Option<(Route, EtaSource)>, Refusal> {
        for remote in &self.0.remotes {
            if let Some(route) = remote.route(mode.unwrap_or(self.0.settings.driver_mode), from, to).await {
                return Ok(Some((route, remote.kind().source())));
            }
        }
        if self.one(mode.unwrap_or(self.0.settings.driver_mode)).is_none() {
            return Ok(None);
        }
        let _turn = self.0.turns.acquire().await;
        let roads = self.clone();
        let found = tokio::task::spawn_blocking(move || roads.route(mode, from, to)).await;
        let found = found.map_err(|_| Refusal::internal("the search for a route failed"))?;
        Ok(found.map(|route| (route, EtaSource::Network)))
    }

    /// Whether routers elsewhere are asked.
    #[must_use]
    pub fn are_elsewhere(&self) -> bool {
        !self.0.remotes.is_empty()
    }

    /// The nearest place on a road for drivers: see [`Network::road_near`].
    #[must_use]
    pub fn near(&self, place: Point, within: f64, fits: impl Fn(f64) -> bool) -> Option<Point> {
        self.one(self.0.settings.driver_mode)?.network.road_near(place, within, fits)
    }

    /// Whether there are roads for drivers.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.are_elsewhere() || self.one(self.0.settings.driver_mode).is_some()
    }

    /// How old a route may become.
    #[must_use]
    pub fn age(&self) -> chrono::TimeDelta {
        chrono::TimeDelta::seconds(self.0.settings.route_age_seconds.into())
    }

    fn one(&self, mode: Mode) -> Option<Arc<One>> {
        let loaded = self.0.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().find(|one| one.network.mode() == mode).cloned()
    }

    /// Takes these networks instead of those before.
    pub fn put(&self, networks: Vec<Network>) {
        let count = networks.iter().map(Network::len).sum::<usize>();
        let one = |network| Arc::new(One { network, idle: Mutex::default() });
        let loaded = networks.into_iter().map(one).collect();
        *self.0.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        self.0.metrics.road_segments.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Loads the networks, and again whenever their file changes, for ever.
    pub async fn watch(self) {
        let Some(file) = self.0.settings.road_network.clone() else { return std::future::pending().await };
        let mut known = None;
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            let seen = version(&file);
            if seen.is_some() && seen == known {
                continue;
            }
            known = seen;
            let (roads, path) = (self.clone(), file.clone());
            let loading = tokio::task::spawn_blocking(move || roads.load(&path));
            match loading.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.failed(&error.to_string()),
                Err(_) => self.failed("it is damaged"),
            }
        }
    }

    fn failed(&self, reason: &str) {
        self.0.metrics.road_failures.inc();
        tracing::warn!(reason, "ROAD_NETWORK cannot be used; ETAs go on as before");
    }

    fn load(&self, file: &Path) -> Result<(), Refused> {
        let began = instant();
        let networks = read(file, &self.0.settings.road_modes, &|step| tracing::info!(step, "roads"))?;
        let segments = |mode| self.one(mode).map(|one| one.network.len());
        for network in &networks {
            let (new, old) = (network.len(), segments(network.mode()).unwrap_or_default());
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 segments")]
            let shrunk = (new as f64) < old as f64 * LEAST;
            if shrunk {
                return Err(Refused::Shrunk { new, old });
            }
        }
        let segments: usize = networks.iter().map(Network::len).sum();
        self.put(networks);
        tracing::info!(segments, seconds = began.elapsed().as_secs_f64(), "roads are loaded");
        Ok(())
    }
}

/// What is different once a file has changed.
fn version(file: &Path) -> Option<[i64; 3]> {
    let meta = std::fs::metadata(file).ok()?;
    Some([meta.mtime(), meta.mtime_nsec(), meta.len().cast_signed()])
}

/// Reads a prepared file, or builds from an extract for these modes.
///
/// # Errors
/// [`NetworkError`].
pub fn read(file: &Path, modes: &[Mode], progress: &dyn Fn(&str)) -> Result<Vec<Network>, NetworkError> {
    let prepared = Network::is_prepared(file).map_err(|error| NetworkError::Unreadable(error.to_string()))?;
    if prepared { Network::load(file) } else { Network::build(file, modes, progress) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::base::metrics::Words;
    use crate::cli::Cli;

    /// So many streets along the equator, 111 m apart, and one that crosses them all.
    fn town(streets: i32) -> Network {
        let row =
            |row: i32| (0..3).map(|column| [f64::from(row) * 0.001, f64::from(column) * 0.001]).collect();
        let across = (0..streets).map(|row| [f64::from(row) * 0.001, 0.0]).collect();
        Network::of_streets(&(0..streets).map(row).chain([across]).collect::<Vec<_>>(), Mode::Car)
            .expect("streets")
    }

    fn roads(file: &Path) -> Roads {
        let file = file.display().to_string();
        let cli = Cli::try_parse_from(["ordercast", "--road-network", &file]).expect("flags");
        Roads::new(&cli.serve.routing, Metrics::new(Words::default()))
    }

    #[test]
    fn a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("roads");
        let roads = roads(&file);
        assert!(roads.load(&file).is_err() && !roads.are_known(), "there is no file");
        Network::save(&[town(5)], &file).expect("written");
        roads.load(&file).expect("loaded");
        let (from, to) = (Point::stored(0.0, 0.0), Point::stored(0.004, 0.002));
        let route = roads.route(None, from, to).expect("a route");
        assert_eq!(roads.route(Some(Mode::Foot), from, to), None, "there are no roads for who walks");
        let good = std::fs::read(&file).expect("read");
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        let small = {
            Network::save(&[town(3)], &file).expect("written");
            std::fs::read(&file).expect("read")
        };
        let older = [b"ordercast roads 0\n", &good[18..]].concat();
        for (what, bytes, reason) in [
            ("damaged", bad, "damaged"),
            ("cut off", good[..good.len() - 1].to_vec(), "damaged"),
            ("only a head", good[..18].to_vec(), "damaged"),
            ("of another version", older, "another version"),
            ("no network", b"hello".to_vec(), "cannot be read"),
            ("empty", Vec::new(), "cannot be used"),
            ("far smaller", small, "segments"),
        ] {
            std::fs::write(&file, bytes).expect("written");
            let refused = roads.load(&file).expect_err(what).to_string();
            assert!(refused.contains(reason) || what == "empty", "{what}: {refused}");
            assert_eq!(roads.route(None, from, to), Some(route.clone()), "{what}");
        }
        std::fs::write(&file, good).expect("written");
        roads.load(&file).expect("loaded again");
    }
}
