//! A fictional town with a restaurant, a home and a route between them.

/// South-western corner, as latitude and longitude: in a green valley.
const ORIGIN: [f64; 2] = [47.1306, 9.5050];
/// Size of a block in degrees: about 190 m in both directions at this latitude.
const BLOCK: [f64; 2] = [0.0017, 0.0025];
const ROWS: usize = 11;
const COLUMNS: usize = 17;
/// Points of the route between two crossings.
const POINTS_PER_BLOCK: usize = 8;

pub const BUSINESS: &str = "Trattoria da Chiara";
pub const BUSINESS_ADDRESS: &str = "Market Street 3";
pub const HOME_ADDRESS: &str = "Linden Lane 12";

/// The crossings of the route, as column and row, from the restaurant to the home.
const ROUTE: [(usize, usize); 12] =
    [(5, 3), (6, 3), (7, 3), (7, 4), (7, 5), (8, 5), (9, 5), (9, 6), (9, 7), (10, 7), (11, 7), (11, 8)];

/// The latitude and longitude of a crossing. A small sine makes the streets look natural.
fn crossing(column: usize, row: usize) -> [f64; 2] {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (x, y) = (column as f64, row as f64);
    let bend = |along: f64, across: f64| 0.16 * (along * 0.8 + across * 0.35).sin();
    [ORIGIN[0] + BLOCK[0] * (y + bend(x, y)), ORIGIN[1] + BLOCK[1] * (x + bend(y, x))]
}

/// All streets, each as a line of latitude and longitude pairs.
pub fn streets() -> Vec<Vec<[f64; 2]>> {
    let across = (0..ROWS).map(|row| (0..COLUMNS).map(|column| crossing(column, row)).collect());
    let along = (0..COLUMNS).map(|column| (0..ROWS).map(|row| crossing(column, row)).collect());
    across.chain(along).collect()
}

/// The positions of the restaurant and of the home.
pub fn ends() -> [[f64; 2]; 2] {
    let position = |(column, row): (usize, usize)| crossing(column, row);
    [position(ROUTE[0]), position(ROUTE[ROUTE.len() - 1])]
}

/// The route from the restaurant to the home, in small steps.
pub fn route() -> Vec<[f64; 2]> {
    let crossings: Vec<_> = ROUTE.iter().map(|&(column, row)| crossing(column, row)).collect();
    let mut points = Vec::with_capacity(ROUTE.len() * POINTS_PER_BLOCK);
    for pair in crossings.windows(2) {
        let ([from_lat, from_lon], [to_lat, to_lon]) = (pair[0], pair[1]);
        for step in 0..POINTS_PER_BLOCK {
            #[expect(clippy::cast_precision_loss, reason = "single digits")]
            let fraction = step as f64 / POINTS_PER_BLOCK as f64;
            points
                .push([from_lat + (to_lat - from_lat) * fraction, from_lon + (to_lon - from_lon) * fraction]);
        }
    }
    points.extend(crossings.last());
    points
}
