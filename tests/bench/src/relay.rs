//! Position reports: drivers in, watchers out, an acknowledgement back.
//!
//! A closed loop: a driver sends its next report when the last one is acknowledged and every watcher of its order
//! has it. So each driver has one report in flight, and the server sets the pace.

use std::{
    cell::Cell,
    f64::consts::TAU,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use crate::{
    Target,
    measure::{Samples, Span},
    rest::{self, order_id, user_id},
    socket::{self, Socket},
};

/// Positions that the server did not get round to storing: work that the other figures leave out.
const DROPPED: &str = "ordercast_trail_dropped_total";

#[derive(clap::Args)]
pub struct Options {
    /// Drivers, each with an order of its own
    #[arg(long, default_value_t = 2000)]
    drivers: usize,
    /// Sockets that watch each order
    #[arg(long, default_value_t = 3)]
    watchers: usize,
    /// Seconds before measuring begins
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// What a driver shares with the watchers of its order.
struct Lane {
    watchers: usize,
    sent: Cell<Instant>,
    deliveries: Cell<usize>,
    complete: Notify,
}

/// What all share.
#[derive(Default)]
struct Tally {
    acks: Samples,
    deliveries: Samples,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let begun = Instant::now();
    let watchers = options.watchers;
    if target.jwt_secret.is_some() {
        rest::each(target, options.drivers, async |rest, index| {
            rest.create(index).await?;
            rest.status(index, "accepted").await?;
            let driver = json!({"driver": {"id": user_id("driver", index), "name": "Driver", "phone": "+31600000000"}});
            rest.call(Method::POST, &format!("/orders/{}/assign", order_id(index)), &driver).await?;
            rest.status(index, "in_transit").await
        })
        .await
        .context("making the orders")?;
    }
    let (tally, mut tasks) = (Rc::new(Tally::default()), JoinSet::new());
    let lane = |_| Lane { watchers, sent: begun.into(), deliveries: 0.into(), complete: Notify::new() };
    let lanes: Vec<_> = (0..options.drivers).map(lane).map(Rc::new).collect();
    let make = async |index| Ok((index / watchers, Socket::watcher(target, index / watchers).await?));
    for (index, socket) in
        socket::many(options.drivers * watchers, make).await.context("connecting watchers")?
    {
        tasks.spawn_local(watch(socket, index, Rc::clone(&lanes[index]), Rc::clone(&tally)));
    }
    let make = async |index| Ok((index, Socket::connect(target, "driver", index).await?));
    for (index, socket) in socket::many(options.drivers, make).await.context("connecting drivers")? {
        tasks.spawn_local(drive(socket, index, Rc::clone(&lanes[index]), Rc::clone(&tally)));
    }
    let setup = begun.elapsed().as_secs_f64();

    run_for(&mut tasks, options.warm_up).await?;
    let dropped = rest::counter(target, DROPPED).await?;
    tally.acks.clear();
    tally.deliveries.clear();
    let end = Span::begin(target.pid)?;
    run_for(&mut tasks, options.seconds).await?;
    let span = end()?;
    let (reports, deliveries) = (tally.acks.count(), tally.deliveries.count());
    let dropped = rest::counter(target, DROPPED).await? - dropped;
    ensure!(reports > 0.0, "no report was acknowledged");
    Ok(json!({
        "drivers": options.drivers,
        "watchers": watchers,
        "reports_per_s": reports / span.seconds,
        "deliveries_per_s": deliveries / span.seconds,
        "ack_ms": tally.acks.percentiles(),
        "delivery_ms": tally.deliveries.percentiles(),
        "trail_dropped": dropped / reports,
        "server_cpu_s_per_million_reports": span.server / reports * 1e6,
        "server_cpu": span.server / span.seconds,
        "generator_cpu": span.generator / span.seconds,
        "setup_s": setup,
    }))
}

/// Let the tasks work; none of them ends but by an error.
async fn run_for(tasks: &mut JoinSet<Result<()>>, seconds: f64) -> Result<()> {
    tokio::select! {
        () = sleep(Duration::from_secs_f64(seconds)) => Ok(()),
        Some(ended) = tasks.join_next() => ended?,
    }
}

/// A driver on a circle 70 m across, a step of one degree for each report.
async fn drive(mut socket: Socket, index: usize, lane: Rc<Lane>, tally: Rc<Tally>) -> Result<()> {
    let order = order_id(index);
    let mut heading = 0_u32;
    for id in 1_u64.. {
        heading = (heading + 1) % 360;
        let (sin, cos) = (f64::from(heading) / 360.0 * TAU).sin_cos();
        let (latitude, longitude) = (52.366 + 0.0003 * cos, 4.9 + 0.0005 * sin);
        let packet = format!(
            "42/realtime,{id}[\"driver:location\",{{\"latitude\":{latitude:.6},\"longitude\":{longitude:.6},\
             \"orderId\":\"{order}\",\"heading\":{heading},\"speed\":8.3}}]"
        );
        lane.deliveries.set(0);
        lane.sent.set(Instant::now());
        socket.send(&packet).await?;
        socket.acknowledged().await?;
        tally.acks.add(lane.sent.get().elapsed());
        while lane.deliveries.get() < lane.watchers {
            lane.complete.notified().await;
        }
    }
    Ok(())
}

/// A watcher; it reads the first event closely, and of the others only the name.
async fn watch(mut socket: Socket, index: usize, lane: Rc<Lane>, tally: Rc<Tally>) -> Result<()> {
    let mut first = true;
    loop {
        let packet = socket.next().await?;
        let Some(payload) = packet.strip_prefix(b"42/realtime,[\"driver:location_update\",") else {
            continue;
        };
        tally.deliveries.add(lane.sent.get().elapsed());
        if first {
            check(payload, &order_id(index))?;
            first = false;
        }
        lane.deliveries.update(|count| count + 1);
        if lane.deliveries.get() == lane.watchers {
            lane.complete.notify_one();
        }
    }
}

/// Does a `driver:location_update` carry what the contract says?
fn check(payload: &[u8], order: &str) -> Result<()> {
    let event: Value = serde_json::from_slice(payload.strip_suffix(b"]").unwrap_or(payload))?;
    let numbers =
        ["latitude", "longitude", "heading", "speed", "ageMs"].iter().all(|name| event[*name].is_number());
    let texts = ["driverId", "timestamp", "receivedAt"].iter().all(|name| event[*name].is_string());
    let right = event["orderId"] == order && numbers && texts && event.get("conflated").is_some();
    ensure!(right, "not the contract's driver:location_update: {event}");
    Ok(())
}
