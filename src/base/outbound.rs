//! Calls to addresses that others have chosen: only to public ones, unless the operator allows a network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use super::address::Networks;
use super::error::Refusal;

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(15);
/// How often it is asked whether a connection of HTTP/2 is still there.
const PING: Duration = Duration::from_secs(30);
/// Ports of addresses that others choose.
const PORTS: [u16; 2] = [443, 8443];

/// A client for addresses that the operator has chosen.
///
/// # Errors
/// [`Refusal::Internal`] when there can be no HTTP client.
pub fn client() -> Result<reqwest::Client, Refusal> {
    builder().build().map_err(Refusal::internal)
}

/// The same over HTTP/2, from the first byte on also without TLS.
///
/// # Errors
/// [`Refusal::Internal`] when there can be no HTTP client.
pub fn client_http2() -> Result<reqwest::Client, Refusal> {
    let builder = common().http2_prior_knowledge();
    // A connection that a firewall has forgotten is noticed before something is sent on it.
    let builder = builder.http2_keep_alive_interval(PING).http2_keep_alive_timeout(CONNECT);
    builder.http2_keep_alive_while_idle(true).build().map_err(Refusal::internal)
}

/// HTTP/2 is only for those who ask for it.
fn builder() -> reqwest::ClientBuilder {
    common().http1_only()
}

fn common() -> reqwest::ClientBuilder {
    reqwest::Client::builder().connect_timeout(CONNECT).timeout(WHOLE).redirect(Policy::none()).no_proxy()
}

/// Calls addresses that somebody else has chosen.
#[derive(Clone)]
pub struct Guarded {
    client: reqwest::Client,
    allowed: Networks,
}

impl Guarded {
    /// # Errors
    /// [`Refusal::Internal`] when there can be no HTTP client.
    pub fn new(allowed: &Networks) -> Result<Self, Refusal> {
        let resolver = Public { allowed: allowed.clone() };
        let client = builder().dns_resolver(std::sync::Arc::new(resolver)).build();
        Ok(Self { client: client.map_err(Refusal::internal)?, allowed: allowed.clone() })
    }

    #[must_use]
    pub const fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Whether it may be in a network that the operator allows: such an address, or a name.
    #[must_use]
    pub fn may_be_inside(&self, url: &reqwest::Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(address) => self.allowed.contains(address),
            Err(_) => !self.allowed.is_empty() && host == "localhost",
        }
    }

    /// Looks a name up, and says whether all that it stands for is private. A name that cannot be looked up now is not private: it
    /// is looked up again whenever it is called.
    pub async fn is_private(&self, url: &reqwest::Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let Ok(found) = tokio::net::lookup_host((host, 443)).await else { return false };
        let mut addresses = found.map(|address| address.ip()).peekable();
        addresses.peek().is_some()
            && addresses.all(|address| !is_public(address) && !self.allowed.contains(address))
    }

    /// Checks the address itself. Names are looked up when they are called, and their addresses are checked then.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, url: &str) -> Result<reqwest::Url, &'static str> {
        let url = reqwest::Url::parse(url).map_err(|_| "is not a URL")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not have a user or a password");
        }
        let host = url.host_str().ok_or("has no host")?;
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if let Some(address) = literal {
            if self.allowed.contains(address) {
                return Ok(url);
            }
            if !is_public(address) {
                return Err("must not be a private address");
            }
        }
        let is_inside = self.may_be_inside(&url);
        if url.scheme() != "https" && !is_inside {
            return Err("must begin with https://");
        }
        if !url.port_or_known_default().is_some_and(|port| PORTS.contains(&port)) && !is_inside {
            return Err("must have port 443 or 8443");
        }
        Ok(url)
    }
}

/// Looks names up, and passes on only addresses that may be called.
struct Public {
    allowed: Networks,
}

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let good: Vec<SocketAddr> =
                found.filter(|address| is_public(address.ip()) || allowed.contains(address.ip())).collect();
            if good.is_empty() {
                return Err("the name has no public address".into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the internet, and not of a machine or a network of one's own.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let [a, b, ..] = address.segments();
            // An IPv4 address may be inside: 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64), 2002::/16 (6to4), 2001::/32 (Teredo).
            let embeds = (a == 0x64 && b == 0xff9b) || a == 0x2002 || (a == 0x2001 && b == 0);
            let is_global = a & 0xe000 == 0x2000;
            let is_documentation = a == 0x2001 && b == 0xdb8;
            is_global && !embeds && !is_documentation
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_special =
        (a == 192 && b == 0 && c == 0) || (a == 198 && (b == 18 || b == 19)) || a >= 240 || a == 0;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || is_shared
        || is_special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_may_be_called() {
        let guard = Guarded::new(&Networks::default()).expect("a client");
        for good in
            ["https://example.com/hook", "https://93.184.216.34/", "https://[2606:2800:220:1::1]:8443/x"]
        {
            assert!(guard.check(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.com/",
            "https://example.com:22/",
            "https://user@example.com/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.1.2.3/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "ftp://example.com/",
            "nonsense",
        ] {
            assert!(guard.check(bad).is_err(), "{bad}");
        }
        let allowed = Guarded::new(&"127.0.0.0/8".parse().expect("a network")).expect("a client");
        assert!(allowed.check("http://127.0.0.1:9000/hook").is_ok());
        assert!(allowed.check("http://10.0.0.1/hook").is_err());
    }

    #[tokio::test]
    async fn a_name_of_a_private_address_is_not_called() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://localhost:{}/", listener.local_addr().expect("its address").port());
        let guard = Guarded::new(&Networks::default()).expect("a client");
        let error = guard.client().get(&url).send().await.expect_err("refused");
        assert!(error.is_connect(), "{error:?}");
        let accepted = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(accepted.is_err(), "nobody came");
    }
}
