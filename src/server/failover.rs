//! Sees to it that a promoted `PostgreSQL` without the newest events does no harm: see `event/timeline.rs`.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::base::clock::instant;
use crate::base::db::Db;
use crate::base::error::Refusal;
use crate::dialect::close::CloseReason;
use crate::event::timeline::{self, Reached};
use crate::session::Sessions;

/// How often the timeline is looked at. Nothing is appended on a new one meanwhile.
const TICK: Duration = Duration::from_secs(1);
/// How long other nodes have to say that they are alive, on the new one.
const PATIENCE: Duration = Duration::from_secs(3);

/// What this node knows of the timeline.
#[derive(Default)]
struct Known {
    timeline: Option<String>,
    /// When another one was noticed that is not settled yet, and how far this node had come on the one before. It began on this one
    /// if it does not know.
    noticed: Option<(Instant, String, Option<Reached>)>,
    /// The timeline before whose first event the gap was stepped over.
    gap_of: Option<String>,
}

/// Looks for new timelines, for ever.
pub(super) async fn watch(sessions: Sessions, db: Db) {
    if !db.is_shared() {
        return std::future::pending().await;
    }
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Known::default();
    loop {
        tick.tick().await;
        if let Err(error) = step(&sessions, &db, &mut known).await {
            tracing::debug!(%error, "the timeline of the database cannot be read; trying again");
        }
    }
}

async fn step(sessions: &Sessions, db: &Db, known: &mut Known) -> Result<(), Refusal> {
    let app = sessions.app();
    let Some(head) = timeline::look(db).await? else { return Ok(()) };
    if head.is_settled() {
        let is_new = known.timeline.as_ref().is_some_and(|before| *before != head.timeline);
        let noticed = known.noticed.as_ref().and_then(|(_, _, reached)| *reached);
        let reached = noticed.unwrap_or_else(|| reached(sessions));
        if is_new && head.lost_after.is_some_and(|after| reached.log > after) {
            begin_anew(sessions, db).await?;
        }
        known.noticed = None;
        known.timeline = Some(head.timeline.clone());
        // Whoever waits for the head would wait for the next event.
        if let Some(after) = head.lost_after
            && known.gap_of.as_ref() != Some(&head.timeline)
            && app.events.position() >= after
        {
            app.events.skip_to(timeline::gap_after(db, after).await?);
            known.gap_of = Some(head.timeline);
        }
        return Ok(());
    }
    if known.noticed.as_ref().is_none_or(|(_, timeline, _)| *timeline != head.timeline) {
        let reached = known.timeline.is_some().then(|| reached(sessions));
        if let Some(written) = &head.written {
            known.timeline.get_or_insert_with(|| written.clone());
            tracing::warn!(
                timeline = head.timeline,
                "another PostgreSQL has taken over; nothing is written yet"
            );
        }
        known.noticed = Some((instant(), head.timeline.clone(), reached));
    }
    let Some((since, _, reached)) = &known.noticed else { return Ok(()) };
    timeline::report(db, app.cluster.id(), &head.timeline, *reached).await?;
    if app.cluster.has_others() && since.elapsed() < PATIENCE && head.written.is_some() {
        return Ok(());
    }
    let (_, lost) = timeline::settle(db, &head.timeline, app.clock.now()).await?;
    if lost > 0 {
        app.metrics.log_lost.inc_by(lost.unsigned_abs());
    }
    Ok(())
}

fn reached(sessions: &Sessions) -> Reached {
    let app = sessions.app();
    Reached { log: app.events.reached(), control: app.cluster.control().reached() }
}

/// This node told its clients what is lost. It forgets all that, and so do they when they come back, also those who have heard of
/// later events meanwhile.
async fn begin_anew(sessions: &Sessions, db: &Db) -> Result<(), Refusal> {
    let app = sessions.app();
    tracing::warn!("this node has told events that are lost; its clients begin anew");
    app.orders.forget_all();
    sessions.window().forget_all();
    app.drivers.reload().await?;
    timeline::forget_places(db).await?;
    for session in sessions.all() {
        session.close(CloseReason::Draining);
    }
    // What was told until they were closed.
    timeline::forget_places(db).await
}
