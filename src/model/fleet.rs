//! All drivers on a map.

use serde::{Deserialize, Deserializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::{OrderId, Point, UserId};
use crate::base::clock::Time;
use crate::base::error::Refusal;

/// A driver on the map.
#[derive(Clone, Debug)]
pub struct Spot {
    pub driver: UserId,
    pub place: Point,
    pub heading: Option<f64>,
    pub speed: Option<f64>,
    pub recorded_at: Time,
    pub orders: Vec<OrderId>,
    /// Percent, if their phone has told this node.
    pub battery: Option<u8>,
}

/// From west to east and from south to north, in degrees. A box whose west is east of its east lies across the 180th meridian.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub west: f64,
    pub south: f64,
    pub east: f64,
    pub north: f64,
}

impl Bounds {
    /// Reads `west,south,east,north`.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for anything else, and for a box that is upside down.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let numbers: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        let numbers = numbers.filter(|numbers| numbers.len() == 4);
        let bad = || Refusal::invalid("bbox", "must be west,south,east,north in degrees");
        let Some(&[west, south, east, north]) = numbers.as_deref() else { return Err(bad()) };
        Self::new([west, south, east, north])
    }

    /// The same, from numbers.
    ///
    /// # Errors
    /// As [`Bounds::parse`].
    pub fn new([west, south, east, north]: [f64; 4]) -> Result<Self, Refusal> {
        let is_east = |degrees: f64| (-180.0..=180.0).contains(&degrees);
        let is_north = |degrees: f64| (-90.0..=90.0).contains(&degrees);
        if !(is_east(west) && is_east(east) && is_north(south) && is_north(north)) {
            return Err(Refusal::invalid("bbox", "must be west,south,east,north in degrees"));
        }
        if south > north {
            return Err(Refusal::invalid("bbox", "is upside down: its south is north of its north"));
        }
        Ok(Self { west, south, east, north })
    }

    /// Whether it lies across the 180th meridian.
    #[must_use]
    pub fn wraps(&self) -> bool {
        self.west > self.east
    }

    /// Whether a place is in it.
    #[must_use]
    pub fn has(&self, place: Point) -> bool {
        let (lat, lon) = (place.lat(), place.lon());
        let between = if self.wraps() {
            lon >= self.west || lon <= self.east
        } else {
            (self.west..=self.east).contains(&lon)
        };
        between && (self.south..=self.north).contains(&lat)
    }
}

/// A box in a message: a text or a list of numbers.
impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Numbers([f64; 4]),
        }
        let either = Either::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("must be west,south,east,north in degrees"))?;
        let read = match either {
            Either::Text(text) => Self::parse(&text),
            Either::Numbers(numbers) => Self::new(numbers),
        };
        read.map_err(|refusal| match refusal {
            Refusal::Invalid { reason, .. } => serde::de::Error::custom(reason),
            other => serde::de::Error::custom(other),
        })
    }
}

impl PartialSchema for Bounds {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number);
        let numbers = ArrayBuilder::new().items(number).min_items(Some(4)).max_items(Some(4));
        let text = ObjectBuilder::new().schema_type(Type::String);
        OneOfBuilder::new()
            .description(Some(
                "West, south, east and north, in degrees: a list of numbers, or a text with commas",
            ))
            .item(numbers)
            .item(text)
            .into()
    }
}

impl ToSchema for Bounds {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_have_what_is_in_them() {
        let bounds = Bounds::parse("9.4, 47, 9.6,47.2").expect("a box");
        assert!(bounds.has(Point::stored(47.1, 9.5)) && !bounds.has(Point::stored(47.1, 9.7)));
        let wraps = Bounds::parse("170,-10,-170,10").expect("a box");
        assert!(wraps.has(Point::stored(0.0, 179.0)) && wraps.has(Point::stored(0.0, -179.0)));
        assert!(!wraps.has(Point::stored(0.0, 0.0)));
        for bad in
            ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "9,48,10,47", "9,47,10,91", "-181,0,0,0", "NaN,0,1,1"]
        {
            assert!(Bounds::parse(bad).is_err(), "{bad}");
        }
    }
}
