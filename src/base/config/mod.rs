//! Every setting and its default. The only reader of the environment.

mod check;
mod keys;

pub use check::{Origins, check_secret};
pub use keys::{KeySource, TokenChecks};

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

/// Flags of `serve`, each with its environment variable.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Address to listen on; port 0 takes a free one, which is printed and logged
    #[arg(long, env = "ORDERCAST_LISTEN", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub database: Database,
    /// HS256 secret, at least 32 bytes
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<String>,
    /// PEM file with RSA (RS256), P-256 (ES256) or Ed25519 (`EdDSA`) public keys; may be replaced while running
    #[arg(long, env = "JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    pub jwt_public_key_file: Option<PathBuf>,
    /// JSON Web Key Set to fetch RS256, ES256 and `EdDSA` keys from
    #[arg(long, env = "JWKS_URL", value_name = "URL")]
    pub jwks_url: Option<String>,
    /// Refuse tokens of another issuer
    #[arg(long, env = "JWT_ISSUER")]
    pub jwt_issuer: Option<String>,
    /// Refuse tokens for another audience
    #[arg(long, env = "JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// Origins that browsers may call from: a comma-separated list, or *
    #[arg(long, env = "CORS_ORIGIN", value_name = "ORIGINS")]
    pub cors_origin: Option<String>,
    /// Let clients of the older systems in without a token: the default Socket.IO namespace tells every socket of every
    /// order, and `/orders/track` shows any order to whoever knows its id, both without names, phones and addresses
    #[arg(long, env = "LEGACY_OPEN", value_parser = BoolishValueParser::new())]
    pub legacy_open: bool,
    /// Order service to tell of deliveries of orders with a tracking session: `POST {URL}/orders/{id}/status`, until it accepts
    #[arg(long, env = "ORDER_SERVICE_URL", hide_env_values = true, value_name = "URL")]
    pub order_service_url: Option<String>,
    /// Share the port (`SO_REUSEPORT`) with the process that takes over; when told to stop, give it up at once
    #[arg(long, env = "REUSE_PORT", value_parser = BoolishValueParser::new())]
    pub reuse_port: bool,
    /// Demo: loopback only, a secret made up, demo people, orders and drivers, the test page signed in
    #[arg(long)]
    pub demo: bool,
    /// Map tiles for the test page, as a Leaflet URL template; without it the page draws its own background
    #[arg(long, env = "TILE_URL", value_name = "URL")]
    pub tile_url: Option<String>,
    #[command(flatten)]
    pub limits: Limits,
}

/// Every bound that the wire contract names, and some more.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Position reports a driver may send per second, sustained; 0 = no limit
    #[arg(long, env = "LOCATION_RATE_PER_SECOND", default_value_t = 2.0, value_name = "N")]
    pub location_rate_per_second: f64,
    /// Position reports a driver may send at once
    #[arg(long, env = "LOCATION_BURST", default_value_t = 10, value_name = "N")]
    pub location_burst: u32,
    /// Requests per second after which a socket is disconnected; 0 = no limit
    #[arg(long, env = "SOCKET_REQUESTS_PER_SECOND", default_value_t = 50, value_name = "N")]
    pub socket_requests_per_second: u32,
    /// Heartbeat interval
    #[arg(long, env = "PING_INTERVAL_MS", default_value_t = 25_000, value_name = "MS")]
    pub ping_interval_ms: u64,
    /// How long a heartbeat may stay unanswered
    #[arg(long, env = "PING_TIMEOUT_MS", default_value_t = 20_000, value_name = "MS")]
    pub ping_timeout_ms: u64,
    /// How long the network may take no byte from us before the connection is given up
    #[arg(long, env = "WRITE_STALL_MS", default_value_t = 10_000, value_name = "MS")]
    pub write_stall_ms: u32,
    /// How long a stopping server takes to let its sockets go, and waits for requests under way
    #[arg(long, env = "DRAIN_MS", default_value_t = 10_000, value_name = "MS")]
    pub drain_ms: u64,
    /// How long a socket whose token has ended may stay to refresh it
    #[arg(long, env = "TOKEN_GRACE_MS", default_value_t = 30_000, value_name = "MS")]
    pub token_grace_ms: u32,
    /// How long before its token ends a socket is warned
    #[arg(long, env = "TOKEN_WARNING_MS", default_value_t = 60_000, value_name = "MS")]
    pub token_warning_ms: u32,
    /// How long a client may be away and still get its session back
    #[arg(long, env = "RECOVERY_WINDOW_MS", default_value_t = 86_400_000, value_name = "MS")]
    pub recovery_window_ms: i64,
    /// Durable events that a client may have missed and still get its session back
    #[arg(long, env = "RECOVERY_LIMIT", default_value_t = 10_000, value_name = "N")]
    pub recovery_limit: u64,
    /// Newest events kept in memory for clients to catch up from; older ones are read for each client
    #[arg(long, env = "WINDOW_EVENTS", default_value_t = 8_192, value_name = "N")]
    pub window_events: u32,
    /// Sessions that one user may come back to; older ones are forgotten
    #[arg(long, env = "MAX_SESSIONS_PER_USER", default_value_t = 1_000, value_name = "N")]
    pub max_sessions_per_user: u64,
    /// Durable events replayed for a client that connects with a `position`; more are a `resync`
    #[arg(long, env = "REPLAY_LIMIT", default_value_t = 1_000, value_name = "N")]
    pub replay_limit: u64,
    /// Sockets at once that have shaken hands and are not in a namespace yet; more get a 503 with `Retry-After`
    #[arg(long, env = "MAX_HANDSHAKES", default_value_t = 8_192, value_name = "N")]
    pub max_handshakes: usize,
    /// Bytes that the kernel may hold for one connection
    #[arg(long, env = "SOCKET_SEND_BUFFER_BYTES", default_value_t = 65_536, value_name = "BYTES")]
    pub socket_send_buffer_bytes: usize,
    /// Largest HTTP body, Socket.IO message or frame, in bytes
    #[arg(long, env = "MAX_MESSAGE_BYTES", default_value_t = 65_536, value_name = "BYTES")]
    pub max_message_bytes: usize,
    /// How long a tracking session lasts from its start
    #[arg(long, env = "TRACKING_TTL_MS", default_value_t = 86_400_000, value_name = "MS")]
    pub tracking_ttl_ms: u32,
    /// How long a tracking session lasts once its order is delivered
    #[arg(long, env = "TRACKING_DELIVERED_TTL_MS", default_value_t = 3_600_000, value_name = "MS")]
    pub tracking_delivered_ttl_ms: u32,
    /// How long we wait before the order service is told again what it has not accepted; doubles up to five minutes
    #[arg(long, env = "ORDER_SERVICE_RETRY_MS", default_value_t = 1_000, value_name = "MS")]
    pub order_service_retry_ms: u32,
    /// Order subscriptions per socket
    #[arg(long, env = "MAX_SUBSCRIPTIONS", default_value_t = 100, value_name = "N")]
    pub max_subscriptions: usize,
    /// Order subscriptions per socket of an admin or service
    #[arg(long, env = "MAX_SUBSCRIPTIONS_ADMIN", default_value_t = 1_000, value_name = "N")]
    pub max_subscriptions_admin: usize,
    /// Points in one `driver:location_batch`
    #[arg(long, env = "LOCATION_BATCH_MAX", default_value_t = 500, value_name = "N")]
    pub location_batch_max: usize,
    /// How far ahead of our clock a fix may be
    #[arg(long, env = "CLOCK_SKEW_SECONDS", default_value_t = 60, value_name = "S")]
    pub clock_skew_seconds: u32,
    /// How long an Idempotency-Key is remembered
    #[arg(long, env = "IDEMPOTENCY_HOURS", default_value_t = 24, value_name = "H")]
    pub idempotency_hours: u32,
    /// Longest `wait` of GET /orders/{id}/events
    #[arg(long, env = "LONG_POLL_MAX_SECONDS", default_value_t = 30, value_name = "S")]
    pub long_poll_max_seconds: u32,
    /// Largest page of a list
    #[arg(long, env = "PAGE_LIMIT_MAX", default_value_t = 200, value_name = "N")]
    pub page_limit_max: u32,
    /// How long drivers' positions are kept
    #[arg(long, env = "POSITION_RETENTION_DAYS", default_value_t = 7, value_name = "DAYS")]
    pub position_retention_days: u32,
    /// Connections at once; more wait to be accepted
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 65_536, value_name = "N")]
    pub max_connections: usize,
    /// Packets handed to a polling socket and not fetched yet; durable events beyond it wait in the log
    #[arg(long, env = "MAX_SOCKET_BUFFER", default_value_t = 1_024, value_name = "N")]
    pub max_socket_buffer: usize,
}

/// Which database.
#[derive(Clone, Debug, Args)]
pub struct Database {
    /// `sqlite://file?mode=rwc`, or `postgres://user:password@host/database`
    /// [default: `sqlite://ordercast.db?mode=rwc`]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}
