use super::*;
use crate::base::clock::from_millis;
use crate::model::plane::Plane;

const HOME: Point = Point::stored(47.14, 9.52);

/// A fix so many metres east and north of home, after so many seconds, from a phone that is exact to 5 m.
fn fix(at: f64, east: f64, north: f64) -> Fix {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a test")]
    let at = from_millis(1_800_000_000_000 + (at * 1_000.0) as i64);
    let place = Plane::around(HOME).place([east, north]);
    Fix {
        place,
        heading: None,
        speed: None,
        accuracy: Some(5.0),
        recorded_at: at,
        received_at: at + TimeDelta::milliseconds(40),
        mocked: false,
    }
}

fn going(fix: Fix, speed: f64, heading: f64) -> Fix {
    Fix { speed: Some(speed), heading: Some(heading), ..fix }
}

struct Phone {
    filter: Filter,
    rules: Rules,
}

impl Phone {
    /// Of a driver who is known to be at home at second 0.
    fn at_home() -> Self {
        let mut phone = Self { filter: Filter::default(), rules: Rules::of(TravelMode::Car, false) };
        phone.tell(fix(-1.0, 0.0, 0.0));
        assert_eq!(phone.tell(fix(0.0, 0.0, 0.0)).verdict, Verdict::Shown);
        phone
    }

    fn tell(&mut self, fix: Fix) -> Judgement {
        self.filter.judge(&fix, &self.rules)
    }

    fn verdicts(&mut self, fixes: &[Fix]) -> Vec<&'static str> {
        fixes.iter().map(|fix| self.tell(*fix).verdict.as_str()).collect()
    }
}

#[test]
fn a_fix_without_evidence_is_shown_as_it_was_sent() {
    let mut phone = Phone::at_home();
    for second in 1..100 {
        let far = fix(f64::from(second), f64::from(second % 7) * 50_000.0, 0.0);
        let bare = Fix { accuracy: None, recorded_at: far.received_at, ..far };
        assert_eq!(phone.tell(bare), Judgement::raw(&bare));
    }
    // What comes after it cannot be held against it.
    assert_eq!(phone.tell(fix(101.0, 900_000.0, 0.0)).verdict, Verdict::Shown);
}

#[test]
fn a_fix_that_says_only_when_it_was_measured_is_shown_as_it_was_sent_if_it_can_be() {
    let mut phone = Phone::at_home();
    // Standing or driving: nothing is estimated.
    for second in 1..60 {
        let at = f64::from(second);
        let sent = going(
            Fix { accuracy: None, ..fix(at, if second < 30 { at / 10.0 } else { (at - 29.0) * 20.0 }, 0.0) },
            3.0,
            90.0,
        );
        let judged = phone.tell(sent);
        assert_eq!((judged.verdict, judged.place, judged.source), (Verdict::Shown, sent.place, Source::Raw));
    }
    assert_eq!(phone.tell(Fix { accuracy: None, ..fix(61.0, 20_000.0, 0.0) }).verdict, Verdict::Teleport);
    assert_eq!(phone.tell(Fix { accuracy: None, ..fix(50.0, 500.0, 0.0) }).verdict, Verdict::Late);
}

#[test]
fn each_fault_has_its_verdict() {
    let flipped = Fix { place: Point::stored(-47.14, 9.52), ..fix(5.0, 0.0, 0.0) };
    let swapped = Fix { place: Point::stored(9.52, 47.14), ..fix(5.0, 0.0, 0.0) };
    for (bad, verdict) in [
        (fix(-2.0, 0.0, 0.0), "late"),
        (fix(0.0, 0.0, 0.0), "duplicate"),
        (Fix { place: Point::stored(0.0, 0.0), ..fix(5.0, 0.0, 0.0) }, "null_island"),
        (Fix { accuracy: Some(201.0), ..fix(5.0, 0.0, 0.0) }, "inaccurate"),
        // Shortly after a good one, from the mobile network.
        (Fix { accuracy: Some(60.0), ..fix(5.0, 40.0, 0.0) }, "inaccurate"),
        (fix(5.0, 300.0, 0.0), "teleport"),
        (flipped, "sign_flip"),
        (swapped, "swapped"),
        (fix(5.0, 200.0, 0.0), "shown"),
        (fix(40.0, 1_200.0, 0.0), "teleport"),
        (fix(40.0, 1_100.0, 0.0), "shown"),
        // A phone that does not say how exact it is gets the benefit.
        (Fix { accuracy: None, ..fix(5.0, 600.0, 0.0) }, "shown"),
        (Fix { accuracy: None, ..fix(5.0, 800.0, 0.0) }, "teleport"),
        (Fix { accuracy: Some(60.0), ..fix(40.0, 40.0, 0.0) }, "shown"),
        (Fix { mocked: true, ..fix(5.0, 10.0, 0.0) }, "shown"),
    ] {
        let judged = Phone::at_home().tell(bad);
        assert_eq!(judged.verdict.as_str(), verdict, "{bad:?}");
        if judged.verdict != Verdict::Shown {
            assert_eq!(judged.place, bad.place);
        }
    }
    let mut phone = Phone::at_home();
    phone.rules.drop_mocked = true;
    assert_eq!(phone.tell(Fix { mocked: true, ..fix(5.0, 10.0, 0.0) }).verdict, Verdict::Mocked);
    phone.rules = Rules::of(TravelMode::Foot, false);
    assert_eq!(phone.tell(fix(5.0, 60.0, 0.0)).verdict, Verdict::Teleport);
}

#[test]
fn a_turn_that_no_car_can_take_is_inconsistent() {
    let mut phone = Phone::at_home();
    for second in 1..20 {
        let at = f64::from(second);
        assert_eq!(phone.tell(going(fix(at, 20.0 * at, 0.0), 20.0, 90.0)).verdict, Verdict::Shown);
    }
    let judged = phone.tell(going(fix(25.0, 280.0, 60.0), 20.0, 90.0));
    assert_eq!(judged.verdict, Verdict::Inconsistent, "{judged:?}");
    assert!(judged.innovation.is_some_and(|innovation| innovation > 25.0));
    assert_eq!(phone.tell(going(fix(26.0, 520.0, 0.0), 20.0, 90.0)).verdict, Verdict::Shown);
}

#[test]
fn the_first_fix_waits_for_one_that_agrees() {
    let phone = || Phone { filter: Filter::default(), rules: Rules::of(TravelMode::Car, false) };
    // A bad first fix is never shown, and the next good ones are.
    assert_eq!(
        phone().verdicts(&[
            fix(0.0, 5_000.0, 0.0),
            fix(1.0, 0.0, 0.0),
            fix(2.0, 10.0, 0.0),
            fix(3.0, 20.0, 0.0)
        ]),
        ["held", "held", "shown", "shown"]
    );
    // A phone that does not say how exact it is gets the benefit.
    assert_eq!(phone().verdicts(&[Fix { accuracy: None, ..fix(0.0, 0.0, 0.0) }]), ["shown"]);
    // Nothing contradicts it for a while.
    let mut alone = phone();
    assert_eq!(alone.verdicts(&[fix(0.0, 0.0, 0.0)]), ["held"]);
    let due = fix(0.0, 0.0, 0.0).received_at + HOLD;
    let inexact = Fix { accuracy: Some(40.0), ..fix(0.0, 0.0, 0.0) };
    let mut other = phone();
    assert_eq!(other.verdicts(&[inexact]), ["held"]);
    assert_eq!(other.filter.held_until(), Some(inexact.received_at + HOLD_INEXACT));
    assert_eq!(alone.filter.held(due - TimeDelta::milliseconds(1)), None);
    assert_eq!(alone.filter.held(due), Some(&fix(0.0, 0.0, 0.0)));
    assert_eq!(alone.verdicts(&[fix(10.0, 100.0, 0.0), fix(11.0, 5_000.0, 0.0)]), ["shown", "teleport"]);
    // Where the driver was last seen counts as the first one, unless it cannot be reached or the fix is not exact.
    let before = fix(-3_600.0, 0.0, 0.0);
    for (next, verdict) in [
        (fix(0.0, 350_000.0, 0.0), "shown"),
        (fix(0.0, 370_000.0, 0.0), "held"),
        (Fix { accuracy: Some(60.0), ..fix(0.0, 0.0, 0.0) }, "held"),
    ] {
        let mut phone = phone();
        phone.filter.recall(before.place, before.recorded_at);
        assert_eq!(phone.verdicts(&[next]), [verdict], "{next:?}");
    }
}

#[test]
fn three_that_agree_are_right_and_what_was_shown_is_wrong() {
    let mut phone = Phone::at_home();
    // One that is wrong in between does not count.
    assert_eq!(
        phone.verdicts(&[
            fix(1.0, 9_000.0, 0.0),
            fix(2.0, 0.0, 0.0),
            fix(3.0, 9_000.0, 0.0),
            fix(4.0, 9_000.0, 0.0)
        ]),
        ["teleport", "shown", "teleport", "teleport"]
    );
    let judged = phone.tell(fix(5.0, 9_010.0, 0.0));
    assert!(judged.verdict == Verdict::Shown && judged.reanchored, "{judged:?}");
    assert!(!phone.tell(fix(6.0, 9_020.0, 0.0)).reanchored);
    // Three that lead apart are no way.
    assert_eq!(
        phone.verdicts(&[
            fix(7.0, 0.0, 0.0),
            fix(8.0, 0.0, 5_000.0),
            fix(9.0, 0.0, -5_000.0),
            fix(10.0, 0.0, 0.0)
        ]),
        ["teleport"; 4]
    );
}

#[test]
fn a_driver_who_stands_still_is_shown_at_one_place() {
    let mut phone = Phone::at_home();
    let mut places = Vec::new();
    for second in 1..60 {
        let wander = |step: i32| f64::from((second * step) % 9) - 4.0;
        let standing = Fix { speed: Some(0.1), ..fix(f64::from(second), wander(5), wander(7)) };
        places.push(phone.tell(standing).place);
    }
    places.dedup();
    assert!(places.len() <= 4, "{}", places.len());
    // Also with a phone that tells no speed, after a while.
    let mut phone = Phone::at_home();
    let place = |second: i32| fix(f64::from(second), f64::from(second % 5), 0.0);
    let places: Vec<_> = (1..60).map(|second| phone.tell(place(second)).place).collect();
    assert!(places[25..].iter().all(|place| *place == places[25]));
    // Who drives off is shown at once.
    let off = phone.tell(going(fix(62.0, 22.0, 0.0), 8.0, 90.0));
    assert!(Plane::around(HOME).away(off.place) > 15.0, "{off:?}");
}

#[test]
fn a_phone_that_tells_its_speed_is_shown_closer_to_where_it_is() {
    let mut phone = Phone::at_home();
    let (mut raw, mut shown) = (0.0, 0.0);
    for second in 1..300 {
        let at = f64::from(second);
        // Errors of a phone change slowly.
        let error = [(at / 7.0).sin() * 9.0, (at / 5.0).cos() * 9.0];
        let measured = fix(at, 12.0 * at + error[0], error[1]);
        let measured = going(Fix { accuracy: Some(9.0), ..measured }, 12.0, 90.0);
        let judged = phone.tell(measured);
        assert_eq!(judged.verdict, Verdict::Shown);
        let truth = Plane::around(Plane::around(HOME).place([12.0 * at, 0.0]));
        raw += truth.away(measured.place);
        shown += truth.away(judged.place);
    }
    assert!(shown < raw * 0.75, "{shown} {raw}");
}

#[test]
fn the_same_fixes_have_the_same_verdicts() {
    let fixes: Vec<_> = (1..500)
        .map(|second| {
            let at = f64::from(second) * 1.7;
            let bad = if second % 23 == 0 { 2_000.0 } else { 0.0 };
            going(fix(at, 9.0 * at + bad, (at * 3.0).sin() * 6.0), 9.0, 90.0)
        })
        .collect();
    let run = || {
        let mut phone = Phone::at_home();
        fixes.iter().map(|fix| phone.tell(*fix)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
