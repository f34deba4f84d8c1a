//! Durable status changes. Each writer makes one change after another. Measures the time until the answer, and until
//! the order's watcher has the event.

use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet, time::sleep_until};

use crate::{
    Target,
    measure::{Samples, Span, float, merged},
    rest::{self, Rest, order_id},
    socket::{self, Socket},
    wire::Packet,
};

/// The statuses that each order goes through, one by one.
const CHAIN: [&str; 8] = [
    "payment_confirmed",
    "accepted",
    "preparing",
    "ready_for_pickup",
    "assigned_to_driver",
    "picked_up",
    "in_transit",
    "delivered",
];

/// How long the events of watchers may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Options {
    /// Connections that change orders, each with one request in flight
    #[arg(long, default_value_t = 8)]
    writers: usize,
    /// Protocol of the requests
    #[arg(long, value_enum, default_value = "rest")]
    door: Door,
    /// Orders to change, each with eight changes and a watcher. The run ends early when all are delivered
    #[arg(long, default_value_t = 2000)]
    orders: usize,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Changes per second, instead of as fast as the server answers. Latencies then count from the time a change was
    /// due
    #[arg(long)]
    rate: Option<f64>,
    /// Also measure the duration of an fsync in this directory
    #[arg(long)]
    fsync_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Door {
    /// `PATCH /orders/{id}/status`
    Rest,
    /// Event `order:status_update`, sent by a service
    Socket,
}

/// The connection of a writer.
enum Writer {
    Rest(Rest),
    Socket(Socket),
}

/// The time of the request for each step of an order.
type RequestTimes = Rc<[Cell<Option<Instant>>; CHAIN.len()]>;

#[derive(Default)]
struct Tally {
    requests: RefCell<Samples>,
    deliveries: RefCell<Samples>,
    snapshots: Cell<usize>,
    /// Notified of each event of a watcher.
    news: Notify,
}

impl Tally {
    async fn until(&self, condition: impl Fn() -> bool) -> Result<()> {
        let met = async {
            while !condition() {
                self.news.notified().await;
            }
        };
        Ok(tokio::time::timeout(PATIENCE, met).await?)
    }
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { writers, door, orders, seconds, .. } = options;
    let secret = target.jwt_secret.as_deref().context("a bare relay has no status")?;
    rest::each(target, orders, async |rest, index| rest.create(index).await).await?;
    let (tally, mut tasks) = (Rc::new(Tally::default()), JoinSet::new());
    let requested: Vec<RequestTimes> = (0..orders).map(|_| RequestTimes::default()).collect();
    let watcher = async |index| Ok((index, Socket::watcher(target, "customer", index, index).await?));
    for (index, socket) in socket::many(orders, watcher).await? {
        tasks.spawn_local(watch(socket, Rc::clone(&requested[index]), Rc::clone(&tally)));
    }
    let connect = async |index| {
        Ok(match door {
            Door::Rest => Writer::Rest(Rest::connect(target.addr, secret).await?),
            Door::Socket => Writer::Socket(Socket::connect(target, "service", index).await?),
        })
    };
    let connections = socket::many(writers, connect).await?;
    tally
        .until(|| tally.snapshots.get() >= orders)
        .await
        .context("the snapshots that follow the subscriptions")?;
    let fsync = options.fsync_dir.as_deref().map(fsync).transpose()?;

    let end = Span::begin(target.pid)?;
    let begun = Instant::now();
    let stop = begun + Duration::from_secs_f64(seconds);
    let mut writing = JoinSet::new();
    for (writer, mut connection) in connections.into_iter().enumerate() {
        let (requested, tally, rate) = (requested.clone(), Rc::clone(&tally), options.rate);
        writing.spawn_local(async move {
            let steps = (writer..orders)
                .step_by(writers)
                .flat_map(|order| (0..).zip(CHAIN).map(move |step| (order, step)));
            for (turn, (order, (step, status))) in steps.enumerate() {
                let mut due = Instant::now();
                if let Some(rate) = rate {
                    let change = float((turn * writers + writer) as u64);
                    due = begun + Duration::from_secs_f64(change / rate);
                    sleep_until(due.into()).await;
                }
                if Instant::now() >= stop {
                    break;
                }
                let requested_at: &Cell<_> = &requested[order][step];
                requested_at.set(Some(due));
                connection.change(order, status).await?;
                tally.requests.borrow_mut().add(due.elapsed());
            }
            anyhow::Ok(())
        });
    }
    tokio::select! {
        done = writing.join_all() => done.into_iter().collect::<Result<()>>()?,
        Some(ended) = tasks.join_next() => ended??,
    }
    let span = end()?;
    let changes = tally.requests.borrow().count();
    tally.until(|| tally.deliveries.borrow().count() >= changes).await.context("the last deliveries")?;
    let (requests, deliveries) = (tally.requests.borrow(), tally.deliveries.borrow());
    let (changes, delivered) = (requests.count(), deliveries.count());
    ensure!(changes > 0 && delivered == changes, "{delivered} of {changes} changes were delivered");
    let result = json!({
        "writers": writers,
        "door": match door { Door::Rest => "rest", Door::Socket => "socket" },
        "orders": orders,
        "rate": options.rate,
        "seconds": span.seconds,
        "changes": changes,
        "changes_per_s": float(changes) / span.seconds,
        "request_ms": requests.percentiles(),
        "delivery_ms": deliveries.percentiles(),
        "server_cpu_ms_per_change": span.server * 1000.0 / float(changes),
        "fsync_ms": fsync,
    });
    Ok(merged(result, span.report(3.0 * float(changes))))
}

impl Writer {
    async fn change(&mut self, order: usize, status: &str) -> Result<()> {
        match self {
            Self::Rest(rest) => rest.status(order, status).await,
            Self::Socket(socket) => {
                let change = json!({"orderId": order_id(order), "status": status});
                socket.request("order:status_update", &change).await
            }
        }
    }
}

/// Reads the events of one order. Each requested step must arrive once and in order. Snapshots are ignored; any other
/// event is an error.
async fn watch(mut socket: Socket, requested: RequestTimes, tally: Rc<Tally>) -> Result<()> {
    let mut steps = CHAIN.iter().zip(&*requested);
    loop {
        let Packet::Event { name: b"order:status_update", data } = socket.next().await? else { continue };
        let now = Instant::now();
        // The last argument of a durable event is its offset, which is not needed here.
        let mut arguments = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
        let event = arguments.next().context("no payload")??;
        if event["snapshot"] == true {
            tally.snapshots.update(|count| count + 1);
        } else {
            let (status, requested_at) = steps.next().context("more events than requests")?;
            let requested_at = requested_at.get().filter(|_| event["status"] == *status);
            let requested_at = requested_at.with_context(|| format!("out of order: {event}"))?;
            tally.deliveries.borrow_mut().add(now - requested_at);
        }
        tally.news.notify_one();
    }
}

/// Measures how long it takes to append 4 KiB to a file and sync it.
fn fsync(directory: &Path) -> Result<Value> {
    let path = directory.join(format!("fsync-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    let mut samples = Samples::default();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        samples.add(begun.elapsed());
    }
    fs::remove_file(path)?;
    Ok(samples.percentiles())
}
