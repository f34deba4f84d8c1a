//! The estimate of a driver whose phone tells speed and heading: a Kalman filter for constant velocity. Both axes have the same
//! errors, so one covariance is enough.

use crate::model::plane::Plane;
use crate::model::{Fix, Point};

/// How much a driver's velocity changes: metres²/s³.
const CHANGE: f64 = 3.0;
/// A phone's accuracy is the radius of two cases in three; the error of one axis is smaller by this.
const RADIUS: f64 = 1.51;
/// No fix is more exact than this, in metres.
const LEAST_ERROR: f64 = 3.0;
/// Errors of fixes shortly after each other are alike, so they teach less: they count as larger by 1 + this many seconds ÷ the time in
/// between.
const ALIKE: f64 = 10.0;
/// Errors of a phone's velocity: metres per second, and radians.
const SPEED_ERROR: f64 = 0.5;
const HEADING_ERROR: f64 = 8.0 * std::f64::consts::PI / 180.0;
/// Who is slower stands still, in metres per second, and how exact that is.
const STANDING: f64 = 0.5;
const STANDING_ERROR: f64 = 0.3;
/// After so many fixes without speed the phone does not tell it any more.
const SILENT: u8 = 3;
/// A velocity of so long ago says nothing, in seconds.
const LONGEST: f64 = 60.0;

/// The velocity of a driver, and how exactly it and the place are known.
#[derive(Clone, Debug)]
pub(super) struct Motion {
    /// East and north, in metres per second.
    velocity: [f64; 2],
    /// Variances and covariance of each axis.
    place: f64,
    both: f64,
    speed: f64,
    /// How many fixes in a row did not tell a velocity.
    silent: u8,
}

/// The error of each axis, in metres.
fn error(accuracy: f64) -> f64 {
    (accuracy / RADIUS).max(LEAST_ERROR)
}

/// The velocity that a fix tells, and its variance.
fn told(fix: &Fix) -> Option<([f64; 2], f64)> {
    let speed = fix.speed?;
    if speed < STANDING {
        return Some(([0.0, 0.0], STANDING_ERROR * STANDING_ERROR));
    }
    let (sin, cos) = fix.heading?.to_radians().sin_cos();
    let across = HEADING_ERROR * speed;
    Some(([speed * sin, speed * cos], SPEED_ERROR * SPEED_ERROR + across * across))
}

impl Motion {
    /// At the first fix of a phone that tells a velocity.
    pub fn of(fix: &Fix, accuracy: f64) -> Option<Self> {
        let (velocity, variance) = told(fix)?;
        let error = error(accuracy);
        Some(Self { velocity, place: error * error, both: 0.0, speed: variance, silent: 0 })
    }

    /// The variances so many seconds later: of the place, both, and the speed.
    fn later(&self, seconds: f64) -> [f64; 3] {
        let place = self.place
            + seconds * (2.0 * self.both + seconds * self.speed)
            + CHANGE * seconds * seconds * seconds / 3.0;
        let both = self.both + seconds * self.speed + CHANGE * seconds * seconds / 2.0;
        [place, both, self.speed + CHANGE * seconds]
    }

    fn noise(accuracy: f64, seconds: f64) -> f64 {
        let error = error(accuracy);
        error * error * (1.0 + ALIKE / seconds.max(0.1))
    }

    /// The square of how far a fix is from where it was expected, in parts of the variance. `at`: metres from the last estimate.
    pub fn innovation(&self, at: [f64; 2], accuracy: f64, seconds: f64) -> f64 {
        if seconds > LONGEST {
            return 0.0;
        }
        let [east, north] = [0, 1].map(|axis| at[axis] - self.velocity[axis] * seconds);
        (east * east + north * north) / (self.later(seconds)[0] + Self::noise(accuracy, seconds))
    }

    /// Takes a fix so many seconds after the last one. `from`: the last estimate. Returns the new one.
    pub fn update(&mut self, from: Point, fix: &Fix, accuracy: f64, seconds: f64) -> Point {
        if seconds > LONGEST {
            if let Some(anew) = Self::of(fix, accuracy) {
                *self = anew;
            } else {
                self.silent = SILENT;
            }
            return fix.place;
        }
        let map = Plane::around(from);
        let measured = map.metres(fix.place);
        let [mut place, mut both, mut speed] = self.later(seconds);
        let mut at = self.velocity.map(|velocity| velocity * seconds);

        let total = place + Self::noise(accuracy, seconds);
        let (of_place, of_speed) = (place / total, both / total);
        for axis in 0..2 {
            let off = measured[axis] - at[axis];
            at[axis] += of_place * off;
            self.velocity[axis] += of_speed * off;
        }
        speed -= of_speed * both;
        both -= of_place * both;
        place -= of_place * place;

        if let Some((velocity, variance)) = told(fix) {
            self.silent = 0;
            let total = speed + variance;
            let (of_place, of_speed) = (both / total, speed / total);
            for axis in 0..2 {
                let off = velocity[axis] - self.velocity[axis];
                at[axis] += of_place * off;
                self.velocity[axis] += of_speed * off;
            }
            place -= of_place * both;
            both -= of_speed * both;
            speed -= of_speed * speed;
        } else {
            self.silent = self.silent.saturating_add(1);
        }
        (self.place, self.both, self.speed) = (place, both, speed);
        map.place(at)
    }

    /// Whether the phone has not told a velocity for a while.
    pub const fn is_over(&self) -> bool {
        self.silent >= SILENT
    }

    /// The radius in which the driver is in two cases of three, in metres.
    pub fn uncertainty(&self) -> f64 {
        self.place.sqrt() * RADIUS
    }
}
