//! Reads what routing needs of an OpenStreetMap extract: ways that one of the modes may use, the nodes they are made of, and turn
//! restrictions.

use std::collections::HashMap;
use std::path::Path;

use osmpbf::{Element, ElementReader, RelMemberType};

use super::NetworkError;
use crate::model::Point;

/// The tags of an element.
pub(super) type Tags = HashMap<String, String>;

/// A way that has a `highway` or is a ferry.
pub(super) struct Way {
    pub id: i64,
    pub nodes: Vec<i64>,
    pub tags: Tags,
}

/// A node of a way.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Latitude and longitude in ten-millionths of a degree.
    pub place: [i32; 2],
    /// Only those that say something of traffic lights, barriers and access.
    pub tags: Option<Box<Tags>>,
}

/// Who comes from one way over a node may not, or may only, go on along another one.
pub(super) struct Restriction {
    pub from: i64,
    pub via: i64,
    pub to: i64,
    pub only: bool,
}

/// What was read.
#[derive(Default)]
pub(super) struct Extract {
    pub ways: Vec<Way>,
    pub nodes: HashMap<i64, Node>,
    pub restrictions: Vec<Restriction>,
}

impl Extract {
    /// Residential streets that meet wherever they have a point in common.
    pub(super) fn of_streets(streets: &[Vec<[f64; 2]>]) -> Self {
        let mut extract = Self::default();
        let mut known: HashMap<[i32; 2], i64> = HashMap::new();
        for (id, street) in (1..).zip(streets) {
            let mut nodes = Vec::with_capacity(street.len());
            for &[latitude, longitude] in street {
                let place = super::place(Point::stored(latitude, longitude));
                let next = i64::try_from(known.len()).unwrap_or(i64::MAX);
                let node = *known.entry(place).or_insert(next);
                extract.nodes.insert(node, Node { place, tags: None });
                nodes.push(node);
            }
            let tags = Tags::from([("highway".to_owned(), "residential".to_owned())]);
            extract.ways.push(Way { id, nodes, tags });
        }
        extract
    }
}

/// Tags of nodes that matter.
const NODE_TAGS: [&str; 8] =
    ["highway", "barrier", "access", "vehicle", "motor_vehicle", "motorcar", "bicycle", "foot"];

/// Reads a file in PBF. The file is read twice, because nodes come before the ways that need them.
///
/// # Errors
/// [`NetworkError::Unreadable`].
pub(super) fn read(file: &Path) -> Result<Extract, NetworkError> {
    let file = file.to_owned();
    // The reader panics on some broken files.
    let read = std::thread::spawn(move || {
        let mut extract = Extract::default();
        ElementReader::from_path(&file)?.for_each(|element| take_way(&mut extract, &element))?;
        ElementReader::from_path(&file)?.for_each(|element| take_node(&mut extract, &element))?;
        Ok::<_, osmpbf::Error>(extract)
    });
    let extract = read.join().map_err(|_| NetworkError::Unreadable("it is damaged".to_owned()))?;
    extract.map_err(|error| NetworkError::Unreadable(error.to_string()))
}

fn take_way(extract: &mut Extract, element: &Element<'_>) {
    match element {
        Element::Way(way) => {
            let is_road =
                way.tags().any(|(key, value)| key == "highway" || (key == "route" && value == "ferry"));
            let nodes: Vec<i64> = way.refs().collect();
            if is_road && nodes.len() > 1 {
                for node in &nodes {
                    extract.nodes.entry(*node).or_default();
                }
                let tags = way.tags().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                extract.ways.push(Way { id: way.id(), nodes, tags });
            }
        }
        Element::Relation(relation) => {
            let tags: HashMap<&str, &str> = relation.tags().collect();
            if tags.get("type") != Some(&"restriction") {
                return;
            }
            let kind = ["restriction:motorcar", "restriction:motor_vehicle", "restriction"];
            let Some(kind) = kind.iter().find_map(|key| tags.get(key)) else { return };
            let excepted = tags.get("except").is_some_and(|except| {
                except.split(';').any(|who| matches!(who.trim(), "motorcar" | "motor_vehicle" | "vehicle"))
            });
            let only = kind.starts_with("only_");
            if excepted || !(only || kind.starts_with("no_")) {
                return;
            }
            let (mut from, mut via, mut to) = (Vec::new(), None, Vec::new());
            for member in relation.members() {
                match (member.role().unwrap_or_default(), member.member_type) {
                    ("from", RelMemberType::Way) => from.push(member.member_id),
                    ("to", RelMemberType::Way) => to.push(member.member_id),
                    ("via", RelMemberType::Node) => via = Some(member.member_id),
                    _ => {}
                }
            }
            let Some(via) = via else { return };
            let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
            extract.restrictions.extend(pairs.map(|(from, to)| Restriction { from, via, to, only }));
        }
        Element::Node(_) | Element::DenseNode(_) => {}
    }
}

fn take_node(extract: &mut Extract, element: &Element<'_>) {
    let (id, place) = match element {
        Element::Node(node) => (node.id(), [node.decimicro_lat(), node.decimicro_lon()]),
        Element::DenseNode(node) => (node.id(), [node.decimicro_lat(), node.decimicro_lon()]),
        Element::Way(_) | Element::Relation(_) => return,
    };
    let Some(node) = extract.nodes.get_mut(&id) else { return };
    let known =
        |(key, value): (&str, &str)| NODE_TAGS.contains(&key).then(|| (key.to_owned(), value.to_owned()));
    let tags: Tags = match element {
        Element::Node(node) => node.tags().filter_map(known).collect(),
        Element::DenseNode(node) => node.tags().filter_map(known).collect(),
        Element::Way(_) | Element::Relation(_) => Tags::new(),
    };
    *node = Node { place, tags: (!tags.is_empty()).then(|| Box::new(tags)) };
}
