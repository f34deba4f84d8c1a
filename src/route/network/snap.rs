//! Finds the road that is nearest to a place.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::geometry::{between, metres, offset};
use super::{MAIN, Network, NetworkError, Road};
use crate::model::Point;
use crate::model::plane::Plane;
use crate::route::line::nearest;

/// The side of a cell, in ten-millionths of a degree of latitude: 250 m.
const CELL: i32 = 22_500;
/// Only roads of a damaged file, which go all over the earth, take more steps than these, and these for each road.
const STEPS: u64 = 1_000_000;
const STEPS_OF_A_ROAD: u64 = 50;
/// No road further away than this is taken, in metres. OSRM takes any.
const FURTHEST: f64 = 2_500.0;
const CELL_METRES: f64 = 250.0;

/// Which roads pass through which cell. Cells are as wide as they are high in degrees, so narrower in metres.
#[derive(Serialize, Deserialize)]
pub(super) struct Grid(HashMap<(i32, i32), Vec<u32>>);

/// A place on a road.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapped {
    pub road: u32,
    /// The component of its segments that count.
    pub component: u32,
    /// After this point of the road,
    pub piece: usize,
    /// so much of the way to the next one.
    pub share: f64,
    pub place: [i32; 2],
    /// How far from where it was asked for, in metres.
    pub away: f64,
}

fn cell(place: [i32; 2]) -> (i32, i32) {
    (place[0].div_euclid(CELL), place[1].div_euclid(CELL))
}

impl Grid {
    /// Which roads pass where.
    ///
    /// # Errors
    /// [`NetworkError::Unreadable`] if they go further than roads do.
    pub(super) fn new(points: &[[i32; 2]], roads: &[Road]) -> Result<Self, NetworkError> {
        let mut cells: HashMap<_, Vec<u32>> = HashMap::new();
        let mut left = STEPS + STEPS_OF_A_ROAD * roads.len() as u64;
        for (number, road) in (0..).zip(roads) {
            let line = &points[road.first as usize..(road.first + road.count) as usize];
            for pair in line.windows(2) {
                let (from, to) = (cell(pair[0]), cell(pair[1]));
                // Twice as many steps as cells. A corner that is cut off belongs to a neighbour, where one looks too.
                let steps = 2 * (to.0 - from.0).abs().max((to.1 - from.1).abs()) + 1;
                let Some(rest) = left.checked_sub(u64::from(steps.unsigned_abs())) else {
                    return Err(NetworkError::Unreadable("its roads go all over the earth".to_owned()));
                };
                left = rest;
                for step in 0..=steps {
                    let share = f64::from(step) / f64::from(steps);
                    let here = cells.entry(cell(between(pair[0], pair[1], share))).or_default();
                    if here.last() != Some(&number) {
                        here.push(number);
                    }
                }
            }
        }
        Ok(Self(cells))
    }
}

impl Network {
    /// The nearest places on roads, for a way from one to the other: on the largest set of roads that are connected, unless both are
    /// nearest to another one, such as an island.
    pub(super) fn snap(&self, from: [i32; 2], to: [i32; 2]) -> Option<(Snapped, Snapped)> {
        let (begin, end) = (self.nearest(from, None)?, self.nearest(to, None)?);
        if begin.component == end.component {
            return Some((begin, end));
        }
        let main = |known: Snapped, place| {
            if known.component == MAIN { Some(known) } else { self.nearest(place, Some(MAIN)) }
        };
        Some((main(begin, from)?, main(end, to)?))
    }

    /// The nearest place on a road of a component, or on any.
    fn nearest(&self, place: [i32; 2], component: Option<u32>) -> Option<Snapped> {
        let middle = cell(place);
        let latitude = f64::from(place[0]) / super::TENTHS_OF_MICRO;
        // A cell is so wide. Near the poles nobody delivers.
        let width = CELL_METRES * latitude.to_radians().cos().max(0.05);
        let mut best: Option<Snapped> = None;
        for ring in 0_i32.. {
            let reached = f64::from(ring - 1) * width;
            if reached > FURTHEST || best.is_some_and(|best| best.away <= reached) {
                break;
            }
            for row in -ring..=ring {
                let step = if row.abs() == ring { 1 } else { (2 * ring).max(1) };
                let mut column = -ring;
                while column <= ring {
                    let here = self.grid.0.get(&(middle.0 + row, middle.1 + column));
                    for road in here.into_iter().flatten() {
                        self.nearer(place, *road, component, &mut best);
                    }
                    column += step;
                }
            }
        }
        best.filter(|best| best.away <= FURTHEST)
    }

    /// The nearest place on a road no further away than so many metres, and its two directions in degrees, that fits.
    pub fn road_near(&self, place: Point, within: f64, fits: impl Fn(f64) -> bool) -> Option<Point> {
        let middle = cell(super::place(place));
        let mut best: Option<(f64, Point)> = None;
        let near = (-1..=1).flat_map(|row| (-1..=1).map(move |column| (middle.0 + row, middle.1 + column)));
        for road in near.filter_map(|cell| self.grid.0.get(&cell)).flatten() {
            for pair in self.line(&self.roads[*road as usize]).windows(2) {
                let map = Plane::around(place);
                let line = [pair[0], pair[1]].map(|end| map.metres(super::point(end)));
                let (share, away) = nearest(line[0], line[1]);
                let (east, north) = (line[1][0] - line[0][0], line[1][1] - line[0][1]);
                let bearing = east.atan2(north).to_degrees().rem_euclid(360.0);
                if away <= within && best.is_none_or(|best| away < best.0) && fits(bearing) {
                    best = Some((away, map.place([line[0][0] + east * share, line[0][1] + north * share])));
                }
            }
        }
        best.map(|(_, place)| place)
    }

    fn nearer(&self, place: [i32; 2], road: u32, component: Option<u32>, best: &mut Option<Snapped>) {
        let Road { along, against, .. } = self.roads[road as usize];
        let component_of = |segment: u32| self.segments[segment as usize].component;
        let mut components = [along, against].into_iter().flatten().map(component_of);
        let found = components.clone().min();
        let Some(component) = component.map_or(found, |wanted| components.find(|has| *has == wanted)) else {
            return;
        };
        for (piece, pair) in self.line(&self.roads[road as usize]).windows(2).enumerate() {
            let (to, line) = (offset(pair[0], place), offset(pair[0], pair[1]));
            let length = line.0 * line.0 + line.1 * line.1;
            let share = if length > 0.0 { (to.0 * line.0 + to.1 * line.1) / length } else { 0.0 };
            let share = share.clamp(0.0, 1.0);
            let (east, north) = (to.0 - line.0 * share, to.1 - line.1 * share);
            let away = east.hypot(north);
            if best.is_none_or(|best| away < best.away) {
                let place = between(pair[0], pair[1], share);
                *best = Some(Snapped { road, component, piece, share, place, away });
            }
        }
    }

    /// Metres along its road up to a place on it, in the direction of a segment.
    pub(super) fn passed(&self, at: &Snapped, is_reversed: bool) -> f64 {
        let line = self.line(&self.roads[at.road as usize]);
        let pieces = line.windows(2).map(|pair| metres(pair[0], pair[1]));
        let along = |(index, length): (usize, f64)| match index.cmp(&at.piece) {
            std::cmp::Ordering::Less => length,
            std::cmp::Ordering::Equal => length * at.share,
            std::cmp::Ordering::Greater => 0.0,
        };
        let total: f64 = pieces.clone().sum();
        let passed: f64 = pieces.enumerate().map(along).sum();
        if is_reversed { total - passed } else { passed }
    }
}
