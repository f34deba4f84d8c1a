//! Limits of addresses, of users and of memory for strangers. They slow down first; who is refused is told when to come back.

mod address;
mod table;
mod user;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::address::{AddressLimits, AddressRates};
use self::table::Table;
use self::user::{UserKey, UserLimits, UserRates};
use super::client;
use crate::base::address::{ClientAddress, Networks};
use crate::base::clock::instant;
use crate::base::config::Limits;
use crate::base::error::Refusal;
use crate::base::metrics::Metrics;
use crate::base::rate_limit::{Pace, Rate};
use crate::model::Principal;

/// Seconds' worth of requests that may come at once.
const BURST_SECONDS: f64 = 10.0;
/// How long something waits for its turn before it is refused.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A change waits for longer than a read, because it must not be lost.
const PATIENCE_OF_CHANGES: Duration = Duration::from_secs(10);
/// Requests that are forwarded to other nodes at a time, for all clients together.
const FORWARDS: usize = 4_096;
/// Lists that are read at a time for all users together.
const LISTS: usize = 32;

/// A number of permits; 0 = no limit.
fn permits(limit: usize) -> usize {
    if limit == 0 { Semaphore::MAX_PERMITS } else { limit.min(Semaphore::MAX_PERMITS) }
}

/// All limits, and what is counted against them.
pub struct Gate {
    trusted: Networks,
    addresses: Table<ClientAddress, AddressLimits>,
    address_rates: AddressRates,
    users: Table<UserKey, UserLimits>,
    staff: Table<UserKey, UserLimits>,
    user_rates: [UserRates; 2],
    handshakes: Arc<Semaphore>,
    /// KiB of memory for what came without a verified token.
    room: Arc<Semaphore>,
    room_kib: usize,
    forwards: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    metrics: Metrics,
}

/// Memory that something unauthenticated has, until it is dropped.
#[derive(Debug)]
pub struct Room {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<OwnedSemaphorePermit>,
}

/// A connection that may come in.
pub struct Admission {
    pub of_address: Option<OwnedSemaphorePermit>,
    /// Its memory as long as it is unauthenticated.
    pub room: Room,
}

/// A handshake that may go on.
#[derive(Debug)]
pub struct Slot {
    _of_all: OwnedSemaphorePermit,
    _of_address: OwnedSemaphorePermit,
    _room: Room,
}

/// A request that another node answers.
#[derive(Debug)]
pub struct Forwarding {
    _of_all: OwnedSemaphorePermit,
    _of_address: OwnedSemaphorePermit,
}

/// A request that is being answered.
pub struct UnderWay {
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    #[must_use]
    pub fn new(limits: &Limits, metrics: Metrics) -> Arc<Self> {
        let address_rates = AddressRates::new(limits);
        let user_rates = [false, true].map(|staff| UserRates::new(limits, staff));
        let [of_user, of_staff] = user_rates;
        let room_kib = (limits.unauthenticated_bytes / 1024).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            trusted: limits.trusted_proxies.clone().unwrap_or_default(),
            addresses: Table::new(move || AddressLimits::new(address_rates)),
            address_rates,
            users: Table::new(move || UserLimits::new(of_user)),
            staff: Table::new(move || UserLimits::new(of_staff)),
            user_rates,
            handshakes: Arc::new(Semaphore::new(permits(limits.max_handshakes))),
            room: Arc::new(Semaphore::new(room_kib)),
            room_kib,
            forwards: Arc::new(Semaphore::new(FORWARDS)),
            lists: Arc::new(Semaphore::new(LISTS)),
            metrics,
        })
    }

    /// The address of the client that sent a request.
    #[must_use]
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        client::address(peer, headers, &self.trusted)
    }

    /// Forgets addresses and users that have nothing to count.
    pub fn sweep(&self) {
        self.addresses.sweep();
        self.users.sweep();
        self.staff.sweep();
    }

    /// Bytes of memory that unauthenticated connections, handshakes and bodies have now.
    #[must_use]
    pub fn unauthenticated_bytes(&self) -> usize {
        (self.room_kib - self.room.available_permits()) * 1024
    }

    /// Lets a connection in if there is room at once. A trusted proxy has no limits of its own: its clients have. The same
    /// holds for a node, which has no `peer`.
    #[must_use]
    pub fn try_connection(&self, peer: Option<IpAddr>, bytes: usize) -> Option<Admission> {
        let kib = kib(bytes);
        let all = || Arc::clone(&self.room).try_acquire_many_owned(kib).ok();
        let Some(peer) = peer.filter(|peer| !self.trusted.contains(*peer)) else {
            let room = Room { _of_all: all()?, _of_address: None };
            return Some(Admission { of_address: None, room });
        };
        let address = self.addresses.get(&peer.into());
        let of_address = Arc::clone(&address.connections).try_acquire_owned().ok()?;
        let share = Arc::clone(&address.room).try_acquire_many_owned(kib).ok()?;
        let room = Room { _of_all: all()?, _of_address: Some(share) };
        Some(Admission { of_address: Some(of_address), room })
    }

    /// Lets a connection in once there is room. `None` if that takes too long.
    pub async fn connection(&self, peer: Option<IpAddr>, bytes: usize) -> Option<Admission> {
        let waits = async {
            let Some(peer) = peer.filter(|peer| !self.trusted.contains(*peer)) else {
                let room = Room { _of_all: acquire(&self.room, kib(bytes)).await?, _of_address: None };
                return Some(Admission { of_address: None, room });
            };
            let address = self.addresses.get(&peer.into());
            let of_address = acquire(&address.connections, 1).await?;
            let room = self.room_of(&address, bytes).await?;
            Some(Admission { of_address: Some(of_address), room })
        };
        let admitted = tokio::time::timeout(PATIENCE, waits).await.ok().flatten();
        if admitted.is_none() {
            self.metrics.rejected("too_many_connections");
        }
        admitted
    }

    /// Counts a WebSocket for the client behind a trusted proxy, once its address has room. A client without a proxy has
    /// been counted with its connection.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if that takes too long.
    pub async fn proxied_websocket(
        &self,
        peer: IpAddr,
        client: ClientAddress,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if client == peer.into() || !self.trusted.contains(peer) {
            return Ok(None);
        }
        self.websocket(client).await.map(Some)
    }

    /// Counts a WebSocket for a client, once its address has room.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if that takes too long.
    pub async fn websocket(&self, client: ClientAddress) -> Result<OwnedSemaphorePermit, Refusal> {
        let of_address = Arc::clone(&self.addresses.get(&client).connections);
        let permit = tokio::time::timeout(PATIENCE, acquire(&of_address, 1)).await.ok().flatten();
        permit.ok_or_else(|| {
            self.metrics.rejected("too_many_connections");
            Refusal::Unavailable
        })
    }

    /// Lets a request be forwarded to another node: a few at a time, and a quarter of them for one address.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] at once if there are too many.
    pub fn forward(&self, address: ClientAddress) -> Result<Forwarding, Refusal> {
        let of_address = Arc::clone(&self.addresses.get(&address).forwards).try_acquire_owned();
        let of_all = Arc::clone(&self.forwards).try_acquire_owned();
        let (Ok(of_address), Ok(of_all)) = (of_address, of_all) else { return Err(Refusal::Unavailable) };
        Ok(Forwarding { _of_all: of_all, _of_address: of_address })
    }

    async fn room_of(&self, address: &AddressLimits, bytes: usize) -> Option<Room> {
        let share = acquire(&address.room, kib(bytes)).await?;
        Some(Room { _of_all: acquire(&self.room, kib(bytes)).await?, _of_address: Some(share) })
    }

    /// Waits for room for something unauthenticated.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if there is none.
    pub async fn room(&self, address: ClientAddress, bytes: usize) -> Result<Room, Refusal> {
        let address = self.addresses.get(&address);
        let room = tokio::time::timeout(PATIENCE, self.room_of(&address, bytes)).await;
        room.ok().flatten().ok_or_else(|| {
            self.metrics.rejected("no_room");
            Refusal::Unavailable
        })
    }

    /// Lets a handshake begin, once its address and the server have room for it. `bytes` is the memory that it takes. A
    /// server that is full answers at once, so that clients try elsewhere.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] or [`Refusal::Unavailable`].
    pub async fn handshake(&self, address: ClientAddress, bytes: usize) -> Result<Slot, Refusal> {
        let limits = self.addresses.get(&address);
        let waits = async {
            let of_address = acquire(&limits.handshakes, 1).await?;
            let of_all = Arc::clone(&self.handshakes).try_acquire_owned().ok()?;
            let room = self.room_of(&limits, bytes).await?;
            Some(Slot { _of_all: of_all, _of_address: of_address, _room: room })
        };
        let slot = tokio::time::timeout(PATIENCE, waits).await.ok().flatten();
        slot.ok_or_else(|| {
            self.metrics.rejected("too_many_handshakes");
            Refusal::Unavailable
        })
    }

    /// Slows down what comes without a verified token.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub async fn stranger(&self, address: ClientAddress) -> Result<(), Refusal> {
        let limits = self.addresses.get(&address);
        self.pace(&limits.unauthenticated, 1.0, self.address_rates.unauthenticated, PATIENCE).await
    }

    /// Counts a sign-in.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub async fn login(&self, address: ClientAddress) -> Result<(), Refusal> {
        let limits = self.addresses.get(&address);
        self.pace(&limits.logins, 1.0, self.address_rates.logins, Duration::ZERO).await
    }

    /// Lets a request of a user go on: in its turn, and as fast as its user and its address may ask. `bytes` is the length
    /// of its body. It is under way until the value is dropped.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub async fn request(
        &self,
        address: ClientAddress,
        who: &Principal,
        changes: bool,
        bytes: u64,
    ) -> Result<UnderWay, Refusal> {
        let staff = who.role.is_staff();
        let (user, rates) = (self.user(who), self.user_rates[usize::from(staff)]);
        let patience = if changes { PATIENCE_OF_CHANGES } else { PATIENCE };
        if !staff {
            let address = self.addresses.get(&address);
            self.pace(&address.requests, 1.0, self.address_rates.requests, patience).await?;
        }
        self.pace(&user.requests, 1.0, rates.requests, patience).await?;
        #[expect(clippy::cast_precision_loss, reason = "a length is far below 2^52")]
        self.pace(&user.bytes, bytes as f64, rates.bytes, patience).await?;
        let permit = self.turn(&user.under_way, patience).await?;
        Ok(UnderWay { _permit: permit })
    }

    /// Waits until a user may have one more request under way.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub async fn under_way(&self, who: &Principal) -> Result<UnderWay, Refusal> {
        let permit = self.turn(&self.user(who).under_way, PATIENCE_OF_CHANGES).await?;
        Ok(UnderWay { _permit: permit })
    }

    /// Lets a list be read: a few of each user's at a time. The first permit is to be kept until the answer is written, the
    /// second until it is made.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub async fn list(&self, who: &Principal) -> Result<(UnderWay, UnderWay), Refusal> {
        let of_user = self.turn(&self.user(who).lists, PATIENCE).await?;
        let of_all = self.turn(&self.lists, PATIENCE).await?;
        Ok((UnderWay { _permit: of_user }, UnderWay { _permit: of_all }))
    }

    fn user(&self, who: &Principal) -> Arc<UserLimits> {
        let staff = who.role.is_staff();
        let users = if staff { &self.staff } else { &self.users };
        users.get(&(who.id.clone(), staff))
    }

    async fn turn(
        &self,
        permits: &Arc<Semaphore>,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = tokio::time::timeout(patience, acquire(permits, 1)).await;
        permit.ok().flatten().ok_or_else(|| self.too_fast(Duration::from_secs(1)))
    }

    async fn pace(&self, pace: &Pace, cost: f64, rate: Rate, patience: Duration) -> Result<(), Refusal> {
        let wait = pace.take(cost, rate, patience, instant()).map_err(|wait| self.too_fast(wait))?;
        if !wait.is_zero() {
            self.metrics.slowed.inc();
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn too_fast(&self, wait: Duration) -> Refusal {
        self.metrics.rejected("rate_limited");
        Refusal::RateLimited { retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1) }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

async fn acquire(permits: &Arc<Semaphore>, count: u32) -> Option<OwnedSemaphorePermit> {
    Arc::clone(permits).acquire_many_owned(count).await.ok()
}
