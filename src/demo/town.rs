//! A town that does not exist, with a restaurant, a home and the way between them.

/// South-western corner: a green valley.
const ORIGIN: [f64; 2] = [47.1306, 9.5050];
/// Blocks, in degrees: about 190 m each way at this latitude.
const STEP: [f64; 2] = [0.0017, 0.0025];
const ROWS: usize = 11;
const COLUMNS: usize = 17;
/// Points of the way between two crossings.
const POINTS_PER_BLOCK: usize = 8;

pub const BUSINESS: &str = "Trattoria da Chiara";
pub const BUSINESS_ADDRESS: &str = "Market Street 3";
pub const HOME_ADDRESS: &str = "Linden Lane 12";

/// The crossings of the way, column and row, from the restaurant's door to the customer's.
const WAY: [(usize, usize); 12] =
    [(5, 3), (6, 3), (7, 3), (7, 4), (7, 5), (8, 5), (9, 5), (9, 6), (9, 7), (10, 7), (11, 7), (11, 8)];

/// A crossing. The streets bend a little, as streets do.
fn crossing(column: usize, row: usize) -> [f64; 2] {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (x, y) = (column as f64, row as f64);
    let bend = |along: f64, across: f64| 0.16 * (along * 0.8 + across * 0.35).sin();
    [ORIGIN[0] + STEP[0] * (y + bend(x, y)), ORIGIN[1] + STEP[1] * (x + bend(y, x))]
}

/// Every street, as lines of latitude and longitude.
pub fn streets() -> Vec<Vec<[f64; 2]>> {
    let across = (0..ROWS).map(|row| (0..COLUMNS).map(|column| crossing(column, row)).collect());
    let along = (0..COLUMNS).map(|column| (0..ROWS).map(|row| crossing(column, row)).collect());
    across.chain(along).collect()
}

/// Where the way begins and ends.
pub fn ends() -> [[f64; 2]; 2] {
    let door = |(column, row): (usize, usize)| crossing(column, row);
    [door(WAY[0]), door(WAY[WAY.len() - 1])]
}

/// The way along the streets, in small steps.
pub fn route() -> Vec<[f64; 2]> {
    let crossings: Vec<_> = WAY.iter().map(|&(column, row)| crossing(column, row)).collect();
    let mut points = Vec::with_capacity(WAY.len() * POINTS_PER_BLOCK);
    for pair in crossings.windows(2) {
        let ([from_lat, from_lon], [to_lat, to_lon]) = (pair[0], pair[1]);
        for step in 0..POINTS_PER_BLOCK {
            #[expect(clippy::cast_precision_loss, reason = "single digits")]
            let part = step as f64 / POINTS_PER_BLOCK as f64;
            points.push([from_lat + (to_lat - from_lat) * part, from_lon + (to_lon - from_lon) * part]);
        }
    }
    points.extend(crossings.last());
    points
}
