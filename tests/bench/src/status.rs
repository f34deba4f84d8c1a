//! Status changes over REST at a fixed rate, and how long until the order's watcher has them.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use crate::{
    Target,
    measure::{Samples, Span},
    rest,
    socket::{self, Socket},
};

/// The legal chain that each order walks, one step at a time.
const CHAIN: [&str; 5] = ["payment_confirmed", "accepted", "preparing", "ready_for_pickup", "cancelled"];

#[derive(clap::Args)]
pub struct Options {
    /// Status changes per second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// An order's last request: when it was sent, and how many steps were asked for.
type Asked = Rc<Cell<(Instant, usize)>>;

#[derive(Default)]
struct Tally {
    /// How late a request left, because its connection was still waiting for an earlier answer
    late: Samples,
    requests: Samples,
    deliveries: Samples,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let changes = usize::try_from(options.rate * options.seconds)?;
    let orders = changes.div_ceil(CHAIN.len());
    rest::each(target, orders, async |rest, index| rest.create(index).await).await?;
    let (tally, mut tasks) = (Rc::new(Tally::default()), JoinSet::new());
    let asked: Vec<Asked> = (0..orders).map(|_| Rc::new(Cell::new((Instant::now(), 0)))).collect();
    let make = async |index| Ok((index, Socket::watcher(target, index).await?));
    for (index, socket) in socket::many(orders, make).await? {
        tasks.spawn_local(watch(socket, Rc::clone(&asked[index]), Rc::clone(&tally)));
    }
    // The snapshots that follow the subscriptions are over by then.
    sleep(Duration::from_secs(1)).await;

    let end = Span::begin(target.pid)?;
    let begun = Instant::now();
    let change = async |rest: &mut rest::Rest, change: usize| {
        let due = begun + Duration::from_secs(1) / options.rate * u32::try_from(change)?;
        sleep_until(due.into()).await;
        let (sent, order, step) = (Instant::now(), change % orders, change / orders);
        tally.late.add(sent - due);
        asked[order].set((sent, step + 1));
        rest.status(order, CHAIN[step]).await?;
        tally.requests.add(sent.elapsed());
        Ok(())
    };
    tokio::select! {
        done = rest::each(target, changes, change) => done?,
        Some(ended) = tasks.join_next() => ended??,
    }
    let span = end()?;
    sleep(Duration::from_secs(1)).await;
    let (wanted, delivered) = (f64::from(u32::try_from(changes)?), tally.deliveries.count());
    ensure!((delivered - wanted).abs() < 0.5, "{delivered} of {changes} changes were delivered");
    Ok(json!({
        "rate": options.rate,
        "orders": orders,
        "changes_per_s": wanted / span.seconds,
        "request_ms": tally.requests.percentiles(),
        "delivery_ms": tally.deliveries.percentiles(),
        "late_ms": tally.late.percentiles(),
        "server_cpu": span.server / span.seconds,
        "generator_cpu": span.generator / span.seconds,
    }))
}

/// A watcher takes the event of each step asked for, in order and once; any other but a snapshot is an error.
async fn watch(mut socket: Socket, asked: Asked, tally: Rc<Tally>) -> Result<()> {
    let mut steps = 0;
    loop {
        let packet = socket.next().await?;
        let Some(payload) = packet.strip_prefix(b"42/realtime,[\"order:status_update\",") else {
            continue;
        };
        let (sent, step) = asked.get();
        let latency = sent.elapsed();
        // A durable event may have an offset after its payload.
        let mut arguments = serde_json::Deserializer::from_slice(payload).into_iter::<Value>();
        let event = arguments.next().context("no payload")??;
        if event["snapshot"] != true {
            ensure!(step == steps + 1 && event["status"] == CHAIN[steps], "out of turn: {event}");
            steps = step;
            tally.deliveries.add(latency);
        }
    }
}
