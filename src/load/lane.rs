//! One lane of orders: an order lives, is delivered, and the next one follows. Who watches the lane is to hear of each change once,
//! in order.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::rest::State;

/// The statuses of an order's life. The driver is assigned between `ready_for_pickup` and `picked_up`.
const STATUSES: [&str; 9] = [
    "pending",
    "payment_confirmed",
    "accepted",
    "preparing",
    READY,
    ASSIGNED,
    "picked_up",
    "in_transit",
    "delivered",
];
pub(super) const READY: &str = "ready_for_pickup";
const ASSIGNED: &str = "assigned_to_driver";
/// No order of ours has as many changes. One that has, because somebody else changes it, is left alone.
const SEQS: u32 = 32;
/// Orders of a lane that are remembered. What a watcher has not heard of an older one counts as missed.
const LIVES: usize = 64;

/// A change of an order of the lane: which order, and the order's seq after it.
pub(super) type Mark = (u32, u32);

/// What is to be done next with the order of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Create the order with this number.
    Create(u32),
    /// Move the order, which is at this seq, to a status.
    Move { order: u32, to: &'static str, seq: u32 },
    /// Give the order, which is at this seq, to the driver.
    Assign { order: u32, seq: u32 },
    /// Find out what has become of the order with this number.
    Look(u32),
}

/// What a watcher heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A change that it had not heard of. `late`: after a newer one.
    New { requested: Instant, late: bool },
    /// A change that it had heard of.
    Again,
    /// A change from before it was there, or that nobody here has asked for.
    Foreign,
}

/// How many changes watchers were to hear of, and how many they have heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub expected: u64,
    pub received: u64,
}

impl Sums {
    pub fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.received += other.received;
    }
}

/// What a watcher of the lane has heard.
#[derive(Clone, Copy, Default)]
struct Watcher {
    /// The newest change when it came. `None` until then.
    from: Option<Mark>,
    /// The newest change that it has heard of.
    newest: Mark,
}

/// One order, and who has heard what of it. Bit n is the change to seq n.
struct Life {
    order: u32,
    requested: [Option<Instant>; SEQS as usize],
    /// Acknowledged by the server.
    made: u32,
    heard: Vec<u32>,
}

pub(super) struct Lane {
    watchers: Vec<Watcher>,
    lives: VecDeque<Life>,
    /// Of the orders that are not remembered any more.
    closed: Sums,
    /// The order as it was when last seen; `None` before the first one.
    state: Option<State>,
    /// The order of `state`, or the one that is being created.
    order: u32,
    /// Whether something was asked for, and nobody knows whether it was done.
    unsure: bool,
}

impl Lane {
    pub fn new(watchers: usize) -> Self {
        Self {
            watchers: vec![Watcher::default(); watchers],
            lives: VecDeque::new(),
            closed: Sums::default(),
            state: None,
            order: 0,
            unsure: false,
        }
    }

    pub fn next(&self) -> Step {
        let order = self.order;
        if self.unsure {
            return Step::Look(order);
        }
        let Some(State { seq, status }) = &self.state else { return Step::Create(order) };
        let at = STATUSES.iter().position(|known| known == status);
        match at.and_then(|at| STATUSES.get(at + 1)).filter(|_| *seq < SEQS - 1) {
            Some(&ASSIGNED) => Step::Assign { order, seq: *seq },
            Some(to) => Step::Move { order, to, seq: *seq },
            None => Step::Create(order + 1),
        }
    }

    /// The order that is open, with its seq, if there is one that is known to be.
    pub fn open(&self) -> Option<Mark> {
        let is_open = |state: &&State| STATUSES[..STATUSES.len() - 1].contains(&&*state.status);
        self.state.as_ref().filter(is_open).map(|state| (self.order, state.seq))
    }

    /// An order is about to be created.
    pub fn begin(&mut self, order: u32) {
        (self.order, self.state) = (order, None);
        if self.lives.back().is_none_or(|life| life.order != order) {
            let heard = vec![0; self.watchers.len()];
            self.lives.push_back(Life { order, requested: [None; SEQS as usize], made: 0, heard });
        }
        while self.lives.len() > LIVES {
            let life = self.lives.pop_front();
            self.closed.add(life.map_or_else(Sums::default, |life| self.sums_of(&life)));
        }
    }

    /// A change is about to be asked for: the one to this seq.
    pub fn request(&mut self, seq: u32, now: Instant) {
        if let Some(requested) = self.lives.back_mut().and_then(|life| life.requested.get_mut(seq as usize)) {
            *requested = Some(now);
        }
    }

    /// The server has said how the order is; `None`: there is no such order. Returns how many changes are known to be made now
    /// that were not before.
    pub fn told(&mut self, state: Option<State>) -> u64 {
        self.unsure = false;
        self.state = state;
        let (Some(state), Some(life)) = (&self.state, self.lives.back_mut()) else { return 0 };
        let before = life.made.count_ones();
        for (seq, requested) in (0..=state.seq).zip(life.requested) {
            life.made |= u32::from(requested.is_some()) << seq;
        }
        u64::from(life.made.count_ones() - before)
    }

    /// What was asked for was refused: it is not done.
    pub fn refused(&mut self, seq: Option<u32>) {
        if let (Some(seq), Some(life)) = (seq, self.lives.back_mut())
            && let Some(requested) = life.requested.get_mut(seq as usize)
        {
            *requested = None;
        }
    }

    /// Nobody knows how the order is.
    pub fn doubt(&mut self) {
        self.unsure = true;
    }

    /// A watcher is there for the first time, and is to hear of what comes from now on.
    pub fn join(&mut self, watcher: usize) {
        let newest = self.lives.back().map_or((0, 0), |life| {
            let seq = life.requested.iter().rposition(Option::is_some).unwrap_or_default();
            (life.order, u32::try_from(seq).unwrap_or_default())
        });
        self.watchers[watcher].from.get_or_insert(newest);
    }

    /// A watcher has heard of a change.
    pub fn heard(&mut self, watcher: usize, (order, seq): Mark) -> Heard {
        let Watcher { from, newest } = &mut self.watchers[watcher];
        let life = self.lives.iter_mut().rfind(|life| life.order == order);
        let (Some(life), Some(from)) = (life, *from) else { return Heard::Foreign };
        let Some(&Some(requested)) = life.requested.get(seq as usize) else { return Heard::Foreign };
        if (order, seq) <= from {
            return Heard::Foreign;
        }
        let (heard, bit) = (&mut life.heard[watcher], 1 << seq);
        if *heard & bit != 0 {
            return Heard::Again;
        }
        *heard |= bit;
        let late = (order, seq) < *newest;
        *newest = (order, seq).max(*newest);
        Heard::New { requested, late }
    }

    pub fn sums(&self) -> Sums {
        let mut sums = self.closed;
        self.lives.iter().for_each(|life| sums.add(self.sums_of(life)));
        sums
    }

    fn sums_of(&self, life: &Life) -> Sums {
        let mut sums = Sums::default();
        for (watcher, heard) in self.watchers.iter().zip(&life.heard) {
            let Some((order, seq)) = watcher.from else { continue };
            let expected = match order.cmp(&life.order) {
                std::cmp::Ordering::Less => life.made,
                std::cmp::Ordering::Equal => life.made & (!1 << seq),
                std::cmp::Ordering::Greater => 0,
            };
            sums.expected += u64::from(expected.count_ones());
            sums.received += u64::from((expected & heard).count_ones());
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::instant;

    #[expect(clippy::unnecessary_wraps, reason = "what `told` takes")]
    fn state(seq: u32, status: &str) -> Option<State> {
        Some(State { seq, status: status.to_owned() })
    }

    /// Takes the order of a lane through a step that succeeds.
    fn go(lane: &mut Lane) -> Mark {
        let (order, seq, status) = match lane.next() {
            Step::Create(order) => {
                lane.begin(order);
                lane.told(state(1, "pending"));
                return (order, 1);
            }
            Step::Move { order, to, seq } => (order, seq + 1, to),
            Step::Assign { order, seq } => (order, seq + 1, ASSIGNED),
            Step::Look(_) => panic!("nothing is unsure"),
        };
        lane.request(seq, instant());
        assert_eq!(lane.told(state(seq, status)), 1);
        (order, seq)
    }

    #[test]
    fn an_order_lives_and_the_next_one_follows() {
        let mut lane = Lane::new(0);
        let marks: Vec<_> = (0..10).map(|_| go(&mut lane)).collect();
        assert_eq!(marks[..9], (1..=9).map(|seq| (0, seq)).collect::<Vec<_>>());
        assert_eq!(marks[9], (1, 1));
        assert_eq!(lane.open(), Some((1, 1)));
    }

    #[test]
    fn each_watcher_is_to_hear_each_change_once_and_in_order() {
        let mut lane = Lane::new(2);
        go(&mut lane);
        assert_eq!(lane.heard(0, (0, 2)), Heard::Foreign, "it is not there yet");
        lane.join(0);
        let (a, b) = (go(&mut lane), go(&mut lane));
        assert!(matches!(lane.heard(0, b), Heard::New { late: false, .. }));
        assert!(matches!(lane.heard(0, a), Heard::New { late: true, .. }));
        assert_eq!(lane.heard(0, a), Heard::Again);
        assert_eq!(lane.sums(), Sums { expected: 2, received: 2 });
        lane.join(1);
        assert_eq!(lane.heard(1, b), Heard::Foreign, "from before it came");
        let c = go(&mut lane);
        assert_eq!(lane.sums(), Sums { expected: 4, received: 2 });
        assert!(matches!(lane.heard(1, c), Heard::New { late: false, .. }));
        assert_eq!(lane.heard(1, (0, 31)), Heard::Foreign);
        assert_eq!(lane.heard(1, (9, 1)), Heard::Foreign);
        assert_eq!(lane.heard(1, (0, u32::MAX)), Heard::Foreign);
        lane.join(1);
        assert_eq!(lane.sums(), Sums { expected: 4, received: 3 }, "who comes back is not new");
    }

    #[test]
    fn what_nobody_knows_is_looked_up() {
        let mut lane = Lane::new(1);
        go(&mut lane);
        lane.join(0);
        lane.request(2, instant());
        lane.doubt();
        assert_eq!(lane.next(), Step::Look(0));
        assert_eq!(lane.sums(), Sums::default(), "perhaps it was not done");
        assert_eq!(lane.told(state(2, "payment_confirmed")), 1);
        assert_eq!(lane.sums(), Sums { expected: 1, received: 0 });
        // A change that was refused, and the one of somebody else in its place.
        lane.request(3, instant());
        lane.refused(Some(3));
        assert_eq!(lane.told(state(3, "cancelled")), 0);
        assert_eq!((lane.heard(0, (0, 3)), lane.next()), (Heard::Foreign, Step::Create(1)));
        // An order that was not created is created once more.
        lane.begin(1);
        lane.doubt();
        assert_eq!(lane.told(None), 0);
        assert_eq!(lane.next(), Step::Create(1));
    }

    #[test]
    fn what_is_not_remembered_any_more_still_counts() {
        let mut lane = Lane::new(1);
        go(&mut lane);
        lane.join(0);
        let first = go(&mut lane);
        lane.heard(0, first);
        while lane.order < 200 {
            go(&mut lane);
        }
        assert_eq!(lane.lives.len(), LIVES);
        assert_eq!(lane.sums(), Sums { expected: 200 * 8, received: 1 });
        assert_eq!(lane.heard(0, (0, 3)), Heard::Foreign);
    }
}
