//! `ordercast load`: drivers and customers at any Ordercast server, with a count of what they were told and what they were not.
//!
//! Orders live in lanes (`lane`). `changes` makes and moves them over REST, `watcher` and `driver` are the sockets.

mod changes;
mod driver;
mod lane;
mod options;
pub mod packet;
mod people;
mod rest;
mod run;
mod socket;
mod summary;
mod tally;
mod trouble;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use self::people::People;
use self::rest::Rest;
use self::run::Run;
use self::summary::{Changes, Deliveries, Orders, Positions, Sockets};
use crate::base::clock::{Clock, instant};

pub use options::Options;
pub use summary::Summary;

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Time after the last change for what is still on its way.
const SETTLE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why a run did not come about.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The flags cannot be used, or not at this server.
    #[error("{0}")]
    Usage(String),
    /// It began, and nobody could take part.
    #[error("{0}")]
    Failed(String),
}

/// Loads a server for as long as the flags say, or until `stop`. Says how it goes `every` so often.
///
/// # Errors
/// See [`LoadError`]. What goes wrong later is counted.
pub async fn run(
    options: &Options,
    clock: Clock,
    stop: CancellationToken,
    every: Duration,
    say: impl Fn(&str),
) -> Result<Summary, LoadError> {
    let base = options.base().map_err(LoadError::Usage)?;
    options.check_open_files().map_err(LoadError::Usage)?;
    let name = clock.alphanumeric(8).to_lowercase();
    let people = People::gather(options, &name, &clock).map_err(LoadError::Usage)?;
    let http = reqwest::Client::builder().http1_only().connect_timeout(CONNECT).no_proxy().build();
    let http = http.map_err(|error| LoadError::Failed(error.to_string()))?;
    let rest = Rest { http, base: base.clone(), token: people.service.token.clone() };
    rest.check().await.map_err(|trouble| match &*trouble.code {
        "unreachable" | "timeout" => LoadError::Usage(format!("{base} does not answer: {trouble}")),
        "unauthorized" | "token_expired" | "forbidden" => LoadError::Usage(format!(
            "{base} refuses the token, so the secret may not be the server's: {trouble}"
        )),
        _ => LoadError::Usage(format!("{base} cannot be loaded: {trouble}")),
    })?;
    let run = Run::new(&name, rest, people, options.orders, options.watchers, clock, instant());
    let run = Arc::new(run);
    let outcome = take_part(&run, options, &stop, every, &say).await;
    let left = changes::clean_up(&run).await;
    let (seconds, watchers, drivers) = outcome?;
    let summary = summarize(&run, seconds, left);
    let summary = Summary {
        url: base,
        prefix: format!("load-{name}-"),
        interrupted: stop.is_cancelled(),
        watchers: Sockets { wanted: options.watchers.into(), connected: watchers, ..summary.watchers },
        drivers: Sockets { wanted: options.drivers.into(), connected: drivers, ..summary.drivers },
        ..summary
    };
    Ok(summary.judge())
}

/// Prepares orders, connects everybody, and makes changes for as long as it is to be. Returns how many seconds that was, and how
/// many watchers and drivers were connected at its end.
async fn take_part(
    run: &Arc<Run>,
    options: &Options,
    stop: &CancellationToken,
    every: Duration,
    say: &impl Fn(&str),
) -> Result<(f64, u64, u64), LoadError> {
    let prepared = tokio::select! {
        prepared = changes::prepare(run) => prepared,
        () = stop.cancelled() => return Err(LoadError::Failed("stopped before it began".to_owned())),
    };
    prepared.map_err(|trouble| {
        LoadError::Failed(format!("orders cannot be made: {}: {trouble}", trouble.code))
    })?;
    say(&format!("{} orders are open, and everybody connects", options.orders));
    let (end_drivers, end_watchers) = (CancellationToken::new(), CancellationToken::new());
    let mut sockets = JoinSet::new();
    let (arrived, mut all_arrived) = mpsc::channel(1);
    let lanes = run.tracks.len();
    for watcher in 0..options.watchers as usize {
        let (lane, in_lane) = (watcher % lanes, watcher / lanes);
        sockets.spawn(watcher::watch(Arc::clone(run), lane, in_lane, arrived.clone(), end_watchers.clone()));
    }
    for driver in 0..options.drivers as usize {
        let (run, arrived, end) = (Arc::clone(run), arrived.clone(), end_drivers.clone());
        sockets.spawn(driver::drive(run, driver, options.positions, arrived, end));
    }
    drop(arrived);
    tokio::select! {
        // Nobody sends anything: it ends when all have dropped theirs.
        _ = all_arrived.recv() => {}
        () = stop.cancelled() => {}
    }
    let tally = &run.tally;
    if tally.watchers.connected.get() + tally.drivers.connected.get() == 0
        && !stop.is_cancelled()
        && !sockets.is_empty()
    {
        let codes: Vec<_> = tally.errors().into_keys().collect();
        return Err(LoadError::Failed(format!("no socket could be connected: {}", codes.join(", "))));
    }
    run.begin.cancel();
    let began = instant();
    let end_changes = CancellationToken::new();
    let changes = tokio::spawn(changes::make(Arc::clone(run), options.rate, end_changes.clone()));
    go_on(run, options, stop, every, began, say).await;
    let seconds = began.elapsed().as_secs_f64();
    let drivers = tally.drivers.connected.get();
    end_changes.cancel();
    end_drivers.cancel();
    // A panic of it is one of ours, and was shown.
    let _ = changes.await;
    settle(run).await;
    let watchers = tally.watchers.connected.get();
    end_watchers.cancel();
    sockets.join_all().await;
    Ok((seconds, watchers, drivers))
}

/// Says how it goes, until the time is over or `stop`.
async fn go_on(
    run: &Run,
    options: &Options,
    stop: &CancellationToken,
    every: Duration,
    began: Instant,
    say: &impl Fn(&str),
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let over = timeout_at(began + options.duration, async {
        let (mut sent, mut received, mut at) = (0, 0, began);
        loop {
            ticks.tick().await;
            let (tally, sums, now) = (&run.tally, run.sums(), instant());
            let (all_sent, all_received) = (tally.sent.get(), tally.received.get());
            let per_second = |count: u64| per_second(count, (now - at).as_secs_f64());
            let p99 = tally.latency.latency().map(|latency| format!(", p99 {:.1} ms", latency.p99));
            say(&format!(
                "{:>5.0} s  watchers {}/{}  drivers {}/{}  changes {}  deliveries {}/{}{}  positions {:.0}/s sent, {:.0}/s received  errors {}",
                (now - began).as_secs_f64(),
                tally.watchers.connected.get(),
                options.watchers,
                tally.drivers.connected.get(),
                options.drivers,
                tally.changes.get(),
                sums.received,
                sums.expected,
                p99.unwrap_or_default(),
                per_second(all_sent - sent),
                per_second(all_received - received),
                tally.errors().values().sum::<u64>(),
            ));
            (sent, received, at) = (all_sent, all_received, now);
        }
    });
    tokio::select! {
        _ = over => {}
        () = stop.cancelled() => {}
    }
}

/// Waits for what is still on its way, as long as somebody is there to receive it.
async fn settle(run: &Run) {
    let until = instant() + SETTLE;
    loop {
        let sums = run.sums();
        if sums.received == sums.expected || run.tally.watchers.connected.get() == 0 || instant() >= until {
            return;
        }
        sleep(LOOK).await;
    }
}

/// What was counted. Who was connected at the end is not.
fn summarize(run: &Run, seconds: f64, left: u64) -> Summary {
    let (tally, sums) = (&run.tally, run.sums());
    let sockets =
        |group: &tally::Group| Sockets { wanted: 0, connected: 0, reconnects: group.reconnects.get() };
    Summary {
        url: String::new(),
        prefix: String::new(),
        seconds,
        interrupted: false,
        watchers: sockets(&tally.watchers),
        drivers: sockets(&tally.drivers),
        orders: Orders { created: tally.created.get(), left },
        changes: Changes {
            made: tally.changes.get(),
            behind: tally.behind.get(),
            per_second: per_second(tally.changes.get(), seconds),
        },
        deliveries: Deliveries {
            expected: sums.expected,
            received: sums.received,
            missed: sums.expected - sums.received,
            duplicates: tally.duplicates.get(),
            out_of_order: tally.out_of_order.get(),
        },
        latency_ms: tally.latency.latency(),
        positions: Positions {
            sent: tally.sent.get(),
            accepted: tally.accepted.get(),
            received: tally.received.get(),
            conflated: tally.conflated.get(),
            sent_per_second: per_second(tally.sent.get(), seconds),
            received_per_second: per_second(tally.received.get(), seconds),
            latency_ms: tally.position_latency.latency(),
        },
        errors: tally.errors(),
        passed: false,
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds or days")]
    let count = count as f64;
    if seconds > 0.0 { count / seconds } else { 0.0 }
}
