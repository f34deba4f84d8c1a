//! The rules of an order's life: which status may follow which. [`access`] says who may make the change.

use super::access::{self, Right};
use super::{Fulfilment, OrderStatus, Party, Permit};
use OrderStatus::{
    Accepted, AssignedToDriver, Cancelled, Delivered, Failed, InTransit, PickedUp, ReadyForPickup, Returned,
};

/// The statuses that no other follows.
pub const FINAL: [OrderStatus; 3] = [Delivered, Returned, Cancelled];

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

/// Whether `who` may move an order from `from` to `to`.
#[must_use]
pub fn transition(from: OrderStatus, to: OrderStatus, who: Party, how: Fulfilment) -> Transition {
    if from == to {
        return Transition::Already;
    }
    let right = match (how, from, to) {
        (Fulfilment::Collection, ReadyForPickup, Delivered) => Right::HandOver,
        _ => Right::Move { from, to },
    };
    match access::may(who, right) {
        Some(permit) if follows(from, to, how) => Transition::Moves(permit),
        _ => Transition::Refused,
    }
}

/// An order may skip statuses and never goes back, but that a delivery that failed is tried again.
fn follows(from: OrderStatus, to: OrderStatus, how: Fulfilment) -> bool {
    let is_with_driver = (AssignedToDriver..=Failed).contains(&to) || to == Returned;
    match (from, to) {
        _ if is_final(from) => false,
        _ if how == Fulfilment::Collection && is_with_driver => false,
        (_, Cancelled) | (PickedUp | InTransit, Failed) | (Failed, InTransit | Returned) => true,
        (_, Failed | Returned) | (Failed, _) => false,
        _ => to > from,
    }
}

/// The statuses to which `who` may move an order from `from`, in the order of an order's life.
#[must_use]
pub fn allowed(from: OrderStatus, who: Party, how: Fulfilment) -> Vec<OrderStatus> {
    OrderStatus::ALL
        .into_iter()
        .filter(|to| matches!(transition(from, *to, who, how), Transition::Moves(_)))
        .collect()
}

/// Whether no status follows this one.
#[must_use]
pub const fn is_final(status: OrderStatus) -> bool {
    matches!(status, Delivered | Returned | Cancelled)
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
    const TABLE: [[&str; 12]; 12] = [
        //          pend  paid  acc   prep  ready  assig  pick   trans  fail  deliv  ret  canc
        /* pend  */
        ["=", "s", "ks", "ks", "ks", "s", "s", "s", "", "s", "", "cks"],
        /* paid  */ ["", "=", "ks", "ks", "ks", "s", "s", "s", "", "s", "", "cks"],
        /* acc   */ ["", "", "=", "ks", "ks", "s", "ds", "s", "", "s", "", "cks"],
        /* prep  */ ["", "", "", "=", "ks", "s", "ds", "s", "", "s", "", "ks"],
        /* ready */ ["", "", "", "", "=", "s", "ds", "ds", "", "ds", "", "ks"],
        /* assig */ ["", "", "", "", "", "=", "ds", "ds", "", "ds", "", "ks"],
        /* pick  */ ["", "", "", "", "", "", "=", "ds", "ds", "ds", "", "s"],
        /* trans */ ["", "", "", "", "", "", "", "=", "ds", "ds", "", "s"],
        /* fail  */ ["", "", "", "", "", "", "", "ds", "=", "", "ds", "s"],
        /* deliv */ ["", "", "", "", "", "", "", "", "", "=", "", ""],
        /* ret   */ ["", "", "", "", "", "", "", "", "", "", "=", ""],
        /* canc  */ ["", "", "", "", "", "", "", "", "", "", "", "="],
    ];

    /// The same for an order that its customer fetches.
    const COLLECTION: [[&str; 12]; 12] = [
        ["=", "s", "ks", "ks", "ks", "", "", "", "", "s", "", "cks"],
        ["", "=", "ks", "ks", "ks", "", "", "", "", "s", "", "cks"],
        ["", "", "=", "ks", "ks", "", "", "", "", "s", "", "cks"],
        ["", "", "", "=", "ks", "", "", "", "", "s", "", "ks"],
        ["", "", "", "", "=", "", "", "", "", "ks", "", "ks"],
        // By a correction.
        ["", "", "", "", "", "=", "", "", "", "ds", "", "ks"],
        ["", "", "", "", "", "", "=", "", "", "ds", "", "s"],
        ["", "", "", "", "", "", "", "=", "", "ds", "", "s"],
        ["", "", "", "", "", "", "", "", "=", "", "", "s"],
        ["", "", "", "", "", "", "", "", "", "=", "", ""],
        ["", "", "", "", "", "", "", "", "", "", "=", ""],
        ["", "", "", "", "", "", "", "", "", "", "", "="],
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
        let tables = [(Fulfilment::Delivery, TABLE), (Fulfilment::Collection, COLLECTION)];
        let rows = tables.into_iter().flat_map(|(how, table)| {
            OrderStatus::ALL.into_iter().zip(table).map(move |(from, row)| (how, from, row))
        });
        for (how, from, row) in rows {
            for (to, cell) in OrderStatus::ALL.into_iter().zip(row) {
                for who in Party::ALL {
                    let what = transition(from, to, who, how);
                    let right = match cell {
                        "=" => matches!(what, Transition::Already),
                        letters if letters.contains(letter(who)) => matches!(what, Transition::Moves(_)),
                        _ => matches!(what, Transition::Refused),
                    };
                    assert!(right, "{how:?}: {from:?} → {to:?} by {who:?}: {what:?}");
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 1_440);
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
