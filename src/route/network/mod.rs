//! A road network in memory, and the fastest ways through it.
//!
//! The network is a graph of *segments*: pieces of road between two junctions, each in one direction. What is searched is the graph
//! of turns from one segment into another, because a turn costs time and may be forbidden. A contraction hierarchy over it is
//! prepared once; a search then takes microseconds.
//!
//! - `osm`: what an extract of OpenStreetMap says.
//! - `profile`: who may use a way, and how fast.
//! - `build`: the graph, from the two.
//! - `snap`: the place on a road that is nearest to a point.
//! - `file`: a network that was prepared, on disk.

mod build;
mod file;
mod geometry;
mod osm;
mod profile;
mod search;
mod snap;

use std::path::Path;

use fast_paths::FastGraph;
use serde::{Deserialize, Serialize};

pub use self::build::Progress;
pub use self::search::Searcher;
use self::snap::Grid;
use super::Mode;
use crate::model::Point;

/// More segments than this take too long to prepare, and too much memory.
pub const MOST_SEGMENTS: usize = 2_000_000;

const MAIN: u32 = 0;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    #[error("the file has no road that a {0} can use")]
    Empty(&'static str),
    #[error(
        "the network has {0} segments, more than {MOST_SEGMENTS}; use OSRM or Valhalla for it (--router)"
    )]
    TooLarge(usize),
    #[error("the file was prepared by another version; build it again with `ordercast roads build`")]
    Version,
}

/// A road network for one mode of travel.
#[derive(Serialize, Deserialize)]
pub struct Network {
    mode: Mode,
    /// The points of all roads, one after another: latitude and longitude in ten-millionths of a degree.
    points: Vec<[i32; 2]>,
    roads: Vec<Road>,
    segments: Vec<Segment>,
    /// The turns out of segment `i` are those from `first_turns[i]` to `first_turns[i + 1]`.
    first_turns: Vec<u32>,
    turns: Vec<Turn>,
    #[serde(serialize_with = "fast_paths::serialize_32", deserialize_with = "fast_paths::deserialize_32")]
    hierarchy: FastGraph,
    grid: Grid,
}

/// A piece of road between two junctions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Road {
    /// Its points are those from here,
    first: u32,
    /// and so many.
    count: u32,
    /// Its segments along its points and against them.
    along: Option<u32>,
    against: Option<u32>,
}

/// A road in one direction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Segment {
    road: u32,
    /// Against the points of its road.
    is_reversed: bool,
    /// Metres a second, and the same for comparing routes.
    speed: f32,
    preferred: f32,
    /// How long it takes, in tenths of a second; and the same for comparing routes.
    time: u32,
    weight: u32,
    /// Which set of segments it belongs to, of which each leads to all others. [`MAIN`] is the largest one.
    component: u32,
}

/// The way from one segment into another.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Turn {
    to: u32,
    /// In tenths of a second.
    time: u32,
    /// The same for comparing routes.
    weight: u32,
}

impl Network {
    /// Builds networks for these modes from an extract of OpenStreetMap (`.osm.pbf`).
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn build(file: &Path, modes: &[Mode], progress: Progress<'_>) -> Result<Vec<Self>, NetworkError> {
        progress("reading the extract");
        let extract = osm::read(file)?;
        modes.iter().map(|mode| build::network(&extract, *mode, progress)).collect()
    }

    /// Builds a network of streets that meet wherever they have a point in common, each a line of latitudes and longitudes.
    ///
    /// # Errors
    /// [`NetworkError::Empty`] without a street.
    pub fn of_streets(streets: &[Vec<[f64; 2]>], mode: Mode) -> Result<Self, NetworkError> {
        build::network(&osm::Extract::of_streets(streets), mode, &|_| ())
    }

    /// What it is for.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// How many pieces of road it has, each direction counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is no road.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The points of a road, along it.
    fn line(&self, road: &Road) -> &[[i32; 2]] {
        let first = road.first as usize;
        &self.points[first..first + road.count as usize]
    }

    fn turns(&self, segment: u32) -> &[Turn] {
        let index = segment as usize;
        &self.turns[self.first_turns[index] as usize..self.first_turns[index + 1] as usize]
    }
}

const TENTHS_OF_MICRO: f64 = 1e7;

fn degrees([latitude, longitude]: [i32; 2]) -> (f64, f64) {
    (f64::from(latitude) / TENTHS_OF_MICRO, f64::from(longitude) / TENTHS_OF_MICRO)
}

fn point(place: [i32; 2]) -> Point {
    let (latitude, longitude) = degrees(place);
    Point::stored(latitude, longitude)
}

fn place(at: Point) -> [i32; 2] {
    let whole = |degrees: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "degrees are at most 180")]
        let value = (degrees * TENTHS_OF_MICRO).round() as i32;
        value
    };
    [whole(at.lat()), whole(at.lon())]
}

#[cfg(test)]
mod tests;
