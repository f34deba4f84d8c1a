//! All settings and their defaults. No other module reads the environment.

mod check;
mod keys;
mod notify;
mod origin;
mod traces;

pub use check::check_secret;
pub use keys::{KeySource, TokenChecks};
pub use notify::{Notify, SmsProvider, is_bundle_id};
pub use origin::{Origin, Origins};
pub use traces::Traces;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::address::Networks;

/// Whether a test has switched off one of the guards `lease`, `fence`, `tag`, `beat` and `lock`, to show that something fails without it.
/// They are words in the variable `ORDERCAST_TEST_DISABLE`, which release builds do not read.
#[must_use]
pub fn is_disabled(guard: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var("ORDERCAST_TEST_DISABLE")
            .is_ok_and(|words| words.split([',', ' ']).any(|word| word == guard))
}

/// The names of all environment variables of this process, for those who look for misspelt ones.
#[must_use]
pub fn variables() -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

/// Flags of `serve`, each with its environment variable.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags, each of its own")]
pub struct Serve {
    /// Address to listen on. Port 0 means any free port, which is printed and logged
    #[arg(long, env = "ORDERCAST_LISTEN", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// PEM file with the server's certificate, and those that lead to its root. The server then speaks TLS only. The file may
    /// be replaced while the server runs
    #[arg(long, env = "TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate
    #[arg(long, env = "TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    #[command(flatten)]
    pub database: Database,
    /// HS256 secret, at least 32 bytes
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<String>,
    /// PEM file with RSA (RS256), P-256 (ES256) or Ed25519 (`EdDSA`) public keys. The file may be replaced while the
    /// server runs
    #[arg(long, env = "JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    pub jwt_public_key_file: Option<PathBuf>,
    /// URL of a JSON Web Key Set with RS256, ES256 or `EdDSA` keys
    #[arg(long, env = "JWKS_URL", value_name = "URL")]
    pub jwks_url: Option<String>,
    /// Refuse tokens from any other issuer (`iss`)
    #[arg(long, env = "JWT_ISSUER")]
    pub jwt_issuer: Option<String>,
    /// Refuse tokens for any other audience (`aud`)
    #[arg(long, env = "JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// Origins that browsers and apps may call from: a comma-separated list such as
    /// `https://example.com,capacitor://localhost,null`, or *
    #[arg(long, env = "CORS_ORIGIN", value_name = "ORIGINS")]
    pub cors_origin: Option<String>,
    /// Accept clients of the older systems without a token. The default Socket.IO namespace then tells every socket
    /// about every order, and `/orders/track` shows any order to anyone who knows its id. Names, phones and addresses
    /// are left out
    #[arg(long, env = "LEGACY_OPEN", value_parser = BoolishValueParser::new())]
    pub legacy_open: bool,
    /// Drivers take offered orders themselves: `POST /orders/{id}/claim`
    #[arg(long, env = "DRIVER_CLAIMS", value_parser = BoolishValueParser::new())]
    pub driver_claims: bool,
    /// Base URL of an order service. Each delivery of an order with a tracking session is sent to it as
    /// `POST {URL}/orders/{id}/status`, repeatedly until it is accepted
    #[arg(long, env = "ORDER_SERVICE_URL", hide_env_values = true, value_name = "URL")]
    pub order_service_url: Option<String>,
    /// Share the port (`SO_REUSEPORT`) with the process that takes over. On a stop signal, release the port at once
    #[arg(long, env = "REUSE_PORT", value_parser = BoolishValueParser::new())]
    pub reuse_port: bool,
    /// Demo: listen and answer on loopback only, generate a secret, create demo users, orders and drivers, and sign the
    /// test page in. Keys, the database, origins and other systems are taken from flags only, not from variables
    #[arg(long)]
    pub demo: bool,
    /// Leaflet URL template of map tiles for the test page. Without it, the page draws its own background
    #[arg(long, env = "TILE_URL", value_name = "URL")]
    pub tile_url: Option<String>,
    #[command(flatten)]
    pub routing: Routing,
    #[command(flatten)]
    pub cluster: Cluster,
    #[command(flatten)]
    pub notify: Notify,
    #[command(flatten)]
    pub traces: Traces,
    #[command(flatten)]
    pub limits: Limits,
}

/// How long ways take.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Roads")]
pub struct Routing {
    /// Roads for ETAs: an extract of OpenStreetMap (`.osm.pbf`), or a file that `ordercast roads build` made of one, which is loaded
    /// sooner. Without it, ETAs are for the straight line
    #[arg(long, env = "ROAD_NETWORK", value_name = "FILE")]
    pub road_network: Option<PathBuf>,
    /// A router that is asked first, as `osrm:URL`, `valhalla:URL`, `google:URL?key=…` or `mapbox:URL?access_token=…`; several as a
    /// comma-separated list, the first one first. Behind them come the roads in memory, then the straight line
    #[arg(long, env = "ROUTER", hide_env_values = true, value_delimiter = ',', value_name = "KIND:URL")]
    pub router: Vec<String>,
    /// What roads are loaded for, from an extract
    #[arg(
        long,
        env = "ROAD_MODES",
        value_enum,
        value_delimiter = ',',
        default_value = "car",
        value_name = "MODES"
    )]
    pub road_modes: Vec<TravelMode>,
    /// What drivers travel with
    #[arg(long, env = "DRIVER_MODE", value_enum, default_value = "car", value_name = "MODE")]
    pub driver_mode: TravelMode,
    /// What becomes of positions that cannot be right: `on` keeps them out of what is shown and makes the others better, `shadow`
    /// only counts them, `off` shows every one as it was sent. Positions with neither `recordedAt` nor `accuracy` are always shown
    /// as they were sent
    #[arg(long, env = "GPS_FILTER", value_enum, default_value = "on", value_name = "MODE")]
    pub gps_filter: GpsFilter,
    /// Whether positions that a phone calls invented (`mocked: true`) are kept and marked, or also left out of what is shown
    #[arg(long, env = "MOCK_LOCATIONS", value_enum, default_value = "flag", value_name = "POLICY")]
    pub mock_locations: MockLocations,
    /// Customers and strangers see where the driver is only with fewer stops than this before theirs: `1` only once they are next.
    /// They always hear how many stops come first, and the ETA. Staff, chefs and the driver see it always. Without it everybody does
    #[arg(long, env = "SHOW_DRIVER_WITHIN_STOPS", value_parser = clap::value_parser!(u16).range(1..=200), value_name = "N")]
    pub show_driver_within_stops: Option<u16>,
    /// How long a driver takes at the chef's once the order is ready
    #[arg(long, env = "PICKUP_SECONDS", default_value_t = 180, value_name = "SECONDS")]
    pub pickup_seconds: u32,
    /// How long a driver takes at a door before driving on
    #[arg(long, env = "DROPOFF_SECONDS", default_value_t = 120, value_name = "SECONDS")]
    pub dropoff_seconds: u32,
    /// How long a kitchen takes from accepted to ready, as long as little is known of it
    #[arg(long, env = "PREP_MINUTES", default_value_t = 15, value_name = "MINUTES")]
    pub prep_minutes: u32,
    /// How long each ETA that was shown is kept, to be held against the arrival
    #[arg(long, env = "ETA_RETENTION_DAYS", default_value_t = 30, value_name = "DAYS")]
    pub eta_retention_days: u32,
    /// Whether ETAs are corrected by what deliveries took before. `shadow` learns, and changes no ETA; `off` does neither
    #[arg(long, env = "ETA_CALIBRATION", value_enum, default_value = "on", value_name = "MODE")]
    pub eta_calibration: EtaCalibration,
    /// A route is looked for anew after so long, because traffic and the driver may have changed their minds
    #[arg(long, env = "ROUTE_AGE_SECONDS", default_value_t = 60, value_name = "SECONDS")]
    pub route_age_seconds: u32,
}

/// What becomes of positions that cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GpsFilter {
    On,
    Shadow,
    Off,
}

/// Whether ETAs are corrected by what was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EtaCalibration {
    On,
    Shadow,
    Off,
}

impl EtaCalibration {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

/// What becomes of positions that an app has invented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MockLocations {
    Flag,
    Drop,
}

/// What somebody travels with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TravelMode {
    Car,
    Bike,
    Foot,
}

impl TravelMode {
    /// The mode that a word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Car, Self::Bike, Self::Foot].into_iter().find(|mode| mode.as_str() == word)
    }

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Bike => "bike",
            Self::Foot => "foot",
        }
    }
}

/// Settings of several processes on one `PostgreSQL`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Several nodes")]
pub struct Cluster {
    /// Redis, or several as a comma-separated list, for live events of drivers on other nodes. Needs `PostgreSQL`
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URLS")]
    pub redis_url: Option<String>,
    /// Beginning of all channels and keys in Redis. Nodes of one database have the same
    #[arg(long, env = "REDIS_PREFIX", default_value = "ordercast", value_name = "TEXT")]
    pub redis_prefix: String,
    /// Address to listen on for the other nodes, which forward requests of clients that poll. Do not expose it to clients
    #[arg(long, env = "CLUSTER_LISTEN", value_name = "ADDRESS")]
    pub cluster_listen: Option<SocketAddr>,
    /// `host:port` under which the other nodes reach that address [default: the address itself]
    #[arg(long, env = "CLUSTER_ADVERTISE", value_name = "HOST:PORT", requires = "cluster_listen")]
    pub cluster_advertise: Option<String>,
    /// Connections to `PostgreSQL`. All nodes together must not have more than it allows
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 20, value_name = "N")]
    pub database_max_connections: u32,
    /// How often the logs are read for what other nodes have written
    #[arg(long, env = "CLUSTER_POLL_MS", default_value_t = 250, value_name = "MS")]
    pub cluster_poll_ms: u32,
    /// A node whose knowledge of revocations may be older than this tells its sockets nothing
    #[arg(long, env = "RIGHTS_LEASE_MS", default_value_t = 800, value_name = "MS")]
    pub rights_lease_ms: u32,
    /// How long a stopping node goes on as before after `/ready` says that it stops, so that proxies notice
    #[arg(long, env = "DRAIN_DELAY_MS", default_value_t = 0, value_name = "MS")]
    pub drain_delay_ms: u64,
}

/// Limits and time spans, each with its default.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Sustained rate of position reports per driver, per second; 0 = no limit
    #[arg(long, env = "LOCATION_RATE_PER_SECOND", default_value_t = 2.0, value_name = "N")]
    pub location_rate_per_second: f64,
    /// Position reports that a driver may send in a burst
    #[arg(long, env = "LOCATION_BURST", default_value_t = 10, value_name = "N")]
    pub location_burst: u32,
    /// Requests per second from one socket, and as many at once; 0 = no limit. Beyond that, positions are refused, everything
    /// else is carried out late, and the socket is read more slowly
    #[arg(long, env = "SOCKET_REQUESTS_PER_SECOND", default_value_t = 50, value_name = "N")]
    pub socket_requests_per_second: u32,
    /// Requests per second from all sockets of one user together, and as many at once; 0 = no limit
    /// [default: 4 times `SOCKET_REQUESTS_PER_SECOND`]
    #[arg(long, env = "USER_SOCKET_REQUESTS_PER_SECOND", value_name = "N")]
    pub user_socket_requests_per_second: Option<u32>,
    /// How long a socket may be over its limit before its connection is cut. Clients come back by themselves
    #[arg(long, env = "FLOOD_GRACE_MS", default_value_t = 10_000, value_name = "MS")]
    pub flood_grace_ms: u32,
    /// The part of all cores, from 0 to 1, from which on webhooks and notifications take turns, so that changes come first. They also
    /// do while four changes wait for the database. 0: always
    #[arg(long, env = "FULL_AT", default_value_t = 0.75, value_name = "PART")]
    pub full_at: f64,
    /// Interval between heartbeats
    #[arg(long, env = "PING_INTERVAL_MS", default_value_t = 25_000, value_name = "MS")]
    pub ping_interval_ms: u64,
    /// How long the client may take to answer a heartbeat
    #[arg(long, env = "PING_TIMEOUT_MS", default_value_t = 20_000, value_name = "MS")]
    pub ping_timeout_ms: u64,
    /// How long a write may make no progress before the connection is closed
    #[arg(long, env = "WRITE_STALL_MS", default_value_t = 10_000, value_name = "MS")]
    pub write_stall_ms: u32,
    /// Time over which a stopping server closes its sockets, and for which it waits for requests in progress
    #[arg(long, env = "DRAIN_MS", default_value_t = 10_000, value_name = "MS")]
    pub drain_ms: u64,
    /// How long a socket may stay connected after its token has expired, to refresh the token
    #[arg(long, env = "TOKEN_GRACE_MS", default_value_t = 30_000, value_name = "MS")]
    pub token_grace_ms: u32,
    /// How long before its token expires a socket is warned
    #[arg(long, env = "TOKEN_WARNING_MS", default_value_t = 60_000, value_name = "MS")]
    pub token_warning_ms: u32,
    /// How long a client may be disconnected and still recover its session
    #[arg(long, env = "RECOVERY_WINDOW_MS", default_value_t = 86_400_000, value_name = "MS")]
    pub recovery_window_ms: i64,
    /// Number of durable events that a client may miss and still recover its session
    #[arg(long, env = "RECOVERY_LIMIT", default_value_t = 10_000, value_name = "N")]
    pub recovery_limit: u64,
    /// Newest events kept in memory for clients that catch up. Older events are read from the database for each client
    #[arg(long, env = "WINDOW_EVENTS", default_value_t = 8_192, value_name = "N")]
    pub window_events: u32,
    /// Recoverable sessions per user; the oldest ones beyond that are deleted
    #[arg(long, env = "MAX_SESSIONS_PER_USER", default_value_t = 1_000, value_name = "N")]
    pub max_sessions_per_user: u64,
    /// Durable events replayed for a client that connects with a `position`. A client that missed more gets a `resync`
    #[arg(long, env = "REPLAY_LIMIT", default_value_t = 1_000, value_name = "N")]
    pub replay_limit: u64,
    /// Sockets that are connected but not yet in a namespace. Beyond that, a handshake gets a 503 with `Retry-After`
    #[arg(long, env = "MAX_HANDSHAKES", default_value_t = 8_192, value_name = "N")]
    pub max_handshakes: usize,
    /// Send buffer of the kernel for one connection
    #[arg(long, env = "SOCKET_SEND_BUFFER_BYTES", default_value_t = 65_536, value_name = "BYTES")]
    pub socket_send_buffer_bytes: usize,
    /// Maximum size of an HTTP body, and of a message of a socket
    #[arg(long, env = "MAX_MESSAGE_BYTES", default_value_t = 65_536, value_name = "BYTES")]
    pub max_message_bytes: usize,
    /// Maximum size of a `driver:location_batch`
    #[arg(long, env = "MAX_BATCH_BYTES", default_value_t = 262_144, value_name = "BYTES")]
    pub max_batch_bytes: usize,
    /// Lifetime of a tracking session from its start
    #[arg(long, env = "TRACKING_TTL_MS", default_value_t = 86_400_000, value_name = "MS")]
    pub tracking_ttl_ms: u32,
    /// Lifetime of a tracking session after its order is delivered
    #[arg(long, env = "TRACKING_DELIVERED_TTL_MS", default_value_t = 3_600_000, value_name = "MS")]
    pub tracking_delivered_ttl_ms: u32,
    /// First delay before a call that the order service did not accept is repeated; doubles up to five minutes
    #[arg(long, env = "ORDER_SERVICE_RETRY_MS", default_value_t = 1_000, value_name = "MS")]
    pub order_service_retry_ms: u32,
    /// Order subscriptions per socket
    #[arg(long, env = "MAX_SUBSCRIPTIONS", default_value_t = 100, value_name = "N")]
    pub max_subscriptions: usize,
    /// Order subscriptions per socket of an admin or a service
    #[arg(long, env = "MAX_SUBSCRIPTIONS_ADMIN", default_value_t = 1_000, value_name = "N")]
    pub max_subscriptions_admin: usize,
    /// Points in one `driver:location_batch`
    #[arg(long, env = "LOCATION_BATCH_MAX", default_value_t = 500, value_name = "N")]
    pub location_batch_max: usize,
    /// How far the time of a fix may be ahead of the server's clock
    #[arg(long, env = "CLOCK_SKEW_SECONDS", default_value_t = 60, value_name = "S")]
    pub clock_skew_seconds: u32,
    /// How long an Idempotency-Key is stored
    #[arg(long, env = "IDEMPOTENCY_HOURS", default_value_t = 24, value_name = "H")]
    pub idempotency_hours: u32,
    /// Maximum `wait` of GET /orders/{id}/events
    #[arg(long, env = "LONG_POLL_MAX_SECONDS", default_value_t = 30, value_name = "S")]
    pub long_poll_max_seconds: u32,
    /// Maximum page size of a list
    #[arg(long, env = "PAGE_LIMIT_MAX", default_value_t = 200, value_name = "N")]
    pub page_limit_max: u32,
    /// How long the positions of drivers are stored
    #[arg(long, env = "POSITION_RETENTION_DAYS", default_value_t = 7, value_name = "DAYS")]
    pub position_retention_days: u32,
    /// How long finished orders are kept, with their events and everything else about them; 0 = for ever
    #[arg(long, env = "ORDER_RETENTION_DAYS", default_value_t = 90, value_name = "DAYS")]
    pub order_retention_days: u32,
    /// Open connections; further ones wait to be accepted
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 65_536, value_name = "N")]
    pub max_connections: usize,
    /// Networks of the proxies in front of the server, as comma-separated CIDRs. Only from them are `Forwarded` and
    /// `X-Forwarded-For` believed; without them, the address of a client is the one that it connects from
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "CIDRS")]
    pub trusted_proxies: Option<Networks>,
    /// Open connections from one address, an IPv6 /64 counting as one; 0 = no limit. Further ones wait for a moment and
    /// get a 503 with `Retry-After`. Connections from trusted proxies count for their clients, once they are WebSockets
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 32_768, value_name = "N")]
    pub max_connections_per_address: usize,
    /// Sockets from one address that are connected but not yet in a namespace; 0 = no limit. Beyond that, a handshake
    /// waits for a moment and gets a 503 with `Retry-After`
    #[arg(long, env = "MAX_HANDSHAKES_PER_ADDRESS", default_value_t = 1_024, value_name = "N")]
    pub max_handshakes_per_address: usize,
    /// Memory for everything that came without a verified token: connections, handshakes and bodies. Without room, new
    /// connections wait and handshakes get a 503 with `Retry-After`. One address gets a quarter of it
    #[arg(long, env = "UNAUTHENTICATED_BYTES", default_value_t = 50_331_648, value_name = "BYTES")]
    pub unauthenticated_bytes: usize,
    /// HTTP requests and handshakes without a verified token per second from one address, ten times as many at once; 0 =
    /// no limit. Further ones are slowed down, then get a 429 with `Retry-After`
    #[arg(long, env = "UNAUTHENTICATED_REQUESTS_PER_SECOND", default_value_t = 1_000, value_name = "N")]
    pub unauthenticated_requests_per_second: u32,
    /// HTTP requests per second from one address, ten times as many at once; 0 = no limit. Requests of admins and
    /// services do not count. Further ones are slowed down, then get a 429 with `Retry-After`
    #[arg(long, env = "ADDRESS_REQUESTS_PER_SECOND", default_value_t = 2_000, value_name = "N")]
    pub address_requests_per_second: u32,
    /// HTTP requests per second of one user, ten times as many at once; 0 = no limit. Admins and services have none.
    /// Further ones are slowed down, then get a 429 with `Retry-After`
    #[arg(long, env = "USER_REQUESTS_PER_SECOND", default_value_t = 100, value_name = "N")]
    pub user_requests_per_second: u32,
    /// Bytes per second in HTTP bodies of one user, 32 times as many at once; 0 = no limit. Admins and services may send
    /// 32 times as many. Further ones are slowed down, then get a 429 with `Retry-After`
    #[arg(long, env = "USER_BYTES_PER_SECOND", default_value_t = 262_144, value_name = "BYTES")]
    pub user_bytes_per_second: u32,
    /// HTTP requests of one user that are answered at a time; 0 = no limit. Admins and services may have 16 times as
    /// many. Further ones wait, then get a 429 with `Retry-After`
    #[arg(long, env = "USER_REQUESTS_UNDER_WAY", default_value_t = 64, value_name = "N")]
    pub user_requests_under_way: usize,
    /// Sign-ins of the demo per minute from one address; 0 = no limit. Further ones get a 429 with `Retry-After`
    #[arg(long, env = "LOGINS_PER_MINUTE", default_value_t = 60, value_name = "N")]
    pub logins_per_minute: u32,
    /// Maximum size of the orders or events on a page of a list. A page may hold fewer than asked for
    #[arg(long, env = "PAGE_BYTES_MAX", default_value_t = 1_048_576, value_name = "BYTES")]
    pub page_bytes_max: usize,
    /// Memory for the newest events that clients catch up from, besides the limit of their number
    #[arg(long, env = "WINDOW_BYTES", default_value_t = 67_108_864, value_name = "BYTES")]
    pub window_bytes: usize,
    /// Memory for orders that were read last, shared by their readers
    #[arg(long, env = "SNAPSHOT_BYTES", default_value_t = 33_554_432, value_name = "BYTES")]
    pub snapshot_bytes: usize,
    /// Packets queued for a polling socket. Further durable events wait in the log
    #[arg(long, env = "MAX_SOCKET_BUFFER", default_value_t = 1_024, value_name = "N")]
    pub max_socket_buffer: usize,
}

impl Limits {
    /// Requests per second from all sockets of one user together; 0 = no limit.
    #[must_use]
    pub fn user_requests(&self) -> u32 {
        self.user_socket_requests_per_second
            .unwrap_or_else(|| self.socket_requests_per_second.saturating_mul(4))
    }
}

/// The database to use.
#[derive(Clone, Debug, Args)]
pub struct Database {
    /// `sqlite://file?mode=rwc`, or `postgres://user:password@host/database?sslmode=verify-full`
    /// [default: `sqlite://ordercast.db?mode=rwc`]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}
