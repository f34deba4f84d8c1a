//! How full the server is. Telling other systems, and people who are not connected, comes after the changes themselves: while the
//! server is full, that work takes turns. Nothing is lost by it, because each of its readers goes on from where it was in the log.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as Line;
use tokio::time::Instant;

use super::clock::instant;
use super::metrics::Metrics;

/// How often it is looked how full the server is.
const LOOK: Duration = Duration::from_millis(100);
/// It is full when so many changes wait for the database, whatever part of its cores it uses.
const WAITING: usize = 4;
/// The time of one core that is left to what can wait, for each unit of its work: one message or notification. At the longest
/// it still gets 125 units a second of each core.
const LONGEST: u32 = 8_000;
const SHORTEST: u32 = 100;
/// The longest that somebody waits for one other turn.
const TURN: Duration = Duration::from_secs(5);

/// How full the server is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Fullness(Arc<Parts>);

#[derive(Default)]
struct Parts {
    /// Microseconds for each unit of work that can wait. 0: the server has time for everything.
    gap: AtomicU32,
    /// Those who wait, first come first served.
    line: Line<()>,
    /// When the next turn begins.
    next: Mutex<Option<Instant>>,
}

/// What was seen at one look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The share of all cores that the process used since the last look, if it is known.
    cores: Option<f64>,
    /// Changes that waited.
    waiting: usize,
}

impl Seen {
    fn is_full(self, at: f64) -> bool {
        self.waiting >= WAITING || self.cores.is_some_and(|share| share >= at)
    }
}

impl Fullness {
    /// Waits until work that can wait may go on: at once, unless the server is full.
    pub async fn turn(&self) {
        if !self.is_full() {
            return;
        }
        let _first = self.0.line.lock().await;
        let next = *self.next();
        if let Some(next) = next {
            tokio::time::sleep_until(next).await;
        }
        self.spent(1);
    }

    /// Says how many units of work were done in a turn.
    pub fn spent(&self, units: usize) {
        let gap = Duration::from_micros(self.0.gap.load(Ordering::Relaxed).into());
        let wait = gap.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX)).min(TURN);
        if !wait.is_zero() {
            let mut next = self.next();
            *next = Some(next.map_or_else(instant, |next| next.max(instant())) + wait);
        }
    }

    /// Whether work that can wait takes turns now. Then it does one piece at a turn.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.gap.load(Ordering::Relaxed) > 0
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for ever how full the server is. `full_at`: the part of its cores, from 0 to 1, from which on it is full. `waiting`: the
    /// changes that wait for the database.
    pub async fn watch(self, full_at: f64, waiting: impl Fn() -> usize, metrics: Metrics) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let longest = LONGEST / u32::try_from(cores).unwrap_or(1).max(1);
        let mut tick = tokio::time::interval(LOOK);
        let (mut at, mut used) = (instant(), used_time());
        loop {
            tick.tick().await;
            let (now, used_now) = (instant(), used_time());
            let past = now.duration_since(at).as_secs_f64();
            let share = used.zip(used_now).filter(|_| past > 0.0).map(|(before, after)| {
                #[expect(clippy::cast_precision_loss, reason = "no machine has that many cores")]
                let all = past * cores as f64;
                after.saturating_sub(before).as_secs_f64() / all
            });
            (at, used) = (now, used_now);
            let gap = self.0.gap.load(Ordering::Relaxed);
            let seen = Seen { cores: share, waiting: waiting() };
            let gap = next_gap(gap, seen.is_full(full_at), longest);
            self.0.gap.store(gap, Ordering::Relaxed);
            metrics.full.set(i64::from(gap > 0));
        }
    }
}

/// The gap doubles while the server is full, and shrinks by a third otherwise. So it comes to rest where the server is just not full.
fn next_gap(gap: u32, is_full: bool, longest: u32) -> u32 {
    match (is_full, gap / 3 * 2) {
        (true, _) => (gap * 2).clamp(SHORTEST, longest),
        (false, less) if less < SHORTEST => 0,
        (false, less) => less,
    }
}

/// The processor time that this process has used. Only Linux says it without a library.
fn used_time() -> Option<Duration> {
    /// In hundredths of a second, whatever the kernel counts in.
    const TICK: Duration = Duration::from_millis(10);
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold anything. The 12th and 13th words after it are user and system time.
    let mut words = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u32, u32) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(TICK * user.checked_add(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_grows_while_the_server_is_full_and_goes_afterwards() {
        let mut gap = 0;
        for _ in 0..20 {
            gap = next_gap(gap, true, LONGEST);
        }
        assert_eq!(gap, LONGEST);
        for _ in 0..20 {
            gap = next_gap(gap, false, LONGEST);
        }
        assert_eq!(gap, 0);
        assert_eq!(next_gap(0, false, LONGEST), 0);
    }

    #[test]
    fn cores_and_changes_that_wait_fill_it() {
        let is_full = |cores, waiting| Seen { cores, waiting }.is_full(0.75);
        assert!(is_full(Some(0.9), 0));
        assert!(is_full(None, 4));
        assert!(!is_full(Some(0.3), 0));
        assert!(!is_full(None, 3));
        assert!(Seen { cores: Some(0.0), waiting: 0 }.is_full(0.0), "always, if the operator wants it");
    }

    #[tokio::test]
    async fn a_full_server_gives_turns_and_counts_what_was_done_in_them() {
        let fullness = Fullness::default();
        fullness.turn().await;
        fullness.spent(100);
        assert_eq!(*fullness.next(), None, "a server that is not full makes nobody wait");
        fullness.0.gap.store(LONGEST, Ordering::Relaxed);
        fullness.spent(500);
        let next = fullness.next().unwrap();
        assert!(next > instant());
        // Whoever did it: all of them share the turns.
        fullness.clone().spent(100);
        assert_eq!(fullness.next().unwrap() - next, Duration::from_micros(u64::from(LONGEST)) * 100);
        fullness.spent(usize::MAX);
        assert!(fullness.next().unwrap() <= next + TURN * 2, "one turn is not for ever");
        // It has been full, and is not any more.
        fullness.0.gap.store(0, Ordering::Relaxed);
        fullness.turn().await;
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_says_what_was_used() {
        let before = used_time().unwrap();
        let began = instant();
        while used_time().unwrap() == before {
            assert!(began.elapsed() < Duration::from_secs(30), "time passes");
            std::hint::black_box((0..100_000_u64).map(|n| n * n).max());
        }
    }
}
