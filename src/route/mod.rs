//! Ways from one place to another: how long they take, and where they go.
//!
//! - `network`: the roads in memory, and the fastest ways through them.
//! - `remote`: routers elsewhere.
//! - `roads`: the networks of this process, which are loaded and replaced beside a running server.
//! - `line`: the course of a route: made simpler, written as a polyline, and where on it somebody is.

pub mod line;
pub mod network;
pub mod remote;
mod roads;

pub use self::roads::{Roads, read};
pub use crate::base::config::TravelMode as Mode;
use crate::model::Point;

/// A way from one place to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub seconds: f64,
    pub metres: f64,
    /// Where it goes, with the seconds and metres from its beginning.
    pub points: Vec<Passed>,
}

/// A point of a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passed {
    pub place: Point,
    pub seconds: f64,
    pub metres: f64,
}
