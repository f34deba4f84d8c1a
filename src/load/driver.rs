//! A driver's socket: sends positions, one after another along a street.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::packet::Packet;
use super::run::{Arrived, Run, come_back};
use super::socket::{Resume, Socket, refusal};
use super::trouble::Trouble;
use crate::base::clock::rfc3339;
use crate::dialect::names::RealtimeRequest;

/// The southern end of the street, and its length in degrees of latitude: 1.1 km. No chef and no door is at it.
const SOUTH: [f64; 2] = [47.13, 9.50];
const LENGTH: f64 = 0.01;
/// Degrees of latitude in a second, and the same in metres: a car in a town.
const SPEED: f64 = 0.000_072;
const METERS_PER_SECOND: f64 = 8.0;
/// Between the streets of two drivers, in degrees of longitude; so many streets are beside each other.
const APART: f64 = 0.000_02;
const STREETS: usize = 500;

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Sends positions at the rate until `stop`.
pub(super) async fn drive(
    run: Arc<Run>,
    driver: usize,
    rate: f64,
    arrived: Arrived,
    stop: CancellationToken,
) {
    let group = &run.tally.drivers;
    let mut arrived = Some(arrived);
    let mut resume = Resume::default();
    let token = &run.people.drivers[driver].token;
    while let Some(socket) = come_back(&run, token, &mut resume, group, &mut arrived, &stop).await {
        drop(arrived.take());
        let trouble = tokio::select! {
            trouble = report(&run, driver, rate, socket, &mut resume) => trouble,
            () = stop.cancelled() => return group.connected.take_one(),
        };
        group.connected.take_one();
        run.tally.error(&trouble.code);
    }
}

/// Reports until the connection ends, and says why it has.
async fn report(run: &Run, driver: usize, rate: f64, mut socket: Socket, resume: &mut Resume) -> Trouble {
    let every = if rate > 0.0 { Duration::from_secs_f64(1.0 / rate) } else { NEVER };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut begun = false;
    loop {
        let text = tokio::select! {
            text = socket.next(resume) => text,
            () = run.begin.cancelled(), if !begun => {
                begun = true;
                // Drivers do not report all at once.
                ticks.reset_after(every.mul_f64(run.clock.fraction()));
                continue;
            }
            _ = ticks.tick(), if begun && rate > 0.0 => {
                if let Err(trouble) = socket.ask(RealtimeRequest::Location.as_str(), &position(run, driver)).await {
                    return trouble;
                }
                run.tally.sent.add(1);
                continue;
            }
        };
        let text = match text {
            Ok(text) => text,
            Err(trouble) => return trouble,
        };
        if let Packet::Answer { body, .. } = Packet::read(&text) {
            match refusal(body) {
                None => run.tally.accepted.add(1),
                Some(trouble) => run.tally.error(&trouble.code),
            }
        }
    }
}

/// Where a driver is now: up the street, and down again.
fn position(run: &Run, driver: usize) -> Value {
    let way = run.began.elapsed().as_secs_f64() * SPEED % (2.0 * LENGTH);
    let (along, heading) = if way < LENGTH { (way, 0) } else { (2.0 * LENGTH - way, 180) };
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let street = (driver % STREETS) as f64;
    json!({
        "latitude": SOUTH[0] + along, "longitude": SOUTH[1] + street * APART, "heading": heading,
        "speed": METERS_PER_SECOND, "accuracy": 5, "recordedAt": rfc3339(run.clock.now()),
    })
}
