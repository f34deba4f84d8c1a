//! Sixty days of a made-up town, where it is known how long everything takes.

use chrono::{Datelike, TimeDelta};

use super::super::InUse;
use super::*;
use crate::model::{EtaSource, Point};

const CITY: Point = Point::stored(47.15, 9.52);
const SUBURB: Point = Point::stored(47.25, 9.52);

/// Numbers from 0 to 1 that are the same in each run (`SplitMix64`).
struct Chance(u64);

impl Chance {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn first_day() -> Time {
    "2026-03-02T00:00:00.000Z".parse().expect("a time")
}

/// What driving really takes: a quarter longer than the router says, in the evening of weekdays and in the city more, and it varies.
fn truth(at: Time, place: Point, chance: &mut Chance) -> f64 {
    let rush = if (17..19).contains(&chrono::Timelike::hour(&at)) && at.weekday().num_days_from_monday() < 5 {
        1.35
    } else {
        1.0
    };
    let city = if Area::of(place) == Area::of(CITY) { 1.2 } else { 0.95 };
    // Something like a normal distribution, with a deviation of 0.15.
    let noise: f64 = (0..12).map(|_| chance.next()).sum::<f64>() - 6.0;
    1.15 * rush * city * (noise * 0.15).exp()
}

/// The trips of a day. `nonsense`: drivers press their buttons hours later.
fn day(day: i64, nonsense: bool, chance: &mut Chance) -> Vec<Trip> {
    (0..120)
        .map(|index| {
            let at = first_day() + TimeDelta::days(day) + TimeDelta::minutes(600 + index * 6);
            let place = if index % 3 == 0 { SUBURB } else { CITY };
            let base = 200.0 + chance.next() * 1_000.0;
            let actual = base * if nonsense { 20.0 } else { truth(at, place, chance) };
            Trip {
                mode: TravelMode::Car,
                area: Some(Area::of(place).to_string()),
                glimpses: vec![Glimpse { at, source: "network".to_owned(), base, actual }],
            }
        })
        .collect()
}

/// The mean error of a day without learning and with it, in seconds, and the share of arrivals within the range.
fn held(learned: &Learned, trips: &[Trip]) -> (f64, f64, f64) {
    let in_use = InUse::of(learned, TravelMode::Car);
    let (mut without, mut with, mut within) = (0.0, 0.0, 0.0);
    let mut add = |trip: &Trip| {
        let glimpse = &trip.glimpses[0];
        let place = if trip.area == Some(Area::of(CITY).to_string()) { CITY } else { SUBURB };
        let eta = glimpse.base * in_use.factor(glimpse.at, Some(Area::of(place)));
        let spread = in_use.spread(EtaSource::Network, eta);
        without += (glimpse.actual - glimpse.base).abs();
        with += (glimpse.actual - eta).abs();
        if (eta * spread.low..=eta * spread.high).contains(&glimpse.actual) {
            within += 1.0;
        }
    };
    trips.iter().for_each(&mut add);
    let n = f64::from(u32::try_from(trips.len()).expect("few"));
    (without / n, with / n, within / n)
}

#[test]
fn sixty_days_one_of_them_poisoned() {
    let mut chance = Chance(7);
    let mut learned = Learned::default();
    let in_use = |learned: &Learned| {
        InUse::of(learned, TravelMode::Car).factor(first_day() + TimeDelta::hours(12), Some(Area::of(CITY)))
    };
    let mut factors = vec![1.0];
    for index in 0..60 {
        let trips = day(index, index == 30, &mut chance);
        if index == 29 || index == 59 {
            let (without, with, within) = held(&learned, &trips);
            assert!(with < without * 0.55, "day {index}: {with:.0} s with, {without:.0} s without");
            assert!((0.72..0.9).contains(&within), "day {index}: {within:.2} within the range");
        }
        learned.learn_day(&trips);
        factors.push(in_use(&learned));
    }
    // 1.15 times 1.2.
    assert!((1.3..1.45).contains(&factors[30]), "{factors:?}");
    let poisoned = factors[31] / factors[30];
    // Each of the three levels moves by at most five percent.
    assert!((0.95..1.158).contains(&poisoned), "{poisoned}");
    assert!((factors[36] / factors[30] - 1.0).abs() < 0.08, "{factors:?}");
    // It is never far beyond the truth, and no day moves it further than the three steps.
    assert!(factors.iter().all(|factor| *factor < 1.6), "{factors:?}");
    assert!(factors.windows(2).all(|pair| (pair[1] / pair[0]).ln().abs() < 3.0 * 0.0488), "{factors:?}");
    assert!(factors.iter().all(|factor| (0.6..=2.0).contains(factor)));
}

#[test]
fn without_anything_to_learn_nothing_changes() {
    let mut learned = Learned::default();
    learned.learn_day(&[]);
    assert_eq!(learned, Learned::default());
    let in_use = InUse::of(&learned, TravelMode::Car);
    assert!((in_use.factor(first_day(), None) - 1.0).abs() < 1e-12);
    assert_eq!(in_use.spread(EtaSource::Osrm, 700.0), Spread::ASSUMED);
}

#[test]
fn what_was_learned_survives_being_written_and_areas_are_bounded() {
    let mut learned = Learned::default();
    let mut chance = Chance(3);
    for index in 0..3 {
        learned.learn_day(&day(index, false, &mut chance));
    }
    let text = serde_json::to_string(&learned).expect("JSON");
    let read: Learned = serde_json::from_str(&text).expect("the same");
    // The last digit may differ.
    assert_eq!(format!("{read:.6?}"), format!("{learned:.6?}"));
    let trip = |index: usize| Trip {
        mode: TravelMode::Bike,
        area: Some(format!("{index}.01,0.01")),
        glimpses: vec![Glimpse { at: first_day(), source: "osrm".to_owned(), base: 100.0, actual: 130.0 }],
    };
    learned.learn_day(&(0..AREAS + 50).map(trip).collect::<Vec<_>>());
    assert_eq!(learned.levels.keys().filter(|name| name.contains(" @")).count(), AREAS);
    // Those with more trips are kept.
    assert!(learned.levels.contains_key(&levels::of_area("car", &Area::of(CITY).to_string())));
}
