//! What nodes tell each other of how far they are in the two logs. While nobody can read the database, nodes that hear each other
//! know by this that nothing was lost of anybody's rights: whoever takes a right writes it, and then says so here.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::base::clock::Time;

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// When it said so, by the clock of the cluster.
    pub at: Time,
    /// The newest position of the log of events that it has delivered or written.
    pub events: i64,
    /// The newest entry of the control log that it has carried out; `None` if it has written newer ones.
    pub control: Option<i64>,
    /// Whether it knows who may hear what.
    pub is_fresh: bool,
}

/// What other nodes said last, by their numbers.
pub type AllHeard = HashMap<u16, Heard>;

/// What another node said, and when, by the monotonic clock of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub heads: Heads,
    pub at: Instant,
}

/// Where this node is itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Every event up to here was delivered.
    pub events: i64,
    /// Every entry of the control log up to here was carried out.
    pub control: i64,
}

/// Up to when nothing can have happened that this node has not: the others have all said that they knew no more than it does.
/// `others` are the numbers of the nodes that there were at `looked`; who was heard later than that is one more. `None` if there
/// is no such time.
#[must_use]
pub fn agreed(
    here: Reached,
    others: impl IntoIterator<Item = u16>,
    looked: Instant,
    heard: &AllHeard,
) -> Option<Instant> {
    let known = others.into_iter().map(|number| heard.get(&number));
    let new = heard.values().filter(|heard| heard.at > looked).map(Some);
    let mut oldest = None;
    for heard in known.chain(new) {
        let Heard { heads, at } = heard?;
        if heads.events > here.events || heads.control? > here.control {
            return None;
        }
        oldest = Some(oldest.map_or(*at, |oldest: Instant| oldest.min(*at)));
    }
    oldest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::clock::{from_millis, instant};

    const HERE: Reached = Reached { events: 7, control: 3 };

    fn heard(at: Instant, events: i64, control: Option<i64>) -> Heard {
        Heard { heads: Heads { at: from_millis(0), events, control, is_fresh: false }, at }
    }

    #[test]
    fn the_one_heard_longest_ago_counts() {
        let looked = instant();
        let [first, second] = [1, 2].map(|secs| looked + Duration::from_secs(secs));
        let all = HashMap::from([(2, heard(second, 7, Some(3))), (3, heard(first, 5, Some(2)))]);
        assert_eq!(agreed(HERE, [2, 3], looked, &all), Some(first));
        assert_eq!(agreed(HERE, [2], second, &all), Some(second), "the third one has left");
        assert_eq!(agreed(HERE, [], second, &all), None, "there is nobody");
    }

    #[test]
    fn everybody_has_to_be_heard_and_to_know_no_more() {
        let looked = instant();
        let now = looked + Duration::from_secs(1);
        let with = |third| HashMap::from([(2, heard(now, 7, Some(3))), (3, third)]);
        assert_eq!(
            agreed(HERE, [2, 3, 4], looked, &with(heard(now, 7, Some(3)))),
            None,
            "the fourth is silent"
        );
        for (what, third) in [
            ("an event", heard(now, 8, Some(3))),
            ("a notice", heard(now, 7, Some(4))),
            ("what it has written itself", heard(now, 7, None)),
        ] {
            assert_eq!(agreed(HERE, [2, 3], looked, &with(third)), None, "{what} is missing here");
            assert_eq!(agreed(HERE, [2], looked, &with(third)), None, "{what}, of a node that has just come");
        }
    }
}
