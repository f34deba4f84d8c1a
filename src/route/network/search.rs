//! The fastest way between two places.

use fast_paths::PathCalculator;

use super::build::tenths;
use super::geometry::{between, metres};
use super::snap::Snapped;
use super::{Network, place, point};
use crate::model::Point;
use crate::route::{Passed, Route};

/// What a search needs besides the network. Each thread has its own.
pub struct Searcher(PathCalculator);

/// A part of a segment: metres from its beginning.
#[derive(Clone, Copy, Debug)]
struct Part {
    segment: u32,
    from: f64,
    to: f64,
}

const PER_SECOND: f64 = 10.0;

impl Searcher {
    #[must_use]
    pub fn new(network: &Network) -> Self {
        Self(fast_paths::create_calculator(&network.hierarchy))
    }

    /// The fastest way. `None` if one of the places is too far away from all roads, or no way is known.
    pub fn route(&mut self, network: &Network, from: Point, to: Point) -> Option<Route> {
        let (begin, end) = network.snap(place(from), place(to))?;
        let direct = network.direct(&begin, &end);
        let through = self.through(network, &begin, &end);
        let (parts, _) = [direct, through].into_iter().flatten().min_by_key(|(_, weight)| *weight)?;
        Some(network.assemble(&parts, &begin))
    }

    /// The best way that leaves the segment where it begins, and how much it weighs.
    fn through(&mut self, network: &Network, begin: &Snapped, end: &Snapped) -> Option<(Vec<Part>, usize)> {
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for (first, from) in network.segments_at(begin) {
            let rest = network.share_left(first, from);
            for turn in network.turns(first) {
                let to = &network.segments[turn.to as usize];
                sources.push((turn.to as usize, rest + turn.weight as usize + to.weight as usize));
            }
        }
        // The rest of the last segment is not travelled. All weigh so much more that none is below nothing.
        let most = network
            .segments_at(end)
            .map(|(last, _)| network.segments[last as usize].weight as usize)
            .max()?;
        for (last, at) in network.segments_at(end) {
            targets.push((last as usize, most - network.share_left(last, at)));
        }
        // Segments behind the last one that has a turn are not in the hierarchy.
        let known = |(segment, _): &(usize, usize)| *segment < network.hierarchy.get_num_nodes();
        sources.retain(known);
        targets.retain(known);
        if sources.is_empty() || targets.is_empty() {
            return None;
        }
        let path = self.0.calc_path_multiple_sources_and_targets(&network.hierarchy, sources, targets)?;
        let nodes = path.get_nodes();
        let second = u32::try_from(*nodes.first()?).ok()?;
        let weight = path.get_weight() - most;
        // Of the two directions, that which the path was begun in.
        let cost = |first: u32, from: f64| {
            let turn = network.turns(first).iter().find(|turn| turn.to == second)?;
            Some(network.share_left(first, from) + turn.weight as usize)
        };
        let candidates =
            network.segments_at(begin).filter_map(|(first, from)| Some((cost(first, from)?, first, from)));
        let (_, first, from) = candidates.min_by_key(|(cost, ..)| *cost)?;
        let whole = |segment: u32| Part { segment, from: 0.0, to: network.length(segment) };
        let mut parts = vec![Part { from, ..whole(first) }];
        parts.extend(nodes.iter().filter_map(|node| Some(whole(u32::try_from(*node).ok()?))));
        let last = parts.last_mut()?;
        last.to = network.segments_at(end).find(|(segment, _)| *segment == last.segment)?.1;
        Some((parts, weight))
    }
}

impl Network {
    /// The way along one segment.
    fn direct(&self, begin: &Snapped, end: &Snapped) -> Option<(Vec<Part>, usize)> {
        if begin.road != end.road {
            return None;
        }
        let ends = |segment: u32| self.segments_at(end).find(|(other, _)| *other == segment);
        let ahead = self.segments_at(begin).filter_map(|(segment, from)| {
            let (_, to) = ends(segment)?;
            let weight = self.share_left(segment, from).checked_sub(self.share_left(segment, to))?;
            (to >= from).then_some((vec![Part { segment, from, to }], weight))
        });
        ahead.min_by_key(|(_, weight)| *weight)
    }

    /// The segments of the road that a place is on, and how far along each of them it is.
    fn segments_at(&self, at: &Snapped) -> impl Iterator<Item = (u32, f64)> {
        let road = &self.roads[at.road as usize];
        let both = [road.along, road.against].into_iter().flatten();
        let both = both.filter(|segment| self.segments[*segment as usize].component == at.component);
        both.map(|segment| (segment, self.passed(at, self.segments[segment as usize].is_reversed)))
    }

    /// Its points in its direction.
    fn points_of(&self, segment: u32) -> Vec<[i32; 2]> {
        let segment = &self.segments[segment as usize];
        let mut line = self.line(&self.roads[segment.road as usize]).to_vec();
        if segment.is_reversed {
            line.reverse();
        }
        line
    }

    fn length(&self, segment: u32) -> f64 {
        self.points_of(segment).windows(2).map(|pair| metres(pair[0], pair[1])).sum()
    }

    /// What the rest of a segment weighs, from so many metres on.
    fn share_left(&self, segment: u32, from: f64) -> usize {
        let (length, weight) = (self.length(segment), self.segments[segment as usize].weight);
        let share = if length > 0.0 { (1.0 - from / length).clamp(0.0, 1.0) } else { 0.0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a small number"
        )]
        let left = (f64::from(weight) * share).round() as usize;
        left
    }

    fn assemble(&self, parts: &[Part], begin: &Snapped) -> Route {
        let mut points = vec![Passed { place: point(begin.place), seconds: 0.0, metres: 0.0 }];
        let (mut seconds, mut metres_so_far) = (0.0, 0.0);
        for (index, part) in parts.iter().enumerate() {
            if let Some(before) = index.checked_sub(1).map(|before| parts[before].segment)
                && let Some(turn) = self.turns(before).iter().find(|turn| turn.to == part.segment)
            {
                seconds += f64::from(turn.time) / PER_SECOND;
            }
            let speed = f64::from(self.segments[part.segment as usize].speed);
            let mut passed = 0.0;
            for pair in self.points_of(part.segment).windows(2) {
                let length = metres(pair[0], pair[1]);
                let (enters, leaves) = ((part.from - passed).max(0.0), (part.to - passed).min(length));
                if leaves > enters {
                    let share = (leaves - enters) / length;
                    seconds += f64::from(tenths(length, speed)) / PER_SECOND * share;
                    metres_so_far += leaves - enters;
                    let place = between(pair[0], pair[1], leaves / length);
                    points.push(Passed { place: point(place), seconds, metres: metres_so_far });
                }
                passed += length;
            }
        }
        Route { seconds, metres: metres_so_far, points }
    }
}
