//! The rules of an order's life: which status may follow which. [`access`] says who may make the change.

use super::access::{self, Right};
use super::{OrderStatus, Party, Permit};
use OrderStatus::{Accepted, Cancelled, Delivered, PickedUp};

/// The decision on a request to move an order.
#[derive(Clone, Copy, Debug)]
pub enum Transition {
    /// The order moves. This party may move it from here.
    Moves(Permit),
    /// The order has this status already: success without a change.
    Already,
    /// The order cannot go there from here, or this party may not move it.
    Refused,
}

/// Whether `who` may move an order from `from` to `to`. An order may skip statuses but never goes back.
#[must_use]
pub fn transition(from: OrderStatus, to: OrderStatus, who: Party) -> Transition {
    if from == to {
        return Transition::Already;
    }
    let follows = !is_final(from) && (to == Cancelled || to > from);
    match access::may(who, Right::Move { from, to }) {
        Some(permit) if follows => Transition::Moves(permit),
        _ => Transition::Refused,
    }
}

/// The statuses to which `who` may move an order from `from`, in the order of an order's life.
#[must_use]
pub fn allowed(from: OrderStatus, who: Party) -> Vec<OrderStatus> {
    OrderStatus::ALL
        .into_iter()
        .filter(|to| matches!(transition(from, *to, who), Transition::Moves(_)))
        .collect()
}

/// Whether no status follows this one.
#[must_use]
pub const fn is_final(status: OrderStatus) -> bool {
    matches!(status, Delivered | Cancelled)
}

/// Whether a driver may be assigned now: from `accepted` until the end.
#[must_use]
pub fn may_assign(status: OrderStatus) -> bool {
    status >= Accepted && !is_final(status)
}

/// Whether the driver may be removed. Once they have the goods, the order can only be reassigned.
#[must_use]
pub fn may_unassign(status: OrderStatus) -> bool {
    may_assign(status) && status < PickedUp
}

/// The status for a word, in any case; `canceled` too.
#[must_use]
pub fn parse(word: &str) -> Option<OrderStatus> {
    let word = word.to_ascii_lowercase();
    let word = if word == "canceled" { "cancelled" } else { &word };
    OrderStatus::ALL.into_iter().find(|status| status.as_str() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (from, to, who): rows are states, columns are targets in the order of `ALL`. `=` is the same status.
    /// Letters are the parties that may move it: c(ustomer), k (chef, who cooks), d(river), s(taff).
    const TABLE: [[&str; 10]; 10] = [
        //          pend  paid  acc   prep  ready  assig  pick   trans  deliv  canc
        /* pend  */
        ["=", "s", "ks", "ks", "ks", "s", "s", "s", "s", "cks"],
        /* paid  */ ["", "=", "ks", "ks", "ks", "s", "s", "s", "s", "cks"],
        /* acc   */ ["", "", "=", "ks", "ks", "s", "ds", "s", "s", "cks"],
        /* prep  */ ["", "", "", "=", "ks", "s", "ds", "s", "s", "ks"],
        /* ready */ ["", "", "", "", "=", "s", "ds", "ds", "ds", "ks"],
        /* assig */ ["", "", "", "", "", "=", "ds", "ds", "ds", "ks"],
        /* pick  */ ["", "", "", "", "", "", "=", "ds", "ds", "s"],
        /* trans */ ["", "", "", "", "", "", "", "=", "ds", "s"],
        /* deliv */ ["", "", "", "", "", "", "", "", "=", ""],
        /* canc  */ ["", "", "", "", "", "", "", "", "", "="],
    ];

    const fn letter(who: Party) -> char {
        match who {
            Party::Customer => 'c',
            Party::Chef => 'k',
            Party::Driver => 'd',
            Party::Staff => 's',
            Party::Anonymous => 'a',
        }
    }

    #[test]
    fn every_from_to_and_who() {
        let mut checked = 0;
        for (from, row) in OrderStatus::ALL.into_iter().zip(TABLE) {
            for (to, cell) in OrderStatus::ALL.into_iter().zip(row) {
                for who in Party::ALL {
                    let what = transition(from, to, who);
                    let right = match cell {
                        "=" => matches!(what, Transition::Already),
                        letters if letters.contains(letter(who)) => matches!(what, Transition::Moves(_)),
                        _ => matches!(what, Transition::Refused),
                    };
                    assert!(right, "{from:?} → {to:?} by {who:?}: {what:?}");
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 500);
    }

    #[test]
    fn words() {
        for status in OrderStatus::ALL {
            assert_eq!(parse(&status.as_str().to_uppercase()), Some(status));
        }
        assert_eq!(parse("Canceled"), Some(Cancelled));
        assert_eq!(parse("cooked"), None);
    }
}
