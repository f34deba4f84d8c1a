//! Checks whether the settings can be used together. Each error is one line for the operator.

use super::{Cluster, Database, KeySource, Limits, Origins, Serve, TokenChecks};
use crate::base::clock::Clock;

const MIN_SECRET_BYTES: usize = 32;
const CENTURY_DAYS: u64 = 36_525;
const CENTURY_HOURS: u64 = CENTURY_DAYS * 24;
const CENTURY_MS: u64 = CENTURY_HOURS * 3_600_000;
/// More connections than a machine has addresses and ports for.
const MAX_CONNECTIONS: u64 = 1 << 24;

/// Checks that an HS256 secret is long enough.
///
/// # Errors
/// One line for the operator.
pub fn check_secret(secret: &str) -> Result<(), String> {
    if secret.len() < MIN_SECRET_BYTES {
        return Err(format!(
            "JWT_SECRET has {} bytes; it must have at least {MIN_SECRET_BYTES}",
            secret.len()
        ));
    }
    Ok(())
}

impl Database {
    /// The configured URL, or the default one.
    ///
    /// # Errors
    /// One line for the operator. It never repeats the URL, which may contain a password.
    pub fn url(&self) -> Result<String, String> {
        let url = self.database_url.clone().unwrap_or_else(|| "sqlite://ordercast.db?mode=rwc".to_owned());
        if url.starts_with("sqlite:") || url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Ok(url)
        } else {
            Err("DATABASE_URL must begin with sqlite: or postgres://".to_owned())
        }
    }
}

impl Database {
    /// Whether several machines may use it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.database_url.as_ref().is_some_and(|url| !url.starts_with("sqlite:"))
    }
}

impl Serve {
    /// Checks rules that involve several flags, and fills in the settings that `--demo` implies.
    ///
    /// # Errors
    /// One line for the operator that names the setting.
    pub fn check(mut self) -> Result<Self, String> {
        if self.demo {
            if !self.listen.ip().is_loopback() {
                return Err(format!(
                    "--demo listens on loopback only, not on {}: anyone could sign in",
                    self.listen.ip()
                ));
            }
            if self.origins()? == Origins::Any {
                return Err("--demo does not go with CORS_ORIGIN=*: any page could sign in".to_owned());
            }
            // Browsers may subscribe. What is sealed is sealed with a key of the database.
            if self.notify.vapid_subject.is_none() {
                self.notify.vapid_subject = Some("mailto:demo@example.com".to_owned());
            }
            if self.jwt_secret.is_none() {
                let secret: [u8; 32] = Clock::System.random();
                self.jwt_secret = Some(hex::encode(secret));
            }
            if self.database.database_url.is_none() {
                let path = std::env::temp_dir().join("ordercast-demo.db");
                self.database.database_url = Some(format!("sqlite://{}?mode=rwc", path.display()));
            }
        }
        match self.faults().into_iter().next() {
            None => Ok(self),
            Some(fault) => Err(fault),
        }
    }

    /// What stands in the way of using these settings, one line for the operator each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let url = |name: &str, url: &Option<String>| match url {
            Some(url) if !(url.starts_with("https://") || url.starts_with("http://")) => {
                Err(format!("{name} must begin with https:// or http://"))
            }
            _ => Ok(()),
        };
        let checked = [
            self.jwt_secret.as_deref().map_or(Ok(()), check_secret),
            self.has_key(),
            url("JWKS_URL", &self.jwks_url),
            url("ORDER_SERVICE_URL", &self.order_service_url),
            self.database.url().map(drop),
            self.cluster.check(self.database.is_shared()),
            self.origins().map(drop),
            self.limits.check(),
            self.notify.check(self.demo),
            self.traces.check(),
        ];
        checked.into_iter().filter_map(Result::err).collect()
    }

    /// Whether there is anything to verify tokens with.
    fn has_key(&self) -> Result<(), String> {
        if self.jwt_secret.is_none() && self.jwt_public_key_file.is_none() && self.jwks_url.is_none() {
            return Err("no key to verify tokens with: set JWT_SECRET (at least 32 bytes), \
                        JWT_PUBLIC_KEY_FILE or JWKS_URL, or try --demo"
                .to_owned());
        }
        Ok(())
    }

    /// The key sources in these settings.
    #[must_use]
    pub fn key_source(&self) -> KeySource {
        KeySource {
            secret: self.jwt_secret.clone(),
            pem_file: self.jwt_public_key_file.clone(),
            jwks_url: self.jwks_url.clone(),
            checks: TokenChecks { issuer: self.jwt_issuer.clone(), audience: self.jwt_audience.clone() },
        }
    }

    /// The origins that browsers may call from; [`Origins::Same`] by default.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn origins(&self) -> Result<Origins, String> {
        Origins::parse(self.cors_origin.as_deref().unwrap_or_default()).map_err(|wrong| {
            format!("CORS_ORIGIN: {wrong:?} is not an origin such as https://example.com, capacitor://localhost or null")
        })
    }
}

impl Cluster {
    /// The Redis servers, in the order of the setting.
    #[must_use]
    pub fn redis_urls(&self) -> Vec<String> {
        let urls = self.redis_url.as_deref().unwrap_or_default().split(',');
        urls.map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
    }

    /// Checks the settings of several nodes, whose database may be a shared one.
    fn check(&self, is_shared: bool) -> Result<(), String> {
        let urls = self.redis_urls();
        // The URL is never repeated: it may contain a password.
        if urls.iter().any(|url| !(url.starts_with("redis://") || url.starts_with("rediss://"))) {
            return Err(
                "REDIS_URL must be one or several URLs that begin with redis:// or rediss://".to_owned()
            );
        }
        if !urls.is_empty() && !is_shared {
            return Err("REDIS_URL is for several nodes, which need PostgreSQL: set DATABASE_URL".to_owned());
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if !(1..=64).contains(&self.redis_prefix.len()) || !self.redis_prefix.bytes().all(plain) {
            return Err("REDIS_PREFIX must have 1 to 64 letters, digits or -_.:".to_owned());
        }
        if let Some(address) = &self.cluster_advertise {
            let port = address.rsplit_once(':').map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
            if !matches!(port, Some((false, Ok(1..)))) || address.len() > 255 {
                return Err("CLUSTER_ADVERTISE must be host:port".to_owned());
            }
        } else if self.cluster_listen.is_some_and(|listen| listen.ip().is_unspecified()) {
            return Err("CLUSTER_LISTEN is every address of this machine; set CLUSTER_ADVERTISE to the one for other nodes"
                .to_owned());
        }
        for (name, value, least, most) in [
            ("DATABASE_MAX_CONNECTIONS", u64::from(self.database_max_connections), 2, 10_000),
            ("CLUSTER_POLL_MS", u64::from(self.cluster_poll_ms), 20, 1_000),
            ("RIGHTS_LEASE_MS", u64::from(self.rights_lease_ms), 100, 60_000),
            ("DRAIN_DELAY_MS", self.drain_delay_ms, 0, 3_600_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} must be from {least} to {most}"));
            }
        }
        // A node that reads as often as it should must not fall silent because one read takes a moment longer.
        if self.rights_lease_ms < self.cluster_poll_ms * 2 {
            return Err("RIGHTS_LEASE_MS must be at least twice CLUSTER_POLL_MS".to_owned());
        }
        Ok(())
    }
}

impl Limits {
    /// Checks that each limit is one that the server can keep.
    fn check(&self) -> Result<(), String> {
        let rate = self.location_rate_per_second;
        // The time between two fixes has to be one that a clock can count.
        if rate != 0.0 && !(0.001..=1_000_000.0).contains(&rate) {
            return Err("LOCATION_RATE_PER_SECOND must be 0, or from 0.001 to 1000000".to_owned());
        }
        if !(0.0..=1.0).contains(&self.full_at) {
            return Err("FULL_AT must be from 0 to 1".to_owned());
        }
        for (name, value) in [
            ("LOCATION_BURST", u64::from(self.location_burst)),
            ("PING_INTERVAL_MS", self.ping_interval_ms),
            ("PING_TIMEOUT_MS", self.ping_timeout_ms),
            ("WRITE_STALL_MS", u64::from(self.write_stall_ms)),
            ("ORDER_SERVICE_RETRY_MS", u64::from(self.order_service_retry_ms)),
            ("PAGE_LIMIT_MAX", u64::from(self.page_limit_max)),
            ("MAX_CONNECTIONS", self.max_connections as u64),
            ("PAGE_BYTES_MAX", self.page_bytes_max as u64),
        ] {
            if value == 0 {
                return Err(format!("{name} must be at least 1"));
            }
        }
        if self.unauthenticated_bytes < 4 << 20 {
            return Err("UNAUTHENTICATED_BYTES must be at least 4194304".to_owned());
        }
        if self.max_message_bytes < 1_024 {
            return Err("MAX_MESSAGE_BYTES must be at least 1024".to_owned());
        }
        if self.max_batch_bytes < self.max_message_bytes {
            return Err("MAX_BATCH_BYTES must be at least MAX_MESSAGE_BYTES".to_owned());
        }
        if self.max_socket_buffer < 64 {
            return Err("MAX_SOCKET_BUFFER must be at least 64".to_owned());
        }
        // Longer times cannot be counted from now.
        for (name, value, most) in [
            ("PING_INTERVAL_MS", self.ping_interval_ms, CENTURY_MS),
            ("PING_TIMEOUT_MS", self.ping_timeout_ms, CENTURY_MS),
            ("DRAIN_MS", self.drain_ms, CENTURY_MS),
            ("RECOVERY_WINDOW_MS", u64::try_from(self.recovery_window_ms).unwrap_or(u64::MAX), CENTURY_MS),
            ("IDEMPOTENCY_HOURS", u64::from(self.idempotency_hours), CENTURY_HOURS),
            ("POSITION_RETENTION_DAYS", u64::from(self.position_retention_days), CENTURY_DAYS),
            ("ORDER_RETENTION_DAYS", u64::from(self.order_retention_days), CENTURY_DAYS),
            ("MAX_CONNECTIONS", self.max_connections as u64, MAX_CONNECTIONS),
        ] {
            if value > most {
                return Err(format!("{name} must be at most {most}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn serve(args: &[&str]) -> Result<Serve, String> {
        let cli = Cli::try_parse_from([&["ordercast"], args].concat()).map_err(|error| error.to_string())?;
        cli.serve.check()
    }

    const SECRET: &str = "--jwt-secret=0123456789abcdef0123456789abcdef";

    #[test]
    fn refused_settings_are_named() {
        for (args, names) in [
            (&[][..], "JWT_SECRET"),
            (&["--jwt-secret", "short"], "JWT_SECRET"),
            (&["--demo", "--listen", "0.0.0.0:0"], "loopback"),
            (&["--demo", "--cors-origin", "*"], "CORS_ORIGIN"),
            (&[SECRET, "--database-url", "mysql://x"], "DATABASE_URL"),
            (&[SECRET, "--cors-origin", "example.com"], "CORS_ORIGIN"),
            (&[SECRET, "--jwks-url", "ftp://x"], "JWKS_URL"),
            (&[SECRET, "--ping-interval-ms", "0"], "PING_INTERVAL_MS"),
            (&[SECRET, "--location-rate-per-second=-1"], "LOCATION_RATE_PER_SECOND"),
            (&[SECRET, "--location-rate-per-second=1e-300"], "LOCATION_RATE_PER_SECOND"),
            (&[SECRET, "--ping-timeout-ms", "18446744073709551615"], "PING_TIMEOUT_MS"),
            (&[SECRET, "--drain-ms", "18446744073709551615"], "DRAIN_MS"),
            (&[SECRET, "--recovery-window-ms", "9223372036854775807"], "RECOVERY_WINDOW_MS"),
            (&[SECRET, "--recovery-window-ms=-1"], "RECOVERY_WINDOW_MS"),
            (&[SECRET, "--idempotency-hours", "4294967295"], "IDEMPOTENCY_HOURS"),
            (&[SECRET, "--position-retention-days", "4294967295"], "POSITION_RETENTION_DAYS"),
            (&[SECRET, "--order-retention-days", "4294967295"], "ORDER_RETENTION_DAYS"),
            (&[SECRET, "--max-connections", "18446744073709551615"], "MAX_CONNECTIONS"),
            (&[SECRET, "--listen", "nowhere"], "--listen"),
            (&[SECRET, "--trusted-proxies", "10.0.0.0/33"], "--trusted-proxies"),
            (&[SECRET, "--unauthenticated-bytes", "1000"], "UNAUTHENTICATED_BYTES"),
        ] {
            let error = serve(args).expect_err(names);
            assert!(error.contains(names), "{args:?}: {error}");
        }
        assert!(serve(&[SECRET]).is_ok());
        assert!(serve(&["--demo"]).expect("demo").jwt_secret.is_some());
    }
}
