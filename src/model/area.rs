//! Areas of some two kilometres, to learn where deliveries take longer.

use std::fmt;

use super::Point;

/// Degrees of latitude from one row to the next: 2.2 km.
const ROW: f64 = 0.02;

/// A cell of a grid around the earth, as long as it is wide. Its word is its middle, such as `47.15,9.51`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Area {
    row: i16,
    column: i16,
}

impl Area {
    /// The one that a place is in.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "at most 4,500 rows and 18,000 columns")]
    pub fn of(place: Point) -> Self {
        let row = (place.lat() / ROW).floor();
        Self { row: row as i16, column: (place.lon() / column(row)).floor() as i16 }
    }
}

/// Degrees of longitude from one column of a row to the next.
fn column(row: f64) -> f64 {
    let middle = ((row + 0.5) * ROW).to_radians().cos();
    // At a pole there is one of them.
    ROW / middle.max(1e-4)
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = f64::from(self.row);
        write!(f, "{:.2},{:.2}", (row + 0.5) * ROW, (f64::from(self.column) + 0.5) * column(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_some_two_kilometres_wide_everywhere() {
        let of = |latitude, longitude| Area::of(Point::stored(latitude, longitude)).to_string();
        assert_eq!(of(47.1415, 9.5015), "47.15,9.51");
        assert_eq!(of(47.1575, 9.5275), "47.15,9.51");
        assert_eq!(of(47.1615, 9.5015), "47.17,9.49");
        assert_eq!(of(47.1415, 9.5315), "47.15,9.54");
        // Nearer to the pole a degree of longitude is shorter.
        assert_eq!(of(70.0, 25.0), of(70.0, 25.03));
        for (latitude, longitude) in [(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0), (-0.001, -0.001)] {
            assert!(!of(latitude, longitude).is_empty());
        }
        assert_eq!(of(-0.001, -0.001), "-0.01,-0.01");
    }
}
