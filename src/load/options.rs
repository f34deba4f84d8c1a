//! The flags of `ordercast load`, and what they come to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Url;

/// Connections that everything but drivers and watchers needs: REST, and what the process has open.
const OTHER_FILES: usize = 128;

/// The longest run.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:9001", value_name = "URL")]
    pub url: String,
    /// Drivers, each with a socket that sends positions
    #[arg(long, default_value_t = 10, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub drivers: u32,
    /// Customers' sockets, spread over the orders
    #[arg(long, default_value_t = 50, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub watchers: u32,
    /// Orders that are open at a time. One that was delivered is followed by the next
    #[arg(long, default_value_t = 20, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub orders: u32,
    /// Changes of all orders together, such as 5/s or 30/m. 0 for none
    #[arg(long, default_value = "1/s", value_parser = per_second)]
    pub rate: f64,
    /// Positions of each driver. A server takes 2/s by default. 0 for none
    #[arg(long, default_value = "1/s", value_name = "RATE", value_parser = per_second)]
    pub positions: f64,
    /// How long, such as 30s, 10m or 1h
    #[arg(long = "for", default_value = "30s", value_name = "TIME", value_parser = how_long)]
    pub duration: Duration,
    /// The server's HS256 secret, to sign tokens with
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<String>,
    /// Tokens to use instead, one a line: one of a service or an admin, one for each driver, and at least one of a customer
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Also load a server that is not on this machine
    #[arg(long)]
    pub yes: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The address of the server without a slash at its end, if this run may load it.
    ///
    /// # Errors
    /// One line for who started it.
    pub(super) fn base(&self) -> Result<String, String> {
        let url = Url::parse(&self.url).map_err(|error| format!("--url is not an address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err("--url must be http:// or https://, a host, and nothing after its path".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("--url must not name a user: the run makes its own tokens".to_owned());
        }
        if !self.yes && !is_loopback(&url) {
            return Err(format!(
                "{} is not on this machine: the run makes orders there and takes a share of its capacity. \
                 Add --yes if that is what you want",
                url.host_str().unwrap_or_default()
            ));
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    /// Refuses what this process may not have open at a time.
    ///
    /// # Errors
    /// One line for who started it.
    pub(super) fn check_open_files(&self) -> Result<(), String> {
        let wanted = self.drivers as usize + self.watchers as usize + OTHER_FILES;
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        match open_files(&limits) {
            Some(most) if most < wanted => Err(format!(
                "{} drivers and {} watchers need {wanted} open files, and this process may have {most}: \
                 run `ulimit -n {wanted}` first",
                self.drivers, self.watchers
            )),
            _ => Ok(()),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.to_canonical().is_loopback())
}

/// The soft limit of open files in the words of Linux; `None` if it is not told, or unlimited.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Reads `30s`, `10m` or `1h`, up to a month.
fn how_long(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > LONGEST {
        return Err("must be more than 0 and at most 30 days".to_owned());
    }
    Ok(duration)
}

/// Reads `5/s`, `30/m` or `5` as a number a second.
fn per_second(text: &str) -> Result<f64, String> {
    let (number, seconds) = match text.split_once('/') {
        None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
        Some((number, "m")) => (number, 60.0),
        Some(_) => return Err("must be a number and /s or /m, such as 5/s".to_owned()),
    };
    let rate = number.parse::<f64>().map_err(|_| "must be a number and /s or /m, such as 5/s")? / seconds;
    if rate != 0.0 && !(0.001..=100_000.0).contains(&rate) {
        return Err("must be 0, or from 0.001/s to 100000/s".to_owned());
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_a_second_or_a_minute() {
        for (text, rate) in [("5/s", 5.0), ("30/m", 0.5), ("0", 0.0), ("2.5", 2.5)] {
            assert_eq!(per_second(text), Ok(rate), "{text}");
        }
        for text in ["", "/s", "5/h", "-1/s", "NaN", "inf", "1e9/s", "0.0001"] {
            assert!(per_second(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loaded_without_a_word() {
        for (url, ours) in [
            ("http://127.0.0.1:9001", true),
            ("http://127.9.9.9/", true),
            ("https://[::1]:9001", true),
            ("http://[::ffff:127.0.0.1]:1", true),
            ("http://localhost:9001", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1:9001", false),
            ("https://127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect(url)), ours, "{url}");
        }
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1_024));
        assert_eq!(open_files("Max open files   unlimited   unlimited   files"), None);
        assert_eq!(open_files(""), None);
    }
}
