//! The header with which a node vouches for a request that it forwards: `v1,<node>,<ms>,<client's address>,<HMAC in hex>`. It
//! cannot be made without the key in the database, and is good for one request line and a few seconds.

use std::net::IpAddr;

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::base::address::ClientAddress;

/// The header. In an answer it says what else the other node has to know: [`KNOWN`] or [`REFUSED`].
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("x-ordercast-forwarded");
/// In an answer: the client has come into a namespace.
pub(super) const KNOWN: HeaderValue = HeaderValue::from_static("known");
/// In an answer: the signature was not accepted.
pub(super) const REFUSED: HeaderValue = HeaderValue::from_static("refused");

const VERSION: &str = "v1";
/// How old a signature may be, in ms. The clocks of all nodes are those of the database.
const GOOD_FOR: i64 = 10_000;

/// Who forwards what, when and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forwarded {
    pub node: u16,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    pub client: ClientAddress,
}

impl Forwarded {
    /// The header for a request for `target`, a path with a query.
    pub fn sign(&self, key: &hmac::Key, method: &Method, target: &str) -> Option<HeaderValue> {
        let Self { node, at, client } = self;
        let tag = hmac::sign(key, self.signed(method, target).as_bytes());
        HeaderValue::from_str(&format!("{VERSION},{node},{at},{client},{}", hex::encode(tag))).ok()
    }

    /// Reads the header of a request. `None` if it has none, or one that is not good at `now`.
    pub fn verified(
        key: &hmac::Key,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        now: i64,
    ) -> Option<Self> {
        let mut values = headers.get_all(FORWARDED).iter();
        let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        let mut parts = value.split(',');
        if parts.next() != Some(VERSION) {
            return None;
        }
        let (node, at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let client: IpAddr = parts.next()?.parse().ok()?;
        let tag = hex::decode(parts.next()?).ok().filter(|_| parts.next().is_none())?;
        let forwarded = Self { node, at, client: client.into() };
        hmac::verify(key, forwarded.signed(method, target).as_bytes(), &tag).ok()?;
        (now.abs_diff(at) <= GOOD_FOR.unsigned_abs()).then_some(forwarded)
    }

    /// What is signed. The first line keeps it apart from whatever else the key signs.
    fn signed(&self, method: &Method, target: &str) -> String {
        let Self { node, at, client } = self;
        format!("ordercast forwards\n{VERSION}\n{method}\n{target}\n{node}\n{at}\n{client}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn a_signature_is_good_for_one_request_and_a_few_seconds() {
        let [key, other] = [[1; 32], [2; 32]].map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key));
        let client: IpAddr = "2001:db8::1".parse().expect("an address");
        let forwarded = Forwarded { node: 7, at: NOW, client: client.into() };
        let header = forwarded.sign(&key, &Method::GET, "/socket.io/?sid=a.1").expect("a header");
        let text = header.to_str().expect("text").to_owned();
        let read = |key, method: Method, target, values: &[&str], now| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED, value.parse().expect("a value"));
            }
            Forwarded::verified(key, &method, target, &headers, now)
        };
        let target = "/socket.io/?sid=a.1";
        for now in [NOW, NOW + GOOD_FOR, NOW - GOOD_FOR] {
            assert_eq!(read(&key, Method::GET, target, &[&text], now), Some(forwarded.clone()));
        }
        for now in [NOW + GOOD_FOR + 1, NOW - GOOD_FOR - 1, 0, i64::MIN, i64::MAX] {
            assert_eq!(read(&key, Method::GET, target, &[&text], now), None, "{now}");
        }
        assert_eq!(read(&other, Method::GET, target, &[&text], NOW), None);
        assert_eq!(read(&key, Method::POST, target, &[&text], NOW), None);
        assert_eq!(read(&key, Method::GET, "/socket.io/?sid=b.1", &[&text], NOW), None);
        assert_eq!(read(&key, Method::GET, target, &[], NOW), None);
        assert_eq!(read(&key, Method::GET, target, &[&text, &text], NOW), None);
        for (from, to) in
            [("v1,", "v2,"), (",7,", ",8,"), ("2001:db8::", "2001:db9::"), ("v1", ""), (",7,", ",")]
        {
            assert_eq!(read(&key, Method::GET, target, &[&text.replacen(from, to, 1)], NOW), None, "{to}");
        }
        assert_eq!(read(&key, Method::GET, target, &[&format!("{text},")], NOW), None);
        assert_eq!(read(&key, Method::GET, target, &[&text[..text.len() - 2]], NOW), None);
    }
}
