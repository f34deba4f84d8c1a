//! What the tasks of a run share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, Sums};
use super::people::{People, Person};
use super::rest::Rest;
use super::socket::{Resume, Socket};
use super::tally::{Group, Tally, lock};
use crate::base::clock::Clock;
use crate::model::UserId;

/// Handshakes at a time.
const HANDSHAKES: usize = 64;
/// The shortest time until a socket that was lost is tried again; up to twice as long at random.
const PAUSE: Duration = Duration::from_millis(500);
/// Refusals of a token: it will not become better.
const FINAL: [&str; 3] = ["unauthorized", "token_expired", "forbidden"];

/// Dropped by a task when its socket is connected, or could not be at the first try.
pub(super) type Arrived = mpsc::Sender<()>;

pub(super) struct Run {
    pub clock: Clock,
    pub rest: Rest,
    pub people: People,
    pub tracks: Vec<Track>,
    pub tally: Tally,
    pub handshakes: Semaphore,
    pub began: Instant,
    /// Cancelled when everybody is there: drivers report from then on, so that rates are those of the run.
    pub begin: CancellationToken,
}

/// A lane with what belongs to it.
pub(super) struct Track {
    lane: Mutex<Lane>,
    /// Whether a change of it is under way.
    taken: AtomicBool,
    pub customer: Person,
    pub driver: UserId,
    /// What the ids of its orders begin with.
    prefix: String,
    /// The number of the order that watchers follow.
    pub order: watch::Sender<u32>,
}

impl Run {
    /// `name` is part of all ids of the run.
    pub fn new(
        name: &str,
        rest: Rest,
        people: People,
        orders: u32,
        watchers: u32,
        clock: Clock,
        began: Instant,
    ) -> Self {
        let nobody = UserId::stored(&format!("load-{name}-driver"));
        let (orders, watchers) = (orders as usize, watchers as usize);
        let tracks = (0..orders).map(|lane| {
            let watchers = watchers / orders + usize::from(lane < watchers % orders);
            let driver =
                people.drivers.get(lane % people.drivers.len().max(1)).map(|driver| driver.id.clone());
            Track {
                lane: Mutex::new(Lane::new(watchers)),
                taken: AtomicBool::new(false),
                customer: people.customers[lane % people.customers.len()].clone(),
                driver: driver.unwrap_or_else(|| nobody.clone()),
                prefix: format!("load-{name}-{lane}-"),
                order: watch::Sender::new(0),
            }
        });
        let tracks = tracks.collect();
        let handshakes = Semaphore::new(HANDSHAKES);
        Self {
            clock,
            rest,
            people,
            tracks,
            tally: Tally::default(),
            handshakes,
            began,
            begin: CancellationToken::new(),
        }
    }

    /// What watchers were to hear of so far, and what they have heard of.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.tracks.iter().for_each(|track| sums.add(track.lane().sums()));
        sums
    }
}

impl Track {
    pub fn lane(&self) -> MutexGuard<'_, Lane> {
        lock(&self.lane)
    }

    /// Whether nobody had it. From now on the caller has it.
    pub fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    pub fn give_back(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// The id of an order of this lane.
    pub fn id(&self, order: u32) -> String {
        format!("{}{order}", self.prefix)
    }

    /// The number of an order; `None` if it is of another lane.
    pub fn number(&self, id: &str) -> Option<u32> {
        id.strip_prefix(&self.prefix)?.parse().ok()
    }
}

/// Connects, as often as it takes. `None` when the run stops, or the token is refused. The caller takes the socket from
/// `group.connected` again.
pub(super) async fn come_back(
    run: &Run,
    token: &str,
    resume: &mut Resume,
    group: &Group,
    arrived: &mut Option<Arrived>,
    stop: &CancellationToken,
) -> Option<Socket> {
    let is_back = resume.is_known();
    loop {
        let connect = async {
            // Never closed.
            let _permit = run.handshakes.acquire().await;
            Socket::connect(&run.rest.http, &run.rest.base, token, resume).await
        };
        let connected = tokio::select! {
            connected = connect => connected,
            () = stop.cancelled() => return None,
        };
        let trouble = match connected {
            Ok(socket) => {
                group.connected.add(1);
                group.reconnects.add(is_back.into());
                return Some(socket);
            }
            Err(trouble) => trouble,
        };
        run.tally.error(&trouble.code);
        drop(arrived.take());
        if FINAL.contains(&&*trouble.code) {
            return None;
        }
        let pause = PAUSE.max(trouble.retry_after.unwrap_or_default()).mul_f64(1.0 + run.clock.fraction());
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return None,
        }
    }
}
