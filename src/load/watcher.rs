//! A customer's socket: follows the order of a lane, and the next one when that is delivered.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::lane::Heard;
use super::packet::{Event, Packet};
use super::run::{Arrived, Run, Track, come_back};
use super::socket::{Resume, Socket, refusal};
use super::trouble::Trouble;
use crate::base::clock::{Time, instant};
use crate::dialect::names::{RealtimeEvent, RealtimeRequest};

/// Follows the orders of a lane until `stop`. `watcher` is its number in the lane.
pub(super) async fn watch(
    run: Arc<Run>,
    lane: usize,
    watcher: usize,
    arrived: Arrived,
    stop: CancellationToken,
) {
    let (track, group) = (&run.tracks[lane], &run.tally.watchers);
    let mut arrived = Some(arrived);
    let (mut resume, mut followed) = (Resume::default(), None);
    while let Some(socket) =
        come_back(&run, &track.customer.token, &mut resume, group, &mut arrived, &stop).await
    {
        track.lane().join(watcher);
        drop(arrived.take());
        if !socket.recovered {
            followed = None;
        }
        let trouble = tokio::select! {
            trouble = follow(&run, track, watcher, socket, &mut resume, &mut followed) => trouble,
            () = stop.cancelled() => return group.connected.take_one(),
        };
        group.connected.take_one();
        run.tally.error(&trouble.code);
    }
}

/// Reads until the connection ends, and says why it has. `followed` is the order that the session has subscribed to.
async fn follow(
    run: &Run,
    track: &Track,
    watcher: usize,
    mut socket: Socket,
    resume: &mut Resume,
    followed: &mut Option<u32>,
) -> Trouble {
    let mut order = track.order.subscribe();
    loop {
        let current = *order.borrow_and_update();
        if *followed != Some(current) {
            if let Some(before) = *followed
                && let Err(trouble) = socket
                    .ask(RealtimeRequest::Unsubscribe.as_str(), &json!({"orderId": track.id(before)}))
                    .await
            {
                return trouble;
            }
            if let Err(trouble) =
                socket.ask(RealtimeRequest::Subscribe.as_str(), &json!({"orderId": track.id(current)})).await
            {
                return trouble;
            }
            *followed = Some(current);
        }
        let text = tokio::select! {
            text = socket.next(resume) => text,
            // The sender lives as long as the run.
            _ = order.changed() => continue,
        };
        match text {
            Ok(text) => hear(run, track, watcher, &text),
            Err(trouble) => return trouble,
        }
    }
}

fn hear(run: &Run, track: &Track, watcher: usize, text: &str) {
    match Packet::read(text) {
        Packet::Event(event) => match RealtimeEvent::parse(&event.name) {
            Some(RealtimeEvent::StatusUpdate) => hear_change(run, track, watcher, &event),
            Some(RealtimeEvent::LocationUpdate) => hear_position(run, &event),
            // More was missed than can be told again.
            Some(RealtimeEvent::Resync) => run.tally.error("resync"),
            _ => {}
        },
        Packet::Answer { body, .. } => {
            if let Some(trouble) = refusal(body) {
                run.tally.error(&trouble.code);
            }
        }
        _ => {}
    }
}

fn hear_change(run: &Run, track: &Track, watcher: usize, event: &Event<'_>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Change<'a> {
        order_id: &'a str,
        seq: u32,
        #[serde(default)]
        snapshot: bool,
    }
    let Ok(change) = serde_json::from_str::<Change<'_>>(event.data.get()) else {
        return run.tally.error("unreadable");
    };
    let Some(order) = track.number(change.order_id).filter(|_| !change.snapshot) else { return };
    let heard = track.lane().heard(watcher, (order, change.seq));
    match heard {
        Heard::New { requested, late } => {
            run.tally.latency.add(instant() - requested);
            run.tally.out_of_order.add(late.into());
        }
        Heard::Again => run.tally.duplicates.add(1),
        Heard::Foreign => {}
    }
}

fn hear_position(run: &Run, event: &Event<'_>) {
    #[derive(Deserialize)]
    struct Position {
        timestamp: Time,
        #[serde(default)]
        conflated: u64,
    }
    let Ok(position) = serde_json::from_str::<Position>(event.data.get()) else {
        return run.tally.error("unreadable");
    };
    run.tally.received.add(1);
    run.tally.conflated.add(position.conflated);
    run.tally.position_latency.add((run.clock.now() - position.timestamp).to_std().unwrap_or_default());
}
