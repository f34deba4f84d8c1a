//! Orders are made and moved, at a rate.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lane::{READY, Step};
use super::rest::State;
use super::run::{Run, Track};
use super::trouble::Trouble;
use crate::base::clock::instant;

/// Requests at a time.
const UNDER_WAY: usize = 256;
/// Requests at a time before the run and after it.
const PREPARING: usize = 32;
/// How often a request before the run is tried, if the server says when.
const TRIES: u32 = 5;

/// Creates an order in each lane, and gives it to its driver, so that positions are seen from the beginning.
pub(super) async fn prepare(run: &Run) -> Result<(), Trouble> {
    try_join_all((0..PREPARING).map(|first| prepare_some(run, first))).await?;
    Ok(())
}

async fn prepare_some(run: &Run, first: usize) -> Result<(), Trouble> {
    for track in run.tracks.iter().skip(first).step_by(PREPARING) {
        track.lane().begin(0);
        let order = 0;
        patiently(run, track, Step::Create(order)).await?;
        run.tally.created.add(1);
        patiently(run, track, Step::Move { order, to: READY, seq: 1 }).await?;
        let assigned = patiently(run, track, Step::Assign { order, seq: 2 }).await?;
        track.lane().told(assigned);
    }
    Ok(())
}

/// Tries again what the server has no room for.
async fn patiently(run: &Run, track: &Track, step: Step) -> Result<Option<State>, Trouble> {
    let mut tries = 1;
    loop {
        match ask(run, track, step).await {
            Err(Trouble { retry_after: Some(pause), .. }) if tries < TRIES => {
                sleep(pause).await;
                tries += 1;
            }
            other => return other,
        }
    }
}

/// Asks the server for a step.
async fn ask(run: &Run, track: &Track, step: Step) -> Result<Option<State>, Trouble> {
    let rest = &run.rest;
    match step {
        Step::Create(order) => {
            rest.create(&track.id(order), &track.customer.id, &run.people.chef).await.map(Some)
        }
        Step::Move { order, to, seq } => rest.status(&track.id(order), to, seq).await.map(Some),
        Step::Assign { order, seq } => rest.assign(&track.id(order), &track.driver, seq).await.map(Some),
        Step::Look(order) => rest.look(&track.id(order)).await,
    }
}

/// Makes changes at the rate until `stop`, and waits for the answers. A change that is due while all orders wait for an answer is
/// left out.
pub(super) async fn make(run: Arc<Run>, rate: f64, stop: CancellationToken) {
    if rate == 0.0 {
        return;
    }
    let (mut under_way, mut turn, mut due) = (JoinSet::new(), 0, instant());
    let interval = Duration::from_secs_f64(1.0 / rate);
    loop {
        due += interval;
        tokio::select! {
            () = sleep_until(due) => {}
            () = stop.cancelled() => break,
        }
        while under_way.try_join_next().is_some() {}
        let lanes = run.tracks.len();
        let free = (0..lanes).map(|step| (turn + step) % lanes).find(|&lane| run.tracks[lane].take());
        match free {
            Some(lane) if under_way.len() < UNDER_WAY => {
                turn = lane + 1;
                let run = Arc::clone(&run);
                under_way.spawn(async move {
                    change(&run, &run.tracks[lane]).await;
                    run.tracks[lane].give_back();
                });
            }
            taken => {
                if let Some(lane) = taken {
                    run.tracks[lane].give_back();
                }
                run.tally.behind.add(1);
            }
        }
    }
    under_way.join_all().await;
}

/// Makes one change of a lane. What stands before it is done first: an order is created, or looked up.
async fn change(run: &Run, track: &Track) {
    // Look, create, change.
    for _ in 0..3 {
        let step = track.lane().next();
        let is_change = matches!(step, Step::Move { .. } | Step::Assign { .. });
        if let Err(trouble) = take(run, track, step).await {
            run.tally.error(&trouble.code);
            return;
        }
        if is_change {
            return;
        }
    }
}

async fn take(run: &Run, track: &Track, step: Step) -> Result<(), Trouble> {
    let seq = match step {
        Step::Create(_) | Step::Look(_) => None,
        Step::Move { seq, .. } | Step::Assign { seq, .. } => Some(seq + 1),
    };
    match (step, seq) {
        (Step::Create(order), _) => track.lane().begin(order),
        (_, Some(seq)) => track.lane().request(seq, instant()),
        _ => {}
    }
    let asked = ask(run, track, step).await;
    // Created now, or created although nobody said so.
    if let (Step::Create(order) | Step::Look(order), Ok(Some(_))) = (step, &asked)
        && track.order.send_replace(order) != order
    {
        run.tally.created.add(1);
    }
    let mut lane = track.lane();
    match asked {
        Ok(state) => {
            run.tally.changes.add(lane.told(state));
            Ok(())
        }
        Err(trouble) => {
            if trouble.is_refusal {
                lane.refused(seq);
            }
            // Somebody else has changed the order, or nobody knows.
            if !trouble.is_refusal
                || matches!(&*trouble.code, "stale_seq" | "illegal_transition" | "not_found")
            {
                lane.doubt();
            }
            Err(trouble)
        }
    }
}

/// Cancels the orders that are still open. Returns how many could not be.
pub(super) async fn clean_up(run: &Run) -> u64 {
    join_all((0..PREPARING).map(|first| clean_up_some(run, first))).await.into_iter().sum()
}

async fn clean_up_some(run: &Run, first: usize) -> u64 {
    let mut left = 0;
    for track in run.tracks.iter().skip(first).step_by(PREPARING) {
        left += u64::from(cancel(run, track).await.is_err());
    }
    left
}

async fn cancel(run: &Run, track: &Track) -> Result<(), Trouble> {
    let step = track.lane().next();
    if let Step::Look(order) = step {
        let state = run.rest.look(&track.id(order)).await?;
        track.lane().told(state);
    }
    let open = track.lane().open();
    if let Some((order, seq)) = open {
        run.rest.status(&track.id(order), "cancelled", seq).await?;
    }
    Ok(())
}
