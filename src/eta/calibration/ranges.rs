//! How far arrivals lie from the ETAs, by source and by how far ahead.

use serde::{Deserialize, Serialize};

use super::levels::FADES;
use crate::model::Spread;

/// The bounds of horizons in minutes, each with its word. The last one has no bound.
pub const HORIZONS: [(f64, &str); 6] =
    [(2.0, "0-2"), (5.0, "2-5"), (10.0, "5-10"), (20.0, "10-20"), (40.0, "20-40"), (f64::INFINITY, "40+")];
/// Bins of a histogram of natural logarithms from -1 to 1.
const BINS: usize = 80;
const WIDEST: f64 = 1.0;
/// All other trips of any kind count like so many of one's own.
const ALIKE: f64 = 40.0;
/// A bound changes by at most a tenth a day.
const STEP: f64 = 0.095_3;

/// Which horizon so many seconds are in.
#[must_use]
pub fn horizon_in(seconds: f64) -> usize {
    HORIZONS.iter().position(|(minutes, _)| seconds < minutes * 60.0).unwrap_or(HORIZONS.len() - 1)
}

/// How far trips were off, and the range that is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranges {
    pub trips: u64,
    bins: Vec<f64>,
    /// Natural logarithms.
    low: f64,
    high: f64,
}

impl Default for Ranges {
    fn default() -> Self {
        let Spread { low, high } = Spread::ASSUMED;
        Self { trips: 0, bins: vec![0.0; BINS], low: low.ln(), high: high.ln() }
    }
}

impl Ranges {
    /// A trip took so much longer than the ETA said.
    pub fn learn(&mut self, residual: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bins")]
        let bin = (f64::midpoint(residual.clamp(-WIDEST, WIDEST), WIDEST) / WIDEST * 79.999) as usize;
        // A histogram of another length cannot come from this version.
        if let Some(count) = self.bins.get_mut(bin) {
            *count += 1.0;
        }
        self.trips += 1;
    }

    /// A day is over. `others` counts as far as there is little of its own: at the beginning, what is assumed.
    pub fn end_day(&mut self, others: Option<&Self>) {
        let others = others.filter(|others| others.bins.iter().sum::<f64>() > 0.0).map(|others| &others.bins);
        let assumed;
        let others = if let Some(bins) = others {
            bins
        } else {
            assumed = assumed_bins();
            &assumed
        };
        let share = ALIKE / others.iter().sum::<f64>();
        let all: Vec<f64> = self.bins.iter().zip(others).map(|(own, other)| own + other * share).collect();
        let towards = |now: f64, wanted: f64| now + (wanted - now).clamp(-STEP, STEP);
        // The ETA itself is always in between.
        self.low = towards(self.low, quantile(&all, 0.1).min(0.0));
        self.high = towards(self.high, quantile(&all, 0.9).max(0.0));
        self.bins.iter_mut().for_each(|count| *count = (*count * FADES * 1e4).round() / 1e4);
    }

    #[must_use]
    pub fn spread(&self) -> Spread {
        Spread { low: self.low.exp(), high: self.high.exp() }
    }
}

/// A tenth below what is assumed at least, a tenth above what is assumed at most.
#[expect(clippy::cast_precision_loss, reason = "80 bins")]
fn assumed_bins() -> Vec<f64> {
    let Spread { low, high } = Spread::ASSUMED;
    let (low, high) = (low.ln(), high.ln());
    (0..BINS)
        .map(|bin| {
            let middle = (bin as f64 + 0.5) / BINS as f64 * 2.0 * WIDEST - WIDEST;
            match middle {
                _ if middle < low => 0.1 / (low + WIDEST),
                _ if middle > high => 0.1 / (WIDEST - high),
                _ => 0.8 / (high - low),
            }
        })
        .collect()
}

/// The value that this share of all is below.
#[expect(clippy::cast_precision_loss, reason = "80 bins")]
fn quantile(bins: &[f64], share: f64) -> f64 {
    let mut left = bins.iter().sum::<f64>() * share;
    for (bin, count) in bins.iter().enumerate() {
        if left <= *count {
            let inside = if *count > 0.0 { left / count } else { 0.0 };
            return (bin as f64 + inside) / BINS as f64 * 2.0 * WIDEST - WIDEST;
        }
        left -= count;
    }
    WIDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_assumed_gives_way_to_what_was_seen() {
        let mut ranges = Ranges::default();
        ranges.end_day(None);
        let Spread { low, high } = ranges.spread();
        assert!((low - 0.70).abs() < 0.01 && (high - 1.57).abs() < 0.02, "{low} {high}");
        // Nine of ten are between -0.1 and +0.2.
        for _ in 0..20 {
            for trip in 0..100 {
                ranges.learn(f64::from(trip % 40) / 100.0 - 0.15);
            }
            ranges.end_day(None);
        }
        let Spread { low, high } = ranges.spread();
        assert!((0.86..0.91).contains(&low) && (1.20..1.28).contains(&high), "{low} {high}");
        // A day of nonsense.
        (0..100).for_each(|_| ranges.learn(50.0));
        ranges.end_day(None);
        assert!(ranges.spread().high <= high * 1.1001);
    }

    #[test]
    fn horizons() {
        let words: Vec<&str> = [0.0, 119.9, 120.0, 599.0, 2_399.0, 2_400.0, 1e9]
            .map(|seconds| HORIZONS[horizon_in(seconds)].1)
            .to_vec();
        assert_eq!(words, ["0-2", "0-2", "2-5", "5-10", "20-40", "40+", "40+"]);
    }
}
