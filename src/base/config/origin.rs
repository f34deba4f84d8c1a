//! Origins of pages (RFC 6454), and which of them may call.

use std::net::Ipv6Addr;

/// The origins of pages that may call, beside the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// No others.
    Same,
    Any,
    Listed(Vec<Origin>),
}

impl Origins {
    /// Parses a comma-separated list, or `*`.
    ///
    /// # Errors
    /// The text that is no origin.
    pub fn parse(list: &str) -> Result<Self, &str> {
        match list.trim() {
            "" => Ok(Self::Same),
            "*" => Ok(Self::Any),
            list => {
                let origin = |text| Origin::parse(text).ok_or(text);
                list.split(',').map(str::trim).map(origin).collect::<Result<_, _>>().map(Self::Listed)
            }
        }
    }

    /// Whether the origin is named in the list. `text` is an `Origin` header.
    #[must_use]
    pub fn lists(&self, text: &str) -> bool {
        match self {
            Self::Same => false,
            Self::Any => true,
            Self::Listed(origins) => Origin::parse(text).is_some_and(|origin| origins.contains(&origin)),
        }
    }

    /// Whether a page of this origin may call a server that it names as `host`, the `Host` header.
    #[must_use]
    pub fn allows(&self, text: &str, host: Option<&str>) -> bool {
        self.lists(text)
            || Origin::parse(text).zip(host).is_some_and(|(origin, host)| origin.is_of_host(host))
    }
}

/// The origin of a page: scheme, host and port. Two of them are the same if all three are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The browser does not say: sandboxed frames, files, some apps.
    Null,
    Page {
        /// In lower case. Apps have schemes of their own, such as `capacitor` and `chrome-extension`.
        scheme: String,
        /// In lower case; empty for files.
        host: String,
        /// The default port of the scheme if none is given; `None` if the scheme has none.
        port: Option<u16>,
    },
}

impl Origin {
    /// Parses the text of an `Origin` header.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let valid = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !valid {
            return None;
        }
        if scheme == "file" && authority.is_empty() {
            return Some(Self::Page { scheme, host: String::new(), port: None });
        }
        let (host, port) = split(authority)?;
        let port = port.or_else(|| default_port(&scheme));
        Some(Self::Page { scheme, host, port })
    }

    /// Whether the page comes from the server that is named in a `Host` header. The server may be behind a proxy that ends
    /// TLS, so its own scheme is not known. The page's scheme says what the port is if `Host` has none.
    fn is_of_host(&self, host: &str) -> bool {
        let Self::Page { scheme, host: ours, port } = self else { return false };
        let default = default_port(scheme);
        default.is_some()
            && split(host).is_some_and(|(host, its_port)| host == *ours && its_port.or(default) == *port)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        // Starscream, below Socket.IO's client for Swift, names the WebSocket that it opens.
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// The host in lower case, and the port if there is one.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colon may be within an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        // An empty port is the default one (RFC 3986 §3.2.3).
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    let host = match host.strip_prefix('[').map(|address| address.strip_suffix(']')) {
        Some(address) => format!("[{}]", address?.parse::<Ipv6Addr>().ok()?),
        None => host.to_ascii_lowercase(),
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/\\?#@,\"<>^`{|}%".contains(&byte);
    let valid = !host.is_empty() && host.bytes().all(plain) && (host.starts_with('[') || !host.contains(':'));
    valid.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_origin_however_it_is_written() {
        let same = |origin, host| Origins::Same.allows(origin, Some(host));
        for (origin, host) in [
            ("http://x.test", "x.test"),
            ("https://x.test", "x.test"),
            ("https://x.test", "x.test:443"),
            ("https://x.test:443", "x.test"),
            ("http://x.test", "x.test:80"),
            ("http://x.test", "x.test:"),
            ("http://x.test:9001", "x.test:9001"),
            ("https://x.test:9001", "x.test:9001"),
            ("https://x.test", "X.Test"),
            ("HTTPS://X.TEST", "x.test:443"),
            ("http://[::1]:9001", "[0:0:0:0:0:0:0:1]:9001"),
            ("http://[2001:DB8::1]", "[2001:db8::1]:80"),
            ("http://x.test.", "x.test."),
            ("http://localhost:9001", "localhost:9001"),
            ("ws://localhost:9001", "localhost:9001"),
            ("wss://x.test", "x.test"),
        ] {
            assert!(same(origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://x.test", "x.test:443"),
            ("https://x.test", "x.test:80"),
            ("https://x.test:8443", "x.test"),
            ("https://x.test", "x.test:8443"),
            ("http://x.test", "y.test"),
            ("http://x.test.evil.test", "x.test"),
            ("http://x.test", "x.test.evil.test"),
            ("http://x.test.", "x.test"),
            ("http://x.test@evil.test", "evil.test"),
            ("http://x.test", "user@x.test"),
            ("capacitor://x.test", "x.test"),
            ("ws://y.test", "x.test"),
            ("wss://x.test", "x.test:80"),
            ("null", "null"),
            ("x.test", "x.test"),
            ("://x.test", "x.test"),
            ("http://", ""),
            ("http://x.test:99999", "x.test:99999"),
            ("http://x.test:+80", "x.test"),
            ("http://x.test/", "x.test"),
            ("http://a.test http://x.test", "x.test"),
        ] {
            assert!(!same(origin, host), "{origin} at {host}");
        }
        assert!(!Origins::Same.allows("http://x.test", None));
    }

    #[test]
    fn listed_origins_of_pages_and_apps() {
        for origin in [
            "https://a.test",
            "http://a.test:8080",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "http://tauri.localhost",
            "app://.",
            "app://-",
            "app://obsidian.md",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://1b2c3d4e-0000-4000-8000-123456789abc",
            "safari-web-extension://0A1B2C3D-0000-4000-8000-123456789ABC",
            "file://",
            "null",
        ] {
            let origins = Origins::parse(origin).expect(origin);
            assert!(origins.allows(origin, Some("x.test")), "{origin}");
            assert!(!origins.allows("https://b.test", Some("x.test")), "{origin}");
            assert!(!Origins::Same.allows(origin, Some("x.test")), "{origin}");
        }
        let origins = Origins::parse(" https://A.test:443 ,null,http://b.test").expect("a list");
        for origin in ["https://a.test", "HTTPS://a.TEST", "null", "http://b.test:80"] {
            assert!(origins.allows(origin, None), "{origin}");
        }
        for origin in ["http://a.test", "https://b.test", "http://b.test:8080", "Null", ""] {
            assert!(!origins.allows(origin, None), "{origin}");
        }
        for (list, wrong) in [
            ("example.com", "example.com"),
            ("https://a.test/", "https://a.test/"),
            ("https://a.test, b.test", "b.test"),
            ("https://a.test,", ""),
            ("https://", "https://"),
            ("capacitor:localhost", "capacitor:localhost"),
            ("https://*.a.test/x", "https://*.a.test/x"),
            ("*,https://a.test", "*"),
            ("1app://x", "1app://x"),
            ("https://a b", "https://a b"),
        ] {
            assert_eq!(Origins::parse(list), Err(wrong));
        }
    }
}
