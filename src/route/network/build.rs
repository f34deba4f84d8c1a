//! Makes the graph of segments and turns out of an extract, and prepares it.

use std::collections::{HashMap, HashSet};

use fast_paths::{InputGraph, Params};

use super::geometry::{bearing, metres};
use super::osm::{Extract, Way};
use super::profile::{Lane, Passage};
use super::snap::Grid;
use super::{MAIN, MOST_SEGMENTS, Network, NetworkError, Road, Segment, Turn};
use crate::route::Mode;

/// Is told what is being done.
pub type Progress<'a> = &'a dyn Fn(&str);

/// What it counts as to enter a road that is only for who has something to do there, in tenths of a second.
const INTO_RESTRICTED: u32 = 32_767;
/// What traffic lights cost, in tenths of a second.
const LIGHTS: u32 = 20;
const KMH: f64 = 3.6;
const TENTHS: f64 = 10.0;

/// A place where roads meet or something happens.
#[derive(Default)]
struct Junction {
    /// The segments that end and begin here.
    arriving: Vec<u32>,
    leaving: Vec<u32>,
    roads: HashSet<u32>,
    passage: Passage,
}

/// What is needed of a segment to find its turns.
struct End {
    way: i64,
    restricted: bool,
    from: i64,
    to: i64,
}

struct Draft {
    mode: Mode,
    points: Vec<[i32; 2]>,
    roads: Vec<Road>,
    segments: Vec<Segment>,
    ends: Vec<End>,
    junctions: HashMap<i64, Junction>,
}

pub(super) fn network(
    extract: &Extract,
    mode: Mode,
    progress: Progress<'_>,
) -> Result<Network, NetworkError> {
    progress("finding the roads");
    let mut draft = Draft::new(extract, mode)?;
    let (first_turns, turns) = draft.turns(extract);
    draft.find_components(&first_turns, &turns);
    if draft.segments.is_empty() {
        return Err(NetworkError::Empty(mode.as_str()));
    }
    let grid = Grid::new(&draft.points, &draft.roads)?;
    progress(&format!("preparing {} segments and {} turns", draft.segments.len(), turns.len()));
    let mut graph = InputGraph::new();
    for from in 0..draft.segments.len() {
        for turn in &turns[first_turns[from] as usize..first_turns[from + 1] as usize] {
            let weight = turn.weight as usize + draft.segments[turn.to as usize].weight as usize;
            graph.add_edge(from, turn.to as usize, weight);
        }
    }
    graph.freeze();
    let hierarchy = fast_paths::prepare_with_params(&graph, &Params::default());
    let Draft { points, roads, segments, .. } = draft;
    Ok(Network { mode, points, roads, segments, first_turns, turns, hierarchy, grid })
}

impl Draft {
    fn new(extract: &Extract, mode: Mode) -> Result<Self, NetworkError> {
        let ways: Vec<_> = extract.ways.iter().filter_map(|way| Some((way, mode.lanes(way)?))).collect();
        // Where a way begins, ends, meets another one or itself, and where something happens.
        let mut uses: HashMap<i64, u32> = HashMap::new();
        for (way, _) in &ways {
            for (index, node) in way.nodes.iter().enumerate() {
                let is_end = index == 0 || index == way.nodes.len() - 1;
                *uses.entry(*node).or_default() += if is_end { 2 } else { 1 };
            }
        }
        let passage =
            |node: &i64| mode.passage(extract.nodes.get(node).and_then(|node| node.tags.as_deref()));
        let is_junction = |node: &i64| uses[node] > 1 || passage(node) != Passage::default();
        let (points, roads, segments) = (Vec::new(), Vec::new(), Vec::new());
        let mut draft = Self { mode, points, roads, segments, ends: Vec::new(), junctions: HashMap::new() };
        for (way, lanes) in &ways {
            let mut piece: Vec<i64> = Vec::new();
            for node in &way.nodes {
                piece.push(*node);
                if piece.len() > 1 && is_junction(node) {
                    draft.add(extract, way, (lanes.forward, lanes.backward), &piece);
                    piece = vec![*node];
                }
            }
            if draft.segments.len() > MOST_SEGMENTS {
                return Err(NetworkError::TooLarge(draft.segments.len()));
            }
        }
        for (node, junction) in &mut draft.junctions {
            junction.passage = passage(node);
        }
        Ok(draft)
    }

    /// Adds a piece of a way, in the directions in which it may be used.
    fn add(&mut self, extract: &Extract, way: &Way, lanes: (Option<Lane>, Option<Lane>), nodes: &[i64]) {
        let line: Vec<_> = nodes.iter().map(|node| extract.nodes[node].place).collect();
        // Nodes that the extract does not have are at 0, 0.
        let (Some(from), Some(to)) = (nodes.first(), nodes.last()) else { return };
        if line.contains(&[0, 0]) {
            return;
        }
        let number = index(self.roads.len());
        let first = index(self.points.len());
        self.points.extend(&line);
        let along = lanes.0.map(|lane| self.segment(number, false, lane, &line, way, (*from, *to)));
        let against = lanes.1.map(|lane| self.segment(number, true, lane, &line, way, (*to, *from)));
        self.roads.push(Road { first, count: index(line.len()), along, against });
    }

    fn segment(
        &mut self,
        road: u32,
        is_reversed: bool,
        lane: Lane,
        course: &[[i32; 2]],
        way: &Way,
        (from, to): (i64, i64),
    ) -> u32 {
        let number = index(self.segments.len());
        let pieces = || course.windows(2).map(|pair| metres(pair[0], pair[1]));
        let (speed, preferred) = (lane.speed / KMH, lane.preferred / KMH);
        // Only a damaged file has roads that take years.
        let total =
            |speed: f64| pieces().fold(0_u32, |sum, length| sum.saturating_add(tenths(length, speed)));
        let (time, weight) = (total(speed), total(preferred));
        #[expect(clippy::cast_possible_truncation, reason = "speeds need no more digits")]
        let (speed, preferred) = (speed as f32, preferred as f32);
        self.segments.push(Segment { road, is_reversed, speed, preferred, time, weight, component: MAIN });
        self.ends.push(End { way: way.id, restricted: lane.restricted, from, to });
        let begin = self.junctions.entry(from).or_default();
        begin.leaving.push(number);
        begin.roads.insert(road);
        let end = self.junctions.entry(to).or_default();
        end.arriving.push(number);
        end.roads.insert(road);
        number
    }

    /// The turns that are possible, by the segment they leave.
    fn turns(&self, extract: &Extract) -> (Vec<u32>, Vec<Turn>) {
        let (mut forbidden, mut only) = (HashSet::new(), HashMap::<_, HashSet<i64>>::new());
        // Restrictions are for cars.
        for rule in extract.restrictions.iter().filter(|_| self.mode == Mode::Car) {
            if rule.only {
                only.entry((rule.from, rule.via)).or_default().insert(rule.to);
            } else {
                forbidden.insert((rule.from, rule.via, rule.to));
            }
        }
        let (mut first, mut turns) = (vec![0], Vec::new());
        for (segment, end) in self.ends.iter().enumerate() {
            let junction = &self.junctions[&end.to];
            let here = self.bearings(segment).1;
            let open = |to: u32| {
                let way = self.ends[to as usize].way;
                !forbidden.contains(&(end.way, end.to, way))
                    && only.get(&(end.way, end.to)).is_none_or(|ways| ways.contains(&way))
            };
            for &to in &junction.leaving {
                let is_back = self.segments[to as usize].road == self.segments[segment].road
                    && self.ends[to as usize].to == end.from
                    && self.segments[to as usize].is_reversed != self.segments[segment].is_reversed;
                let possible =
                    if is_back { self.may_go_back(junction) } else { !junction.passage.blocked && open(to) };
                if possible {
                    turns.push(self.turn(segment, to, here, is_back, junction));
                }
            }
            first.push(index(turns.len()));
        }
        (first, turns)
    }

    /// Only where there is nothing else to do.
    fn may_go_back(&self, junction: &Junction) -> bool {
        let both_ways = |road: &&u32| {
            let road = &self.roads[**road as usize];
            road.along.is_some() && road.against.is_some()
        };
        junction.passage.blocked || junction.roads.iter().filter(both_ways).count() <= 1
    }

    fn turn(&self, from: usize, to: u32, here: f64, is_back: bool, junction: &Junction) -> Turn {
        let mut time = if junction.passage.lights { LIGHTS } else { 0 };
        if junction.roads.len() > 2 || is_back {
            let there = self.bearings(to as usize).0;
            let angle = if is_back { 180.0 } else { (there - here + 540.0).rem_euclid(360.0) - 180.0 };
            time += rounded(self.mode.turn(angle, is_back) * TENTHS);
        }
        let enters = !self.ends[from].restricted && self.ends[to as usize].restricted;
        Turn { to, time, weight: if enters { INTO_RESTRICTED } else { time } }
    }

    /// The directions in which a segment begins and ends.
    fn bearings(&self, segment: usize) -> (f64, f64) {
        let Segment { road, is_reversed, .. } = self.segments[segment];
        let road = &self.roads[road as usize];
        let line = &self.points[road.first as usize..(road.first + road.count) as usize];
        let (along, against) = (bearing(line.iter().copied()), bearing(line.iter().rev().copied()));
        let back = |bearing: f64| (bearing + 180.0) % 360.0;
        if is_reversed { (against, back(along)) } else { (along, back(against)) }
    }

    /// Finds the sets of segments of which each leads to all others: Tarjan's algorithm, without recursion.
    fn find_components(&mut self, first: &[u32], turns: &[Turn]) {
        const NEW: u32 = u32::MAX;
        let count = self.segments.len();
        let (mut order, mut low, mut on_stack) = (vec![NEW; count], vec![0; count], vec![false; count]);
        let (mut stack, mut next, mut components) = (Vec::new(), 0, Vec::new());
        for start in 0..count {
            if order[start] != NEW {
                continue;
            }
            let mut calls = vec![(start, first[start])];
            while let Some((segment, turn)) = calls.pop() {
                if turn == first[segment] && order[segment] == NEW {
                    (order[segment], low[segment]) = (next, next);
                    next += 1;
                    stack.push(segment);
                    on_stack[segment] = true;
                }
                if turn < first[segment + 1] {
                    calls.push((segment, turn + 1));
                    let to = turns[turn as usize].to as usize;
                    if order[to] == NEW {
                        calls.push((to, first[to]));
                    } else if on_stack[to] {
                        low[segment] = low[segment].min(order[to]);
                    }
                    continue;
                }
                if let Some((caller, _)) = calls.last() {
                    low[*caller] = low[*caller].min(low[segment]);
                }
                if low[segment] == order[segment] {
                    let begin = stack.iter().rposition(|other| *other == segment).unwrap_or_default();
                    let all = stack.split_off(begin);
                    for &other in &all {
                        on_stack[other] = false;
                        self.segments[other].component = index(components.len() + 1);
                    }
                    components.push(all.len());
                }
            }
        }
        let largest = components.iter().enumerate().max_by_key(|(_, size)| **size);
        let largest = largest.map_or(MAIN, |(number, _)| index(number + 1));
        for segment in &mut self.segments {
            if segment.component == largest {
                segment.component = MAIN;
            }
        }
    }
}

/// How long a piece takes, as OSRM counts it: in whole tenths of a second, and at least one.
pub(super) fn tenths(metres: f64, speed: f64) -> u32 {
    rounded(metres / speed * TENTHS).max(1)
}

fn rounded(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast keeps to the bounds"
    )]
    let value = value.round() as u32;
    value
}

/// There are at most [`MOST_SEGMENTS`] of anything but points, and a file of more points than fit is not read.
fn index(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
